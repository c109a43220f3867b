"""What the joints and the tool feel: torque, contact, power."""

from __future__ import annotations

from collections import deque
from operator import ge, sub

import numpy as np
from numpy.typing import NDArray

from robot.limits import RobotLimits
from robot.safety.config import SafetyConfig
from robot.safety.tick import Tick
from robot.safety.verdict import halt, slow
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]

_DRIVEN_TICKS = 3


class TorqueMonitor:
    """No motor stays at its torque limit, and no torque changes faster than its rate limit.

    A motor that gives all it has and is driven the other way has met what is stronger: waiting on
    would only let that gather speed.
    """

    name = "torque"
    source = "libfranka: 87 and 12 N·m, 1000 N·m/s as a mean over 50 ms"

    def __init__(self, limits: RobotLimits, config: SafetyConfig) -> None:
        c = config.force
        self._limit = limits.joints.torque_nm * c.torque_share
        self._limits: list[float] = self._limit.tolist()
        self._ticks = max(1, round(c.torque_s / config.tick_s))
        window = max(1, round(c.torque_rate_s / config.tick_s))
        self._rate = limits.joints.torque_rate_nm_s
        self._taken_w = c.taken_w
        self._swing = self._rate * window * config.tick_s
        self._past: deque[list[float]] = deque(maxlen=window)
        self._full = 0
        self._driven = 0
        self._wild = 0

    def forget(self) -> None:
        """Nothing was felt yet."""
        self._past.clear()
        self._full = self._driven = self._wild = 0

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE at a limit, HALT where it lasts."""
        torque = state.joints.effort_nm.tolist()  # quicker than arrays, for so few numbers
        past = self._past
        oldest = past[0] if len(past) == past.maxlen else torque
        past.append(torque)
        swing = max(map(abs, map(sub, torque, oldest)))
        self._wild = self._wild + 1 if swing > self._swing else 0
        if any(map(ge, map(abs, torque), self._limits)):
            self._full += 1
            effort, speed = state.joints.effort_nm, state.joints.velocity_rad_s
            share = np.abs(effort) / self._limit
            j = int(share.argmax())
            reason = f"joint {j + 1}: torque {torque[j]:.1f} N·m is at its limit"
            driven = bool(((share >= 1.0) & (effort * speed < -self._taken_w)).any())
            self._driven = self._driven + 1 if driven else 0
            if self._driven >= _DRIVEN_TICKS:
                return halt(f"{reason}, and driven against it", at_once=True)
            return halt(reason, at_once=True) if self._full >= self._ticks else slow(0.5, reason)
        self._full = self._driven = 0
        if self._wild:
            reason = f"torque changes by {swing:.0f} N·m in {self._swing / self._rate:.2f} s"
            return halt(reason) if self._wild >= self._ticks else slow(0.5, reason)
        return OK


class ContactMonitor:
    """The tool presses on nothing harder than it may: slowly at first, then not at all."""

    name = "contact"
    source = "ISO/TS 15066, quasi-static: slower above a face's 65 N, stopped above a hand's 140 N"

    def __init__(self, config: SafetyConfig, tick: Tick) -> None:
        self._c, self._tick = config.force, tick

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE where it presses on, HALT above the stop; what withdraws is free below that."""
        c = self._c
        force_n, torque_nm, wrench = self._tick.contact
        if force_n > c.contact_stop_n:
            reason = f"contact: the tool presses with {force_n:.0f} N, stop {c.contact_stop_n:g}"
            return halt(reason, at_once=True)
        if torque_nm > c.contact_stop_nm:
            reason = f"contact: the tool turns against {torque_nm:.1f} N·m"
            return halt(f"{reason}, stop {c.contact_stop_nm:g}", at_once=True)
        if force_n > c.contact_n and float(wrench[:3].dot(self._tick.tool_velocity[:3])) > 0.0:
            left = (c.contact_most_n - force_n) / (c.contact_most_n - c.contact_n)
            return slow(left, f"contact: the tool presses on with {force_n:.0f} N")
        return OK


class PowerMonitor:
    """All joints together do not give off more mechanical power than allowed."""

    name = "power"
    source = "ISO 10218-1:2006: 80 W"

    def __init__(self, config: SafetyConfig) -> None:
        self._limit = config.force.power_w
        self._share = config.tick_s / max(config.force.power_s, config.tick_s)
        self._power = 0.0

    def forget(self) -> None:
        """The arm rests."""
        self._power = 0.0

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE to what gives the limit, and HALT at twice of it."""
        joints = state.joints
        power = float(joints.effort_nm.dot(joints.velocity_rad_s))
        self._power += self._share * (abs(power) - self._power)
        if self._power <= self._limit:
            return OK
        reason = f"power: {self._power:.0f} W is above {self._limit:g}"
        if self._power > 2.0 * self._limit:
            return halt(reason)
        return slow(self._limit / self._power, reason)
