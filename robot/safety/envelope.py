"""Whether a command is within all of the joints' limits, told at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.limits import RobotLimits
from robot.safety.config import SafetyConfig
from robot.safety.sent import Sent

Array = NDArray[np.float64]


class Envelope:
    """The limits of position, velocity and acceleration side by side, for numbers only.

    Nearly all commands are within all of them. Asking one monitor after the other takes several
    times as long, so they are asked only about a command that is not: to name what is wrong with
    it. A batch is judged in one comparison, for which only those positions count from which even
    full speed can be stopped. A single tick is judged joint by joint in plain numbers, which is
    quicker than NumPy's calls for so few, and its jerk and its way to rest as the monitors do.

    Args:
        limits: of the arm.
        config: tolerances.
    """

    #: The monitors that need not be asked about what the envelope holds,
    BATCH = ("finite", "position", "velocity", "acceleration")
    #: and where it is a single tick.
    TICK = (*BATCH, "jerk")

    def __init__(self, limits: RobotLimits, config: SafetyConfig) -> None:
        c, joints = config, limits.joints
        self._n, self._dt = joints.count, c.tick_s
        speed = joints.velocity_rad_s * (1.0 + c.tolerance)
        step = np.minimum(speed * c.tick_s, c.jump_rad)
        change = joints.acceleration_rad_s2 * (1.0 + c.tolerance) * c.tick_s**2
        stop = joints.velocity_rad_s**2 / (2.0 * joints.acceleration_rad_s2)
        stop = stop * (1.0 + c.tolerance) ** 2 - c.position_tolerance_rad
        self._low = (joints.lower_rad + stop, -step, -change, -speed)
        self._high = (joints.upper_rad - stop, step, change, speed)
        self._blocks: dict[int, _Block] = {}
        jerk = joints.jerk_rad_s3 * c.jerk_share * (1.0 + c.tolerance) * c.tick_s**3
        if "jerk" in c.off:
            jerk = np.full(self._n, np.inf)
        rows = (self._low[0], self._high[0], step, change, jerk, speed)
        self._joints: list[list[float]] = np.column_stack(rows).tolist()
        ends = (
            joints.lower_rad - c.position_tolerance_rad,
            joints.upper_rad + c.position_tolerance_rad,
            joints.velocity_rad_s,
            0.5 / (joints.acceleration_rad_s2 * (1.0 + c.tolerance)),
        )
        self._ends: list[list[float]] = np.column_stack(ends).tolist()

    def holds(self, q: Array, qd: Array, sent: Sent) -> bool:
        """Whether (ticks, n) rad and rad/s are numbers within all limits, after what was sent."""
        if not sent.known or q.ndim != 2 or q.shape[1] != self._n or qd.shape != q.shape:
            return False
        ticks = len(q)
        if ticks == 1:
            return self._holds_tick(q[0].tolist(), qd[0].tolist(), sent)
        if ticks not in self._blocks:
            if not ticks:
                return False
            self._blocks = {ticks: _Block(ticks, self._low, self._high)}  # a loop keeps to one size
        b = self._blocks[ticks]
        b.start[:] = sent.position_rad
        b.position[:] = q
        np.multiply(sent.velocity_rad_s, self._dt, b.before)
        np.subtract(b.position, b.position_before, b.moved)
        np.subtract(b.moved, b.moved_before, b.change)
        b.speed[:] = qd
        # A NaN is neither above nor below, so it must be asked for what is within.
        np.greater_equal(b.rows, b.low, b.within)
        np.less_equal(b.rows, b.high, b.below)
        np.logical_and(b.within, b.below, b.within)
        return int(np.count_nonzero(b.within)) == b.within.size

    def _holds_tick(self, q: list[float], qd: list[float], sent: Sent) -> bool:
        dt = self._dt
        before = sent.position_rad.tolist()
        velocity, earlier = sent.velocity_rad_s.tolist(), sent.velocity_before_rad_s.tolist()
        free = True
        for p, p0, v, v0, rate, (low, high, step, change, jerk, speed) in zip(
            q, before, velocity, earlier, qd, self._joints, strict=True
        ):
            moved = p - p0
            changed = moved - v * dt
            # A NaN is neither above nor below, so it must be asked for what is within.
            if not (
                -step <= moved <= step
                and -change <= changed <= change
                and -jerk <= changed - (v - v0) * dt <= jerk
                and -speed <= rate <= speed
            ):
                return False
            if not low <= p <= high:
                free = False
        return free or self._stops(q, before)

    def _stops(self, q: list[float], before: list[float]) -> bool:
        """Whether all joints, some near the end of their range, are within it and can stop."""
        for p, p0, (low, high, most, per_speed) in zip(q, before, self._ends, strict=True):
            speed = min(max((p - p0) / self._dt, -most), most)
            if not (low <= p <= high and low <= p + speed * abs(speed) * per_speed <= high):
                return False
        return True


class _Block:
    """Work space for one number of ticks; all rows stand under each other."""

    def __init__(self, ticks: int, low: tuple[Array, ...], high: tuple[Array, ...]) -> None:
        n, t = len(low[0]), ticks
        self.rows = np.zeros((4 * t + 2, n))
        self.within, self.below = np.zeros((2, *self.rows.shape), dtype=bool)
        self.start, self.position = self.rows[0], self.rows[1 : t + 1]
        self.position_before = self.rows[:t]
        self.before, self.moved = self.rows[t + 1], self.rows[t + 2 : 2 * t + 2]
        self.moved_before = self.rows[t + 1 : 2 * t + 1]
        self.change, self.speed = self.rows[2 * t + 2 : 3 * t + 2], self.rows[3 * t + 2 :]
        self.low, self.high = np.full(self.rows.shape, -np.inf), np.full(self.rows.shape, np.inf)
        for bound, limits in ((self.low, low), (self.high, high)):
            bound[1 : t + 1], bound[t + 2 : 2 * t + 2] = limits[0], limits[1]
            bound[2 * t + 2 : 3 * t + 2], bound[3 * t + 2 :] = limits[2], limits[3]
