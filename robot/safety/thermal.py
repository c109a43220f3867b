"""How warm the motors are, by a model and by what the robot says."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robot.limits import RobotLimits
from robot.safety.config import SafetyConfig
from robot.safety.verdict import halt, slow
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]


class TemperatureMonitor:
    """Each motor warms with the square of its torque (I²t) and cools to the room.

    ``dT/dt = (ambient + rise (torque / limit)² - T) / time_constant``, and never below what the
    robot reports. A reset does not cool it.
    """

    name = "temperature"
    source = "Steadyhand: I²t with 70 and 85 °C; Franka publishes no motor data"

    def __init__(self, limits: RobotLimits, config: SafetyConfig) -> None:
        c = self._c = config.thermal
        self._per_square: list[float] = (c.rise_c / limits.joints.torque_nm**2).tolist()
        #: Of each motor, after the model.
        self.celsius = [c.ambient_c] * limits.joints.count
        self._last_s: float | None = None
        self._hottest = c.ambient_c

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE between warning and stop, less and less; HALT at the stop."""
        c = self._c
        last, self._last_s = self._last_s, state.stamp_s
        # A clock that was set back, as at a new episode, lets no time pass.
        seconds = 0.0 if last is None else min(max(state.stamp_s - last, 0.0), 1.0)
        if seconds:
            share, ambient = 1.0 - math.exp(-seconds / c.time_constant_s), c.ambient_c
            motors = zip(
                self.celsius, self._per_square, state.joints.effort_nm.tolist(), strict=True
            )
            self.celsius = [
                now + share * (ambient + per_square * torque * torque - now)
                for now, per_square, torque in motors
            ]
        hottest = max(self.celsius)
        if state.motor_temperature_c is not None:
            reported = float(state.motor_temperature_c.max())
            if not math.isfinite(reported):
                return halt("temperature: a motor's reading is not a number")
            hottest = max(hottest, reported)
        if hottest < c.warn_c:
            return OK
        if hottest >= c.stop_c:
            return halt(f"temperature: a motor has {hottest:.0f} °C, stop {c.stop_c:g}")
        return slow(
            max(0.1, (c.stop_c - hottest) / (c.stop_c - c.warn_c)),
            f"temperature: a motor has {hottest:.0f} °C, warning {c.warn_c:g}",
        )
