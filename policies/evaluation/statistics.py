"""Intervals and tests for successes and failures, alone and in pairs.

Plain Python and NumPy, so that a report can be checked anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from robot.errors import SteadyhandError


def _z(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise SteadyhandError(f"confidence: must lie in (0, 1), got {confidence}")
    return NormalDist().inv_cdf(0.5 + 0.5 * confidence)


def wilson_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a success rate.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927). Without an episode nothing is known: (0, 1).

    Returns:
        (low, high), both in [0, 1].
    """
    if episodes < 0 or not 0 <= successes <= max(episodes, 0):
        raise SteadyhandError(
            f"successes: expected 0 <= successes <= episodes, got {successes} of {episodes}"
        )
    z = _z(confidence)
    if episodes == 0:
        return 0.0, 1.0
    rate, z2 = successes / episodes, z * z
    centre = rate + z2 / (2 * episodes)
    spread = z * math.sqrt(rate * (1 - rate) / episodes + z2 / (4 * episodes * episodes))
    scale = 1 + z2 / episodes
    # At the ends the exact value is 0 or 1, which rounding would miss by 1e-17.
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == episodes else min(1.0, (centre + spread) / scale)
    return low, high


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that two paired subjects succeed equally often.

    Source: Q. McNemar (1947), with the binomial distribution instead of its chi-square limit.

    Args:
        only_first: pairs in which only the first subject succeeded.
        only_second: pairs in which only the second did.
    """
    if min(only_first, only_second) < 0:
        raise SteadyhandError(f"discordant pairs must be >= 0: {only_first}, {only_second}")
    n, k = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, i) for i in range(k + 1))
    # Integers up to here: 2**n overflows a float long before it stops being exact.
    return min(1.0, 2 * tail / 2**n)


@dataclass(frozen=True)
class PairedDifference:
    """How much more often ``first`` succeeds than ``second`` on the same episodes.

    Attributes:
        difference: rate of the first minus rate of the second.
        low: lower end of the interval of the difference.
        high: upper end.
        confidence: of the interval.
        episodes: pairs.
        only_first: pairs in which only the first succeeded.
        only_second: pairs in which only the second did.
        p_value: McNemar's exact test of no difference.
    """

    difference: float
    low: float
    high: float
    confidence: float
    episodes: int
    only_first: int
    only_second: int
    p_value: float

    def as_dict(self) -> dict[str, float | int | list[float]]:
        """For JSON: the interval as ``ci95`` (or ``ci`` at another confidence)."""
        key = "ci95" if self.confidence == 0.95 else "ci"
        return {
            "difference": self.difference,
            key: [self.low, self.high],
            "episodes": self.episodes,
            "only_first": self.only_first,
            "only_second": self.only_second,
            "p_value": self.p_value,
        }


def paired_difference(
    first: Sequence[bool] | NDArray[np.bool_],
    second: Sequence[bool] | NDArray[np.bool_],
    confidence: float = 0.95,
) -> PairedDifference:
    """Newcombe's score interval of the difference of two paired success rates.

    Source: R. G. Newcombe, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 17 (1998), method 10: the two
    Wilson intervals, joined with the correlation of the pairs.

    Args:
        first: (n,) success of the first subject, episode by episode.
        second: (n,) success of the second subject on the same episodes.
        confidence: of the interval.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.ndim != 1 or a.shape != b.shape:
        raise SteadyhandError(
            f"paired outcomes: expected two vectors of one length, got {a.shape} and {b.shape}"
        )
    n = int(a.size)
    if n == 0:
        return PairedDifference(0.0, -1.0, 1.0, confidence, 0, 0, 0, 1.0)
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    rate_a, rate_b = (both + only_a) / n, (both + only_b) / n
    low_a, high_a = wilson_interval(both + only_a, n, confidence)
    low_b, high_b = wilson_interval(both + only_b, n, confidence)
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    phi = 0.0
    if product > 0:
        numerator = float(both * neither - only_a * only_b)
        if numerator > 0:  # the continuity correction of the paper's method 10
            numerator = max(numerator - n / 2, 0.0)
        phi = numerator / math.sqrt(product)
    difference = rate_a - rate_b

    def spread(da: float, db: float) -> float:
        return math.sqrt(max(0.0, da * da - 2 * phi * da * db + db * db))

    return PairedDifference(
        difference=difference,
        low=max(-1.0, difference - spread(rate_a - low_a, high_b - rate_b)),
        high=min(1.0, difference + spread(high_a - rate_a, rate_b - low_b)),
        confidence=confidence,
        episodes=n,
        only_first=only_a,
        only_second=only_b,
        p_value=mcnemar_exact(only_a, only_b),
    )


def bootstrap_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> tuple[float, float, float]:
    """:func:`bootstrap_mean` of the paired differences of two subjects' figures.

    Args:
        first: (n,) one figure an episode.
        second: (n,) the other subject's on the same episodes.
        rng: draws the resamples.
        confidence: of the interval.
        resamples: how many.

    Returns:
        (mean difference, low, high).
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise SteadyhandError("paired figures: expected two vectors of one length, at least 1")
    return bootstrap_mean(a - b, rng, confidence, resamples)


def bootstrap_mean(
    figures: NDArray[np.float64],
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> tuple[float, float, float]:
    """Percentile bootstrap of a mean, for returns and other real numbers.

    Args:
        figures: (n,) one an episode.
        rng: draws the resamples.
        confidence: of the interval.
        resamples: how many.

    Returns:
        (mean, low, high).
    """
    values = np.asarray(figures, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise SteadyhandError("figures: expected a vector of at least one")
    means = np.empty(resamples)
    for i in range(resamples):
        means[i] = values[rng.integers(0, values.size, values.size)].mean()
    tail = 0.5 * (1.0 - confidence)
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(values.mean()), float(low), float(high)
