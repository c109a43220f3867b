"""How fast the hand comes near to what stands around it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot.limits import RobotLimits
from robot.planning.obstacles import Box
from robot.safety.config import SafetyConfig
from robot.safety.signals import Signals
from robot.safety.tick import Tick
from robot.safety.verdict import slow
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]


class NearingMonitor:
    """The hand comes gently to the table and to what stands in the scene.

    It may touch both: that is its work, and the distance monitor leaves it out. But a hand that
    hits something at full speed goes on into it by its braking distance, and presses there with all
    that the motors have. So it must be able to brake to a gentle speed before it touches; what goes
    past or away is free.
    """

    name = "nearing"
    source = "ISO 10218-1: 0.25 m/s, the reduced speed"

    def __init__(
        self, limits: RobotLimits, config: SafetyConfig, tick: Tick, signals: Signals
    ) -> None:
        self._tick = tick
        self._gentle = config.near_speed_m_s**2
        self._per_m = 2.0 * config.near_deceleration_m_s2
        self._hand_m = config.near_hand_m
        self._fingertip_m = limits.gripper.fingertip_beyond_tool_m
        self._surround(signals.scene)
        signals.on_scene.append(self._surround)

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE to what can still be braked to the gentle speed."""
        tick = self._tick
        vx, vy, vz, *_ = tick.tool_velocity.tolist()
        if vx * vx + vy * vy + vz * vz <= self._gentle:
            return OK
        scale, what = 1.0, ""
        x, y, z = tick.tool_m.tolist()
        if vz < 0.0:
            allowed = self._gentle + self._per_m * max(z - self._fingertip_m, 0.0)
            if vz * vz > allowed:
                scale, what = math.sqrt(allowed) / -vz, "the table"
        if self._names:
            k, ratio = self._fastest(x, y, z, vx, vy, vz)
            if ratio * scale > 1.0:
                scale, what = 1.0 / ratio, self._names[k]
        return slow(scale, f"nearing: the hand comes too fast to {what}") if what else OK

    def _fastest(
        self, x: float, y: float, z: float, vx: float, vy: float, vz: float
    ) -> tuple[int, float]:
        """The box that is neared most above what is allowed, and by what factor."""
        c, s = self._turn
        dx, dy, dz = x - self._center[0], y - self._center[1], z - self._center[2]
        at = np.array([c * dx + s * dy, c * dy - s * dx, dz])  # in the boxes' own axes
        speed = np.array([c * vx + s * vy, c * vy - s * vx, np.full_like(c, vz)])
        away = np.copysign(np.maximum(np.abs(at) - self._half, 0.0), at)
        gap = np.sqrt(np.add.reduce(away * away))
        closing = -np.add.reduce(away * speed) / np.maximum(gap, 1e-9)
        allowed = np.sqrt(self._gentle + self._per_m * np.maximum(gap - self._hand_m, 0.0))
        ratio = closing / allowed
        k = int(ratio.argmax())
        return k, float(ratio[k])

    def _surround(self, boxes: Sequence[Box]) -> None:
        self._names = [box.name for box in boxes]
        yaw = np.array([box.yaw_rad for box in boxes])
        self._turn = np.cos(yaw), np.sin(yaw)
        self._center = np.array([box.center_m for box in boxes]).reshape(-1, 3).T
        self._half = 0.5 * np.array([box.size_m for box in boxes]).reshape(-1, 3).T
