"""Any arm behind ``ros2_control``, over DDS: joint states in, position commands out.

Two of ros2_control's controllers are spoken to, one or the other: ``forward_command_controller``
(``std_msgs/Float64MultiArray`` on ``<name>/commands``) takes each tick's positions as they are;
``joint_trajectory_controller`` (``trajectory_msgs/JointTrajectory`` on ``<name>/joint_trajectory``)
takes each as a trajectory of one point, due a tick later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from configs.load import bounded
from robot.dds.port import DdsConfig, DdsPort
from robot.errors import SensorError
from robot.loop import messages
from robot.loop.nouns import robot_state_of
from robot.loop.publisher import JOINT_STATES
from robot.loop.typestore import decode, encode, message_class
from robot.types import GripperCommand, JointCommand, RobotState

_STATE = "sensor_msgs/msg/JointState"
_FLOATS = "std_msgs/msg/Float64MultiArray"
_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


@dataclass(frozen=True)
class DdsRobotConfig:
    """What the arm behind DDS is called.

    Attributes:
        command: which controller is spoken to.
        arm: its name.
        hand: name of the fingers' forward controller.
        joints, fingers: names in the joint states; a finger's position is half the opening.
        connect_s: a joint state must have come by then.
        tick_s: when a trajectory's one point is due.
    """

    command: Literal["forward", "trajectory"] = "forward"
    arm: str = "/arm_controller"
    hand: str = "/hand_controller"
    joints: tuple[str, ...] = messages.PANDA_JOINTS
    fingers: tuple[str, ...] = messages.PANDA_FINGERS
    connect_s: float = bounded(10.0, 0.1, 600.0)
    tick_s: float = bounded(1.0 / 240.0, 1e-4, 0.1)


class DdsRobot:
    """Implements ``robot.interface.Robot``.

    Args:
        config: see :class:`DdsRobotConfig`.
        dds: where on the wire.
        shadow: compute everything, command nothing: what would be sent is only returned.
    """

    def __init__(
        self,
        config: DdsRobotConfig | None = None,
        dds: DdsConfig | None = None,
        shadow: bool = False,
    ) -> None:
        self.config = c = config or DdsRobotConfig()
        self.shadow = shadow
        self.port = DdsPort(dds)
        self._states = self.port.subscribe(JOINT_STATES, _STATE)
        trajectory = c.command == "trajectory"
        self._topic = f"{c.arm}/{'joint_trajectory' if trajectory else 'commands'}"
        self._type = _TRAJECTORY if trajectory else _FLOATS
        if not shadow:
            self.port.advertise(self._topic, self._type)
            self.port.advertise(f"{c.hand}/commands", _FLOATS)
        self._state: RobotState | None = None
        self._opening_m: float | None = None
        #: Told each state's stamp, s, as it is read.
        self.heard: Callable[[float], object] = lambda stamp_s: None

    def connect(self) -> None:
        """Wait for the arm to be heard.

        Raises:
            SensorError: it is not, in time, or without velocities.
        """
        end_s = time.monotonic() + self.config.connect_s
        while not self._take():
            if time.monotonic() > end_s:
                raise SensorError(
                    f"robot: nobody publishes {JOINT_STATES} with {self.config.joints[0]} in DDS "
                    f"domain {self.port.config.domain_id} on {self.port.config.interface!r}"
                )
            time.sleep(0.01)

    def read(self) -> RobotState:
        """The newest state that came; its stamp is the arm's own.

        Raises:
            SensorError: none ever came, or the newest is none that can be used.
        """
        self._take()
        if self._state is None:
            raise SensorError(f"robot: no {JOINT_STATES} has come; connect first")
        return self._state

    def send(self, joints: JointCommand, gripper: GripperCommand) -> JointCommand:
        """One tick's command, to the arm and, where it changed, to the fingers."""
        if not self.shadow:
            self.port.publish(self._topic, self._type, encode(self._command(joints)))
            if gripper.opening_m != self._opening_m:
                self._opening_m = gripper.opening_m
                half = [0.5 * gripper.opening_m] * len(self.config.fingers)
                self.port.publish(f"{self.config.hand}/commands", _FLOATS, encode(_floats(half)))
        return joints

    def stop(self) -> None:
        """Command the measured position, at rest."""
        if self._state is None or self.shadow:
            return
        here = self._state.joints.position_rad
        command = JointCommand(here, np.zeros_like(here))
        self.port.publish(self._topic, self._type, encode(self._command(command)))

    def close(self) -> None:
        """Leave DDS; the arm's own watchdog holds it from then on."""
        self.port.close()

    def _take(self) -> bool:
        c = self.config
        message = newest_with({*c.joints, *c.fingers}, self._states.take())
        if message is None:
            return False
        self._state = robot_state_of(message, c.joints, c.fingers)
        self.heard(self._state.stamp_s)
        return True

    def _command(self, joints: JointCommand) -> Any:
        if self.config.command == "forward":
            return _floats(joints.position_rad)
        point = message_class("trajectory_msgs/msg/JointTrajectoryPoint")
        duration = message_class("builtin_interfaces/msg/Duration")
        due = duration(0, round(self.config.tick_s * 1e9))
        empty = np.zeros(0)
        return message_class(_TRAJECTORY)(
            # A stamp of zero means: from now on.
            messages.header(0.0, ""),
            list(self.config.joints),
            [
                point(
                    np.ascontiguousarray(joints.position_rad),
                    np.ascontiguousarray(joints.velocity_rad_s),
                    empty,
                    empty,
                    due,
                )
            ],
        )


def newest_with(names: set[str], taken: Sequence[bytes]) -> Any:
    """The newest ``JointState`` that holds all these joints: other robots may publish theirs."""
    for data in reversed(taken):
        message = decode(data, _STATE)
        if names <= set(message.name):
            return message
    return None


def _floats(values: Any) -> Any:
    layout = message_class("std_msgs/msg/MultiArrayLayout")([], 0)
    return message_class(_FLOATS)(layout, np.ascontiguousarray(values, dtype=np.float64))
