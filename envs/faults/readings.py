"""Faults of what the controller reads: frozen, lost, late, out of order, noisy, no numbers."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from envs.faults.fault import Fault
from envs.faults.injector import Injector
from robot.errors import SensorError
from robot.types import GripperState, JointState, RobotState

Array = NDArray[np.float64]


class Frozen(Fault):
    """Every reading repeats the last one, newly stamped."""

    def begin(self, run: Injector) -> None:
        """Remember the reading to repeat."""
        self._kept = run.player.state
        run.observer.mark("blind")

    def read(self, run: Injector, state: RobotState) -> RobotState:
        """The kept one with today's date."""
        return replace(self._kept, stamp_s=state.stamp_s)


class Lost(Fault):
    """No reading comes: for some ticks, or any more."""

    def __init__(self, ticks: int | None = None) -> None:
        self._ticks = ticks

    def begin(self, run: Injector) -> None:
        """The arm is not seen from now on."""
        if self._ticks is None:
            run.observer.mark("blind")

    def read(self, run: Injector, state: RobotState) -> RobotState:
        """Raises, as a driver does."""
        if self._ticks is None or run.age <= self._ticks:
            raise SensorError("the arm sent no reading")
        return state


class Late(Fault):
    """Readings come late, in order, truly stamped."""

    def __init__(self, ticks: int) -> None:
        self._ticks = ticks
        self._past: deque[RobotState] = deque(maxlen=ticks + 1)

    def begin(self, run: Injector) -> None:
        """What is on its way shows the arm as it was."""
        if self._ticks > 40:
            run.observer.mark("blind")

    def read(self, run: Injector, state: RobotState) -> RobotState:
        """The oldest on the way; at first the last that came through, over and over."""
        self._past.append(state)
        if len(self._past) <= self._ticks:
            raise SensorError("the reading is still on its way")
        return self._past[0]


class Backdated(Fault):
    """Readings are as they should be, but stamped as long ago: two clocks disagree."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def begin(self, run: Injector) -> None:
        """The newest reading that can be trusted is that old."""
        run.observer.mark("blind")

    def read(self, run: Injector, state: RobotState) -> RobotState:
        """With another stamp."""
        return replace(state, stamp_s=state.stamp_s - self._seconds)


class Reordered(Fault):
    """Every second reading is older than the one before."""

    def begin(self, run: Injector) -> None:
        """Readings are kept back from now on."""
        self._past: deque[RobotState] = deque([run.player.state], maxlen=4)

    def read(self, run: Injector, state: RobotState) -> RobotState:
        """One new, one old, in turn."""
        self._past.append(state)
        return self._past[0] if run.age % 2 else state


class Noisy(Fault):
    """Joint positions with white noise."""

    def __init__(self, sigma_rad: float) -> None:
        self._sigma_rad = sigma_rad

    def read(self, run: Injector, state: RobotState) -> RobotState:
        """With noise."""
        joints = state.joints
        noise = run.rng.normal(0.0, self._sigma_rad, 7)
        wrong = JointState(joints.position_rad + noise, joints.velocity_rad_s, joints.effort_nm)
        return replace(state, joints=wrong)


class NoNumber(Fault):
    """A joint's reading, or the gripper's, is NaN: a driver that does not check."""

    def __init__(self, what: str) -> None:
        self._what = what

    def read(self, run: Injector, state: RobotState) -> RobotState:
        """With one NaN."""
        if self._what == "opening_m":
            return replace(state, gripper=GripperState(float("nan"), state.gripper.force_n))
        joints = JointState(
            state.joints.position_rad, state.joints.velocity_rad_s, state.joints.effort_nm
        )
        broken = np.array(getattr(joints, self._what))
        broken[int(run.rng.integers(7))] = np.nan
        object.__setattr__(joints, self._what, broken)  # past the noun's own check
        return replace(state, joints=joints)


class Hot(Fault):
    """A motor is hot, and says so."""

    def __init__(self, celsius: float) -> None:
        self._celsius = celsius

    def begin(self, run: Injector) -> None:
        """It is that hot at once."""
        motors = np.full(7, 40.0)
        motors[int(run.rng.integers(7))] = self._celsius
        run.arm.motor_temperature_c = run.observer.motor_c = motors

    def end(self, run: Injector) -> None:
        """It says nothing any more."""
        run.arm.motor_temperature_c = None
