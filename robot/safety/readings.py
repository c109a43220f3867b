"""Whether commands and readings are numbers, new, and what a robot can have read."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from robot.geometry import all_finite
from robot.limits import RobotLimits
from robot.safety.config import SafetyConfig
from robot.safety.sent import Sent
from robot.safety.signals import Signals
from robot.safety.verdict import halt, slow
from robot.types import OK, JointState, RobotState, SafetyVerdict

Array = NDArray[np.float64]


_HARMLESS = 1e100  # what sums to less has squares that sum without an overflow


class FiniteMonitor:
    """Commands and readings are numbers, and there are as many as joints."""

    name = "finite"
    source = "IEEE 754: a NaN is within no limit and outside none"

    def __init__(self, limits: RobotLimits, signals: Signals | None = None) -> None:
        self._n = limits.joints.count
        self._signals = signals if signals is not None else Signals()

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """HALT on NaN, infinity or a wrong shape."""
        shape = position_rad.shape
        if len(shape) != 2 or shape[1] != self._n or shape[0] < 1:
            return halt(f"command: expected (ticks, {self._n}) joints, got shape {shape}")
        if not all_finite(position_rad):
            return halt("command: holds NaN or infinity")
        if not self._gripper_sound(state):
            return halt("gripper: its state or its command holds NaN or infinity")
        if not self.sound(state):
            return halt(self._unsound(state.joints))
        return OK

    def sound(self, state: RobotState) -> bool:
        """Whether all that was read, and the gripper's command, are numbers, as many as joints."""
        joints = state.joints
        if joints.position_rad.shape != (self._n,):
            return False
        lists = (joints.position_rad, joints.velocity_rad_s, joints.effort_nm)
        if sum(sum(map(abs, numbers.tolist())) for numbers in lists) < _HARMLESS:  # no NaN is
            return self._gripper_sound(state)
        # One number tells: whatever is not finite makes the sum not finite, or overflows it.
        total = joints.position_rad.dot(joints.position_rad)
        total += joints.velocity_rad_s.dot(joints.velocity_rad_s)
        total += joints.effort_nm.dot(joints.effort_nm)
        return math.isfinite(total) and self._gripper_sound(state)

    def _unsound(self, joints: JointState) -> str:
        """What is wrong with the joints' reading, in words."""
        shape = joints.position_rad.shape
        if shape != (self._n,):
            return f"state: expected {self._n} joints, got shape {shape}"
        for what in ("position_rad", "velocity_rad_s", "effort_nm"):
            numbers = getattr(joints, what)
            bad = np.flatnonzero(~np.isfinite(numbers))
            if bad.size:
                return f"state: {what} of joint {bad[0] + 1} is {numbers[bad[0]]}, not a number"
        return "state: holds numbers too large to be true"

    def _gripper_sound(self, state: RobotState) -> bool:
        grip, told = state.gripper, self._signals.gripper_command
        total = grip.opening_m + grip.force_n + grip.opening_force_n
        if told is not None:
            total += told.opening_m + told.force_n
        return math.isfinite(total)


class StaleMonitor:
    """The state that the command rests on is new: dropped and late readings, two clocks apart."""

    name = "stale"
    source = "Steadyhand: 14 and 48 periods of 240 Hz; MoveIt Servo halts after 0.1 s"

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


