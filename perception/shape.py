"""An object's box from the pixels that several views gave it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from perception.cloud import middle_of

Array = NDArray[np.float64]

# One direction a degree, all around; the rectangle's second edge is 90 further on.
_ANGLES = np.radians(np.arange(360.0))
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)])


@dataclass(frozen=True)
class ShapeConfig:
    """How a box is fitted.

    Attributes:
        pixel_share: a point is the middle of its pixel; the outline lies this share of a pixel
            further out.
        noise_share: the outermost of many noisy points lies too far out, by this share of the
            depth noise.
        agree_m: where one view's outline lies this much inside another's it has not seen the edge
            and counts for nothing; in between it counts in part.
        tie: rectangles whose area exceeds the least by this share still pull the centre.
        patch_px: pixels over which depth noise is one and the same: the number of independent
            heights on a top is its area over this.
        ball_residual: a sphere is believed if its points lie within this many times the noise.
        ball_largest_m: and if its radius is at most this.
        lifted_m: an object of which sides show, but nothing below this height, stands on another
            one.
        lifted_share: so does a ball of which nothing shows below this share of its top's height.
        undercut_m: such an object goes on this far below what shows of it.
    """

    pixel_share: float = bounded(0.5, -2.0, 2.0)
    noise_share: float = bounded(0.3, 0.0, 3.0)
    agree_m: float = bounded(0.006, 0.0001, 0.1)
    tie: float = bounded(0.01, 0.0001, 1.0)
    patch_px: float = bounded(60.0, 1.0, 10_000.0)
    ball_residual: float = bounded(2.0, 0.1, 100.0)
    ball_largest_m: float = bounded(0.06, 0.001, 1.0)
    lifted_m: float = bounded(0.045, 0.0, 1.0)
    lifted_share: float = bounded(0.66, 0.0, 1.0)
    undercut_m: float = bounded(0.015, 0.0, 0.2)


class Patch(Protocol):
    """What one view shows of an object; a ``Segment`` is one.

    Attributes:
        points: (N, 3) float32 world points, m.
        noise_m: standard deviation of the view's heights, m.
        pixel_m: edge of a pixel on the object, m.
    """

    @property
    def points(self) -> NDArray[np.float32]: ...

    @property
    def noise_m(self) -> float: ...

    @property
    def pixel_m(self) -> float: ...


def box_of(patches: Sequence[Patch], ball: bool, config: ShapeConfig) -> tuple[Array, float, Array]:
    """The upright box of what one or more views show, down to the table or to what it stands on.

    Args:
        patches: one for each view, none empty.
        ball: try a sphere.
        config: see :class:`ShapeConfig`.

    Returns:
        centre (3,) m, yaw rad in [-pi/2, pi/2) of the longer horizontal edge from the world's x,
        and dimensions (3,) m: longer and shorter horizontal edge, height.
    """
    if ball:
        sphere = _sphere(patches, config)
        if sphere is not None:
            centre, radius = sphere
            return centre, 0.0, np.full(3, 2.0 * radius)
    middle, yaw, size = _rectangle(patches, config)
    top = max(top_of(patches, config), 0.001)
    base = base_of(patches, top, config)
    centre = np.array([middle[0], middle[1], 0.5 * (base + top)])
    return centre, yaw, np.array([size[0], size[1], top - base])


def base_of(patches: Sequence[Patch], top_m: float, config: ShapeConfig) -> float:
    """Height of what the object stands on, m; 0 for the table.

    Cameras that look from the side see an object's sides nearly down to its foot. If sides show but
    nothing low, it does not stand on the table, unless something as high hides all its foot.
    """
    low = _lowest(patches)
    side_m = max(config.undercut_m, 3.0 * max(patch.noise_m for patch in patches))
    return low - config.undercut_m if config.lifted_m < low < top_m - side_m else 0.0


def _lowest(patches: Sequence[Patch]) -> float:
    """Height, m, below which only 3 % of the points lie: a few may be another's."""
    z = np.concatenate([patch.points[:, 2] for patch in patches])
    few = len(z) * 3 // 100
    return float(np.partition(z, few)[few])


def top_of(patches: Sequence[Patch], config: ShapeConfig) -> float:
    """Height of the highest part, m, without what noise adds to it.

    The highest of n independent noisy heights lies above the mean by a known share of the
    deviation (Blom 1958); n follows from how much of the object is about as high.
    """
    tops, noises = [], []
    for patch in patches:
        z = patch.points[:, 2]
        spare = min(len(z) - 1, 3)
        highest = float(np.partition(z, len(z) - 1 - spare)[len(z) - 1 - spare])
        top = highest
        for window in (3.0, 2.0):
            alike = float((z > top - window * patch.noise_m).sum())
            n = max(1.0, alike / config.patch_px)
            top = highest - patch.noise_m * NormalDist().inv_cdf((n - 0.375) / (n + 0.25))
        tops.append(top)
        noises.append(patch.noise_m)
    return float(_agreed(np.array(tops)[:, None], patches, config.agree_m + 2.0 * max(noises))[0])


