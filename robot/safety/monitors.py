"""What is watched on the way to the motors; each monitor judges one thing and changes nothing.

All take the joint targets of one or more coming ticks, (ticks, n) rad, and compare them with each
other and with what was last sent. OK lets the command pass as it is, SCALE has the supervisor slow
it and cut it to the joint limits, HALT holds the arm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.errors import SafetyError
from robot.geometry import all_finite
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.types import OK, RobotState, SafetyVerdict, VerdictLevel

Array = NDArray[np.float64]

_WORKSPACE_POINTS = 4  # ticks of a batch at which the tool's position is looked at


@dataclass(frozen=True)
class SafetyConfig:
    """What the monitors allow. The arm's own limits are in its :class:`RobotLimits`.

    Attributes:
        tick_s: period of the control loop.
        tolerance: relative excess over a joint's velocity or acceleration limit that still passes,
            for rounding.
        position_tolerance_rad: excess over a position limit that still passes.
        start_tolerance_rad: the first command after a reset may lie this far from the measured
            joints.
        jump_rad: a command further than this from the one before is a HALT, not a SCALE.
        stale_after_s: a state older than this slows the arm.
        stale_deadline_s: a state older than this halts it.
        future_s: a state stamped further ahead than this halts it: two clocks disagree.
        workspace_deceleration_m_s2: the tool must be able to stop within the workspace at this.
        workspace_halt_m: outside the workspace by more than this and going further is a HALT.
    """

    tick_s: float = bounded(1.0 / 240.0, 1e-4, 0.1)
    tolerance: float = bounded(1e-3, 0.0, 0.1)
    position_tolerance_rad: float = bounded(1e-6, 0.0, 0.01)
    start_tolerance_rad: float = bounded(0.1, 0.0, 1.0)
    jump_rad: float = bounded(0.2, 0.001, 3.2)
    stale_after_s: float = bounded(0.06, 0.0, 1.0)
    stale_deadline_s: float = bounded(0.2, 0.001, 5.0)
    future_s: float = bounded(0.01, 0.0, 1.0)
    workspace_deceleration_m_s2: float = bounded(2.0, 0.1, 13.0)
    workspace_halt_m: float = bounded(0.03, 0.0, 1.0)

    def __post_init__(self) -> None:
        if self.stale_after_s >= self.stale_deadline_s:
            raise SafetyError(
                f"stale_after_s ({self.stale_after_s:g}) must be below stale_deadline_s "
                f"({self.stale_deadline_s:g})"
            )


class Sent:
    """What was last sent to the arm; the supervisor writes it, the monitors read it.

    Attributes:
        known: False before the arm's start is known.
        position_rad: (n,) joints last sent, or from which the first command starts.
        velocity_rad_s: (n,) by finite difference over the last tick.
    """

    def __init__(self, joints: int) -> None:
        self.known = False
        self.position_rad: Array = np.zeros(joints)
        self.velocity_rad_s: Array = np.zeros(joints)
        self._rows: Array | None = None
        self._moved: tuple[Array, Array] = (np.zeros((1, joints)), np.zeros((1, joints)))

    def moved(self, position_rad: Array) -> tuple[Array, Array]:
        """(ticks, n) rad: how each coming tick moves the joints, and how far.

        Remembered for one array.
        """
        if position_rad is not self._rows:
            moved = _differences(self.position_rad, position_rad)
            self._moved = moved, np.abs(moved)
            self._rows = position_rad
        return self._moved

    def forget_moved(self) -> None:
        """Reckon anew at the next :meth:`moved`: the caller may have changed its array in place."""
        self._rows = None

    def advance(self, position_rad: Array, velocity_rad_s: Array) -> None:
        """The arm was sent to (n,) rad, at (n,) rad/s."""
        self.forget_moved()
        self.position_rad, self.velocity_rad_s = position_rad, velocity_rad_s

    def rest_at(self, position_rad: Array) -> None:
        """The arm is at rest at (n,) rad."""
        self.known = True
        start = np.array(position_rad, dtype=np.float64)
        self.advance(start, np.zeros_like(start))


def halt(reason: str) -> SafetyVerdict:
    """A HALT for ``reason``."""
    return SafetyVerdict(VerdictLevel.HALT, 0.0, reason)


def slow(scale: float, reason: str) -> SafetyVerdict:
    """A SCALE for ``reason``, ``scale`` cut to [0, 1]; 1 only cuts to the joint limits."""
    return SafetyVerdict(VerdictLevel.SCALE, min(max(scale, 0.0), 1.0), reason)


def _differences(first: Array, rows: Array) -> Array:
    """(ticks, n): each row minus the one before, the first minus ``first``."""
    out = rows.copy()
    out[0] -= first
    out[1:] -= rows[:-1]
    return out


class FiniteMonitor:
    """Commands and readings are numbers, and there are as many as joints."""

    def __init__(self, limits: RobotLimits) -> None:
        self._n = limits.joints.count

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """HALT on NaN, infinity or a wrong shape."""
        shape = position_rad.shape
        if len(shape) != 2 or shape[1] != self._n or shape[0] < 1:
            return halt(f"command: expected (ticks, {self._n}) joints, got shape {shape}")
        if not all_finite(position_rad):
            return halt("command: holds NaN or infinity")
        if not self.sound(state):
            shape = state.joints.position_rad.shape
            return halt(f"state: expected {self._n} finite joints, got shape {shape}")
        return OK

    def sound(self, state: RobotState) -> bool:
        """Whether the measured joints are numbers, and as many as there should be."""
        measured = state.joints.position_rad
        return measured.shape == (self._n,) and all_finite(measured)


class StaleMonitor:
    """The state that the command rests on is new."""

    def __init__(self, config: SafetyConfig) -> None:
        self._c = config

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE from ``stale_after_s`` on, less and less; HALT after ``stale_deadline_s``."""
        c = self._c
        age = now_s - state.stamp_s
        if -c.future_s <= age <= c.stale_after_s:
            return OK
        if not math.isfinite(age):
            return halt(f"stale input: time {now_s} or stamp {state.stamp_s} is not a number")
        if age < 0:
            return halt(f"stale input: state is stamped {-age:.3f} s ahead of the clock")
        if age > c.stale_deadline_s:
            return halt(f"stale input: state is {age:.3f} s old, limit {c.stale_deadline_s:g} s")
        left = (c.stale_deadline_s - age) / (c.stale_deadline_s - c.stale_after_s)
        return slow(left, f"stale input: state is {age:.3f} s old, fresh is {c.stale_after_s:g} s")


