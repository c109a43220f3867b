"""Convex hulls: one for all solids of a link gives the collision check a quick first answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import coal
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

Array = NDArray[np.float64]

_DIRECTIONS_N = 42


def enclosing_hull(corners_m: Sequence[Array]) -> coal.Convex:
    """A convex solid that holds all points of all arrays (n, 3), m."""
    points = np.concatenate(corners_m)
    return convex(points[ConvexHull(points).vertices])


def convex(points_m: Array) -> coal.Convex:
    """The convex hull of points (n, 3), m."""
    vertices = coal.StdVec_Vec3s()
    for point in points_m:
        vertices.append(point)
    return coal.Convex.convexHull(vertices, False, None)


def _ball() -> Array:
    """(n, 3) corners of a polyhedron that holds the unit ball."""
    # A Fibonacci lattice spreads directions evenly; the innermost face decides the scale.
    i = np.arange(_DIRECTIONS_N) + 0.5
    z = 1.0 - 2.0 * i / _DIRECTIONS_N
    turn = i * math.pi * (1.0 + math.sqrt(5.0))
    rim = np.sqrt(1.0 - z**2)
    corners = np.column_stack([rim * np.cos(turn), rim * np.sin(turn), z])
    inner = float(np.abs(ConvexHull(corners).equations[:, 3]).min())
    return np.asarray(corners / inner)


UNIT_BALL = _ball()
"""(n, 3) corners of a polyhedron that holds the ball of radius 1."""