def _agreed(values: Array, patches: Sequence[Patch], agree_m: float) -> Array:
    """(M,) of (views, M): the mean over views that are near the largest, sharper ones first."""
    weight = np.clip(1.0 - (values.max(axis=0) - values) / agree_m, 0.0, 1.0)
    weight /= np.array([[p.noise_m**2 + p.pixel_m**2] for p in patches])
    return np.asarray((weight * values).sum(axis=0) / weight.sum(axis=0))


def _rectangle(patches: Sequence[Patch], config: ShapeConfig) -> tuple[Array, float, Array]:
    """Middle (2,), yaw and edges (2,) of the rectangle of least area around the outline."""
    middle = np.mean([p.points[:, :2].mean(axis=0) for p in patches], axis=0).astype(np.float64)
    reach = np.empty((len(patches), 360))
    for row, patch in enumerate(patches):
        # In mm: OpenCV's float32 hull loses digits on coordinates far below 1.
        xy = ((patch.points[:, :2] - middle) * 1000.0).astype(np.float32)
        hull = cv2.convexHull(xy).reshape(-1, 2).astype(np.float64) / 1000.0
        grown = config.pixel_share * patch.pixel_m - config.noise_share * patch.noise_m
        reach[row] = (hull @ _DIRECTIONS).max(axis=0) + grown
    outline = _agreed(reach, patches, config.agree_m)
    span = np.maximum(outline[:180] + outline[180:], 1e-4)
    along, across = span[:90], span[90:]
    area = along * across
    best = int(np.argmin(area))
    # Rectangles in several directions can be about as small: noise must not choose the centre.
    weight = np.exp(-(area / area[best] - 1.0) / config.tie)
    shift = 0.5 * (outline[:180] - outline[180:])
    directions = _DIRECTIONS.T[:180]
    centres = shift[:90, None] * directions[:90] + shift[90:, None] * directions[90:]
    middle = middle + (weight[:, None] * centres).sum(axis=0) / weight.sum()
    size = np.array([along[best], across[best]])
    yaw = math.radians(best)
    if size[1] > size[0]:
        size, yaw = size[::-1], yaw + math.pi / 2
    return middle, (yaw + math.pi / 2) % math.pi - math.pi / 2, size


def _sphere(patches: Sequence[Patch], config: ShapeConfig) -> tuple[Array, float] | None:
    """Centre (3,) and radius of a ball on the table or on something; None if this is no ball."""
    points = np.concatenate([p.points[:: max(1, len(p.points) // 300)] for p in patches])
    points = points.astype(np.float64)
    top = float(np.quantile(points[:, 2], 0.95))
    lowest = _lowest(patches)
    lifted = lowest > config.lifted_share * top
    # On the table the height is the radius, elsewhere one more unknown.
    radius = max(top - lowest if lifted else 0.5 * top, 0.005)
    x, y = np.median(points[:, :2], axis=0)
    z = top - radius if lifted else radius
    kept = np.ones(len(points), bool)
    for _ in range(6):
        away = points - [x, y, z]
        distance = np.maximum(np.linalg.norm(away, axis=1), 1e-6)
        residual = distance - radius
        kept = np.abs(residual) < max(3.0 * middle_of(np.abs(residual)), 0.002)
        slope = -np.column_stack([away / distance[:, None], np.ones(len(away))])[kept]
        if not lifted:
            slope = np.column_stack([slope[:, :2], slope[:, 2] + slope[:, 3]])
        square = slope.T @ slope + 1e-6 * np.eye(slope.shape[1])
        step = np.linalg.solve(square, -slope.T @ residual[kept])
        x, y, radius = x + step[0], y + step[1], radius + step[-1]
        z = z + step[2] if lifted else radius
        if not 0.003 < radius < 2.0 * config.ball_largest_m:
            return None
    noise = max(p.noise_m for p in patches)
    fits = middle_of(np.abs(residual)) < 0.6745 * config.ball_residual * max(noise, 0.001)
    if not fits or kept.mean() < 0.7 or radius > config.ball_largest_m or z < radius - 0.01:
        return None
    return np.array([x, y, z]), float(radius)
