"""One fault: where it takes hold of the loop, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from robot.types import GripperCommand, RobotState

if TYPE_CHECKING:
    from envs.faults.injector import Injector

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Reaction = Literal["none", "slow", "halt", "recover"]
Told = tuple[RobotState | None, Array, Array, float, GripperCommand | None]

PHASES = ("approach", "grasp", "carry", "home")


class Fault:
    """Does nothing; a fault overrides where it takes hold.

    Attributes:
        waits: it does harm only once it says so; a run in which it never did does not count.
    """

    waits = False

    def begin(self, run: Injector) -> None:
        """It begins now."""

    def end(self, run: Injector) -> None:
        """The run is over: undo what would outlive it."""

    def upstream(self, run: Injector, told: Told) -> Told:
        """What reaches the supervisor instead of what was meant to."""
        return told

    def read(self, run: Injector, state: RobotState) -> RobotState:
        """What a reading gives; may raise."""
        return state

    def now(self, run: Injector, now_s: float) -> float:
        """What the controller's clock says."""
        return now_s

    def see(self, run: Injector, observation: Floats) -> Floats:
        """What the policy sees."""
        return observation

    def act(self, run: Injector, action: Floats) -> Floats:
        """What the policy does."""
        return action

    def before_tick(self, run: Injector) -> None:
        """The world is about to move on by a tick."""

    def silent(self, run: Injector) -> int:
        """For how many ticks the controller does not come round now."""
        return 0


@dataclass(frozen=True)
class Kind:
    """A kind of fault, and what is stated of it beforehand.

    Attributes:
        name: of the kind.
        make: a fresh fault.
        expect: reactions of which one must come; "none" is no reaction at all, "recover" ends the
            pick without a HALT, slowed or not.
        within: controller periods from the fault's effect to the first reaction.
        lasts: the run ends so many ticks after the onset, None: with the pick.
        phases: of a pick in which it can happen.
        monitor: whose business it is; empty where no monitor's.
    """

    name: str
    make: Callable[[], Fault]
    expect: tuple[Reaction, ...]
    within: int = 2
    lasts: int | None = 240
    phases: tuple[str, ...] = PHASES
    monitor: str = ""

    @property
    def gradual(self) -> bool:
        """Whether it comes nearer and nearer, so that no moment is there to count periods from."""
        return self.within > 100
