"""How far an observation lies from those that the policy was made with."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: The score that one in a thousand recorded observations exceeds counts as the border.
BORDER_QUANTILE = 0.999


class Novelty:
    """A score of 1 is what recorded observations reach at most; higher was never seen.

    The score is the root mean square of the observation's numbers in standard deviations of the
    recorded ones, over that score's own border. It is cheap, and it sees what leaves the recorded
    range as a whole; it does not see odd combinations of usual numbers.

    Args:
        recorded: (n, n_obs) observations of the bundle's reference.
    """

    def __init__(self, recorded: Floats) -> None:
        self.mean = recorded.mean(axis=0, dtype=np.float64).astype(np.float32)
        std = recorded.std(axis=0, dtype=np.float64)
        # What never varied is measured in its own unit, as the policy's normalizer does.
        self.std = np.where(std > 1e-6, std, 1.0).astype(np.float32)
        self._inverse = np.asarray(1.0 / self.std, np.float32)
        self._work = np.zeros_like(self.mean)
        z = (recorded - self.mean) * self._inverse
        border = float(np.quantile(np.sqrt((z * z).mean(axis=1)), BORDER_QUANTILE))
        self._scale = 1.0 / (max(border, 1e-6) ** 2 * len(self.mean))

    def score(self, observation: Floats) -> float:
        """Of one observation (n_obs,); makes no array."""
        work = self._work
        np.subtract(observation, self.mean, out=work)
        np.multiply(work, self._inverse, out=work)
        return math.sqrt(float(work.dot(work)) * self._scale)

    def scores(self, observations: Floats) -> NDArray[np.float64]:
        """(n,) of many observations (n, n_obs)."""
        z = (observations - self.mean) * self._inverse
        return np.sqrt((z * z).sum(axis=1, dtype=np.float64) * self._scale)
