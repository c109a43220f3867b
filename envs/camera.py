"""Simulated RGB-D cameras: Bullet's OpenGL conventions end here.

Frames come out in the optical convention (z forward, x right, y down) with metric depth, noise and
dropouts included. The pose a frame reports is what the robot believes; the camera may really stand
a calibration error away from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.bullet import pybullet
from envs.physics import DepthNoiseConfig, PhysicsConfig
from envs.world import World
from robot import geometry
from robot.errors import SensorError
from robot.types import CameraIntrinsics, Pose, RgbdFrame

_NEAR_M, _FAR_M = 0.03, 3.0

OVERHEAD = CameraIntrinsics(320, 240, 400.0, 400.0, 159.5, 119.5)
WRIST = CameraIntrinsics(320, 240, 280.0, 280.0, 159.5, 119.5)
X_TOOL0_WRIST = Pose("tool0", "wrist", np.array([0.07, 0.0, -0.10]), np.array([0, 0, 0, 1.0]))


def look_at(
    name: str, eye_m: NDArray[np.float64], target_m: NDArray[np.float64], upright: bool = False
) -> Pose:
    """``X_world_<name>`` of an optical frame at ``eye_m`` that looks at ``target_m``.

    Args:
        name: of the camera's frame.
        eye_m: (3,) where it stands, world frame.
        target_m: (3,) what is in the middle of its image.
        upright: True: the world's up is up in the image, as a person would hold the camera.
            False: the world's -x is down in the image, so that one looking straight down works too
            and the robot's side is the lower one.
    """
    forward = np.asarray(target_m, dtype=float) - eye_m
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0] if upright else [1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    return Pose.from_matrix("world", name, np.column_stack([right, down, forward]), eye_m)


X_WORLD_OVERHEAD = look_at("overhead", np.array([0.95, 0.0, 0.90]), np.array([0.5, 0.0, 0.0]))


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light comes from and how it falls."""

    direction: tuple[float, float, float] = (0.3, -0.4, 1.0)
    ambient: float = 0.55
    diffuse: float = 0.45
    specular: float = 0.05
    shadow: bool = True


class SimCamera:
    """A camera in the world; implements the ``Camera`` protocol.

    Args:
        world: what it sees.
        name: of the camera.
        intrinsics: of the camera.
        believed_pose: called at each look for the pose the robot believes, ``X_world_cam``.
        rng: for noise.
    """

    def __init__(
        self,
        world: World,
        name: str,
        intrinsics: CameraIntrinsics,
        believed_pose: Callable[[], Pose],
        rng: np.random.Generator,
    ) -> None:
        self.world = world
        self._name = name
        self.intrinsics = intrinsics
        self.believed_pose = believed_pose
        self.light = Light()
        self.noise = DepthNoiseConfig()
        self._rng = rng
        self._error = (np.eye(3), np.zeros(3))
        self.working = True

    @property
    def name(self) -> str:
        """The camera's name."""
        return self._name

    def begin_episode(self, config: PhysicsConfig, rng: np.random.Generator) -> None:
        """Draw this episode's calibration error and noise."""
        self._rng = rng
        self.noise = config.depth_noise
        axis = rng.normal(size=3)
        shift = rng.normal(size=3)
        quat = geometry.quat_from_axis_angle(axis, math.radians(config.camera_rotation_deg))
        self._error = (
            geometry.matrix_from_quat(quat),
            shift / np.linalg.norm(shift) * config.camera_position_m,
        )

    def read(self) -> RgbdFrame:
        """One frame with noise; raises ``SensorError`` when the camera is switched off."""
        if not self.working:
            raise SensorError(f"camera {self._name}: returned no frame; check that it is connected")
        frame, _ = self.capture()
        return frame

    def capture(self) -> tuple[RgbdFrame, NDArray[np.int32]]:
        """One frame and the truth: (H, W) int32 id of the body each pixel shows, -1 for none."""
        believed = self.believed_pose()
        rotation_error, shift = self._error
        rotation = believed.rotation @ rotation_error
        eye = believed.position_m + believed.rotation @ shift
        rgb, depth, bodies = render(self.world, self.intrinsics, rotation, eye, self.light)
        depth = noisy_depth(depth, self.intrinsics, self.noise, self._rng)
        frame = RgbdFrame(self._name, self.world.time_s, rgb, depth, self.intrinsics, believed)
        return frame, bodies


