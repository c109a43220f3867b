"""A simulated arm: implements the ``Robot`` protocol over a ``World``.

Arm joints follow position motors with velocity feed-forward; the fingers are coupled by gears,
close with a force, and report the force that their own motors apply. Nothing is ever attached to
the hand: a grasp holds by contact and friction alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from envs.bullet import pybullet
from envs.world import World
from robot.errors import ConfigError
from robot.fingers import FingerMap
from robot.limits import RobotLimits
from robot.types import GripperCommand, GripperState, JointCommand, JointState, RobotState

_GAIN = 0.3
_GIVES_WAY_RAD = 0.0003
"""How far an arm that strains gives way each time that it is stopped; much more would swing."""
_GEAR_FORCE_N = 60.0
"""With which the two fingers keep each other in step."""
_LIGHTEST_FINGER_KG = 0.1
_SAME_LEVER_M = 0.001
"""A turning finger's lever is reckoned anew when it has moved by so much."""

WATCHDOG_TICKS = 20
"""So many periods without a command stop the arm by itself, as libfranka's robot does."""

Array = NDArray[np.float64]


class SimArm:
    """An arm in the world.

    Args:
        world: where it stands; its base state is set with the arm at home.
        limits: the arm's limits; motor torques come from them.
        latency_ticks: how many control ticks a command takes to reach the motors.
        force_limit_n: the most a finger can press, N.
    """

    def __init__(
        self,
        world: World,
        limits: RobotLimits,
        latency_ticks: int = 0,
        force_limit_n: float | None = None,
    ) -> None:
        self.world = world
        self.limits = limits
        self.force_limit_n = force_limit_n or limits.gripper.max_force_n
        self.latency_ticks = latency_ticks
        self._queue: deque[tuple[list[float], list[float], float, float]] = deque()
        self._arm = world.arm_id
        self._client = world.client
        self._torque = [float(v) for v in limits.joints.torque_nm]
        self._n = limits.joints.count
        self._rest = [0.0] * self._n
        self._gains = [_GAIN] * self._n
        self._map = FingerMap(limits)
        index = self._joints()
        self._links = [index[name] for name in limits.joint_names]
        self._all_fingers = [index[name] for name in self._map.names]
        self._fingers = self._all_fingers[:2]
        self._finger_speed_m_s = limits.gripper.max_speed_m_s / 2
        self._home = np.asarray(limits.home_rad, dtype=np.float64)
        self._fingers_told: tuple[float, float] | None = None
        #: Where turning fingers were when they were read last, and when they were told to press.
        self._opening_m = self._pressed_at_m = 0.0
        #: Sees what the motors are commanded: (q, qd, opening_m, force_n), for who watches them.
        self.on_motors: Callable[[list[float], list[float], float, float], None] | None = None
        #: What the motors report of themselves, (n,) °C; these report nothing.
        self.motor_temperature_c: Array | None = None
        self._couple()
        self._weigh_down_fingers()
        for link, travel in zip(self._all_fingers, limits.fingers, strict=True):
            world.dynamics(
                self._arm,
                link,
                lateralFriction=1.0,
                spinningFriction=world.config.finger_spinning_friction,
                jointLowerLimit=min(travel.closed, travel.open),
                jointUpperLimit=max(travel.closed, travel.open),
            )
        # Bullet damps every link; the real arm's controller compensates its own friction.
        for link in range(-1, pybullet.getNumJoints(self._arm, physicsClientId=self._client)):
            world.dynamics(self._arm, link, linearDamping=0.0, angularDamping=0.0)
        self.reset(self._home)
        world.mark_base()

    def configure(self, latency_ticks: int, force_limit_n: float) -> None:
        """Set what differs between physics settings; call it before ``reset``."""
        self.latency_ticks = latency_ticks
        self.force_limit_n = force_limit_n

    def reset(self, q_rad: Array | None = None, opening_m: float | None = None) -> None:
        """Put the arm, at rest, at ``q_rad`` (n,) rad (home if None) and open the gripper."""
        q = self._home if q_rad is None else np.asarray(q_rad, dtype=np.float64)
        opening = self.limits.gripper.max_opening_m if opening_m is None else opening_m
        for joint, value in zip(self._links, q.tolist(), strict=True):
            pybullet.resetJointState(self._arm, joint, value, 0.0, physicsClientId=self._client)
        for finger, value in zip(self._all_fingers, self._map.positions(opening), strict=True):
            pybullet.resetJointState(self._arm, finger, value, 0.0, physicsClientId=self._client)
        self._queue.clear()
        self._fingers_told = None
        self.world.watchdog.rest()
        self._apply(q.tolist(), self._rest, opening, self.force_limit_n)
        for _ in range(self.latency_ticks):
            self._queue.append((q.tolist(), self._rest, opening, self.force_limit_n))

    # Robot protocol -------------------------------------------------------------------------

    def connect(self) -> None:
        """Nothing to do: the simulated arm is there with its world."""

    def read(self) -> RobotState:
        """Joints and gripper, now."""
        q, qd, effort, opening, pressing = self._sense()
        return RobotState(
            self.world.time_s,
            JointState(q, qd, effort),
            GripperState(opening, max(0.0, pressing), opening_force_n=max(0.0, -pressing)),
            motor_temperature_c=self.motor_temperature_c,
        )

    def send(self, joints: JointCommand, gripper: GripperCommand) -> JointCommand:
        """Command the next tick; the force is capped by the physics setting.

        Returns:
            What the motors follow in that tick: with latency, an earlier command.
        """
        q, qd = self.send_arrays(
            joints.position_rad.tolist(),
            joints.velocity_rad_s.tolist(),
            gripper.opening_m,
            gripper.force_n,
        )
        return JointCommand(np.array(q), np.array(qd))

    def stop(self) -> None:
        """Hold the present joints until the next command; the hand holds on to what it holds.

        A joint that strains meanwhile gives way a little, again and again: these motors are rigid,
        and would keep up for ever the force with which the arm pressed on something, where a real
        arm springs back.
        """
        self._queue.clear()
        self._hold()

    def _hold(self, only_strained: bool = False) -> None:
        q, _, effort, opening, _ = self.read_arrays()
        strained = self.limits.joints.strained(effort)
        if strained.any() or not only_strained:
            q = q - np.where(strained, np.copysign(_GIVES_WAY_RAD, effort), 0.0)
            fingers = self._fingers_told or (opening, self.force_limit_n)
            self._apply(q.tolist(), self._rest, *fingers)
        again = partial(self._hold, only_strained=True)
        self.world.watchdog.put_off(self.world.ticks + 1, again)

    # The same without nouns, for the training loop --------------------------------------------

    def read_arrays(self) -> tuple[Array, Array, Array, float, float]:
        """(q (n,) rad, qd (n,) rad/s, effort (7,) N·m, opening m, mean finger force N)."""
        q, qd, effort, opening, pressing = self._sense()
        # Pressing outwards is no grip.
        return q, qd, effort, opening, max(0.0, pressing)

    def _sense(self) -> tuple[Array, Array, Array, float, float]:
        n = self._n
        states = pybullet.getJointStates(
            self._arm, [*self._links, *self._fingers], physicsClientId=self._client
        )
        position, velocity, _, torque = zip(*states, strict=True)
        q, qd, effort = np.array((position[:n], velocity[:n], torque[:n]))
        fingers = (position[n], position[n + 1], torque[n], torque[n + 1])
        return q, qd, effort, *self._read(*fingers)

    def _read(self, *fingers: float) -> tuple[float, float]:
        opening, pressing = self._map.reading(*fingers)
        if self._map.turns:
            self._opening_m = opening
        return opening, pressing

    def read_fingers(self) -> tuple[float, float]:
        """(opening m, mean finger force N); cheaper than reading everything."""
        left, right = pybullet.getJointStates(self._arm, self._fingers, self._client)
        opening, pressing = self._read(left[0], right[0], left[3], right[3])
        return opening, (pressing if pressing > 0.0 else 0.0)

    def send_arrays(
        self, q: list[float], qd: list[float], opening_m: float, force_n: float
    ) -> tuple[list[float], list[float]]:
        """Queue one tick's command and apply the one that is due; returns that one's joints."""
        if force_n > self.force_limit_n:
            force_n = self.force_limit_n
        self.world.watchdog.put_off(self.world.ticks + WATCHDOG_TICKS, self.stop)
        due = q, qd, opening_m, force_n
        if self.latency_ticks:
            self._queue.append(due)
            due = self._queue.popleft()
        if self.on_motors is not None:
            self.on_motors(*due)
        self._apply(*due)
        return due[0], due[1]

    def follow(
        self, q: Array, qd: Array, opening_m: float, force_n: float
    ) -> list[tuple[float, float]]:
        """Send a batch tick by tick and step the world after each.

        Args:
            q: (ticks, n) rad.
            qd: (ticks, n) rad/s.
            opening_m: for the gripper, in all of them.
            force_n: to close with.

        Returns:
            What :meth:`read_fingers` gives after each tick.
        """
        readings = []
        step, read = self.world.step, self.read_fingers
        for q_tick, qd_tick in zip(q.tolist(), qd.tolist(), strict=True):
            self.send_arrays(q_tick, qd_tick, opening_m, force_n)
            step()
            readings.append(read())
        return readings

    def press(self, opening_m: float, force_n: float) -> None:
        """Tell the fingers' motors an opening (m) and a force (N); they keep to it until told anew.

        Telling them the same again costs nothing, unless turning fingers have moved.
        """
        same = self._fingers_told == (opening_m, force_n)
        if same and abs(self._opening_m - self._pressed_at_m) < _SAME_LEVER_M:
            return
        self._fingers_told, self._pressed_at_m = (opening_m, force_n), self._opening_m
        # With the same torque a turning finger presses harder where its lever is longer.
        targets, levers = self._map.positions(opening_m), self._map.levers(self._opening_m)
        for k, finger in enumerate(self._fingers):
            pybullet.setJointMotorControl2(
                self._arm,
                finger,
                pybullet.POSITION_CONTROL,
                targetPosition=targets[k],
                force=force_n / levers[k],
                maxVelocity=self._finger_speed_m_s * levers[k],
                physicsClientId=self._client,
            )

    def _apply(self, q: list[float], qd: list[float], opening_m: float, force_n: float) -> None:
        pybullet.setJointMotorControlArray(
            self._arm,
            self._links,
            pybullet.POSITION_CONTROL,
            targetPositions=q,
            targetVelocities=qd,
            forces=self._torque,
            positionGains=self._gains,
            physicsClientId=self._client,
        )
        if self._map.turns or self._fingers_told != (opening_m, force_n):
            self.press(opening_m, force_n)

    def _joints(self) -> dict[str, int]:
        """Bullet's index of each joint by name."""
        kw = {"physicsClientId": self._client}
        count = pybullet.getNumJoints(self._arm, **kw)
        index = {pybullet.getJointInfo(self._arm, i, **kw)[1].decode(): i for i in range(count)}
        for name in (*self.limits.joint_names, *self._map.names):
            if name not in index:
                raise ConfigError(f"{self.limits.simulated_urdf}: no joint {name!r} to simulate")
        return index

    def _weigh_down_fingers(self) -> None:
        """Light fingers get some weight from the hand that carries them.

        A few iterations do not solve what presses with many times its weight: of 40 N, fingers of
        60 g kept 24, and a linkage of such parts went out of step.
        """
        kw = {"physicsClientId": self._client}
        info, dynamics = pybullet.getJointInfo, pybullet.getDynamicsInfo
        hand = info(self._arm, self._fingers[0], **kw)[16]
        for finger in self._all_fingers:
            more_kg = _LIGHTEST_FINGER_KG - dynamics(self._arm, finger, **kw)[0]
            if more_kg <= 0.0:
                continue
            self.world.dynamics(self._arm, finger, mass=_LIGHTEST_FINGER_KG)
            left_kg = dynamics(self._arm, hand, **kw)[0] - more_kg
            if left_kg >= _LIGHTEST_FINGER_KG:
                self.world.dynamics(self._arm, hand, mass=left_kg)

    def _couple(self) -> None:
        """Gears keep all fingers in step: the first two with each other, the rest with these."""
        travel, fingers = self.limits.fingers, self._all_fingers
        for other in fingers[2:]:
            pybullet.setJointMotorControl2(
                self._arm, other, pybullet.VELOCITY_CONTROL, force=0.0, physicsClientId=self._client
            )
        pairs = [(0, 1), *((k % 2, k) for k in range(2, len(fingers)))]
        for one, other in pairs:
            driver, follower = fingers[one], fingers[other]
            # One joint may turn further than the other, the other way, or from somewhere else.
            ratio = travel[one].way / travel[other].way
            ahead = travel[one].closed - ratio * travel[other].closed
            gear = pybullet.createConstraint(
                self._arm, driver, self._arm, follower, pybullet.JOINT_GEAR,
                [1, 0, 0], [0, 0, 0], [0, 0, 0], physicsClientId=self._client,
            )  # fmt: skip
            pybullet.changeConstraint(
                gear, gearRatio=-ratio, relativePositionTarget=ahead, erp=0.1,
                maxForce=_GEAR_FORCE_N, physicsClientId=self._client,
            )  # fmt: skip
