"""An arm served over DDS as ``ros2_control`` would: what ``DdsRobot`` speaks to.

With a watchdog on the robot's side: where commands cease while the arm moves, it is stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from robot.dds.port import DdsConfig, DdsPort
from robot.dds.robot import DdsRobotConfig
from robot.interface import Clock, Robot
from robot.loop import messages
from robot.loop.publisher import JOINT_STATES
from robot.loop.typestore import decode, encode
from robot.types import GripperCommand, JointCommand

_STATE = "sensor_msgs/msg/JointState"
_FLOATS = "std_msgs/msg/Float64MultiArray"
_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


class ServedArm:
    """Publishes a robot's joint states at each tick, and passes on what it is commanded.

    Args:
        robot: real or simulated.
        clock: of the robot.
        config: names, as for ``DdsRobot``; both kinds of command are taken.
        dds: where on the wire.
        gripper_force_n: with which the fingers close: position commands say none.
        missed_n: so many ticks without a command, once there was one, stop the arm; Franka's own
            control stops after 20 lost packets.
    """

    def __init__(
        self,
        robot: Robot,
        clock: Clock,
        config: DdsRobotConfig | None = None,
        dds: DdsConfig | None = None,
        gripper_force_n: float = 40.0,
        missed_n: int = 20,
    ) -> None:
        self.config = c = config or DdsRobotConfig()
        self.robot, self.clock = robot, clock
        self._force_n, self._missed_n = gripper_force_n, missed_n
        self.port = DdsPort(dds)
        self.port.advertise(JOINT_STATES, _STATE)
        self._forward = self.port.subscribe(f"{c.arm}/commands", _FLOATS)
        self._path = self.port.subscribe(f"{c.arm}/joint_trajectory", _TRAJECTORY)
        self._fingers = self.port.subscribe(f"{c.hand}/commands", _FLOATS)
        state = robot.read()
        self._gripper = GripperCommand(state.gripper.opening_m, gripper_force_n)
        self._silent: int | None = None
        self.stops = self.commands = 0

    def tick(self) -> None:
        """One: take commands, wait, tell the state."""
        for data in self._fingers.take():
            opening_m = float(np.sum(decode(data, _FLOATS).data))
            self._gripper = GripperCommand(max(opening_m, 0.0), self._force_n)
        command = self._newest()
        if command is not None:
            self._silent = 0
            self.commands += 1
            self.robot.send(command, self._gripper)
        elif self._silent is not None:
            self._silent += 1
            if self._silent == self._missed_n:
                self.stops += 1
                self._silent = None
                self.robot.stop()
        self.clock.sleep_until(self.clock.now_s() + self.config.tick_s)
        state = self.robot.read()
        told = messages.joint_state(state, self.config.joints, self.config.fingers)
        self.port.publish(JOINT_STATES, _STATE, encode(told))

    def run(self, ended: Callable[[], bool]) -> None:
        """Tick until ``ended``."""
        while not ended():
            self.tick()
        self.robot.stop()
        self.port.close()

    def _newest(self) -> JointCommand | None:
        """The newest command of either kind; a wrong number of joints is none."""
        n = len(self.config.joints)
        newest: Any = None
        for data in self._forward.take():
            q = np.array(decode(data, _FLOATS).data)
            newest = (q, np.zeros(n))
        for data in self._path.take():
            message = decode(data, _TRAJECTORY)
            if tuple(message.joint_names) == self.config.joints and message.points:
                last = message.points[-1]
                newest = (np.array(last.positions), np.array(last.velocities))
        if newest is None or newest[0].shape != (n,) or not np.isfinite(newest[0]).all():
            return None
        return JointCommand(*newest)
