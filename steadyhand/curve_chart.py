"""Learning curves as an SVG file of their own: a line and a band for each method."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policies.curves import Band
from steadyhand.charts import nice_ticks

_WIDTH, _HEIGHT = 960, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 24, 92, 54
#: Told apart by those who see colours differently too (Okabe and Ito, 2008), on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_STYLE = """
text{font:13px system-ui,sans-serif;fill:#1d2127}.soft{fill:#5d6673}.head{font-size:16px;
font-weight:600}.grid{stroke:#e4e4df}.page{fill:#fff}.band{opacity:.16;stroke:none}
.mean{fill:none;stroke-width:2.5;stroke-linejoin:round}.seed{fill:none;stroke-width:1;opacity:.45}
""".strip()

Floats = NDArray[np.float64]


def drawing(bands: Sequence[Band], title: str, x_label: str, y_label: str) -> str:
    """An SVG file: the mean of each method, its 95 % interval as a band, each seed as a thin line.

    Args:
        bands: one a method.
        title: heading.
        x_label: what the horizontal axis counts.
        y_label: what the vertical axis shows.
    """
    x_range = (min(0.0, *(float(b.x.min()) for b in bands)), max(float(b.x.max()) for b in bands))
    y_range = _y_range(bands)
    frame = _Frame(x_range, y_range)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="head" x="20" y="28">{html.escape(title)}</text>',
        *_legend(bands),
        *frame.grid(x_label, y_label),
    ]
    for i, band in enumerate(bands):
        colour = COLOURS[i % len(COLOURS)]
        parts.append(f'<path class="band" fill="{colour}" d="{frame.area(band)}"/>')
        if len(band.curves) > 1:
            parts += [
                f'<path class="seed" stroke="{colour}" d="{frame.line(c.x, c.y)}"/>'
                for c in band.curves
            ]
        parts.append(f'<path class="mean" stroke="{colour}" d="{frame.line(band.x, band.mean)}"/>')
    return "\n".join([*parts, "</svg>", ""])


def _y_range(bands: Sequence[Band]) -> tuple[float, float]:
    if all(c.episodes for b in bands for c in b.curves):
        return 0.0, 1.0
    every = [v for b in bands for v in (b.mean, b.low, b.high, *(c.y for c in b.curves))]
    values = np.concatenate(every)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or max(abs(high) * 0.1, 0.5)
    return low - margin, high + margin


def _legend(bands: Sequence[Band]) -> list[str]:
    parts, x = [], 20.0
    for i, band in enumerate(bands):
        colour = COLOURS[i % len(COLOURS)]
        label = f"{band.label} ({band.interval})"
        parts.append(
            f'<line x1="{x:.0f}" x2="{x + 22:.0f}" y1="52" y2="52" stroke="{colour}" '
            f'stroke-width="3"/><text x="{x + 28:.0f}" y="56">{html.escape(label)}</text>'
        )
        x += 28 + 7.0 * len(label) + 24
    return parts


class _Frame:
    """The plot's area, from values to pixels."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        self._x, self._y = x_range, y_range
        self._right, self._bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def _at(self, x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self._x, self._y
        return (
            _LEFT + (x - x0) / max(x1 - x0, 1e-12) * (self._right - _LEFT),
            self._bottom - (y - y0) / max(y1 - y0, 1e-12) * (self._bottom - _TOP),
        )

    def line(self, x: Floats, y: Floats) -> str:
        """A path; what is not finite leaves a gap."""
        parts, pen = [], "M"
        for a, b in zip(x, y, strict=True):
            if not np.isfinite(b):
                pen = "M"
                continue
            px, py = self._at(float(a), float(b))
            parts.append(f"{pen}{px:.1f} {py:.1f}")
            pen = "L"
        return "".join(parts)

    def area(self, band: Band) -> str:
        """The closed path of a band's interval, where it has one."""
        known = np.isfinite(band.low) & np.isfinite(band.high)
        if known.sum() < 2:
            return ""
        x, low, high = band.x[known], band.low[known], band.high[known]
        return self.line(x, high) + self.line(x[::-1], low[::-1]).replace("M", "L", 1) + "Z"

    def grid(self, x_label: str, y_label: str) -> list[str]:
        """Lines, numbers and the axes' names."""
        parts = []
        for tick in nice_ticks(*self._y, 6):
            x, y = self._at(self._x[0], tick)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{self._right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="soft" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                f"{tick:.6g}</text>"
            )
        for tick in nice_ticks(*self._x, 8):
            x, _ = self._at(tick, self._y[0])
            parts.append(
                f'<text class="soft" x="{x:.1f}" y="{self._bottom + 18}" '
                f'text-anchor="middle">{tick:,.10g}</text>'
            )
        middle = (_LEFT + self._right) / 2
        parts.append(
            f'<text x="{middle:.0f}" y="{_HEIGHT - 14}" text-anchor="middle">'
            f"{html.escape(x_label)}</text>"
            f'<text x="20" y="{_TOP - 12}">{html.escape(y_label)}</text>'
        )
        return parts