class PositionMonitor:
    """Joint targets are within the position limits and do not jump."""

    def __init__(self, limits: RobotLimits, config: SafetyConfig, sent: Sent) -> None:
        self._low = limits.joints.lower_rad - config.position_tolerance_rad
        self._high = limits.joints.upper_rad + config.position_tolerance_rad
        self._jump_rad, self._sent = config.jump_rad, sent

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE beyond a limit, HALT on a jump."""
        _, jump = self._sent.moved(position_rad)
        if np.count_nonzero(jump > self._jump_rad):
            k, j = divmod(int(jump.argmax()), jump.shape[1])
            return halt(
                f"joint {j + 1}: command jumps by {jump[k, j]:.3f} rad in a tick, "
                f"limit {self._jump_rad:g}"
            )
        outside = (position_rad < self._low) | (position_rad > self._high)
        if np.count_nonzero(outside):
            k, j = (int(i) for i in np.argwhere(outside)[0])
            return slow(
                1.0,
                f"joint {j + 1}: position {position_rad[k, j]:.4f} rad is outside "
                f"[{self._low[j]:.4f}, {self._high[j]:.4f}]",
            )
        return OK


class VelocityMonitor:
    """Joint targets do not change faster than the joints may turn."""

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

    def __init__(self, limits: RobotLimits, config: SafetyConfig, sent: Sent) -> None:
        self._limit = limits.joints.acceleration_rad_s2
        self._dt, self._sent = config.tick_s, sent
        self._step = self._limit * (1.0 + config.tolerance) * config.tick_s**2

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE of 1: the motion is not slowed, only its changes are spread over more ticks."""
        moved, _ = self._sent.moved(position_rad)
        change = np.abs(_differences(self._sent.velocity_rad_s * self._dt, moved))
        if np.count_nonzero(change <= self._step) == change.size:
            return OK
        ratio = change / self._step
        k, j = divmod(int(ratio.argmax()), ratio.shape[1])
        return slow(
            1.0,
            f"joint {j + 1}: acceleration {change[k, j] / self._dt**2:.2f} rad/s2 is above "
            f"{self._limit[j]:g}",
        )


