"""The true points of a simulated object, from its collision shape."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.bullet import pybullet
from envs.world import World
from robot.geometry import matrix_from_quat

Array = NDArray[np.float64]


def vertices(world: World, body_id: int) -> Array:
    """(N, 3) world points, m, whose convex hull is that of the object's collision shapes."""
    pose = world.pose(body_id)
    key = "vertices_m"
    extra: dict[str, Any] = world.bodies[body_id].extra
    if key not in extra:
        shapes = [_shape_points(shape) for shape in world.solids(body_id)]
        extra[key] = np.concatenate(shapes)
    return pose.transform(extra[key])


def _shape_points(shape: Any) -> Array:
    _, _, kind, dims, file, position, quat = shape[:7]
    if kind == pybullet.GEOM_MESH:
        points = _mesh_points(Path(file.decode())) * np.asarray(dims)
    elif kind == pybullet.GEOM_BOX:
        corners = np.array(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5])).reshape(3, -1).T
        points = corners * np.asarray(dims)
    elif kind == pybullet.GEOM_SPHERE:
        points = _sphere_directions() * dims[0]
    else:  # cylinder or capsule: (height, radius, 0)
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        circle = np.column_stack([np.cos(angle), np.sin(angle)]) * dims[1]
        ends = [np.column_stack([circle, np.full(48, z)]) for z in (-dims[0] / 2, dims[0] / 2)]
        points = np.concatenate(ends)
    return np.asarray(points @ matrix_from_quat(np.array(quat)).T + np.array(position))


@lru_cache(maxsize=1100)
def _mesh_points(path: Path) -> Array:
    """(N, 3) vertices of an OBJ file, in its own unit."""
    rows = [line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v ")]
    return np.array(rows, dtype=np.float64)


@lru_cache(maxsize=1)
def _sphere_directions() -> Array:
    """(400, 3) nearly even unit vectors (Fibonacci lattice)."""
    i = np.arange(400) + 0.5
    z, turn = 1 - i / 200, i * np.pi * (1 + 5**0.5)
    radius = np.sqrt(1 - z**2)
    return np.column_stack([radius * np.cos(turn), radius * np.sin(turn), z])
