"""Whether probabilities mean what they say: calibration, its figures, and its picture."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 10


@dataclass(frozen=True)
class Figures:
    """How good predicted probabilities are, over ``n`` trials.

    Attributes:
        n: trials.
        base_rate: share that held.
        auc: chance that a trial that held was rated above one that did not; NaN where all ended
            alike.
        brier: mean squared error.
        log_loss: mean negative log likelihood, nats.
        ece: expected calibration error over bins of equal count.
    """

    n: int
    base_rate: float
    auc: float
    brier: float
    log_loss: float
    ece: float


@dataclass(frozen=True)
class Platt:
    """Platt's scaling: the calibrated logit is ``slope * logit + offset``."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, logit: Floats) -> Floats:
        """(n,) probabilities."""
        return _sigmoid(self.slope * logit + self.offset)


def fit_platt(logit: Floats, held: NDArray[np.bool_], prior: float = 1.0) -> Platt:
    """Platt's two numbers by Newton's method (Platt 1999; Lin, Lin and Weng 2007).

    Args:
        logit: (n,) of the network.
        held: (n,) what happened.
        prior: weight, in trials, that holds the slope at 1 and the offset at 0 where data are few.
    """
    target = held.astype(np.float64)
    # A steep or falling fit to a handful of failures would be worse than none.
    x = np.column_stack([logit, np.ones_like(logit)])
    start = np.array([1.0, 0.0])
    w = start.copy()
    for _ in range(50):
        p = _sigmoid(x @ w)
        gradient = x.T @ (p - target) + prior * (w - start)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + prior * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # Newton's step overshoots where the curve is flat.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        w = w - step
        if float(np.abs(step).max()) < 1e-8:
            break
    return Platt(float(w[0]), float(w[1]))


def figures(probability: Floats, held: NDArray[np.bool_]) -> Figures:
    """All figures of predictions (n,) against what happened (n,)."""
    target = held.astype(np.float64)
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    if not len(p):
        return Figures(0, float("nan"), float("nan"), float("nan"), float("nan"), float("nan"))
    loss = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    gaps = [abs(mean - rate) * count for mean, rate, count in reliability(probability, held)]
    return Figures(
        len(p),
        float(target.mean()),
        area_under_curve(probability, held),
        float(((probability - target) ** 2).mean()),
        float(loss),
        float(np.sum(gaps) / len(p)),
    )


def area_under_curve(score: Floats, held: NDArray[np.bool_]) -> float:
    """The area under the ROC curve by ranks (Mann and Whitney), ties counted half."""
    good, bad = int(held.sum()), int((~held).sum())
    if not good or not bad:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = (last - 0.5 * (counts - 1))[inverse]
    return float((rank[held].sum() - good * (good + 1) / 2) / (good * bad))


def reliability(
    probability: Floats, held: NDArray[np.bool_], bins: int = BINS
) -> list[tuple[float, float, int]]:
    """(mean prediction, share that held, trials) of up to ``bins`` groups of equal count."""
    order = np.argsort(probability, kind="stable")
    groups = [part for part in np.array_split(order, bins) if len(part)]
    return [
        (float(probability[part].mean()), float(held[part].mean()), len(part)) for part in groups
    ]


def reliability_svg(probability: Floats, held: NDArray[np.bool_], title: str) -> str:
    """The reliability diagram as SVG: share that held over prediction, with 95 % intervals.

    The intervals are Wilson's; a calibrated scorer's points lie on the diagonal.
    """
    size, left, top = 320, 56, 34

    def at(x: float, y: float) -> tuple[float, float]:
        return left + size * x, top + size * (1 - y)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + size + 24}" '
        f'height="{top + size + 52}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="20" font-size="13">{escape(title)}</text>',
        f'<rect x="{left}" y="{top}" width="{size}" height="{size}" fill="none" stroke="#888"/>',
    ]
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(value, value)
        parts.append(
            f'<text x="{x:.0f}" y="{top + size + 16}" text-anchor="middle">{value:g}</text>'
        )
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>')
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    parts.append(f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#bbb"/>')
    for mean, rate, count in reliability(probability, held):
        low, high = _wilson(rate, count)
        (x, y), (_, ya), (_, yb) = at(mean, rate), at(mean, low), at(mean, high)
        parts.append(f'<line x1="{x:.1f}" y1="{ya:.1f}" x2="{x:.1f}" y2="{yb:.1f}" stroke="#36c"/>')
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#36c">'
            f"<title>{rate:.3f} of {count}, predicted {mean:.3f}</title></circle>"
        )
    middle = left + size / 2
    parts.append(f'<text x="{middle}" y="{top + size + 38}" text-anchor="middle">predicted</text>')
    parts.append(
        f'<text x="14" y="{top + size / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {top + size / 2})">share that held</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


def _wilson(rate: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval."""
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(rate * (1 - rate) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), np.float64)
