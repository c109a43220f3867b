"""The states of a pick, how long each may take, and what follows when something goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from configs.load import bounded
from robot.errors import PlanningError
from robot.execution.grasp import GraspLoop


class PickState(Enum):
    """What the arm is about."""

    LOOK = "look"
    APPROACH = "approach"
    DESCEND = "descend"
    CLOSE = "close"
    CHECK_GRIP = "check grip"
    LIFT = "lift"
    CHECK_HOLD = "check hold"
    CARRY = "carry"
    RECOVER = "recover"
    HOME = "home"


class Trouble(Enum):
    """What can go wrong with a pick while the robot itself is well."""

    SLIP = "slip"
    EMPTY_HAND = "empty hand"
    LOST_OBJECT = "lost object"
    BLOCKED_PATH = "blocked path"
    TOO_LONG = "too long"
    NOTHING_SEEN = "nothing seen"
    UNSURE = "unsure policy"


class MotionTrouble(PlanningError):
    """A motion ended before its time; the arm is at rest somewhere on its way.

    Attributes:
        trouble: why.
    """

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(f"the motion was given up: {trouble.value}")
        self.trouble = trouble


class PathBlocked(MotionTrouble):
    """Something known is in the way of the rest of a motion; the arm is at rest before it.

    Args:
        what: is in the way.
    """

    def __init__(self, what: str) -> None:
        super().__init__(Trouble.BLOCKED_PATH)
        self.args = (f"stopped: {what}",)


RECOVERIES = {
    Trouble.SLIP: "press harder and carry on at half the speed",
    Trouble.EMPTY_HAND: "open, rise, look again, prefer another grip",
    Trouble.LOST_OBJECT: "stop, open, go home, look for where it fell",
    Trouble.BLOCKED_PATH: "stop, back along the way that was free, look again, plan anew",
    Trouble.TOO_LONG: "open, rise, look again",
    Trouble.NOTHING_SEEN: "wait for the next images, look again",
    Trouble.UNSURE: "open, rise, look again",
}


@dataclass(frozen=True)
class StateTimes:
    """The longest the states of the policy's part and the recovery may take, s.

    What follows is the recovery of ``TOO_LONG``; after the recovery itself, the pick's end. Planned
    motions (approach, carry, home) are each given up after ``GuardConfig.longest_s``, and a look
    after ``robot.loop.remote.LONGEST_WAIT_S``.
    """

    descend_s: float = bounded(8.0, 0.1, 60.0)
    close_s: float = bounded(3.0, 0.1, 60.0)
    check_grip_s: float = bounded(2.0, 0.05, 60.0)
    lift_s: float = bounded(8.0, 0.1, 60.0)
    check_hold_s: float = bounded(1.0, 0.05, 60.0)
    recover_s: float = bounded(60.0, 0.1, 600.0)

    def longest_s(self, state: PickState) -> float:
        """For one state; those that are limited elsewhere have no time here."""
        return float(getattr(self, f"{state.value.replace(' ', '_')}_s"))


@dataclass(frozen=True)
class PickFeedback:
    """Where a pick stands: what a client of the action is told.

    Attributes:
        state: the present one.
        since_s: when it began, on the loop's clock.
        attempt: counts from 1; each recovery that looks again begins a new one.
        trouble: what went wrong, in the state ``RECOVER``.
        recovery: what is done about it.
    """

    state: PickState
    since_s: float
    attempt: int
    trouble: Trouble | None = None
    recovery: str = ""


class PartStates:
    """Tells the states of the policy's part apart, by the robot's own readings.

    Args:
        times: how long each may take.
        settled_m: the hand has risen by so much when the lift has begun.
    """

    def __init__(self, times: StateTimes | None = None, settled_m: float = 0.02) -> None:
        self.times = times or StateTimes()
        self.settled_m = settled_m
        self.begin(0.0)

    def begin(self, now_s: float) -> None:
        """The hand is at the pre-grasp."""
        self.state, self.since_s = PickState.DESCEND, now_s
        self._lowest_m = float("inf")

    def update(self, loop: GraspLoop, now_s: float) -> PickState | None:
        """Take in the newest observation; the state if it has taken too long, else None."""
        state = self._of(loop)
        if state is not self.state:
            self.state, self.since_s = state, now_s
        if now_s - self.since_s > self.times.longest_s(state):
            return state
        return None

    def _of(self, loop: GraspLoop) -> PickState:
        if not loop.closing:
            return PickState.DESCEND
        height_m = loop.above_grasp_m
        if height_m >= loop.config.lift_m:
            return PickState.CHECK_HOLD
        self._lowest_m = min(self._lowest_m, height_m)
        if height_m > self._lowest_m + self.settled_m:
            return PickState.LIFT
        return PickState.CHECK_GRIP if loop.gripper_state.contact else PickState.CLOSE
