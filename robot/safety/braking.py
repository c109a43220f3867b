"""How a halted arm comes to rest: each joint on its shortest way within its limits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.limits import JointLimits
from robot.safety.sent import Sent

Array = NDArray[np.float64]

_STILL_RAD_S = 1e-7  # rounding


class Brake:
    """Brings all joints to rest from whatever was last sent.

    Each joint brakes for itself: as hard as its acceleration limit allows, its acceleration
    changing no faster than its jerk limit allows. The way ends within the position limits wherever
    what was sent could be stopped within them.

    Args:
        joints: the limits.
        tick_s: period of the control loop.
        jerk_share: of the jerk limits that is used.
    """

    def __init__(self, joints: JointLimits, tick_s: float, jerk_share: float = 1.0) -> None:
        self._dt = tick_s
        self._most = joints.acceleration_rad_s2
        self._step = joints.jerk_rad_s3 * jerk_share * tick_s

    def next(self, sent: Sent) -> tuple[Array, Array]:
        """(n,) rad and rad/s of the coming tick."""
        dt, v = self._dt, sent.velocity_rad_s
        last = (v - sent.velocity_before_rad_s) / dt
        # Braking from |v| so that the acceleration can fade out again: v = a²/(2 jerk), and one
        # tick of it less, because the tick's acceleration acts over the whole tick.
        step = self._step
        fade = np.sqrt((0.5 * step) ** 2 + 2.0 * step * np.abs(v) / dt) - 0.5 * step
        wanted = -np.sign(v) * np.minimum(np.minimum(self._most, fade), np.abs(v) / dt)
        change = np.minimum(np.maximum(wanted - last, -step), step)
        a = np.minimum(np.maximum(last + change, -self._most), self._most)
        velocity = v + a * dt
        velocity = np.where(np.abs(velocity) < _STILL_RAD_S, 0.0, velocity)
        return sent.position_rad + velocity * dt, velocity