class SensorMonitor:
    """Joint readings change like a moving arm's: they neither freeze nor leap nor run backwards."""

    name = "sensor"
    source = "Steadyhand: a joint cannot outrun its velocity limit, nor move and read the same bits"

    def __init__(self, limits: RobotLimits, config: SafetyConfig, sent: Sent) -> None:
        self._c = config.timing
        self._speed = limits.joints.velocity_rad_s * config.timing.wild_factor
        self._speeds: list[float] = self._speed.tolist()
        self._dt, self._sent = config.tick_s, sent
        self.forget()

    def forget(self) -> None:
        """The next reading is the first."""
        self._last: RobotState | None = None
        self._joints: list[float] = []
        self._same, self._moved, self._alive = 0, 0.0, False
        self._wild: deque[bool] = deque(maxlen=10)

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE at the first odd reading, HALT when they go on."""
        last = self._last
        if state is last:  # a lost reading: another monitor's business
            return OK
        joints = state.joints.position_rad.tolist()
        if last is None:
            self._last, self._joints = state, joints
            return OK
        c = self._c
        if state.stamp_s < last.stamp_s:
            self._wild.append(True)
            return self._odd("a reading is older than the one before")
        before = self._joints
        self._last, self._joints = state, joints
        if joints != before:
            self._same, self._moved, self._alive = 0, 0.0, True
            seconds = max(state.stamp_s - last.stamp_s, self._dt)
            if self._leaps(joints, before, seconds):
                self._wild.append(True)
                change = np.abs(state.joints.position_rad - last.joints.position_rad)
                j = int((change / self._speed).argmax())
                return self._odd(f"joint {j + 1} reads {change[j]:.3f} rad further in a tick")
        else:
            self._same += 1
            self._moved += float(np.abs(self._sent.velocity_rad_s).max()) * self._dt
            if self._moved < c.frozen_rad:
                if self._sent.at_rest:
                    self._alive = False
            elif self._same >= (c.frozen_n if self._alive else c.frozen_start_n):
                return halt(f"sensor: joints read the same for {self._same} periods while moving")
            elif self._alive and self._same >= 3:
                return slow(0.5, "sensor: joints read the same while moving")
        self._wild.append(False)
        return OK

    def _leaps(self, joints: list[float], before: list[float], seconds: float) -> bool:
        spare = self._c.wild_rad
        for now, then, speed in zip(joints, before, self._speeds, strict=True):
            if abs(now - then) > speed * seconds + spare:
                return True
        return False

    def _odd(self, what: str) -> SafetyVerdict:
        if sum(self._wild) >= self._c.wild_n:
            return halt(f"sensor: {what}, {sum(self._wild)} times in {len(self._wild)} periods")
        return slow(0.5, f"sensor: {what}")


class OverrunMonitor:
    """The loop comes round in time: overruns, lost packets, a clock that jumps."""

    name = "overrun"
    source = "libfranka: the robot stops after 20 lost packets"

    def __init__(self, config: SafetyConfig, sent: Sent) -> None:
        self._c, self._dt, self._sent = config.timing, config.tick_s, sent
        self.forget()

    def forget(self) -> None:
        """No command came yet."""
        self._last_s: float | None = None
        self._ticks = 1
        self._late: deque[float] = deque()

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE on overruns again and again, HALT after ``missed_n`` periods or a clock's jump."""
        last, ticks = self._last_s, self._ticks
        self._last_s, self._ticks = now_s, len(position_rad)
        if last is None or self._sent.at_rest:  # what stands still may take its time
            self._late.clear()
            return OK
        periods = (now_s - last) / self._dt
        if periods < -1e-6:
            return halt(f"overrun: the clock went back by {last - now_s:.4f} s")
        if periods > ticks + self._c.missed_n:
            return halt(f"overrun: no command for {periods:.0f} periods, limit {self._c.missed_n}")
        late = self._late
        if periods > ticks + 0.5:
            late.append(now_s)
        elif not late:
            return OK
        while late and late[0] < now_s - self._c.overrun_s:
            late.popleft()
        if len(late) < self._c.overrun_n:
            return OK
        return slow(
            self._c.overrun_scale,
            f"overrun: {len(late)} late commands in {self._c.overrun_s:g} s",
        )


class PolicyMonitor:
    """The policy whose motion is played still acts."""

    name = "policy"
    source = "Steadyhand: two of the policy's periods of 50 ms"

    def __init__(self, config: SafetyConfig, signals: Signals) -> None:
        self._c, self._signals = config.timing, signals

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE where its last action is late, HALT after ``policy_deadline_s``."""
        stamp = self._signals.policy_stamp_s
        if stamp is None:
            return OK
        age = now_s - stamp
        if age <= self._c.policy_late_s:
            return OK
        if age > self._c.policy_deadline_s + 1e-9:
            return halt(f"policy: last action is {age:.3f} s old")
        return slow(0.5, f"policy: last action is {age:.3f} s old")
