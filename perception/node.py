"""Perception as a process of the loop: images in, detections, objects and sightings out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception.fusion import Fusion
from perception.look import CameraPerception
from perception.watch import CameraWatch
from robot.errors import SensorError
from robot.execution.grasp import GraspLoop
from robot.interface import Detector
from robot.limits import RobotLimits
from robot.loop import messages
from robot.loop.images import optical_frame
from robot.loop.mailbox import Packet
from robot.loop.nouns import (
    frame_of,
    grid_map,
    objects_of,
    poses_of,
    robot_state_of,
    stamp_of,
)
from robot.loop.publisher import OBJECTS, TF, camera_topics, detection_topic
from robot.loop.topics import (
    BARRIER,
    EPISODE,
    EXPOSURE,
    HEIGHTS,
    LOOK_SERVICE,
    WATCH,
    WATCHED,
    WATCHING,
)
from robot.loop.typestore import message_class
from robot.planning.body import ArmBody
from robot.types import Look, RgbdFrame

_LONGEST_WATCH_S = 8.0
Send = Callable[[str, Any, float], object]


def image_topics(cameras: Sequence[str]) -> list[str]:
    """Everything that belongs to the images of some cameras."""
    return [TF, EXPOSURE, *(t for c in cameras for t in camera_topics(c, exact=True))]


class MessageCamera:
    """A camera that shows the newest frame that came as messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.frame: RgbdFrame | None = None

    @property
    def name(self) -> str:
        """The camera's name."""
        return self._name

    def read(self) -> RgbdFrame:
        """The newest frame."""
        if self.frame is None:
            raise SensorError(f"camera {self._name}: returned no frame; is its node running?")
        return self.frame


class FrameSets:
    """Puts together what belongs to one moment: every camera's images and the arm's joints."""

    def __init__(self, cameras: Sequence[str]) -> None:
        self._cameras = tuple(cameras)
        self._roles = {
            t: (camera, role)
            for camera in cameras
            for t, role in zip(
                camera_topics(camera, True), ("colour", "depth", "info"), strict=True
            )
        }
        self._parts: dict[tuple[str, str], Any] = {}
        self._joints: Any = None

    def add(self, packet: Packet) -> float | None:
        """Take in a packet; the moment's stamp once it is complete."""
        if packet.topic == EXPOSURE:
            self._joints = packet.message
        elif packet.topic == TF:
            for child, pose in poses_of(packet.message).items():
                self._parts[child, "pose"] = packet.stamp_s, pose
        elif packet.topic in self._roles:
            self._parts[self._roles[packet.topic]] = packet.stamp_s, packet.message
        else:
            return None
        return self._complete(packet.stamp_s)

    def _complete(self, stamp_s: float) -> float | None:
        if self._joints is None or abs(stamp_of(self._joints.header.stamp) - stamp_s) > 1e-6:
            return None
        for camera in self._cameras:
            for role in ("colour", "depth", "info", "pose"):
                part = self._parts.get((camera, role))
                if part is None or part[0] != stamp_s:
                    return None
        return stamp_s

    def take(self) -> tuple[list[RgbdFrame], Any]:
        """The frames and the arm's joint state; the next moment has to be complete anew."""
        frames = [
            frame_of(
                camera,
                *(self._parts[camera, role][1] for role in ("colour", "depth", "info", "pose")),
            )
            for camera in self._cameras
        ]
        joints, self._joints = self._joints, None
        self._parts.clear()
        return frames, joints


