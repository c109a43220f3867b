"""Random looks: textures, colours and light for rendered scenes.

Textures are painted onto rendered pixels by their world position: the renderer's shading and
shadows stay, and no texture file passes through Bullet.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera import Light
from envs.world import World
from perception.camera import points_from_depth
from robot.types import CameraIntrinsics, Pose

_TILE_PX = 256


@dataclass(frozen=True, slots=True)
class Texture:
    """A tile (256, 256, 3) float32 of colours in [0, 1] that repeats every ``period_m``."""

    tile: NDArray[np.float32]
    period_m: float

    def sample(self, x_m: NDArray[np.float32], y_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """Colours (N, 3) at N positions, m; the tile is mirrored at its edges."""
        scale = _TILE_PX / self.period_m
        u = np.abs((x_m * scale) % (2 * _TILE_PX) - _TILE_PX).astype(np.int32)
        v = np.abs((y_m * scale) % (2 * _TILE_PX) - _TILE_PX).astype(np.int32)
        last = _TILE_PX - 1
        return self.tile[np.minimum(u, last), np.minimum(v, last)]


def random_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """A colour (3,) in [0, 1]; greys and pale colours are as likely as vivid ones."""
    saturation = rng.random() ** 1.5
    value = 0.1 + 0.9 * rng.random()
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value), np.float32)


def random_texture(rng: np.random.Generator) -> Texture:
    """A plain, cloudy, striped, grained, speckled or checkered texture of two colours."""
    first = random_colour(rng)
    second = np.clip(first + rng.normal(0, 0.25, 3), 0, 1) if rng.random() < 0.7 else (
        random_colour(rng)
    )  # fmt: skip
    kind = rng.choice(["plain", "clouds", "stripes", "grain", "speckles", "checkers"])
    clouds = _clouds(rng)
    ramp = np.arange(_TILE_PX, dtype=np.float32) / _TILE_PX
    if kind == "plain":
        blend = 0.15 * clouds
    elif kind == "clouds":
        blend = clouds
    elif kind == "stripes":
        waves = np.sin(2 * np.pi * rng.integers(2, 16) * ramp)[:, None]
        blend = np.broadcast_to((waves > rng.uniform(-0.5, 0.8)).astype(np.float32), clouds.shape)
    elif kind == "grain":
        rings = ramp[:, None] * rng.uniform(4, 20) + clouds * rng.uniform(0.5, 3)
        blend = 0.5 + 0.5 * np.sin(2 * np.pi * rings)
    elif kind == "speckles":
        dots = (rng.random(clouds.shape) < rng.uniform(0.02, 0.3)).astype(np.float32)
        blend = np.asarray(cv2.GaussianBlur(dots, (0, 0), rng.uniform(0.5, 2.0)))
    else:
        n = int(rng.integers(2, 10))
        odd = (np.floor(ramp * n)[:, None] + np.floor(ramp * n)[None, :]) % 2
        blend = odd * 0.9 + 0.1 * clouds
    blend = np.asarray(blend, np.float32)[..., None]
    tile = first * (1 - blend) + np.asarray(second, np.float32) * blend
    tile = tile + rng.normal(0, rng.uniform(0, 0.03), tile.shape)
    return Texture(np.clip(tile, 0, 1).astype(np.float32), float(rng.uniform(0.1, 0.8)))


def _clouds(rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of several octaves, (256, 256) in [0, 1]."""
    out = np.zeros((_TILE_PX, _TILE_PX), np.float32)
    for octave in range(1, 6):
        coarse = rng.random((2**octave + 1, 2**octave + 1)).astype(np.float32)
        out += cv2.resize(coarse, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_CUBIC) / octave
    low, high = float(out.min()), float(out.max())
    return (out - low) / max(high - low, 1e-6)


def random_light(rng: np.random.Generator) -> Light:
    """A light from above, near or low, soft or hard, with shadows three times in four."""
    angle, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 1.0)
    ambient = float(rng.uniform(0.3, 0.7))
    return Light(
        (float(lean * np.cos(angle)), float(lean * np.sin(angle)), 1.0),
        ambient,
        float(rng.uniform(0.25, 0.95 - 0.6 * ambient)),
        float(rng.uniform(0.0, 0.3)),
        bool(rng.random() < 0.75),
    )


def repaint(
    rgb: NDArray[np.uint8],
    region: NDArray[np.bool_],
    base: NDArray[np.float32],
    texture: Texture,
    points_m: NDArray[np.float32],
) -> None:
    """Replace a region's flat colour by a texture, in place; its shading stays.

    Args:
        rgb: (H, W, 3) the rendered image.
        region: (H, W) pixels to paint.
        base: (3,) the colour in [0, 1] with which the region was rendered.
        texture: what to paint.
        points_m: (H, W, 3) world points of the pixels.
    """
    chosen = points_m[region]
    # A face seen edge-on would smear along z; adding z to both axes avoids it.
    colours = texture.sample(chosen[:, 0] + chosen[:, 2], chosen[:, 1] + chosen[:, 2])
    shading = rgb[region].astype(np.float32) / np.maximum(base * 255.0, 1.0)
    rgb[region] = np.clip(shading.mean(axis=1, keepdims=True) * colours * 255, 0, 255)


def fill_background(rgb: NDArray[np.uint8], region: NDArray[np.bool_], texture: Texture) -> None:
    """Paint what lies beyond the table, by image position, in place."""
    v, u = np.nonzero(region)
    rgb[region] = (
        texture.sample((u * 0.003).astype(np.float32), (v * 0.003).astype(np.float32)) * 255
    )


def expose(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A camera's own part: exposure, white balance, blur and noise."""
    out = rgb.astype(np.float32) * (rng.uniform(0.6, 1.3) * rng.uniform(0.9, 1.1, 3))
    if rng.random() < 0.3:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), rng.uniform(0.3, 0.9)))
    out += rng.standard_normal(rgb.shape).astype(np.float32) * rng.uniform(0.0, 6.0)
    return np.asarray(np.clip(out, 0, 255), np.uint8)


class Style:
    """One scene's textures, shared by its views."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.table = random_texture(rng)
        self.tray = random_texture(rng)
        self.floor = random_texture(rng)
        self.things = [random_texture(rng) for _ in range(6)]
        self.textured_share = float(rng.choice([0.0, 0.3, 0.6]))

    def apply(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32],
        bodies: NDArray[np.int32],
        world: World,
        intrinsics: CameraIntrinsics,
        actual: Pose,
        rng: np.random.Generator,
    ) -> NDArray[np.uint8]:
        """The image repainted and exposed."""
        points = points_from_depth(depth, intrinsics, actual.rotation, actual.position_m)
        # The colours in which envs.world makes table and tray, as seen in full light.
        for body, texture in ((world.table_id, self.table), (world.tray_id, self.tray)):
            region = bodies == body
            if region.any():
                base = np.percentile(rgb[region], 95, axis=0).astype(np.float32) / 255.0
                repaint(rgb, region, base, texture, points)
        for body in world.bodies:
            # Decided by the body's number, so that both views agree.
            if (body * 0.381966) % 1.0 < self.textured_share:
                region = bodies == body
                if region.any():
                    base = np.percentile(rgb[region], 95, axis=0).astype(np.float32) / 255.0
                    repaint(rgb, region, base, self.things[body % 6], points)
        fill_background(rgb, bodies < 0, self.floor)
        return self.expose(rgb, rng)

    def expose(self, rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """What the camera makes of it."""
        return expose(rgb, rng)
