"""What a set of demonstrations holds, in figures and as a drawing."""

from __future__ import annotations

import html
from collections import Counter
from typing import Any

import numpy as np

from policies.demos.checks import JOINT
from policies.demos.dataset import Demonstrations
from steadyhand.charts import nice_ticks

_WIDTH, _ROW, _TOP, _LEFT, _RIGHT = 960, 20, 62, 210, 190
_BARS = 160  # height of the histogram, px
_STYLE = """
text{font:13px system-ui,sans-serif;fill:#1d2127}.soft{fill:#5d6673}.head{font-size:16px;
font-weight:600}.grid{stroke:#e4e4df}.span{fill:#1c7ed6;opacity:.3}.deviation{fill:#1c7ed6}
.mean{stroke:#1d2127;stroke-width:2}.bar{fill:#2b8a3e}.failed{fill:#c92a2a}.page{fill:#fff}
""".strip()


def figures(demos: Demonstrations) -> dict[str, Any]:
    """The set's figures: what its summary says, its sources and its objects."""
    sources = Counter(str(f.get("source", "unknown")) for f in demos.facts)
    objects = Counter(demos.groups)
    return {
        **demos.summary(),
        "success_rate": float(demos.success.mean()),
        "duration_s": float(len(demos.observation) / demos.spec.rate_hz),
        "image_shape": list(demos.spec.image_shape),
        "env": str(demos.spec.env.get("id", "unknown")),
        "sources": dict(sources.most_common()),
        "objects_most": dict(objects.most_common(5)),
    }


def ranges(demos: Demonstrations) -> list[dict[str, Any]]:
    """Smallest, mean, largest value and standard deviation of each number, actions first."""
    spec = demos.spec
    units = spec.observation_units or ("",) * len(spec.observation_names)
    columns = [
        (f"action {name}", "1", demos.action[:, i]) for i, name in enumerate(spec.action_names)
    ]
    columns += [
        (name, unit, demos.observation[:, i])
        for i, (name, unit) in enumerate(zip(spec.observation_names, units, strict=True))
    ]
    if demos.privileged is not None:
        columns += [
            (name, "rad" if name.startswith(JOINT) else "", demos.privileged[:, i])
            for i, name in enumerate(spec.privileged_names)
        ]
    return [
        {
            "name": name,
            "unit": unit,
            "min": float(values.min()),
            "mean": float(values.mean(dtype=np.float64)),
            "max": float(values.max()),
            "std": float(values.std(dtype=np.float64)),
        }
        for name, unit, values in columns
    ]


def drawing(demos: Demonstrations, title: str) -> str:
    """An SVG file: a histogram of the episodes' lengths, and the range of each number.

    Each range has its own scale: the light bar reaches from the smallest to the largest value, the
    dark one a standard deviation to both sides of the mean.
    """
    rows = ranges(demos)
    top = _TOP + _BARS + 70
    height = top + _ROW * len(rows) + 20
    told = (
        f"{demos.episodes} episodes, {len(demos.observation)} frames at {demos.spec.rate_hz:g} Hz, "
        f"{100 * demos.success.mean():.0f} % successes, {len(set(demos.groups))} objects"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
        f'<text class="head" x="20" y="28">{html.escape(title)}</text>',
        f'<text class="soft" x="20" y="48">{html.escape(told)}</text>',
        *_histogram(demos),
        f'<text class="head" x="20" y="{top - 14}">Ranges, each in its own scale</text>',
    ]
    for i, row in enumerate(rows):
        parts += _range(row, top + _ROW * i)
    return "\n".join([*parts, "</svg>", ""])


def _histogram(demos: Demonstrations) -> list[str]:
    seconds = np.diff(demos.starts) / demos.spec.rate_hz
    edges = np.linspace(0.0, float(seconds.max()) * 1.0001, 31)
    kept = np.histogram(seconds[demos.success], edges)[0]
    failed = np.histogram(seconds[~demos.success], edges)[0]
    most = max(int((kept + failed).max()), 1)
    left, right, bottom = 60, _WIDTH - 20, _TOP + _BARS
    scale = (right - left) / edges[-1]
    parts = []
    for tick in nice_ticks(0.0, float(most), min(most, 4)):
        y = bottom - tick / most * (_BARS - 10)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="soft" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for a, b, good, bad in zip(edges[:-1], edges[1:], kept, failed, strict=True):
        x, wide = left + a * scale, (b - a) * scale - 1
        base = float(bottom)
        for count, name in ((good, "bar"), (bad, "failed")):
            tall = count / most * (_BARS - 10)
            base -= tall
            if count:
                parts.append(
                    f'<rect class="{name}" x="{x:.1f}" y="{base:.1f}" width="{wide:.1f}" '
                    f'height="{tall:.1f}"/>'
                )
    for tick in nice_ticks(0.0, float(edges[-1]), 8):
        parts.append(
            f'<text class="soft" x="{left + tick * scale:.1f}" y="{bottom + 18}" '
            f'text-anchor="middle">{tick:g} s</text>'
        )
    return parts


def _range(row: dict[str, Any], y: int) -> list[str]:
    left, wide = _LEFT, _WIDTH - _LEFT - _RIGHT
    low, high = row["min"], row["max"]
    span = high - low

    def x(value: float) -> float:
        share = (value - low) / span if span > 0 else 0.5
        return left + wide * min(max(share, 0.0), 1.0)

    a, b = x(row["mean"] - row["std"]), x(row["mean"] + row["std"])
    text = f"{low:.3g} to {high:.3g} {row['unit'] if row['unit'] != '1' else ''}"
    return [
        f'<text x="{left - 10}" y="{y + 12}" text-anchor="end">{html.escape(row["name"])}</text>'
        f'<rect class="span" x="{left}" y="{y + 2}" width="{wide}" height="10"/>'
        f'<rect class="deviation" x="{a:.1f}" y="{y + 4}" width="{b - a:.1f}" height="6"/>'
        f'<line class="mean" x1="{x(row["mean"]):.1f}" x2="{x(row["mean"]):.1f}" y1="{y + 1}" '
        f'y2="{y + 13}"/>'
        f'<text class="soft" x="{left + wide + 10}" y="{y + 12}">{html.escape(text)}</text>'
    ]
