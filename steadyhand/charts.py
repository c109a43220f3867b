"""Drawings for the report: inline SVG whose colours come from the page, light or dark."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH = 1000
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 8, 22
_MAX_POINTS = 700


@dataclass(frozen=True)
class Line:
    """A signal: (n,) values; ``colour`` is a CSS value; NaN leaves a gap."""

    label: str
    values: NDArray[np.float64]
    colour: str


@dataclass(frozen=True)
class Band:
    """A stretch of time with a name and a CSS class that colours it."""

    start_s: float
    end_s: float
    label: str
    css: str
    tip: str = ""


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, some ``about`` of them."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / max(about, 1)
    base = 10.0 ** math.floor(math.log10(raw))
    step = next(base * m for m in (1, 2, 2.5, 5, 10) if base * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def thin(
    time_s: NDArray[np.float64], columns: Sequence[NDArray[np.float64]], limit: int = _MAX_POINTS
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """At most ``limit`` samples; of each stretch, each signal's value farthest from its mean.

    So a short peak stays visible, whatever its height beside the rest.
    """
    n = len(time_s)
    if n <= limit:
        return time_s, list(columns)
    edges = np.linspace(0, n, limit + 1).astype(int)
    middle = (edges[:-1] + edges[1:] - 1) // 2
    out = []
    for column in columns:
        kept = np.empty(limit)
        for i in range(limit):
            part = column[edges[i] : edges[i + 1]]
            seen = part[np.isfinite(part)]
            if seen.size == 0:
                kept[i] = np.nan
            else:
                kept[i] = seen[int(np.argmax(np.abs(seen - seen.mean())))]
        out.append(kept)
    return time_s[middle], out


def _number(value: float) -> str:
    text = f"{value:.10g}"
    return "0" if text in ("-0", "0") else text.replace("-", "\N{MINUS SIGN}")


def _time_axis(start_s: float, end_s: float, height: float, bottom: float) -> str:
    parts = []
    for t in nice_ticks(start_s, end_s, 10):
        x = _x(t, start_s, end_s)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - 6:.1f}" text-anchor="middle">'
            f"{_number(t)} s</text>"
        )
    return "".join(parts)


def _x(t: float, start_s: float, end_s: float) -> float:
    return _LEFT + (t - start_s) / max(end_s - start_s, 1e-9) * (WIDTH - _LEFT - _RIGHT)


def line_chart(
    title: str,
    unit: str,
    time_s: NDArray[np.float64],
    lines: Sequence[Line],
    bands: Sequence[Band] = (),
    *,
    span_s: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    step: bool = False,
    fill: bool = False,
    height: int = 190,
    note: str = "",
) -> str:
    """A figure of one or more signals over time with a legend and a linked cross-hair.

    Args:
        title, unit, note: heading, what the numbers are in, one quiet line beside it.
        time_s: (n,) s, rising.
        lines: the signals.
        bands: stretches shaded behind them.
        span_s: the axis of time; that of ``time_s`` if left out.
        y_range: the other axis; fitted to the values if left out.
        step: hold each value until the next instead of joining them.
        fill: shade the area between the first line and the lower edge.
        height: px of the drawing at its full width.
    """
    head = (
        f'<figcaption><b>{escape(title)}</b><span class="unit">{escape(unit)}</span>'
        f'<span class="note">{escape(note)}</span>{_legend(lines)}</figcaption>'
    )
    if len(time_s) < 2:
        return f'<figure class="chart">{head}<p class="empty">Nothing was sampled.</p></figure>'
    t, columns = thin(time_s, [line.values for line in lines])
    start, end = span_s or (float(time_s[0]), float(time_s[-1]))
    low, high = y_range or _fit(columns)
    bottom = height - _BOTTOM

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - _TOP)

    parts = [_shade(bands, start, end, bottom), _time_axis(start, end, height, bottom)]
    for value in nice_ticks(low, high, 5):
        at = y(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{at:.1f}" x2="{WIDTH - _RIGHT}" y2="{at:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">'
            f"{_number(value)}</text>"
        )
    xs = [_x(float(v), start, end) for v in t]
    for i, (line, column) in enumerate(zip(lines, columns, strict=True)):
        path = _path(xs, [y(float(v)) if math.isfinite(v) else None for v in column], step)
        if fill and i == 0 and path:
            area = f"{path}V{bottom:.1f}H{xs[0]:.1f}Z"
            parts.append(f'<path class="area" d="{area}" style="fill:{line.colour}"/>')
        parts.append(f'<path class="line" d="{path}" style="stroke:{line.colour}"/>')
    parts.append(f'<line class="cross" y1="{_TOP}" y2="{bottom:.1f}"/>')
    data = {
        "t": [round(float(v), 3) for v in t],
        "span": [start, end],
        "plot": [_LEFT, WIDTH - _RIGHT],
        "unit": unit.split(" ")[0],
        "lines": [
            {
                "label": line.label,
                "colour": line.colour,
                "v": [float(f"{v:.4g}") if math.isfinite(v) else None for v in column],
            }
            for line, column in zip(lines, columns, strict=True)
        ],
    }
    # A closing tag in a label must not end the script that carries it.
    told = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return (
        f'<figure class="chart">{head}<div class="plot">'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, True)}">'
        f'{"".join(parts)}</svg><div class="tip" hidden></div></div>'
        f'<script type="application/json">{told}</script>'
        "</figure>"
    )


def timeline(lanes: Sequence[tuple[str, Sequence[Band]]], span_s: tuple[float, float]) -> str:
    """Rows of bands over one axis of time; a band without length is drawn as a dot."""
    start, end = span_s
    row, bar = 34, 22
    bottom = _TOP + row * len(lanes)
    height = bottom + _BOTTOM
    left = 84  # names stand left of the rows
    parts = []

    def x(t: float) -> float:
        return left + (t - start) / max(end - start, 1e-9) * (WIDTH - left - _RIGHT)

    for t in nice_ticks(start, end, 10):
        parts.append(
            f'<line class="grid" x1="{x(t):.1f}" y1="{_TOP}" x2="{x(t):.1f}" y2="{bottom}"/>'
            f'<text class="tick" x="{x(t):.1f}" y="{height - 6}" text-anchor="middle">'
            f"{_number(t)} s</text>"
        )
    for i, (name, bands) in enumerate(lanes):
        top = _TOP + row * i + (row - bar) / 2
        parts.append(f'<text class="lane" x="0" y="{top + bar / 2 + 4:.1f}">{escape(name)}</text>')
        parts.append(
            f'<line class="rail" x1="{left}" y1="{top + bar / 2:.1f}" x2="{WIDTH - _RIGHT}"'
            f' y2="{top + bar / 2:.1f}"/>'
        )
        for band in bands:
            a, b = x(band.start_s), x(band.end_s)
            tip = f"<title>{escape(band.tip or band.label)}</title>"
            if band.end_s <= band.start_s:
                parts.append(
                    f'<circle class="dot {band.css}" cx="{a:.1f}" cy="{top + bar / 2:.1f}" r="5">'
                    f"{tip}</circle>"
                )
                continue
            wide = max(b - a - 1, 2.0)
            parts.append(
                f'<rect class="bar {band.css}" x="{a:.1f}" y="{top:.1f}" width="{wide:.1f}"'
                f' height="{bar}" rx="4">{tip}</rect>'
            )
            label = band.label
            if wide < 7.2 * len(label) + 8:
                label = label.split(" ")[0]  # an attempt's number has room where its name has not
            if label and wide > 7.2 * len(label) + 8:
                parts.append(
                    f'<text class="inbar" x="{a + wide / 2:.1f}" y="{top + bar / 2 + 4:.1f}"'
                    f' text-anchor="middle">{escape(label)}</text>'
                )
    return (
        f'<figure class="chart timeline"><svg viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="Time line">{"".join(parts)}</svg></figure>'
    )


def _legend(lines: Sequence[Line]) -> str:
    if len(lines) < 2:
        return ""
    chips = "".join(
        f'<li><i style="background:{line.colour}"></i>{escape(line.label)}</li>' for line in lines
    )
    return f'<ul class="legend">{chips}</ul>'


def _fit(columns: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    values = np.concatenate([c[np.isfinite(c)] for c in columns]) if columns else np.zeros(0)
    if values.size == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        pad = max(abs(high) * 0.1, 0.5)
        return low - pad, high + pad
    # From zero where that costs little, since a bar of force reads best from its base.
    if 0 <= low < 0.4 * high:
        low = 0.0
    pad = 0.06 * (high - low)
    return (low - pad if low < 0 or low > 0 else 0.0), high + pad


def _shade(bands: Sequence[Band], start: float, end: float, bottom: float) -> str:
    parts = []
    for band in bands:
        a, b = _x(max(band.start_s, start), start, end), _x(min(band.end_s, end), start, end)
        if b > a:
            parts.append(
                f'<rect class="shade {band.css}" x="{a:.1f}" y="{_TOP}" width="{b - a:.1f}"'
                f' height="{bottom - _TOP:.1f}"/>'
                f'<line class="edge" x1="{a:.1f}" x2="{a:.1f}" y1="{_TOP}" y2="{bottom:.1f}"/>'
            )
    return "".join(parts)


def _path(xs: Sequence[float], ys: Sequence[float | None], step: bool) -> str:
    parts: list[str] = []
    pen_down = False
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            pen_down = False
            continue
        if not pen_down:
            parts.append(f"M{x:.1f} {y:.1f}")
        elif step:
            parts.append(f"H{x:.1f}V{y:.1f}")
        else:
            parts.append(f"L{x:.1f} {y:.1f}")
        pen_down = True
    return "".join(parts)
