"""What the controller tells of every tick, straight onto the bus; it keeps nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.kinematics import Kinematics
from robot.loop import messages
from robot.loop.bus import Bus
from robot.loop.publisher import TWIST, Publisher, PublisherConfig
from robot.types import (
    Array,
    GripperCommand,
    JointCommand,
    Pose,
    RobotState,
    SafetyVerdict,
)


class StateLog:
    """A player's log that only publishes.

    Args:
        bus: of the process.
        kinematics: for the tool's twist.
        config: how often.
    """

    def __init__(
        self, bus: Bus, kinematics: Kinematics, config: PublisherConfig | None = None
    ) -> None:
        self.recorder = self
        self._bus = bus
        self._kinematics = kinematics
        self._out = Publisher(bus.publish, config)
        self._phase = ""
        self.now_s = 0.0

    def state(
        self,
        stamp_s: float,
        state: RobotState,
        q_command: Array | None,
        verdict: SafetyVerdict,
        phase: str,
        *,
        qd_command: Array | None = None,
        gripper: GripperCommand | None = None,
        X_world_tool: Pose | None = None,
    ) -> None:
        """One control tick; see ``RunLog.state``."""
        self.now_s = stamp_s
        if phase != self._phase:
            self._phase = phase
            self._out.phase(phase, stamp_s)
        self._out.verdict(verdict, stamp_s)
        if not self._out.state_is_due(state.stamp_s):
            return
        command = None
        if q_command is not None and qd_command is not None:
            command = JointCommand(q_command, qd_command)
        joints = state.joints
        X, twist = self._kinematics.tool_motion(joints.position_rad, joints.velocity_rad_s)
        tool = Pose.from_matrix("world", "tool0", X[:3, :3], X[:3, 3])
        self._out.state(state, command, gripper, tool)
        self._bus.publish(TWIST, messages.twist_stamped(twist, state.stamp_s), state.stamp_s)

    def policy(self, observation: NDArray[np.float32], action: NDArray[np.float32]) -> None:
        """One step of the policy; its two messages went to and fro already."""
