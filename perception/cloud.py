"""Cleaning one frame: from raw depth to levelled world points that can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from perception.camera import points_from_depth, valid_depth
from robot.types import RgbdFrame


@dataclass(frozen=True)
class CloudConfig:
    """What counts as a good point.

    Attributes:
        flying_m: a pixel whose depth differs by more than this from most of its neighbours lies on
            no surface (a flying pixel between an edge and what is behind it).
        flying_neighbours: of its eight neighbours that must agree with it.
        level: use the table itself to correct small errors of the camera's calibration.
        level_band_m: points this close to z = 0 may be table.
        level_least_points: needed to trust the table's plane.
        level_tilt_rad: a smaller tilt is noise and is left alone; one above ``level_tilt_max_rad``
            is no calibration error and is left alone too.
        level_tilt_max_rad: see above.
        level_shift_max_m: likewise for the height of the plane.
        fill_px: pixels without depth this close to a surface are guessed to continue it; steep
            edges are where cameras lose depth, and an object would lose its rim.
        noise_m: (least, most) of the depth noise that the table's roughness is read as.
    """

    flying_m: float = bounded(0.015, 0.001, 0.5)
    flying_neighbours: int = bounded(3, 0, 8)
    level: bool = True
    level_band_m: float = bounded(0.025, 0.001, 0.2)
    level_least_points: int = bounded(2000, 10, 10_000_000)
    level_tilt_rad: float = bounded(0.003, 0.0, 0.5)
    level_tilt_max_rad: float = bounded(0.04, 0.0, 0.5)
    level_shift_max_m: float = bounded(0.02, 0.0, 0.5)
    fill_px: int = bounded(1, 0, 10)
    noise_m: tuple[float, float] = bounded((0.0005, 0.008), 0.0, 0.1)


@dataclass(frozen=True, slots=True)
class Cloud:
    """One frame as points.

    Attributes:
        points: (H, W, 3) float32 world points, m.
        good: (H, W) bool: measured and not flying.
        filled: (H, W) bool: not measured; the point is that of the nearest surface beside it.
        depth_m: (H, W) float32 depth along the optical axis, filled ones too; 0 = none.
        eye_m: (3,) camera centre, m.
        tilt_rad, shift_m: the calibration error that was corrected.
        noise_m: standard deviation of heights, read off the table, m.
    """

    points: NDArray[np.float32]
    good: NDArray[np.bool_]
    filled: NDArray[np.bool_]
    depth_m: NDArray[np.float32]
    eye_m: NDArray[np.float64]
    tilt_rad: float
    shift_m: float
    noise_m: float


def clean(frame: RgbdFrame, config: CloudConfig) -> Cloud:
    """World points of a frame without flying pixels, levelled on the table."""
    valid = valid_depth(frame.depth_m)
    depth = np.where(valid, frame.depth_m, np.float32(0.0))
    good = valid & ~flying(depth, config)
    guess = _filled(depth, config)
    filled = (guess > 0.0) & ~valid
    rotation, eye = frame.X_world_cam.rotation, frame.X_world_cam.position_m
    points = points_from_depth(guess, frame.intrinsics, rotation, eye)
    tilt, shift = 0.0, 0.0
    if config.level:
        turn, tilt = _levelling(points, good, config)
        if turn is not None:
            # A camera that is turned a little too far sees the whole table tilted about itself;
            # turning it back also brings x and y where they belong.
            points = points_from_depth(guess, frame.intrinsics, turn @ rotation, eye)
        shift = _table_height(points, good, config)
        points[..., 2] -= np.float32(shift)
    noise = _roughness(points, good, config)
    return Cloud(points, good, filled, guess, eye, tilt, shift, noise)


def points_at(cloud: Cloud, pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N, 3) points, m, of (H, W) bool pixels; as in the cloud each axis is one piece of memory."""
    return np.stack([cloud.points[..., axis][pixels] for axis in range(3)]).T


def middle_of(values: NDArray[Any]) -> float:
    """The median of (N,) values; of an even number of them the upper of the two in the middle.

    A fifth of ``np.median``'s time, of which fusion needs dozens a look.
    """
    half = len(values) // 2
    return float(np.partition(values, half)[half])


