"""Scenes of another look: a cheaper depth camera in a dark hall, over patterned covers.

Nothing here is what detectors are trained on. It stands for the place where a robot is taken after
training, and the distribution is frozen so that adapting to it can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from envs.camera import WRIST, X_TOOL0_WRIST, Light, look_at
from envs.synthesis import looks
from envs.synthesis.maker import SceneMaker, ScenesConfig, Setting
from robot.types import CameraIntrinsics, Pose


@dataclass(frozen=True)
class ShiftedConfig(ScenesConfig):
    """Another look on the same kinds of scenes; frozen in ``configs/protocol``.

    Attributes:
        overhead_eye_m: where the fixed camera stands, world frame.
        overhead_target_m: what is in the middle of its image.
        overhead_focal_px: its focal length; shorter than the usual camera's, so it sees more.
        wrist_focal_px: the wrist camera's focal length.
        brightness: of the images, as a share of good light.
        lamp: what the hall's lamps leave of red, green and blue.
        lamp_spread: standard deviation of each of these from scene to scene.
        haze: share of the dynamic range that stray light adds everywhere.
        blur_px: standard deviation of the lens' blur.
        shake_px: length of the motion blur.
        grain: standard deviation of the sensor's noise, of 255.
        pattern_m: period of the covers' patterns.
        disparity_step_px: a stereo camera's depth comes in steps of so much disparity.
        baseline_m: between its two lenses.
        depth_gain: mean and standard deviation, from scene to scene, of measured over true depth.
        holes: fewest and most holes in a depth image.
        hole_px: smallest and largest radius of a hole.
        edge_px: depth is lost so far around every jump in depth.
        jump_m: what counts as one.
    """

    overhead_eye_m: tuple[float, float, float] = (0.80, -0.45, 0.95)
    overhead_target_m: tuple[float, float, float] = (0.5, 0.0, 0.0)
    overhead_focal_px: float = bounded(350.0, 50.0, 2000.0)
    wrist_focal_px: float = bounded(250.0, 50.0, 2000.0)
    brightness: tuple[float, float] = bounded((0.30, 0.60), 0.01, 2.0)
    lamp: tuple[float, float, float] = bounded((1.0, 0.68, 0.30), 0.0, 2.0)
    lamp_spread: float = bounded(0.06, 0.0, 0.5)
    haze: tuple[float, float] = bounded((0.02, 0.10), 0.0, 0.9)
    blur_px: tuple[float, float] = bounded((0.5, 1.1), 0.0, 10.0)
    shake_px: tuple[float, float] = bounded((0.0, 3.0), 0.0, 20.0)
    grain: tuple[float, float] = bounded((4.0, 9.0), 0.0, 100.0)
    pattern_m: tuple[float, float] = bounded((0.05, 0.20), 0.005, 2.0)
    disparity_step_px: float = bounded(0.125, 0.0, 4.0)
    baseline_m: float = bounded(0.05, 0.001, 1.0)
    depth_gain: tuple[float, float] = bounded((1.015, 0.005), 0.0, 2.0)
    holes: tuple[int, int] = bounded((4, 14), 0, 200)
    hole_px: tuple[float, float] = bounded((3.0, 14.0), 0.0, 100.0)
    edge_px: int = bounded(1, 0, 20)
    jump_m: float = bounded(0.02, 0.001, 1.0)


class ShiftedMaker(SceneMaker):
    """As :class:`SceneMaker`, in another look."""

    def __init__(self, config: ShiftedConfig, objects: str, seed: int) -> None:
        super().__init__(config, objects, seed)
        self._look = config
        # Drawn with the scene's light: one camera has one error.
        self._gain = 1.0

    def _light(self, rng: np.random.Generator) -> Light:
        """Lamps high above: little comes from around, so shadows are deep."""
        self._gain = float(rng.normal(*self._look.depth_gain))
        angle, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.5)
        ambient = float(rng.uniform(0.2, 0.45))
        return Light(
            (float(lean * np.cos(angle)), float(lean * np.sin(angle)), 1.0),
            ambient,
            float(rng.uniform(0.5, 0.9) - 0.4 * ambient),
            float(rng.uniform(0.0, 0.5)),
        )

    def _style(self, rng: np.random.Generator) -> looks.Style:
        return ShiftedStyle(self._look, rng)

    def _cameras(self, rng: np.random.Generator) -> list[tuple[str, CameraIntrinsics, Pose]]:
        c = self._look
        eye = np.array(c.overhead_eye_m) + rng.normal(0.0, c.overhead_shift_m, 3)
        target = np.array(c.overhead_target_m) + rng.normal(0.0, c.overhead_shift_m, 3)
        wrist = self._kinematics.forward(self._arm.read_arrays()[0]) @ X_TOOL0_WRIST
        return [
            ("overhead", _intrinsics(c.overhead_focal_px), look_at("overhead", eye, target)),
            ("wrist", _intrinsics(c.wrist_focal_px), wrist),
        ]

    def _measured(
        self,
        exact_m: NDArray[np.float32],
        intrinsics: CameraIntrinsics,
        setting: Setting,
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        depth = super()._measured(exact_m, intrinsics, setting, rng)
        return cheap_depth(depth, intrinsics, self._gain, self._look, rng)


class ShiftedStyle(looks.Style):
    """Covers with strong patterns, seen in lamp light through a cheap lens."""

    def __init__(self, config: ShiftedConfig, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self._config = config
        self.table = looks.Texture(_contrasting(rng), float(rng.uniform(*config.pattern_m)))
        self.textured_share = 0.6
        self._brightness = float(rng.uniform(*config.brightness))
        lamp = np.array(config.lamp) + rng.normal(0.0, config.lamp_spread, 3)
        self._lamp = np.clip(lamp, 0.02, None).astype(np.float32)

    def expose(self, rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Lamp light, stray light, blur, shake and the noise of a sensor that sees little."""
        c = self._config
        out = rgb.astype(np.float32) * (self._brightness * self._lamp)
        out += np.float32(255.0 * rng.uniform(*c.haze)) * self._lamp
        blur = float(rng.uniform(*c.blur_px))
        if blur > 0.0:
            out = np.asarray(cv2.GaussianBlur(out, (0, 0), blur))
        out = _shaken(out, float(rng.uniform(*c.shake_px)), float(rng.uniform(0, np.pi)))
        grain = float(rng.uniform(*c.grain))
        out += rng.standard_normal(rgb.shape).astype(np.float32) * np.float32(grain)
        return np.asarray(np.clip(out, 0, 255), np.uint8)