def render(
    world: World,
    intrinsics: CameraIntrinsics,
    rotation: NDArray[np.float64],
    eye_m: NDArray[np.float64],
    light: Light,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]]:
    """Render with Bullet's software renderer.

    Args:
        rotation: (3, 3) of the optical frame in the world.
        eye_m: (3,) camera centre in the world, m.

    Returns:
        rgb (H, W, 3) uint8, exact depth (H, W) float32 m (0 beyond the far plane), and body ids
        (H, W) int32.
    """
    k = intrinsics
    right, down, forward = rotation.T
    view = np.eye(4)
    view[0, :3], view[1, :3], view[2, :3] = right, -down, -forward
    view[:3, 3] = view[:3, :3] @ -eye_m
    w, h, n, f = k.width_px, k.height_px, _NEAR_M, _FAR_M
    projection = np.zeros((4, 4))
    projection[0, 0] = 2 * k.fx_px / w
    projection[1, 1] = 2 * k.fy_px / h
    # The software renderer samples pixel i at i, not at its middle, and counts rows from below.
    projection[0, 2] = 1 - 2 * k.cx_px / w
    projection[1, 2] = (2 * k.cy_px + 2) / h - 1
    projection[2, 2] = (f + n) / (n - f)
    projection[2, 3] = 2 * f * n / (n - f)
    projection[3, 2] = -1
    _, _, rgba, z, mask = pybullet.getCameraImage(
        w,
        h,
        view.T.ravel().tolist(),
        projection.T.ravel().tolist(),
        lightDirection=list(light.direction),
        lightAmbientCoeff=light.ambient,
        lightDiffuseCoeff=light.diffuse,
        lightSpecularCoeff=light.specular,
        shadow=int(light.shadow),
        renderer=pybullet.ER_TINY_RENDERER,
        physicsClientId=world.client,
    )
    z_buffer = np.reshape(z, (h, w)).astype(np.float64)
    depth = (f * n / (f - (f - n) * z_buffer)).astype(np.float32)
    depth[z_buffer >= 1.0] = 0.0
    rgb = np.ascontiguousarray(np.reshape(rgba, (h, w, 4))[..., :3]).astype(np.uint8)
    return rgb, depth, np.reshape(mask, (h, w)).astype(np.int32)


def noisy_depth(
    depth_m: NDArray[np.float32],
    intrinsics: CameraIntrinsics,
    config: DepthNoiseConfig,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Depth with spatially correlated noise and dropouts at grazing surfaces.

    The noise is white noise blurred to the correlation length and scaled back to the deviation.
    """
    out = depth_m.copy()
    valid = depth_m > 0
    if config.sigma_m > 0:
        noise = rng.standard_normal(depth_m.shape).astype(np.float32)
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), config.correlation_px / 2), np.float32)
        noise *= config.sigma_m / max(float(noise.std()), 1e-9)
        if config.distance_power:
            noise *= depth_m**config.distance_power
        out[valid] += noise[valid]
    if config.grazing_dropout_deg < 90:
        # The angle between ray and surface normal, from the depth's own slope.
        dx = cv2.Sobel(depth_m, cv2.CV_32F, 1, 0, scale=1 / 8) * intrinsics.fx_px
        dy = cv2.Sobel(depth_m, cv2.CV_32F, 0, 1, scale=1 / 8) * intrinsics.fy_px
        slope = np.hypot(dx, dy) / np.maximum(depth_m, 1e-6)
        angle = np.degrees(np.arctan(slope))
        chance = np.clip((angle - config.grazing_dropout_deg) / 15.0, 0, 1)
        out[rng.random(depth_m.shape) < chance] = 0.0
    out[~valid] = 0.0
    return out
