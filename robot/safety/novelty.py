"""Whether the policy sees what it has seen before: a score, a threshold, and what to do beyond.

The score of an observation is its Mahalanobis distance from those of nominal picks. The threshold
is conformal: of ``n`` picks held out from the fit the ``ceil((n + 1)(1 - alpha))``-th smallest of
their largest scores, so that a further pick like them exceeds it with a probability of at most
``alpha`` (Vovk et al.; one score a pick, because its steps hang together).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.load import load
from robot import observation
from robot.errors import SafetyError
from robot.safety.config import SafetyConfig
from robot.safety.signals import Signals
from robot.safety.verdict import slow
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

_RIDGE = 1e-3  # of each number's variance, so that what never varied does not decide alone
_LEAST = 1e-3  # deviation, in the number's own unit, below which a number counts as constant


@dataclass(frozen=True)
class NoveltyFile:
    """A calibration as it is written.

    Attributes:
        policy_sha256: of the policy's model that made the picks.
        observed: (n,) names of the numbers that this policy sees, among those that the robot makes.
        picks_n: held out to set the threshold.
        alpha: share of further picks that may exceed it.
        threshold: the largest score that still passes.
        mean: (n,) of the observations.
        whitening: (n, n), row by row.
    """

    policy_sha256: str
    observed: tuple[str, ...]
    picks_n: int
    alpha: float
    threshold: float
    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]


class Novelty:
    """Scores observations against those of nominal picks.

    Args:
        file: the calibration.

    Raises:
        SafetyError: the file does not fit together, or names what the robot does not observe.
    """

    def __init__(self, file: NoveltyFile) -> None:
        self.file = file
        made = {name: row for row, name in enumerate(observation.names())}
        unknown = [name for name in file.observed if name not in made]
        if unknown:
            raise SafetyError(f"novelty: the robot makes no observation {unknown[0]!r}")
        self._rows = np.array([made[name] for name in file.observed], dtype=np.intp)
        self.threshold = file.threshold
        self._mean = np.array(file.mean)
        self._whitening = np.array(file.whitening)
        size = len(file.observed)
        if len(file.mean) != size:
            raise SafetyError(f"novelty: {len(file.mean)} means of {size} observations")
        if self._whitening.shape != (size, size):
            raise SafetyError(
                f"novelty: whitening is {self._whitening.shape}, expected ({size}, {size})"
            )

    def score(self, made: Floats) -> float:
        """How far what the policy sees of the robot's numbers is from the picks' mean.

        In deviations of all of them together; 1 is usual.
        """
        white = self._whitening.dot(made[self._rows] - self._mean)
        return math.sqrt(float(white.dot(white)))

    @classmethod
    def read(cls, path: Path, policy_model: bytes) -> Novelty:
        """The calibration in a file.

        Raises:
            SafetyError: it is that of another policy, or does not fit together.
            ConfigError: it is no calibration.
        """
        file = load(NoveltyFile, path)
        if file.policy_sha256 != hashlib.sha256(policy_model).hexdigest():
            raise SafetyError(f"{path}: is the calibration of another policy")
        return cls(file)


def fit(
    picks: Sequence[Array],
    held_out: Sequence[Array],
    alpha: float,
    policy_model: bytes,
    observed: Sequence[str],
) -> NoveltyFile:
    """A calibration.

    Args:
        picks: each pick's observations (steps, ...), as the robot makes them.
        held_out: further picks, for the threshold.
        alpha: share of further picks that may exceed it.
        policy_model: the policy that made them.
        observed: names of the numbers that it sees.

    Raises:
        SafetyError: too few picks are held out for so small an ``alpha``.
    """
    rank = math.ceil((len(held_out) + 1) * (1.0 - alpha))
    if not 1 <= rank <= len(held_out):
        raise SafetyError(
            f"novelty: alpha {alpha:g} needs at least {math.ceil(1 / alpha) - 1} held-out picks, "
            f"got {len(held_out)}"
        )
    made = observation.names()
    seen = [made.index(name) for name in observed]
    rows = np.concatenate([np.asarray(p, dtype=np.float64)[:, seen] for p in picks])
    mean, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), _LEAST)
    scaled = (rows - mean) / spread
    covariance = scaled.T @ scaled / len(rows) + _RIDGE * np.eye(rows.shape[1])
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)) / spread
    whitening /= math.sqrt(rows.shape[1])
    blank = NoveltyFile(
        hashlib.sha256(policy_model).hexdigest(),
        tuple(observed),
        len(held_out),
        alpha,
        0.0,
        tuple(round(float(v), 7) for v in mean),
        tuple(tuple(float(f"{v:.6g}") for v in row) for row in whitening),
    )
    scorer = Novelty(blank)
    largest = sorted(max(scorer.score(row) for row in pick) for pick in held_out)
    return replace(blank, threshold=round(largest[rank - 1], 4))


class NoveltyMonitor:
    """The policy acts slowly where it sees what is unlike anything before; it never halts."""

    name = "novelty"
    source = "split conformal prediction on a pick's largest score"

    def __init__(self, config: SafetyConfig, signals: Signals) -> None:
        self._c, self._signals = config, signals

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE; another look is worth its time then (:attr:`Supervisor.wants_look`)."""
        score = self._signals.novelty
        if score is None or self._signals.policy_stamp_s is None:
            return OK
        if score <= self._c.novelty_most:  # a NaN is above
            return OK
        return slow(self._c.novelty_scale, f"novelty: {score:.2f} times what nominal picks reach")
