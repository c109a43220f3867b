"""Confidence intervals by resampling whole scenes.

Objects of one scene share light, heap and camera error, so they are no independent samples; scenes
are (B. Efron, R. J. Tibshirani, "An introduction to the bootstrap", 1993, percentile intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.int64]


def scene_interval(
    figure: Callable[[Weights], float | None],
    scenes: int,
    resamples: int = 1000,
    seed: int = 0,
) -> list[float] | None:
    """The 95 % interval of a figure over scenes.

    Args:
        figure: the figure, given how often each scene was drawn, (scenes,); None where it is not
            defined for that draw, which is then left out.
        scenes: how many there are.
        resamples: draws.
        seed: of the draws; the same for every figure, so that the draws are, too.

    Returns:
        [low, high], or None for fewer than two scenes.
    """
    if scenes < 2:
        return None
    rng = np.random.default_rng(seed)
    share = np.full(scenes, 1.0 / scenes)
    values = [figure(rng.multinomial(scenes, share)) for _ in range(resamples)]
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return [float(low), float(high)]


def median_of(values: Sequence[Sequence[float]]) -> Callable[[Weights], float | None]:
    """A figure for ``scene_interval``: the median over the values of each scene."""
    flat = np.array([value for one in values for value in one], np.float64)
    scene = np.repeat(np.arange(len(values)), [len(one) for one in values])

    def figure(weights: Weights) -> float | None:
        drawn = np.repeat(flat, weights[scene])
        return float(np.median(drawn)) if drawn.size else None

    return figure
