"""Watches a planned motion by the robot's own readings: is the way free, does the grip last?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from configs.load import bounded
from robot.execution.grasp import GraspLoop
from robot.execution.states import Trouble
from robot.types import RobotState, SafetyVerdict


@dataclass(frozen=True)
class GuardConfig:
    """When a motion is given up.

    Attributes:
        lag_rad: a joint this far behind what it was told is held back by something,
        lag_ticks: if it is for so long.
        slow: a verdict below this scale is as good as a stop,
        slow_ticks: if it lasts so long.
        lost_ticks: without contact for so long, what was held is lost.
        longest_s: a motion that has not ended by then has failed.
        slip_speed: share of the speed at which a slipping object is carried on.
    """

    lag_rad: float = bounded(0.12, 0.01, 1.0)
    lag_ticks: int = bounded(24, 1, 1000)
    slow: float = bounded(0.05, 0.0, 1.0)
    slow_ticks: int = bounded(240, 1, 10_000)
    lost_ticks: int = bounded(12, 1, 1000)
    longest_s: float = bounded(30.0, 0.1, 600.0)
    slip_speed: float = bounded(0.5, 0.05, 1.0)


class MotionGuard:
    """Judges a motion tick by tick.

    Args:
        loop: feels the fingers.
        config: see :class:`GuardConfig`.
    """

    def __init__(self, loop: GraspLoop, config: GuardConfig | None = None) -> None:
        self.loop = loop
        self.config = config or GuardConfig()
        self.begin()

    def begin(self) -> None:
        """A motion starts: what is held now must still be held at its end."""
        self._holding = self.loop.gripper_state.contact
        self._late = self._slow = self._empty = 0
        self._begun_s: float | None = None
        self.slipping = False

    @property
    def speed(self) -> float:
        """Share of the planned speed that is wise."""
        return self.config.slip_speed if self.slipping else 1.0

    def check(
        self, state: RobotState, q_sent: np.ndarray, verdict: SafetyVerdict
    ) -> Trouble | None:
        """What went wrong with the motion, or None."""
        c, grip = self.config, self.loop.gripper_state
        if self._begun_s is None:
            self._begun_s = state.stamp_s
        if state.stamp_s - self._begun_s > c.longest_s:
            return Trouble.TOO_LONG
        lag = float(np.abs(state.joints.position_rad - q_sent).max())
        self._late = self._late + 1 if lag > c.lag_rad else 0
        self._slow = self._slow + 1 if verdict.scale < c.slow else 0
        if self._late >= c.lag_ticks or self._slow >= c.slow_ticks:
            return Trouble.BLOCKED_PATH
        if not self._holding:
            return None
        self.slipping = self.slipping or grip.slip
        self._empty = 0 if grip.contact else self._empty + 1
        return Trouble.LOST_OBJECT if self._empty >= c.lost_ticks else None
