"""Which variants are worth having: the table, the front, the choice, and a picture of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any


@dataclass(frozen=True)
class Point:
    """What a variant costs and does.

    Attributes:
        name: of its recipe; ``fp32`` is the policy as it was trained.
        about: in one line.
        acts: "int8" or "fp32".
        success: share of the episodes.
        ci95: of that share.
        loss_ci95: interval of the paired difference to fp32; (0, 0) for fp32 itself.
        difference: of the success to fp32.
        episodes: pairs.
        bytes: of the model that acts.
        p50_us: median latency of an action on one core.
        p99_us: 99th percentile.
        memory_mb: that opening and running it adds to a process that has ONNX Runtime loaded.
        parameters: numbers that the network holds.
        action_error: mean absolute difference of its actions from fp32's.
    """

    name: str
    about: str
    acts: str
    success: float
    ci95: tuple[float, float]
    difference: float
    loss_ci95: tuple[float, float]
    episodes: int
    bytes: int
    p50_us: float
    p99_us: float
    memory_mb: float
    parameters: int
    action_error: float

    def as_dict(self) -> dict[str, Any]:
        """JSON fields."""
        return asdict(self)


@dataclass(frozen=True)
class Final:
    """How a variant did against fp32 on fresh pairs.

    Attributes:
        name: of its recipe.
        success: share of the episodes, and fp32's.
        difference: of both.
        low: lower end of its 95 % interval,
        high: and upper end.
        episodes: pairs.
    """

    name: str
    success: tuple[float, float]
    difference: float
    low: float
    high: float
    episodes: int

    def __str__(self) -> str:
        own, base = (f"{100 * share:.1f} %" for share in self.success)
        low, high = (f"{100 * end:+.1f}" for end in (self.low, self.high))
        return (
            f"{self.name}: {own}, fp32 {base}; {100 * self.difference:+.1f} points "
            f"({low} to {high}) on {self.episodes} fresh pairs"
        )


RULE = (
    "of the {which}variants in the order of the product of size and median latency, each over "
    "fp32's, the first whose success on fresh pairs lies at most {loss:.1%} below fp32's by the "
    "lower end of the paired 95 % interval"
)


def front(points: Sequence[Point]) -> list[str]:
    """Names of those that no other beats in success, size and latency at once."""

    def beats(a: Point, b: Point) -> bool:
        one = (-a.success, a.bytes, a.p50_us)
        two = (-b.success, b.bytes, b.p50_us)
        return one != two and all(x <= y for x, y in zip(one, two, strict=True))

    return [p.name for p in points if not any(beats(other, p) for other in points)]


def choice(
    points: Sequence[Point],
    max_loss: float,
    decide: Callable[[str], Final],
    quantized: bool = False,
) -> tuple[str, list[Final]]:
    """The variant to ship by ``RULE``, and what was measured for it.

    Args:
        points: what the sweep found; those that surely lose more are not tried.
        max_loss: share of the episodes.
        decide: measures one on fresh pairs.
        quantized: only what acts in int8 is tried.

    Returns:
        Its name, fp32 where no smaller one keeps the bound, and all that were tried.
    """
    base = next(p for p in points if p.name == "fp32")
    finals = []
    for point in sorted(points, key=lambda p: p.bytes * p.p50_us):
        if point is base:
            break
        if point.loss_ci95[1] < -max_loss or (quantized and point.acts != "int8"):
            continue
        finals.append(decide(point.name))
        if finals[-1].low >= -max_loss:
            return point.name, finals
    return base.name, finals


def markdown(points: Sequence[Point], chosen: str, rule: str, finals: Sequence[Final] = ()) -> str:
    """The table for people, and what the choice was made by."""
    on_front = set(front(points))
    lines = [
        "| variant | acts in | success | difference to fp32, points | kB | p50 µs | p99 µs "
        "| memory MB | action error | front |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for p in sorted(points, key=lambda p: p.bytes):
        low, high = (100 * x for x in p.loss_ci95)
        difference = f"{100 * p.difference:+.1f} ({low:+.1f} to {high:+.1f})"
        mark = " **chosen**" if p.name == chosen else ""
        lines.append(
            f"| {p.name}{mark} | {p.acts} | {100 * p.success:.1f} % ({100 * p.ci95[0]:.1f} to "
            f"{100 * p.ci95[1]:.1f}) | {difference} | {p.bytes / 1e3:.1f} | {p.p50_us:.1f} | "
            f"{p.p99_us:.1f} | {p.memory_mb:.1f} | {p.action_error:.4f} | "
            f"{'yes' if p.name in on_front else ''} |"
        )
    lines += ["", f"{points[0].episodes} paired episodes each. Chosen: **{chosen}**: {rule}."]
    lines += ["", *(f"- {final}" for final in finals)] if finals else []
    return "\n".join(lines) + "\n"


_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 760.0, 420.0, 60.0, 24.0, 46.0


def plot(points: Sequence[Point], chosen: str) -> str:
    """Success over size as an SVG; the front is joined, the colour is the latency."""
    sizes = [math.log10(p.bytes) for p in points]
    x0, x1 = min(sizes) - 0.08, max(sizes) + 0.25
    lowest = min(p.ci95[0] for p in points)
    y0, y1 = max(0.0, math.floor(20 * lowest) / 20), 1.0
    slow = [math.log(p.p50_us) for p in points]
    span = max(max(slow) - min(slow), 1e-9)

    def x(p: Point) -> float:
        return _LEFT + (math.log10(p.bytes) - x0) / (x1 - x0) * (_WIDTH - _LEFT - 20)

    def y(success: float) -> float:
        return _TOP + (y1 - success) / (y1 - y0) * (_HEIGHT - _TOP - _BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH:g}" height="{_HEIGHT:g}" fill="#fff"/>',
    ]
    steps = 5
    for i in range(steps + 1):
        value = y0 + (y1 - y0) * i / steps
        out.append(
            f'<line x1="{_LEFT:g}" x2="{_WIDTH - 20:g}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#ddd"/><text x="{_LEFT - 6:g}" y="{y(value) + 4:.1f}" text-anchor="end">'
            f"{100 * value:.1f} %</text>"
        )
    for kb in (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000):
        at = math.log10(kb * 1000)
        if x0 <= at <= x1:
            px = _LEFT + (at - x0) / (x1 - x0) * (_WIDTH - _LEFT - 20)
            out.append(
                f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{_TOP:g}" y2="{_HEIGHT - _BOTTOM:g}" '
                f'stroke="#eee"/><text x="{px:.1f}" y="{_HEIGHT - _BOTTOM + 16:g}" '
                f'text-anchor="middle">{kb} kB</text>'
            )
    names = set(front(points))
    # In this picture latency is a colour, so the line joins the front of success and size alone.
    best, corners = -1.0, []
    for p in sorted(points, key=lambda p: (p.bytes, -p.success)):
        if p.success > best:
            best = p.success
            corners.append(f"{x(p):.1f},{y(p.success):.1f}")
    out.append(f'<polyline points="{" ".join(corners)}" fill="none" stroke="#555" '
               'stroke-dasharray="4 3"/>')  # fmt: skip
    labels: list[tuple[float, float]] = []
    for p in points:
        label = _free(x(p) + 9, y(p.success) - 5, labels)
        share = (math.log(p.p50_us) - min(slow)) / span
        colour = f"hsl({210 - 190 * share:.0f} 70% 42%)"
        ring = ' stroke="#000" stroke-width="2.5"' if p.name == chosen else ""
        out.append(
            f'<line x1="{x(p):.1f}" x2="{x(p):.1f}" y1="{y(p.ci95[0]):.1f}" '
            f'y2="{y(p.ci95[1]):.1f}" stroke="{colour}" opacity="0.45"/>'
            f'<circle cx="{x(p):.1f}" cy="{y(p.success):.1f}" r="{6 if p.name in names else 4}" '
            f'fill="{colour}"{ring}><title>{escape(p.name)}: {escape(p.about)}; '
            f"{p.p50_us:.1f} µs</title></circle>"
            f'<text x="{label[0]:.1f}" y="{label[1]:.1f}">{escape(p.name)}</text>'
        )
    out.append(
        f'<text x="{_WIDTH / 2:g}" y="{_HEIGHT - 8:g}" text-anchor="middle">size of the '
        f"model that acts; blue {min(p.p50_us for p in points):.1f} µs, red "
        f"{max(p.p50_us for p in points):.1f} µs; bars: 95 % interval; ring: chosen</text></svg>"
    )
    return "\n".join(out) + "\n"


def _free(x: float, y: float, taken: list[tuple[float, float]]) -> tuple[float, float]:
    """Where a label fits: at (x, y) px, or below what is written there; it is then taken."""
    while any(abs(x - other[0]) < 95.0 and abs(y - other[1]) < 11.0 for other in taken):
        y += 11.0
    taken.append((x, y))
    return x, y
