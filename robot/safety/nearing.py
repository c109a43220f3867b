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
_Placed = tuple[float, float, float, float, float, float, float, float]
"""Cosine and sine of a box's yaw; centre and half edges of it with the hand around it, m."""


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
        square = vx * vx + vy * vy + vz * vz
        if square <= self._gentle:
            return OK
        scale, what = 1.0, ""
        x, y, z = tick.tool_m.tolist()
        if vz < 0.0:
            allowed = self._gentle + self._per_m * max(z - self._fingertip_m, 0.0)
            if vz * vz > allowed:
                scale, what = math.sqrt(allowed) / -vz, "the table"
        reach_m = (square - self._gentle) / self._per_m  # what is further off allows this speed
        for name, box, radius_m in self._boxes:
            dx, dy, dz, near_m = x - box[2], y - box[3], z - box[4], radius_m + reach_m
            if dx * dx + dy * dy + dz * dz > near_m * near_m:
                continue
            ratio = self._ratio(box, x, y, z, vx, vy, vz)
            if ratio * scale > 1.0:
                scale, what = 1.0 / ratio, name
        return slow(scale, f"nearing: the hand comes too fast to {what}") if what else OK

    def _ratio(
        self, box: _Placed, x: float, y: float, z: float, vx: float, vy: float, vz: float
    ) -> float:
        """How fast a box is neared, as a share of what is allowed."""
        # Plain numbers: for a few boxes NumPy's calls take several times as long.
        c, s, box_x, box_y, box_z, *half = box
        dx, dy = x - box_x, y - box_y
        at = c * dx + s * dy, c * dy - s * dx, z - box_z  # in the box's own axes
        v = c * vx + s * vy, c * vy - s * vx, vz
        square = closing = 0.0
        enters_s, leaves_s = -math.inf, math.inf
        for p, w, h in zip(at, v, half, strict=True):
            if abs(p) > h:
                gap = math.copysign(abs(p) - h, p)
                square += gap * gap
                closing -= gap * w
                if w == 0.0:
                    leaves_s = -math.inf
            if w != 0.0:
                side = math.copysign(h, w)
                enters_s = max(enters_s, (-side - p) / w)
                leaves_s = min(leaves_s, (side - p) / w)
        gap_m = math.sqrt(square)
        ratio = 0.0
        if gap_m > 0.0:
            ratio = closing / gap_m / math.sqrt(self._gentle + self._per_m * gap_m)
        elif at[0] * v[0] + at[1] * v[1] + at[2] * v[2] >= 0.0:
            return 0.0  # it may touch, or stands around what is there: out of it is free
        if enters_s <= leaves_s and leaves_s >= 0.0:  # going on like this, the hand hits it
            speed = math.sqrt(vx * vx + vy * vy + vz * vz)
            way_m = speed * max(enters_s, 0.0)
            ratio = max(ratio, speed / math.sqrt(self._gentle + self._per_m * way_m))
        return ratio

    def _surround(self, boxes: Sequence[Box]) -> None:
        # A finger hits what the tool between them passes by: each box with the hand around it.
        self._boxes: list[tuple[str, _Placed, float]] = []
        for box in boxes:
            turn = math.cos(box.yaw_rad), math.sin(box.yaw_rad)
            (x, y, z), (length, width, height) = box.center_m, box.size_m
            top, bottom = z + 0.5 * height + self._fingertip_m, z - 0.5 * height - self._hand_m
            center = x, y, 0.5 * (top + bottom)
            half = 0.5 * length + self._hand_m, 0.5 * width + self._hand_m, 0.5 * (top - bottom)
            self._boxes.append((box.name, (*turn, *center, *half), math.hypot(*half)))