class PerceptionNode:
    """Looks when asked, watches while the hand comes down, and names what every image shows.

    Args:
        cameras: their names.
        detector: finds objects in images.
        limits: of the arm, to leave its own points out.
        send: takes topic, message and stamp.
        lockstep: tell when the images of a moment have been dealt with.
        always: find objects in every image while nothing is watched, not only in those that are
            looked at.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        detector: Detector,
        limits: RobotLimits,
        send: Send,
        lockstep: bool = False,
        always: bool = True,
    ) -> None:
        self._send, self._lockstep, self._always = send, lockstep, always
        self._detector = detector
        self._sets = FrameSets(cameras)
        self._cameras = [MessageCamera(name) for name in cameras]
        self.fusion = Fusion()
        self._perception = CameraPerception(self._cameras, detector, self.fusion)
        self._watch = CameraWatch(self._cameras, self._own)
        self._body = ArmBody(limits, GraspLoop.make(limits).kinematics)
        self._names = messages.PANDA_JOINTS, messages.PANDA_FINGERS
        self._look: Look | None = None
        self._asked_s: float | None = None
        self._to_watch: Any = None
        self._watched_until_s = -1.0

    def feed(self, packet: Packet) -> None:
        """Take in any packet, and do what follows from it."""
        if packet.topic == f"{LOOK_SERVICE}/_request":
            self._asked_s = packet.stamp_s
        elif packet.topic == WATCH:
            self._to_watch = packet.message
        elif packet.topic == EPISODE:
            self.forget()
        elif (stamp_s := self._sets.add(packet)) is not None:
            self._moment(stamp_s)

    def forget(self) -> None:
        """A new table: what was seen before is gone."""
        self.fusion.reset()
        self._look, self._watched_until_s = None, -1.0

    def expose(self, frames: Sequence[RgbdFrame], joints: Any) -> None:
        """Show the cameras' next frames."""
        for camera, frame in zip(self._cameras, frames, strict=True):
            camera.frame = frame
        self._state = robot_state_of(joints, *self._names)

    def look(self, stamp_s: float) -> None:
        """Objects and heights from the newest images."""
        reply = message_class("steadyhand_msgs/srv/Look_Response")
        try:
            look = self._look = self._perception.look()
        except SensorError as error:
            self._send(f"{LOOK_SERVICE}/_reply", reply(False, str(error)), stamp_s)
            return
        for frame, found in zip(look.frames, look.detections, strict=True):
            self._send_detections(frame, found, stamp_s)
        self._send(OBJECTS, messages.detection_3d_array(look.objects, stamp_s), stamp_s)
        self._send(HEIGHTS, grid_map(look.height_map), stamp_s)
        self._send(f"{LOOK_SERVICE}/_reply", reply(True, ""), stamp_s)

    def detect(self, stamp_s: float) -> None:
        """What every newest image shows."""
        for camera in self._cameras:
            frame = camera.read()
            try:
                found = self._detector.detect(frame)
            except SensorError:
                found = []
            self._send_detections(frame, found, stamp_s)

    def begin_watch(self, message: Any, stamp_s: float) -> None:
        """Watch an object of the newest look from now on."""
        obj = objects_of(message)[0]
        if self._look is None:
            return
        self._watch.begin(self._look, obj, stamp_s)
        self._watched_until_s = stamp_s + _LONGEST_WATCH_S
        self._send(WATCHING, message, stamp_s)

    def watch(self, stamp_s: float) -> None:
        """Where the watched object is in the newest images; nothing in the message if unseen."""
        seen = self._watch.sight()
        objects = [] if seen is None else [seen]
        self._send(WATCHED, messages.detection_3d_array(objects, stamp_s), stamp_s)

    def _moment(self, stamp_s: float) -> None:
        self.expose(*self._sets.take())
        if self._to_watch is not None:
            message, self._to_watch = self._to_watch, None
            self.begin_watch(message, stamp_s)
        if self._asked_s is not None and stamp_s > self._asked_s:
            self._asked_s = None
            self.look(stamp_s)
        elif self._always and stamp_s > self._watched_until_s:
            self.detect(stamp_s)
        if stamp_s <= self._watched_until_s:  # what is watched must be told soon
            self.watch(stamp_s)
        if self._lockstep:
            self._send(BARRIER, messages.time_message(stamp_s), stamp_s)

    def _send_detections(self, frame: RgbdFrame, found: Sequence[Any], stamp_s: float) -> None:
        message = messages.detection_2d_array(found, stamp_s, optical_frame(frame))
        self._send(detection_topic(frame.camera), message, stamp_s)

    def _own(self, points_m: NDArray[np.float64]) -> NDArray[np.bool_]:
        joints = self._state.joints
        return self._body.covers(points_m, joints.position_rad, self._state.gripper.opening_m)