def cheap_depth(
    depth_m: NDArray[np.float32],
    intrinsics: CameraIntrinsics,
    gain: float,
    config: ShiftedConfig,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """(H, W) float32 m as a cheap stereo camera gives it: off by a factor, in steps, with holes."""
    valid = depth_m > 0.0
    out = depth_m * np.float32(gain)
    if config.disparity_step_px > 0.0:
        scale = np.float32(intrinsics.fx_px * config.baseline_m / config.disparity_step_px)
        steps = np.rint(scale / np.maximum(out, 1e-3))
        out = scale / np.maximum(steps, 1.0)
    lost = ~valid
    if config.edge_px:
        kernel = np.ones((3, 3), np.uint8)
        jump = cv2.dilate(depth_m, kernel) - cv2.erode(depth_m, kernel) > config.jump_m
        size = 2 * config.edge_px - 1
        lost |= cv2.dilate(jump.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    rows, columns = depth_m.shape
    holes = np.zeros(depth_m.shape, np.uint8)
    for _ in range(int(rng.integers(config.holes[0], config.holes[1] + 1))):
        middle = (int(rng.integers(columns)), int(rng.integers(rows)))
        axes = tuple(int(v) for v in rng.uniform(*config.hole_px, 2))
        cv2.ellipse(holes, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    out[lost | (holes > 0)] = 0.0
    return out.astype(np.float32)


def _intrinsics(focal_px: float) -> CameraIntrinsics:
    return CameraIntrinsics(
        WRIST.width_px, WRIST.height_px, focal_px, focal_px, WRIST.cx_px, WRIST.cy_px
    )


def _contrasting(rng: np.random.Generator) -> NDArray[np.float32]:
    """A tile (256, 256, 3) float32 of a bold two-coloured pattern."""
    first = looks.random_colour(rng)
    second = np.clip(1.0 - first + rng.normal(0, 0.1, 3), 0, 1).astype(np.float32)
    ramp = np.arange(256, dtype=np.float32) / 256.0
    x, y = ramp[:, None], ramp[None, :]
    kind = rng.choice(["stripes", "checks", "dots", "blotches"])
    n = int(rng.integers(1, 5))
    if kind == "stripes":
        blend = np.broadcast_to((x * n) % 1.0 < rng.uniform(0.3, 0.7), (256, 256))
    elif kind == "checks":
        blend = (np.floor(2 * n * x) + np.floor(2 * n * y)) % 2 > 0
    elif kind == "dots":
        blend = np.hypot((x * n) % 1.0 - 0.5, (y * n) % 1.0 - 0.5) < rng.uniform(0.2, 0.4)
    else:
        blobs = cv2.GaussianBlur(rng.standard_normal((256, 256)), (0, 0), float(rng.uniform(8, 25)))
        blend = blobs > 0.0
    part = blend.astype(np.float32)[..., None]
    return np.asarray(first * (1.0 - part) + second * part, np.float32)


def _shaken(image: NDArray[np.float32], length_px: float, angle_rad: float) -> NDArray[np.float32]:
    """Motion blur along a line."""
    if length_px < 1.0:
        return image
    half = int(np.ceil(length_px / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    step = 0.5 * length_px * np.array([np.cos(angle_rad), np.sin(angle_rad)])
    ends = [tuple(int(v) for v in np.rint(half + sign * step)) for sign in (-1.0, 1.0)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.float32)
