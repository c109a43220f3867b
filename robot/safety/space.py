"""Where the tool goes and how fast: its box, zones to keep out of, speed, singular postures."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.safety.config import SafetyConfig
from robot.safety.sent import Sent
from robot.safety.tick import Tick
from robot.safety.verdict import halt, slow
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]

_RIM_M = 0.005  # on either side of a zone's face: here the tool stops
_NEAR_RAD = 0.01
_WORKSPACE_POINTS = 4  # ticks of a batch at which the tool's position is looked at


class WorkspaceMonitor:
    """The tool is in its box and could still stop there.

    Of a batch it looks at four ticks evenly spread, the last among them: in between, the tool
    cannot get far.
    """

    name = "workspace"
    source = "the cell's own file: configs/robot/<name>.yaml"

    def __init__(
        self,
        limits: RobotLimits,
        kinematics: Kinematics,
        config: SafetyConfig,
        sent: Sent,
        tick: Tick | None = None,
    ) -> None:
        self._low, self._high = limits.workspace_min_m.tolist(), limits.workspace_max_m.tolist()
        self._bound = np.concatenate((limits.workspace_max_m, -limits.workspace_min_m))
        self._kinematics, self._c, self._sent = kinematics, config, sent
        self._tick = tick
        self._last = b"", [0.0, 0.0, 0.0]
        self._per_speed = 1.0 / (2.0 * config.workspace_deceleration_m_s2 * config.tick_s**2)

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE to what stops at the wall; HALT when far outside and going further."""
        ticks, per_speed, point = len(position_rad), self._per_speed, self._point
        path = [point(self._sent.position_rad)]
        if ticks == 1:
            path.append(point(position_rad[0]))
        else:
            stride = -(-ticks // _WORKSPACE_POINTS)
            rows = range(stride - 1, ticks, stride) if ticks % stride == 0 else range(ticks)
            path += [point(position_rad[k]) for k in rows]
            seconds = self._c.tick_s * (stride if ticks % stride == 0 else 1)
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

    def _point(self, q: Array) -> list[float]:
        """Where the tool is, as the last call or others at this tick found it, if they did.

        The newest command, where it was sent unchanged, is where the next tick begins.
        """
        joints = q.tobytes()
        if joints != self._last[0]:
            known = self._tick.tool_at(joints) if self._tick is not None else None
            self._last = joints, known or self._kinematics.tool_position(q)
        return self._last[1]

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


class ZoneMonitor:
    """The tool stays out of the zones that this cell closes to it."""

    name = "zones"
    source = "the cell's own file: SafetyConfig.keep_out"

    def __init__(self, config: SafetyConfig, tick: Tick) -> None:
        self._zones = config.keep_out
        self._per_speed = 0.5 / config.workspace_deceleration_m_s2
        self._tick = tick

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE to what stops before a zone, HALT where it goes on inside one."""
        if not self._zones:
            return OK
        at, speed = self._tick.tool_m, self._tick.tool_velocity[:3]
        worst = OK
        for zone in self._zones:
            low, high = np.array(zone.min_m), np.array(zone.max_m)
            gap = np.maximum(low - at, at - high)
            away = np.maximum(gap, 0.0)
            distance = float(np.linalg.norm(away))
            if distance == 0.0:
                # Out by the nearest side is the only way that is let pass.
                side = int(gap.argmax())
                outward = math.copysign(1.0, at[side] - 0.5 * (low[side] + high[side]))
                if speed[side] * outward > 0.0 or np.abs(speed).max() <= 1e-3:
                    continue
                if gap[side] < -_RIM_M:
                    return halt(f"zones: the tool goes on inside {zone.name}")
                worst = slow(0.0, f"zones: the tool is at the rim of {zone.name}")
                continue
            towards = np.where(at < low, 1.0, -1.0) * (away > 0.0)
            closing = float((towards * away).dot(speed)) / distance
            if closing <= 0.0 or distance > 0.5:
                continue
            allowed = math.sqrt(max(distance - _RIM_M, 0.0) / self._per_speed)
            if closing > allowed and (worst is OK or allowed / closing < worst.scale):
                worst = slow(allowed / closing, f"zones: the tool is about to enter {zone.name}")
        return worst


class ToolSpeedMonitor:
    """The tool is no faster than the arm's Cartesian limit."""

    name = "tool_speed"
    source = "libfranka: 1.7 m/s for the end effector"

    def __init__(self, limits: RobotLimits, config: SafetyConfig, tick: Tick) -> None:
        self._limit = limits.cartesian.velocity_m_s
        self._most = (self._limit * (1.0 + config.tolerance)) ** 2
        self._tick = tick

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE to the limit."""
        x, y, z, *_ = self._tick.tool_velocity.tolist()
        square = x * x + y * y + z * z
        if square <= self._most:
            return OK
        speed = math.sqrt(square)
        return slow(self._limit / speed, f"tool: {speed:.2f} m/s is above {self._limit:g}")


class SingularityMonitor:
    """Near a singular posture the joints go slowly, and nothing goes further in at the end."""

    name = "singularity"
    source = "MoveIt Servo: condition number 17 and 30"

    def __init__(self, limits: RobotLimits, config: SafetyConfig, tick: Tick, sent: Sent) -> None:
        self._c, self._tick, self._sent = config, tick, sent
        self._speed = limits.joints.velocity_rad_s
        self._warned = False

    def forget(self) -> None:
        """Nothing singular was near."""
        self._warned = False

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE to the share of full speed that is left there; the way out is free."""
        c, tick = self._c, self._tick
        rest = tick.slowed_rad
        condition = tick.condition(rest)
        if condition < c.singular_slow and not self._warned:
            return OK
        # Where it would come to rest may lie beyond the worst: which way is it going now?
        here = self._sent.position_rad
        way = rest - here
        longest = float(np.abs(way).max())
        if longest < 1e-9:
            return OK
        now = tick.condition(here)
        near = tick.condition(here + way * min(1.0, _NEAR_RAD / longest))
        self._warned = max(condition, now, near) >= c.singular_slow
        if near <= now:
            return OK
        # A command that was held back for long rests far beyond: what lies between counts, too.
        between = [tick.condition(here + share * way) for share in (0.25, 0.5, 0.75)]
        condition = max(condition, near, *between)
        if condition < c.singular_slow:
            return OK
        share = float((np.abs(tick.qd) / self._speed).max())
        # As before a wall: the root of the way that is left.
        room = (c.singular_stop - condition) / (c.singular_stop - c.singular_slow)
        left = math.sqrt(max(room, 0.0))
        if share <= left or share < 1e-6:
            return OK
        return slow(left / share, f"singularity: condition number {condition:.1f} and rising")