def _filled(depth_m: NDArray[np.float32], config: CloudConfig) -> NDArray[np.float32]:
    """Depth with its holes' rims taken from the nearest surface around; 0 further in."""
    hole = depth_m == 0.0
    if not config.fill_px or not hole.any():
        return depth_m
    far = np.where(hole, np.float32(1e6), depth_m)
    size = 2 * config.fill_px + 1
    nearest = cv2.erode(far, np.ones((size, size), np.uint8))
    return np.where(hole & (nearest < 1e6), nearest, depth_m).astype(np.float32)


def _roughness(points: NDArray[np.float32], good: NDArray[np.bool_], config: CloudConfig) -> float:
    """Standard deviation of the table's heights, m, by the median deviation."""
    heights = points[::4, ::4, 2][good[::4, ::4]]
    heights = heights[np.abs(heights) < config.level_band_m]
    least, most = config.noise_m
    if heights.size * 16 < config.level_least_points:
        return most
    spread = 1.4826 * middle_of(np.abs(heights - np.float32(middle_of(heights))))
    return min(max(spread, least), most)


def flying(depth_m: NDArray[np.float32], config: CloudConfig) -> NDArray[np.bool_]:
    """(H, W) bool: pixels with which too few of their eight neighbours agree in (finite) depth."""
    padded = cv2.copyMakeBorder(depth_m, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    rows, columns = depth_m.shape
    agree = np.zeros((rows, columns), np.uint8)
    centre = padded[1:-1, 1:-1]
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            if dx == dy == 1:
                continue
            other = padded[dy : dy + rows, dx : dx + columns]
            agree += cv2.absdiff(centre, other) <= config.flying_m
    return agree < config.flying_neighbours


def _levelling(
    points: NDArray[np.float32], good: NDArray[np.bool_], config: CloudConfig
) -> tuple[NDArray[np.float64] | None, float]:
    """The (3, 3) rotation that levels the table and its angle; None and 0 where none is due."""
    slopes = _table_slopes(points, good, config)
    if slopes is None:
        return None, 0.0
    tilt = math.hypot(*slopes)
    if not config.level_tilt_rad < tilt < config.level_tilt_max_rad:
        return None, 0.0
    return _rotation_to_up(*slopes), tilt


def _table_height(
    points: NDArray[np.float32], good: NDArray[np.bool_], config: CloudConfig
) -> float:
    """Mean height of the table's points, m; 0 where it is not to be trusted."""
    heights = points[::2, ::2, 2][good[::2, ::2]]
    heights = heights[np.abs(heights) < config.level_band_m]
    if heights.size * 4 < config.level_least_points:
        return 0.0
    shift = middle_of(heights)
    shift = float(heights[np.abs(heights - shift) < 0.008].mean())
    return shift if abs(shift) <= config.level_shift_max_m else 0.0


def _table_slopes(
    points: NDArray[np.float32], good: NDArray[np.bool_], config: CloudConfig
) -> tuple[float, float] | None:
    """a, b of z = a x + b y + c through the points near z = 0, by trimmed least squares."""
    # Every fourth pixel of every fourth row: the noise is correlated anyway.
    near = good[::4, ::4] & (np.abs(points[::4, ::4, 2]) < config.level_band_m)
    x, y, heights = (points[::4, ::4, axis][near].astype(np.float64) for axis in range(3))
    least = config.level_least_points / 16
    if len(x) < least:
        return None
    design = np.stack([x, y, np.ones(len(x))])
    kept = np.ones(len(x))
    plane = np.zeros(3)
    for width in (0.015, 0.010, 0.008):
        if kept.sum() < least:
            return None
        a = design * kept
        plane = np.linalg.solve(a @ design.T + 1e-9 * np.eye(3), a @ heights)
        kept = (np.abs(heights - plane @ design) < width).astype(np.float64)
    return float(plane[0]), float(plane[1])


def _rotation_to_up(slope_x: float, slope_y: float) -> NDArray[np.float64]:
    """(3, 3) rotation that takes the normal of z = a x + b y to the world's z."""
    normal = np.array([-slope_x, -slope_y, 1.0])
    normal /= np.linalg.norm(normal)
    axis = np.cross(normal, [0.0, 0.0, 1.0])
    sine, cosine = float(np.linalg.norm(axis)), float(normal[2])
    if sine < 1e-12:
        return np.eye(3)
    x, y, z = axis / sine
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + sine * skew + (1 - cosine) * skew @ skew)
