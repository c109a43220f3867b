"""Simulated cameras as a process of their own: they render snapshots of another world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.arm import SimArm
from envs.camera import OVERHEAD, WRIST, X_TOOL0_WRIST, X_WORLD_OVERHEAD, SimCamera
from envs.objects import ObjectModel
from envs.physics import PhysicsConfig
from envs.world import World
from robot.errors import SensorError
from robot.execution.grasp import GraspLoop
from robot.limits import RobotLimits
from robot.loop import images, messages
from robot.loop.bus import Bus
from robot.loop.mailbox import Packet
from robot.loop.nouns import poses_of, robot_state_of
from robot.loop.publisher import TF, camera_topics
from robot.loop.topics import EXPOSURE, OBJECT_POSES
from robot.types import Pose

CAMERAS = ("overhead", "wrist")


class Snapshot:
    """What a moment of a world is told in: the arm's joints and where every object is."""

    def __init__(self, world: World, bus: Bus) -> None:
        self._world, self._bus = world, bus

    def send(self, state: Any, stamp_s: float) -> None:
        """Tell of the world as it is now; ``state`` is the arm's reading."""
        world = self._world
        poses = []
        for k, (body, known) in enumerate(world.bodies.items()):
            pose = world.pose(body)
            name = f"object_{k}/{known.model.name}"
            poses.append(Pose.stored("world", name, pose.position_m, pose.quat_xyzw))
        self._bus.publish(OBJECT_POSES, messages.tf(poses, stamp_s), stamp_s)
        self._bus.publish(EXPOSURE, messages.joint_state(state), stamp_s)


class CamerasNode:
    """Renders every snapshot that comes, the newest first if there are several.

    Args:
        bus: of the process.
        models: that may be in the scene; told apart by name.
        physics: noise and errors of the cameras.
        limits: of the arm.
        views: cameras that look; 1 is the fixed one alone.
    """

    def __init__(
        self,
        bus: Bus,
        models: Sequence[ObjectModel],
        physics: PhysicsConfig,
        limits: RobotLimits,
        views: int = 2,
    ) -> None:
        self._bus, self._physics = bus, physics
        self._models = {m.name: m for m in models}
        self.world = World()
        self._arm = SimArm(self.world, limits)
        self._kinematics = GraspLoop.make(limits).kinematics
        self._shown: tuple[str, ...] = ()
        rng = np.random.default_rng(0)
        self.cameras = (
            SimCamera(self.world, CAMERAS[0], OVERHEAD, lambda: X_WORLD_OVERHEAD, rng),
            SimCamera(self.world, CAMERAS[1], WRIST, self._wrist_pose, rng),
        )[:views]
        self._poses: Packet | None = None

    def begin(self, seed: int) -> None:
        """A new table: its cameras' errors and noise are drawn."""
        rng = np.random.default_rng((seed, 5))
        for camera in self.cameras:
            camera.begin_episode(self._physics, np.random.default_rng(rng.integers(2**63)))

    def feed(self, packet: Packet) -> None:
        """Take in a part of a snapshot; render once it is whole."""
        if packet.topic == OBJECT_POSES:
            self._poses = packet
        elif packet.topic == EXPOSURE:
            self._render(packet)

    def close(self) -> None:
        """Disconnect from Bullet."""
        self.world.close()

    def _render(self, packet: Packet) -> None:
        if self._poses is None or self._poses.stamp_s != packet.stamp_s:
            return
        self._set(poses_of(self._poses.message), packet)
        self._bus.pass_on(packet)
        for camera in self.cameras:
            try:
                frame = camera.read()
            except SensorError:
                continue  # whoever waits for it notices
            colour, depth, info = camera_topics(camera.name, exact=True)
            stamp_s = packet.stamp_s
            self._bus.publish(TF, messages.tf([frame.X_world_cam], frame.stamp_s), stamp_s)
            self._bus.publish(info, images.camera_info(frame), stamp_s)
            self._bus.publish(colour, images.raw_rgb(frame), stamp_s)
            self._bus.publish(depth, images.raw_depth(frame), stamp_s)

    def _set(self, poses: dict[str, Pose], packet: Packet) -> None:
        if tuple(poses) != self._shown:
            self.world.reset()
            for name, pose in poses.items():
                model = self._models[name.partition("/")[2]]
                self.world.add(model, pose.position_m, pose.quat_xyzw)
            self._shown = tuple(poses)
        for body, pose in zip(self.world.bodies, poses.values(), strict=True):
            self.world.place(body, pose.position_m, pose.quat_xyzw)
        state = robot_state_of(packet.message, messages.PANDA_JOINTS, messages.PANDA_FINGERS)
        self._arm.reset(state.joints.position_rad, state.gripper.opening_m)
        self.world.set_time(packet.stamp_s)

    def _wrist_pose(self) -> Pose:
        q, _, _, _, _ = self._arm.read_arrays()
        return self._kinematics.forward(q) @ X_TOOL0_WRIST
