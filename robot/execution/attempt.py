"""One try to grasp something: what was chosen, how it ended, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from robot.execution.grasp import Outcome
from robot.execution.states import PickState
from robot.planning.ranking import Refusals
from robot.types import GraspCandidate, GripperState, ObjectState


@dataclass(slots=True)
class GraspAttempt:
    """What was tried, and how it stands; ``late`` is the state that took too long."""

    outcome: str
    candidate: GraspCandidate | None = None
    obj: ObjectState | None = None
    reasons: list[str] = field(default_factory=list)
    refused: Refusals = field(default_factory=Refusals)
    started_s: float = 0.0
    late: PickState | None = None

    @property
    def held(self) -> bool:
        """The robot's own readings say that something is held at the top of the lift."""
        return self.outcome == Outcome.HELD.value


def why_failed(
    outcome: str, candidate: GraspCandidate, grip: GripperState, timeout_s: float
) -> str:
    """For a person: how the policy's part of a grasp failed."""
    x, y, z = candidate.X_world_grasp.position_m
    what = {
        Outcome.MISSED.value: "lifted, but the fingers held nothing at the top",
        Outcome.TOUCHED.value: "the fingers came down on something instead of beside it",
        Outcome.STRAYED.value: "the hand left the way to the grasp",
        Outcome.UNSURE.value: "the policy saw what was unlike anything before",
        Outcome.TIMEOUT.value: (
            f"not lifted within {timeout_s:g} s (fingers open {grip.opening_m:.3f} m, pressing "
            f"{grip.force_n:.0f} N): too heavy, or something is in the way"
        ),
    }.get(outcome, outcome)
    return f"grasp of {candidate.width_m:.3f} m at ({x:.2f}, {y:.2f}, {z:.2f}) m: {what}"
