"""The upright oriented box around points: the one definition for measurement and for truth."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def oriented_box(points_m: NDArray[Any], trim: float = 0.0) -> tuple[Array, float, Array]:
    """The upright box around points.

    Its base is the rectangle of least area around the points in x and y.

    Args:
        points_m: (N, 3) world points, m, N >= 1.
        trim: share of the points that may stick out at each side, so that noise does not set the
            size.

    Returns:
        centre (3,) m, yaw rad in [-pi/2, pi/2) of the longer horizontal edge from the world's x,
        and dimensions (3,) m: longer and shorter horizontal edge, height.
    """
    points = np.asarray(points_m, dtype=np.float64)
    xy = points[:, :2]
    # In mm about the middle: OpenCV's float32 rectangle loses digits on coordinates far below 1.
    middle = xy.mean(axis=0)
    hull = cv2.convexHull(((xy - middle) * 1000.0).astype(np.float32))
    _, _, degrees = cv2.minAreaRect(hull)
    yaw = math.radians(degrees)
    axes = np.array([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]])
    along = (xy - middle) @ axes.T
    low, high = np.quantile(along, [trim, 1.0 - trim], axis=0)
    size = high - low
    centre_xy = middle + 0.5 * (low + high) @ axes
    if size[1] > size[0]:
        size, yaw = size[::-1], yaw + math.pi / 2
    yaw = (yaw + math.pi / 2) % math.pi - math.pi / 2
    z_low, z_high = np.quantile(points[:, 2], [trim, 1.0 - trim])
    centre = np.array([*centre_xy, 0.5 * (z_low + z_high)])
    return centre, yaw, np.array([*size, z_high - z_low])
