"""What each joint is told: positions, and the first three differences of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.limits import RobotLimits
from robot.safety.config import SafetyConfig
from robot.safety.sent import Sent, differences
from robot.safety.verdict import halt, slow
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]


class PositionMonitor:
    """Joint targets are within the position limits, can still stop there, and do not jump."""

    name = "position"
    source = "libfranka: joint position limits; braking at the joint's own acceleration limit"

    def __init__(self, limits: RobotLimits, config: SafetyConfig, sent: Sent) -> None:
        self._low = limits.joints.lower_rad - config.position_tolerance_rad
        self._high = limits.joints.upper_rad + config.position_tolerance_rad
        self._dt = config.tick_s
        self._speed = limits.joints.velocity_rad_s
        self._per_speed = 0.5 / (limits.joints.acceleration_rad_s2 * (1.0 + config.tolerance))
        self._jump_rad, self._sent = config.jump_rad, sent

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE beyond a limit or too fast to stop before it, HALT on a jump."""
        moved, jump = self._sent.moved(position_rad)
        if np.count_nonzero(jump > self._jump_rad):
            k, j = divmod(int(jump.argmax()), jump.shape[1])
            return halt(
                f"joint {j + 1}: command jumps by {jump[k, j]:.3f} rad in a tick, "
                f"limit {self._jump_rad:g}"
            )
        # No faster than it may: that is another monitor's business.
        speed = np.minimum(np.maximum(moved / self._dt, -self._speed), self._speed)
        stop = position_rad + speed * np.abs(speed) * self._per_speed
        outside = (
            (position_rad < self._low)
            | (position_rad > self._high)
            | (stop < self._low)
            | (stop > self._high)
        )
        if np.count_nonzero(outside):
            k, j = (int(i) for i in np.argwhere(outside)[0])
            return slow(
                1.0,
                f"joint {j + 1}: position {position_rad[k, j]:.4f} rad is outside "
                f"[{self._low[j]:.4f}, {self._high[j]:.4f}] or cannot stop within",
            )
        return OK


class VelocityMonitor:
    """Joint targets do not change faster than the joints may turn."""

    name = "velocity"
    source = "libfranka: joint velocity limits"

    def __init__(self, limits: RobotLimits, config: SafetyConfig, sent: Sent) -> None:
        self._limit = limits.joints.velocity_rad_s
        self._step = self._limit * (1.0 + config.tolerance) * config.tick_s
        self._dt, self._sent = config.tick_s, sent

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE to the limit."""
        _, step = self._sent.moved(position_rad)
        if np.count_nonzero(step <= self._step) == step.size:  # so that NaN is not within
            return OK
        ratio = step / (self._limit * self._dt)
        k, j = divmod(int(ratio.argmax()), ratio.shape[1])
        return slow(
            1.0 / float(ratio[k, j]),
            f"joint {j + 1}: velocity {step[k, j] / self._dt:.3f} rad/s is above "
            f"{self._limit[j]:g}",
        )


class AccelerationMonitor:
    """The targets' velocity does not change faster than the joints may accelerate."""

    name = "acceleration"
    source = "libfranka: joint acceleration limits"

    def __init__(self, limits: RobotLimits, config: SafetyConfig, sent: Sent) -> None:
        self._limit = limits.joints.acceleration_rad_s2
        self._dt, self._sent = config.tick_s, sent
        self._step = self._limit * (1.0 + config.tolerance) * config.tick_s**2

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE of 1: the motion is not slowed, only its changes are spread over more ticks."""
        moved, _ = self._sent.moved(position_rad)
        change = np.abs(differences(self._sent.velocity_rad_s * self._dt, moved))
        if np.count_nonzero(change <= self._step) == change.size:
            return OK
        ratio = change / self._step
        k, j = divmod(int(ratio.argmax()), ratio.shape[1])
        return slow(
            1.0,
            f"joint {j + 1}: acceleration {change[k, j] / self._dt**2:.2f} rad/s2 is above "
            f"{self._limit[j]:g}",
        )


class JerkMonitor:
    """The targets' acceleration does not change faster than ``jerk_share`` of the jerk limit."""

    name = "jerk"
    source = "libfranka: joint jerk limits, a share of them at 240 Hz"

    def __init__(self, limits: RobotLimits, config: SafetyConfig, sent: Sent) -> None:
        self._limit = limits.joints.jerk_rad_s3 * config.jerk_share
        self._dt, self._sent = config.tick_s, sent
        self._step = self._limit * (1.0 + config.tolerance) * config.tick_s**3

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE of 1: the changes are spread over more ticks."""
        sent, dt = self._sent, self._dt
        moved, _ = sent.moved(position_rad)
        change = differences(sent.velocity_rad_s * dt, moved)
        last = (sent.velocity_rad_s - sent.velocity_before_rad_s) * dt
        jerk = np.abs(differences(last, change))
        if np.count_nonzero(jerk <= self._step) == jerk.size:
            return OK
        ratio = jerk / self._step
        k, j = divmod(int(ratio.argmax()), ratio.shape[1])
        return slow(
            1.0, f"joint {j + 1}: jerk {jerk[k, j] / dt**3:.0f} rad/s3 is above {self._limit[j]:g}"
        )