class WorkspaceMonitor:
    """The tool is in its box and could still stop there.

    Of a batch it looks at four ticks evenly spread, the last among them: in between, the tool
    cannot get far.
    """

    def __init__(
        self, limits: RobotLimits, kinematics: Kinematics, config: SafetyConfig, sent: Sent
    ) -> None:
        self._low, self._high = limits.workspace_min_m.tolist(), limits.workspace_max_m.tolist()
        self._bound = np.concatenate((limits.workspace_max_m, -limits.workspace_min_m))
        self._kinematics, self._c, self._sent = kinematics, config, sent

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE to what stops at the wall; HALT when far outside and going further."""
        ticks = len(position_rad)
        stride = -(-ticks // _WORKSPACE_POINTS)
        rows = range(stride - 1, ticks, stride) if ticks % stride == 0 else range(ticks)
        seconds = self._c.tick_s * (stride if ticks % stride == 0 else 1)
        point = self._kinematics.tool_position
        path = [point(self._sent.position_rad)]
        path += [point(position_rad[k]) for k in rows]
        per_speed = 1.0 / (2.0 * self._c.workspace_deceleration_m_s2 * seconds**2)
        (x_low, y_low, z_low), (x_high, y_high, z_high) = self._low, self._high
        for (x0, y0, z0), (x, y, z) in pairwise(path):
            dx, dy, dz = x - x0, y - y0, z - z0
            if not (
                x_low <= x <= x_high
                and x_low <= x + dx * abs(dx) * per_speed <= x_high
                and y_low <= y <= y_high
                and y_low <= y + dy * abs(dy) * per_speed <= y_high
                and z_low <= z <= z_high
                and z_low <= z + dz * abs(dz) * per_speed <= z_high
            ):
                return self._judge(np.array(path), per_speed)
        return OK

    def _judge(self, path: Array, per_speed: float) -> SafetyVerdict:
        # Both sides of each axis as one vector of six: x, y, z upwards and downwards.
        both = np.concatenate((path, -path), axis=1)
        start, reach = both[0], both[1:]
        stop = reach + np.maximum(both[1:] - both[:-1], 0.0) ** 2 * per_speed
        names = ("x", "y", "z")
        scale, reason = 1.0, ""
        room = np.maximum(self._bound - start, 0.0)
        for k, side in np.argwhere(stop > self._bound):
            way = float(reach[k, side] - start[side])
            if way <= 0.0:  # outside, but coming back
                continue
            beyond = float(start[side] - self._bound[side])
            axis, word = names[side % 3], "below" if side >= 3 else "above"
            where = f"tool {axis} is going {word} {abs(float(self._bound[side])):.3f} m"
            if beyond > self._c.workspace_halt_m:
                return halt(f"workspace: {where} from {beyond:.3f} m outside")
            # Shrinking by s shrinks the way by s and the braking distance by s²:
            # s way + s² braking = room.
            braking = float(stop[k, side] - reach[k, side])
            if braking > 1e-12:
                root = math.sqrt(way * way + 4.0 * braking * float(room[side]))
                s = (root - way) / (2.0 * braking)
            else:
                s = float(room[side]) / way
            if s < scale or not reason:
                scale, reason = min(s, scale), f"workspace: {where}"
        return slow(scale, reason) if reason else OK
