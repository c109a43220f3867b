"""SCALE: the commanded motion, slower, and within the joints' limits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.execution.limiter import JointLimiter
from robot.limits import JointLimits
from robot.safety.sent import Sent

Array = NDArray[np.float64]


class Slowing:
    """Follows a command from what was last sent, shrunk.

    Args:
        joints: their limits.
        tick_s: period of the control loop.
        jerk_share: of the jerk limits that it may use; None: as much as it takes.
    """

    def __init__(self, joints: JointLimits, tick_s: float, jerk_share: float | None) -> None:
        self._limiter = JointLimiter(joints, tick_s, jerk_share=jerk_share or 1.0)
        self._tick_s, self._eases = tick_s, jerk_share is not None

    def follow(self, sent: Sent, q: Array, qd: Array, scale: float) -> tuple[Array, Array]:
        """(ticks, n) rad and rad/s from the last sent joints towards ``q``, shrunk by ``scale``."""
        dt, limiter = self._tick_s, self._limiter
        start = sent.position_rad
        targets = start + scale * (q - start)
        q_out, qd_out = np.empty_like(targets), np.empty_like(targets)
        position, velocity, before = start, sent.velocity_rad_s, start
        earlier = sent.velocity_before_rad_s
        for k, target in enumerate(targets):
            # Follow the target's own speed, and close what is behind no faster than can be
            # stopped, or a joint that has to catch up would overshoot.
            rate = (target - before) / dt
            if k == 0:
                allowed = np.abs(qd[0]) * scale + limiter.stoppable(np.abs(target - start))
                rate = np.minimum(np.maximum(rate, -allowed), allowed)
            else:
                gap = before - position
                catch_up = np.minimum(np.abs(gap) / dt, limiter.stoppable(np.abs(gap)))
                rate = rate + np.copysign(catch_up, gap)
            wanted, _ = limiter.limit(position, velocity, rate)
            if self._eases:
                wanted = limiter.ease(position, earlier, velocity, wanted)
            earlier, velocity = velocity, wanted
            position = position + velocity * dt
            q_out[k], qd_out[k] = position, velocity
            before = target
        return q_out, qd_out
