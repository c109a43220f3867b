"""What the fingers say: that something slips or is lost, and that they are overloaded."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from robot.limits import GripperLimits
from robot.safety.config import SafetyConfig
from robot.safety.signals import Signals
from robot.safety.verdict import halt, slow
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]

_TOLD_TO_OPEN_M = 0.002


class SlipMonitor:
    """What is held does not slip away; who lost it goes slowly until the hand opens."""

    name = "slip"
    source = "Steadyhand: 2 mm of the fingers' way, as robot.execution.gripper has it, at 10 mm/s"

    def __init__(self, config: SafetyConfig, signals: Signals) -> None:
        self._c, self._signals = config.grip, signals
        self._held_ticks = round(config.grip.held_s / config.tick_s)
        window = max(1, round(config.grip.slip_window_s / config.tick_s))
        self._openings_m: deque[float] = deque(maxlen=window + 1)
        self._slipped_m = config.grip.slip_speed_m_s * window * config.tick_s
        self.forget()

    def forget(self) -> None:
        """Nothing is held."""
        self._held, self._lost = 0, False
        self._openings_m.clear()
        self._until_s = -np.inf

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE while it slips and after it was lost."""
        grip, told = self._signals.gripper, self._signals.gripper_command
        if grip is None or told is None:
            return OK
        opens = told.opening_m > grip.opening_m + _TOLD_TO_OPEN_M
        if opens:
            self.forget()
            return OK
        if grip.contact:
            self._held, self._lost = self._held + 1, False
            self._openings_m.append(grip.opening_m)
            slipped_m = self._openings_m[0] - grip.opening_m
            if grip.slip and slipped_m >= self._slipped_m and self._held > self._held_ticks:
                self._until_s = now_s + self._c.slip_s
        else:
            self._lost = self._lost or self._held >= self._held_ticks
            self._held = 0
            self._openings_m.clear()
        if self._lost:
            return slow(self._c.lost_scale, "grip: what was held is lost")
        if now_s < self._until_s:
            return slow(self._c.slip_scale, "grip: what is held slips")
        return OK


class GripperMonitor:
    """The fingers press no harder than they may, and are not held while they open."""

    name = "gripper"
    source = "Franka Hand data sheet: 70 N continuous; the hand's own reaction force"

    def __init__(self, limits: GripperLimits, config: SafetyConfig, signals: Signals) -> None:
        self._most_n = limits.max_force_n * 1.05
        self._c, self._signals = config.grip, signals
        self._ticks = max(1, round(config.grip.overload_s / config.tick_s))
        self.forget()

    def forget(self) -> None:
        """Nothing was felt yet."""
        self._pressed = self._held_back = 0

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """HALT where too much force lasts."""
        grip, told = state.gripper, self._signals.gripper_command
        self._pressed = self._pressed + 1 if grip.force_n > self._most_n else 0
        if self._pressed >= 3:
            return halt(f"gripper: presses with {grip.force_n:.0f} N, limit {self._most_n:.0f}")
        opens = told is not None and told.opening_m > grip.opening_m + _TOLD_TO_OPEN_M
        held = opens and grip.opening_force_n >= self._c.overload_n
        self._held_back = self._held_back + 1 if held else 0
        if self._held_back >= self._ticks:
            return halt(
                f"gripper: opens against {grip.opening_force_n:.0f} N, limit {self._c.overload_n:g}"
            )
        return OK
