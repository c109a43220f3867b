"""Which noun goes to which topic: the one place that knows, whoever carries the messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robot.loop import images, messages
from robot.types import (
    Detection,
    GraspCandidate,
    GripperCommand,
    JointCommand,
    ObjectState,
    PickResult,
    Pose,
    RgbdFrame,
    RobotState,
    SafetyVerdict,
    Trajectory,
)

JOINT_STATES = "/joint_states"
JOINT_COMMAND = "/joint_command"
GRIPPER_COMMAND = "/gripper_command"
WRENCH = "/wrench"
TWIST = "/tool_twist"
TF = "/tf"
DIAGNOSTICS = "/diagnostics"
OBJECTS = "/perception/objects"
CANDIDATES = "/plan/candidates"
GRASP = "/plan/grasp"
TRAJECTORY = "/plan/trajectory"
OBSERVATION = "/policy/observation"
ACTION = "/policy/action"
PHASE = "/phase"
EVENTS = "/events"
PICKS = "/picks"

Send = Callable[[str, Any, float], object]
"""Takes topic, message and stamp (s): ``Recorder.write`` is one."""


def camera_topics(camera: str, exact: bool) -> tuple[str, str, str]:
    """Topics of a camera's colour, depth and calibration."""
    root = f"/camera/{camera}"
    colour, depth = ("image_raw", "image_raw") if exact else ("compressed", "compressedDepth")
    return f"{root}/color/{colour}", f"{root}/depth/{depth}", f"{root}/color/camera_info"


def detection_topic(camera: str) -> str:
    """Topic of the detections in a camera's images."""
    return f"/perception/detections/{camera}"


@dataclass(frozen=True)
class PublisherConfig:
    """What is published, and how often.

    Attributes:
        state_rate_hz: joint states, commands, wrench and the tool's pose go out at most this often.
        verdict_rate_hz: an unchanged verdict goes out this often; a changed one at once.
        images: ``compact`` (JPEG; depth as 16-bit PNG in mm), ``exact`` (as they are, some twelve
            times larger: what a replay needs to find the same detections) or ``none``.
        jpeg_quality: of compact images, 1 to 100.
        trajectory_every: every how manieth point of a planned path goes out; the last always does.
    """

    state_rate_hz: float = 60.0
    verdict_rate_hz: float = 1.0
    images: Literal["compact", "exact", "none"] = "compact"
    jpeg_quality: int = 90
    trajectory_every: int = 4


class Publisher:
    """Turns nouns into messages and sends each to its topic."""

    def __init__(
        self,
        send: Send,
        config: PublisherConfig | None = None,
        joint_names: Sequence[str] = messages.PANDA_JOINTS,
        finger_names: Sequence[str] = messages.PANDA_FINGERS,
    ) -> None:
        self._send = send
        self._config = config or PublisherConfig()
        self._joints = tuple(joint_names)
        self._fingers = tuple(finger_names)
        # A hair less than the period: stamps are sums of ticks and carry rounding.
        self._state_period_s = 1.0 / self._config.state_rate_hz - 1e-6
        self._verdict_period_s = 1.0 / self._config.verdict_rate_hz - 1e-6
        self._last_state_s = self._last_verdict_s = -np.inf
        self._last_verdict: SafetyVerdict | None = None

    def state_is_due(self, stamp_s: float) -> bool:
        """Whether ``state`` would send anything at ``stamp_s``."""
        return stamp_s - self._last_state_s >= self._state_period_s

    def state(
        self,
        state: RobotState,
        command: JointCommand | None = None,
        gripper: GripperCommand | None = None,
        X_world_tool: Pose | None = None,
    ) -> None:
        """One reading and what was commanded with it."""
        now = state.stamp_s
        if not self.state_is_due(now):
            return
        self._last_state_s = now
        self._send(JOINT_STATES, messages.joint_state(state, self._joints, self._fingers), now)
        if command is not None:
            self._send(JOINT_COMMAND, messages.joint_command(command, now, self._joints), now)
        if gripper is not None:
            self._send(GRIPPER_COMMAND, messages.gripper_command(gripper), now)
        if state.wrench is not None:
            self._send(WRENCH, messages.wrench_stamped(state.wrench, now), now)
        if X_world_tool is not None:
            self._send(TF, messages.tf([X_world_tool], now), now)

    def verdict(self, verdict: SafetyVerdict, stamp_s: float) -> None:
        """A verdict; the same as the last one goes out only now and then."""
        if (
            verdict == self._last_verdict
            and stamp_s - self._last_verdict_s < self._verdict_period_s
        ):
            return
        self._last_verdict, self._last_verdict_s = verdict, stamp_s
        self._send(DIAGNOSTICS, messages.diagnostics(verdict, stamp_s), stamp_s)

    def frame(self, frame: RgbdFrame) -> None:
        """One look of one camera with its calibration and pose."""
        kind, now = self._config.images, frame.stamp_s
        self._send(TF, messages.tf([frame.X_world_cam], now), now)
        if kind == "none":
            return
        colour, depth, info = camera_topics(frame.camera, kind == "exact")
        if kind == "exact":
            self._send(colour, images.raw_rgb(frame), now)
            self._send(depth, images.raw_depth(frame), now)
        else:
            self._send(colour, images.compressed_rgb(frame, self._config.jpeg_quality), now)
            self._send(depth, images.compressed_depth(frame), now)
        self._send(info, images.camera_info(frame), now)

    def detections(self, frame: RgbdFrame, found: Sequence[Detection]) -> None:
        """What was found in one frame."""
        message = messages.detection_2d_array(found, frame.stamp_s, images.optical_frame(frame))
        self._send(detection_topic(frame.camera), message, frame.stamp_s)

    def objects(self, objects: Sequence[ObjectState], stamp_s: float) -> None:
        """The fused objects."""
        self._send(OBJECTS, messages.detection_3d_array(objects, stamp_s), stamp_s)

    def plan(
        self,
        candidates: Sequence[GraspCandidate],
        trajectory: Trajectory | None,
        chosen: GraspCandidate | None,
        stamp_s: float,
    ) -> None:
        """The candidates of a look, the one that was taken, and the path to it."""
        self._send(CANDIDATES, messages.pose_array(candidates, stamp_s), stamp_s)
        if chosen is not None:
            self._send(GRASP, messages.pose_stamped(chosen.X_world_grasp, stamp_s), stamp_s)
        if trajectory is not None:
            path = messages.joint_trajectory(
                trajectory, stamp_s, self._joints, self._config.trajectory_every
            )
            self._send(TRAJECTORY, path, stamp_s)

    def policy(
        self, observation: NDArray[np.float32], action: NDArray[np.float32], stamp_s: float
    ) -> None:
        """What the policy saw and did."""
        self._send(OBSERVATION, messages.float_array(observation, "observation"), stamp_s)
        self._send(ACTION, messages.float_array(action, "action"), stamp_s)

    def phase(self, name: str, stamp_s: float) -> None:
        """The phase that begins."""
        self._send(PHASE, messages.string(name), stamp_s)

    def event(self, text: str, stamp_s: float) -> None:
        """One line for a person."""
        self._send(EVENTS, messages.string(text), stamp_s)

    def pick(self, result: PickResult, class_name: str, stamp_s: float) -> None:
        """How an attempt went, as one JSON object."""
        told = json.dumps({**asdict(result), "class_name": class_name}, sort_keys=True)
        self._send(PICKS, messages.string(told), stamp_s)
