"""What a picker asks of the arm and of the hand, in this process or in another."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robot.execution.acting import Acted
from robot.interface import Clock
from robot.types import GraspCandidate, Look, ObjectState, RobotState, Trajectory

Array = NDArray[np.float64]


class Arm(Protocol):
    """What moves: a ``Player`` in this process, or one behind actions in another."""

    clock: Clock
    phase: str
    state: RobotState
    q_sent: Array

    def sync(self) -> None:
        """Go on from where the robot stands."""

    def play(self, trajectory: Trajectory) -> None:
        """Follow a trajectory."""

    def hold(self, seconds: float) -> None:
        """Stand still."""

    def open(self, opening_m: float) -> None:
        """Tell the gripper a new opening."""


class Hand(Protocol):
    """Who does the policy's part: an ``Acting`` in this process, or one in another."""

    def act(self, candidate: GraspCandidate, obj: ObjectState | None, look: Look | None) -> Acted:
        """The whole part, from the pre-grasp until the outcome is known."""
