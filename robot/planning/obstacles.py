"""What the arm must keep clear of: boxes, and height maps made into few boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robot.errors import PlanningError
from robot.types import GraspCandidate, HeightMap, ObjectState, Pose

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Box:
    """A solid box that stands upright in the world frame.

    Attributes:
        center_m: (3,) its centre, m.
        size_m: (3,) full edge lengths along its own axes, m.
        yaw_rad: turn about the world's z.
        name: what it is called in messages.
    """

    center_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    yaw_rad: float = 0.0
    name: str = "box"

    def __post_init__(self) -> None:
        values = [*self.center_m, *self.size_m, self.yaw_rad]
        if len(values) != 7 or not np.isfinite(values).all():
            raise PlanningError(f"Box {self.name!r}: expected 3 + 3 + 1 finite numbers: {values}")
        if min(self.size_m) <= 0:
            raise PlanningError(f"Box {self.name!r}: edges must be above 0 m: {self.size_m}")

    @property
    def rotation(self) -> Array:
        """(3, 3) world rotation."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])

    @property
    def bottom_m(self) -> float:
        """Height of its underside."""
        return self.center_m[2] - 0.5 * self.size_m[2]

    @property
    def top_m(self) -> float:
        """Height of its upper side."""
        return self.center_m[2] + 0.5 * self.size_m[2]

    def cut(self, top_m: float) -> Box:
        """What of it is no higher than ``top_m``, which is above its underside."""
        if self.top_m <= top_m:
            return self
        (x, y, _), (along, across, _) = self.center_m, self.size_m
        middle_m, height_m = 0.5 * (self.bottom_m + top_m), top_m - self.bottom_m
        return replace(self, center_m=(x, y, middle_m), size_m=(along, across, height_m))

    def covers(self, x_m: Array, y_m: Array, beside_m: float = 0.0) -> NDArray[np.bool_]:
        """Whether points of the table's plane lie in the footprint, or at most so far beside it.

        Args:
            x_m: in the world, an array of any shape.
            y_m: of the same shape.
            beside_m: how far, along each of the box's axes.
        """
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        dx, dy = x_m - self.center_m[0], y_m - self.center_m[1]
        along, across = c * dx + s * dy, c * dy - s * dx
        half = (0.5 * self.size_m[0] + beside_m, 0.5 * self.size_m[1] + beside_m)
        return np.asarray((np.abs(along) <= half[0]) & (np.abs(across) <= half[1]))


@dataclass(frozen=True, slots=True)
class HeldBox:
    """What the hand holds, as a box that moves with the tool.

    Attributes:
        size_m: (3,) full edge lengths along its own axes, m.
        X_tool_box: its centre and axes.
    """

    size_m: tuple[float, float, float]
    X_tool_box: Pose

    @classmethod
    def between(cls, grasp: GraspCandidate, obj: ObjectState) -> HeldBox:
        """An object in a grasp that was meant for it where it was seen."""
        tool, seen = grasp.X_world_grasp, obj.X_world_obj
        X_world_tool = Pose("world", "tool0", tool.position_m, tool.quat_xyzw)
        X_world_box = Pose("world", "obj", seen.position_m, seen.quat_xyzw)
        x, y, z = np.maximum(obj.dimensions_m, 0.005).tolist()
        return cls((x, y, z), X_world_tool.inverse() @ X_world_box)


def tray_walls(
    center_xy_m: tuple[float, float],
    outer_m: tuple[float, float],
    height_m: float,
    thickness_m: float = 0.01,
    name: str = "tray",
) -> list[Box]:
    """The four walls of an open tray that stands on the table, sides along the world's axes.

    Args:
        center_xy_m: its middle on the table, m.
        outer_m: outer edge lengths along x and y, m.
        height_m: of the walls.
        thickness_m: of the walls, within the outer edges.
        name: begins the names of the walls.
    """
    (cx, cy), (lx, ly), t, z = center_xy_m, outer_m, thickness_m, 0.5 * height_m
    dx, dy = 0.5 * (lx - t), 0.5 * (ly - t)
    return [
        Box((cx - dx, cy, z), (t, ly, height_m), name=f"{name} wall -x"),
        Box((cx + dx, cy, z), (t, ly, height_m), name=f"{name} wall +x"),
        Box((cx, cy - dy, z), (lx, t, height_m), name=f"{name} wall -y"),
        Box((cx, cy + dy, z), (lx, t, height_m), name=f"{name} wall +y"),
    ]


def columns(
    height_map: HeightMap,
    block_m: float = 0.015,
    lowest_m: float = 0.01,
    similar_m: float = 0.02,
    cleared: tuple[Box, ...] = (),
) -> list[Box]:
    """Boxes that stand on the table and hold all that a height map shows.

    Cells are gathered into square blocks as high as their highest cell, and neighbouring blocks
    of similar height into rectangles, greedily. Every cell higher than ``lowest_m`` lies inside
    a box at least as high as itself; a box is at most ``similar_m`` higher than any of its blocks.

    Args:
        height_map: heights over the table.
        block_m: edge of a block, rounded to whole cells, m.
        lowest_m: what is not higher than this counts as table, m.
        similar_m: spread of heights within one rectangle, m.
        cleared: cells in the footprints of these boxes count as table (a held object, say).
    """
    res = height_map.resolution_m
    height = np.array(height_map.height_m, dtype=np.float64)
    ox, oy = (float(v) for v in height_map.origin_m)
    if cleared:
        x = ox + res * np.arange(height.shape[0])[:, None] + np.zeros(height.shape)
        y = oy + res * np.arange(height.shape[1])[None, :] + np.zeros(height.shape)
        for box in cleared:
            height[box.covers(x, y)] = 0.0
    k = max(1, round(block_m / res))
    nx, ny = -(-height.shape[0] // k), -(-height.shape[1] // k)
    padded = np.zeros((nx * k, ny * k))
    padded[: height.shape[0], : height.shape[1]] = height
    block = padded.reshape(nx, k, ny, k).max(axis=(1, 3))

    boxes = []
    free = block > lowest_m
    for i, j in np.argwhere(free):
        if not free[i, j]:
            continue
        rows, cols = 1, 1
        while j + cols < ny and _fits(block, free, i, j, rows, cols + 1, similar_m):
            cols += 1
        while i + rows < nx and _fits(block, free, i, j, rows + 1, cols, similar_m):
            rows += 1
        part = (slice(i, i + rows), slice(j, j + cols))
        free[part] = False
        top = float(block[part].max())
        # Cell centres sit on the grid points, so a block begins half a cell before its first.
        lx, ly = rows * k * res, cols * k * res
        cx, cy = ox + (i * k - 0.5) * res + 0.5 * lx, oy + (j * k - 0.5) * res + 0.5 * ly
        name = f"column at ({cx:.2f}, {cy:.2f})"
        boxes.append(Box((float(cx), float(cy), 0.5 * top), (lx, ly, top), name=name))
    return boxes


def _fits(
    block: Array, free: NDArray[np.bool_], i: int, j: int, rows: int, cols: int, similar_m: float
) -> bool:
    part = (slice(i, i + rows), slice(j, j + cols))
    return bool(free[part].all()) and float(np.ptp(block[part])) <= similar_m
