"""Which candidate first: by the scorer's probability where there is a scorer, else as planned.

The planner's own score puts candidates in order; a scorer puts them in order by how likely they
are to hold. Where nothing is within the planner's limits, steeper and tighter grips are offered.
What is not taken is counted by the reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.interface import GraspScorer
from robot.limits import GripperLimits
from robot.planning.grasps import GraspPlanner, Solid
from robot.planning.grips import GraspConfig
from robot.types import GraspCandidate, Look

# Steeper, wider and tighter than usual; the analytic score keeps its scale.
WIDE = GraspConfig(
    keep_n=48,
    max_side_deg=60.0,
    side_weight=0.6 * 60 / 35,
    side_clearance_m=0.002,
    max_width_m=0.075,
)


_THOROUGH = replace(WIDE, points_n=1500, yaws_n=32)
"""Of those as many as there are: it takes some 0.15 s, and comes where there is nothing better."""


class Refusal(Enum):
    """Why a candidate was not taken."""

    OUT_OF_REACH = "out of reach"
    NO_PATH = "no free path"
    UNLIKELY = "unlikely to hold"
    FAILED_BEFORE = "like one that failed"
    SECOND_BEST = "behind a better one"


@dataclass(frozen=True)
class RankingConfig:
    """How candidates are put in order.

    Attributes:
        analytic_weight: logits that one unit of the planner's own score adds to the scorer's.
        least_probability: a less likely candidate is counted as refused where a better one was
            taken; where there is none it is tried all the same.
    """

    analytic_weight: float = bounded(1.0, 0.0, 100.0)
    least_probability: float = bounded(0.6, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate in its place.

    Attributes:
        candidate: the grip.
        probability: that it holds, by the scorer; NaN without one.
        failed_before: it is like one that failed before.
    """

    candidate: GraspCandidate
    probability: float = math.nan
    failed_before: bool = False


@dataclass(slots=True)
class Refusals:
    """How many candidates were not taken, by reason."""

    counts: Counter[Refusal] = field(default_factory=Counter)

    def add(self, reason: Refusal, count: int = 1) -> None:
        """Count ``count`` more."""
        if count > 0:
            self.counts[reason] += count

    def rest(self, ranked: Sequence[Ranked], least_probability: float) -> None:
        """Count candidates that come after the one taken, each by the first reason that fits."""
        for item in ranked:
            if item.failed_before:
                self.add(Refusal.FAILED_BEFORE)
            elif item.probability < least_probability:
                self.add(Refusal.UNLIKELY)
            else:
                self.add(Refusal.SECOND_BEST)

    def as_dict(self) -> Mapping[str, int]:
        """Reason to number, for records."""
        return {reason.value: self.counts[reason] for reason in Refusal if self.counts[reason]}


class FailedGrips:
    """Knows which candidates are like one that failed."""

    def __init__(self) -> None:
        self._at: list[tuple[NDArray[np.float64], float]] = []

    def add(self, candidate: GraspCandidate) -> None:
        """This one failed."""
        self._at.append((candidate.X_world_grasp.position_m[:2], _yaw(candidate)))

    def __call__(self, candidate: GraspCandidate) -> bool:
        """Whether it is like one of them."""
        xy, yaw = candidate.X_world_grasp.position_m[:2], _yaw(candidate)
        return any(
            np.linalg.norm(xy - at) < 0.015
            and abs((yaw - turn + math.pi / 2) % math.pi - math.pi / 2) < math.radians(25)
            for at, turn in self._at
        )


class GraspRanking:
    """Proposes candidates and puts them in order.

    Args:
        gripper: of the hand.
        scorer: rates candidates, where there is one.
        planner: proposes them; the usual one when None.
        config: see :class:`RankingConfig`.
    """

    def __init__(
        self,
        gripper: GripperLimits,
        scorer: GraspScorer | None = None,
        planner: GraspPlanner | None = None,
        config: RankingConfig | None = None,
    ) -> None:
        self.config = config or RankingConfig()
        self.scorer = scorer
        self.planner = planner or GraspPlanner(gripper)
        # Offered all the time, these cost a learned policy more attempts than they won: its
        # fingers got stuck beside tight grips. Where there is no other grip they only win.
        self._last_resort = GraspPlanner(gripper, _THOROUGH)

    def ranked(
        self,
        look: Look,
        rng: np.random.Generator,
        failed_before: Callable[[GraspCandidate], bool] = lambda _: False,
        solid: Solid | None = None,
        unusual: bool = False,
    ) -> list[Ranked]:
        """Candidates, best first; those like one that failed before come last.

        Args:
            look: objects and heights.
            rng: of the planner.
            failed_before: whether a candidate is like one that failed.
            solid: as for :meth:`GraspPlanner.propose`.
            unusual: those of the last resort, also where there are others.
        """
        candidates = [] if unusual else self.planner.propose(look, rng, solid)
        if not candidates:
            candidates = self._last_resort.propose(look, rng, solid)
        probability = np.full(len(candidates), np.nan)
        order = np.arange(len(candidates))
        if self.scorer is not None and candidates:
            probability = np.asarray(self.scorer.score(look.height_map, candidates), float)
            sure = np.clip(probability, 1e-6, 1 - 1e-6)
            analytic = np.array([c.score for c in candidates])
            value = np.log(sure / (1 - sure)) + self.config.analytic_weight * analytic
            order = np.argsort(-value, kind="stable")
        ranked = [
            Ranked(candidates[i], float(probability[i]), failed_before(candidates[i]))
            for i in order
        ]
        return sorted(ranked, key=lambda item: item.failed_before)


def near_first(
    ranked: Sequence[Ranked], target_m: NDArray[np.float64], within_m: float = 0.08
) -> list[Ranked]:
    """The same order, but those within ``within_m`` of (2,) ``target_m`` on the table first."""
    return sorted(
        ranked,
        key=lambda item: bool(
            np.linalg.norm(item.candidate.X_world_grasp.position_m[:2] - target_m) > within_m
        ),
    )


def _yaw(candidate: GraspCandidate) -> float:
    x_axis = candidate.X_world_grasp.rotation[:, 0]
    return math.atan2(x_axis[1], x_axis[0])
