"""Where on a height map the fingers can close, and how good such a grip is by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.limits import GripperLimits
from robot.types import HeightMap

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GraspConfig:
    """How candidates are sought and rated; the hand's sizes are the Franka Hand's.

    Attributes:
        points_n: points on the objects that are tried.
        yaws_n: closing directions tried at each, over half a turn.
        min_height_m: lower things are taken for the table.
        depth_m: how far the tool frame goes below the top, where there is room.
        shallow_m: the same, tried where nothing was found at ``depth_m``.
        floor_m: the fingertips stay this far above the table.
        finger_thickness_m: of a finger along the closing direction.
        side_clearance_m: free space kept between a finger and anything on its way down.
        palm_m: palm's (breadth, length along the closing direction).
        palm_above_tool_m: from the tool frame up to the palm.
        max_width_m: widest grip.
        max_side_deg: sides that deviate more than this from facing each other are not tried.
        centre_weight_per_m: score lost for each metre from the object's middle.
        side_weight: score lost when the sides deviate by ``max_side_deg``.
        depth_weight_per_m: score won for each metre that the fingers reach below the top.
        width_weight_per_m: score lost for each metre of width.
        unseen_weight: score lost when all of the closing line was unseen.
        least_seen: share of what would be between the fingers that must have been seen: what the
            map only imagines is not gripped.
        keep_n: how many are kept, spread over place and direction.
        near_m: how far from a candidate a better grip is sought.
        near_deg: how much it may be turned.
        near_weight: score lost at that distance, and as much at that turn.
        near_yaws_n: closing directions tried there.
    """

    points_n: int = bounded(220, 1, 5000)
    yaws_n: int = bounded(16, 2, 180)
    min_height_m: float = bounded(0.004, 0.001, 0.1)
    depth_m: float = bounded(0.034, 0.005, 0.06)
    shallow_m: float = bounded(0.018, 0.002, 0.06)
    floor_m: float = bounded(0.0015, 0.0, 0.05)
    finger_thickness_m: float = bounded(0.015, 0.005, 0.05)
    side_clearance_m: float = bounded(0.005, 0.0, 0.03)
    palm_m: tuple[float, float] = (0.066, 0.210)
    palm_above_tool_m: float = bounded(0.040, 0.0, 0.2)
    max_width_m: float = bounded(0.070, 0.01, 0.2)
    max_side_deg: float = bounded(35.0, 5.0, 80.0)
    centre_weight_per_m: float = bounded(18.0, 0.0, 1000.0)
    side_weight: float = bounded(0.6, 0.0, 100.0)
    depth_weight_per_m: float = bounded(20.0, 0.0, 1000.0)
    width_weight_per_m: float = bounded(4.0, 0.0, 1000.0)
    unseen_weight: float = bounded(0.5, 0.0, 100.0)
    least_seen: float = bounded(0.75, 0.0, 1.0)
    keep_n: int = bounded(12, 1, 1000)
    near_m: float = bounded(0.026, 0.001, 0.1)
    near_deg: float = bounded(26.0, 1.0, 90.0)
    near_weight: float = bounded(0.8, 0.0, 100.0)
    near_yaws_n: int = bounded(9, 1, 180)


def find_grips(
    gripper: GripperLimits,
    config: GraspConfig,
    grid: HeightMap,
    cells: NDArray[np.int64],
    yaws: Array,
    depth_m: float,
) -> dict[str, Array]:
    """Examine each of (n, 2) cells with each yaw; returns arrays of those to be gripped."""
    c = config
    step = grid.resolution_m
    half = 0.5 * gripper.max_opening_m + c.max_width_m / 2 + c.finger_thickness_m
    reach = math.ceil(half / step)
    t: Array = np.arange(-reach, reach + 1, dtype=np.float64) * step
    s = np.linspace(-0.5, 0.5, 5) * gripper.finger_breadth_m
    along_of = np.column_stack([np.cos(yaws), np.sin(yaws)])  # x of the grasp frame
    across_of = np.column_stack([np.sin(yaws), -np.cos(yaws)])  # y: the closing direction
    mid = len(t) // 2
    near = max(1, round(0.004 / step))
    tip = gripper.fingertip_beyond_tool_m

    # The points are cells, so the same few steps lead from each to what its lines cross.
    steps = np.rint(_line(along_of, across_of, s, t) / step).astype(np.int64)
    margin = int(np.abs(steps).max(initial=0))
    flat = np.pad(grid.height_m, margin, mode="edge").ravel()
    breadth = grid.height_m.shape[1] + 2 * margin
    offset = steps[..., 0] * breadth + steps[..., 1]
    start = np.repeat((cells[:, 0] + margin) * breadth + cells[:, 1] + margin, len(yaws))
    turn = np.tile(np.arange(len(yaws)), len(cells))

    def read(values: NDArray[Any], lines: NDArray[np.int64]) -> NDArray[Any]:
        lines = lines.take(turn, axis=0)
        lines += start[:, None, None]
        return values.take(lines)

    top = read(flat, offset[:, :, mid - near : mid + near + 1]).max(axis=(1, 2))
    z_tool = np.maximum(top - depth_m, tip + c.floor_m)
    # The slice that the pads press on, a little above the tips.
    level = np.minimum(z_tool, np.maximum(top - 0.004, 0.5 * top))
    # Most are too wide already in the middle row: only the others are worth all rows.
    middle = read(flat, offset[:, 2:3]) > level[:, None, None]
    left, right = _run_edges(middle, mid)
    narrow = (right - left + 1)[:, 0] * step <= c.max_width_m
    start, turn = start[narrow], turn[narrow]
    top, z_tool, level = top[narrow], z_tool[narrow], level[narrow]
    height = read(flat, offset)  # (n, strip, line)
    column_top = height.max(axis=1)
    z_tip = z_tool - tip
    inside = height > level[:, None, None]
    # Each row's run of object through the middle: from edge to edge.
    left, right = _run_edges(inside, mid)
    row_ok = inside[:, :, mid]
    rows = row_ok.sum(axis=1)
    big = len(t)
    lo = np.where(row_ok, left, big).min(axis=1)
    hi = np.where(row_ok, right, -1).max(axis=1)
    width = (hi - lo + 1) * step
    centre = 0.5 * (hi + lo)  # in samples along the line
    # Free space beyond the edges, down to the tips.
    blocked = column_top > np.maximum(z_tip - 0.002, 0.001)[:, None]
    index = np.arange(big)
    lower = np.where(blocked & (index < lo[:, None]), index, -1).max(axis=1)
    upper = np.where(blocked & (index > hi[:, None]), index, big).min(axis=1)
    free = np.minimum(lo - lower - 1, upper - hi - 1) * step
    room = free - c.finger_thickness_m
    opening = np.minimum(width + 2 * np.minimum(room, 1.0), gripper.max_opening_m)

    side = _side_angle(left, right, row_ok, s, step)
    ok = (
        (rows >= 3)
        & (width <= c.max_width_m)
        & (room >= c.side_clearance_m)
        & (opening >= width + 2 * c.side_clearance_m)
        & (top > c.min_height_m)
        & (side <= math.radians(c.max_side_deg))
    )
    keep = np.flatnonzero(ok)
    at = np.column_stack(np.divmod(start[keep], breadth)) - margin
    along, across, yaw = along_of[turn[keep]], across_of[turn[keep]], yaws[turn[keep]]
    xy_grip = grid.origin_m + step * at + across * ((centre[keep] - mid) * step)[:, None]
    palm_ok = _palm_clear(config, grid, xy_grip, along, across, z_tool[keep])
    keep, xy_grip, yaw = keep[palm_ok], xy_grip[palm_ok], yaw[palm_ok]
    start, turn = start[keep], turn[keep]
    between = (index >= lo[keep, None]) & (index <= hi[keep, None])
    seen = read(np.pad(grid.seen, margin, mode="edge").ravel(), offset)
    seen_share = (seen.sum(axis=1) * between).sum(axis=1) / (len(s) * between.sum(axis=1))
    known = seen_share >= c.least_seen
    keep, xy_grip, yaw = keep[known], xy_grip[known], yaw[known]
    z_grip = z_tool[keep]
    return {
        "xy": xy_grip,
        "z": z_grip,
        "yaw": yaw,
        "width": width[keep],
        "opening": opening[keep],
        "side": side[keep],
        "depth": np.minimum(top[keep] - (z_grip - tip), depth_m + tip),
        "fill": rows[keep] / len(s),
        "seen": seen_share[known],
    }


def quality(config: GraspConfig, found: dict[str, Array]) -> Array:
    """(n,) how good grips are by themselves."""
    c = config
    out: Array = (
        1.0
        - c.side_weight * found["side"] / math.radians(c.max_side_deg)
        + c.depth_weight_per_m * found["depth"]
        - c.width_weight_per_m * found["width"]
        + 0.5 * found["fill"]
        - c.unseen_weight * (1 - found["seen"])
    )
    return out


def _palm_clear(
    config: GraspConfig, grid: HeightMap, xy: Array, along: Array, across: Array, z_tool: Array
) -> NDArray[np.bool_]:
    if not len(xy):
        return np.zeros(0, dtype=bool)
    breadth, length = config.palm_m
    reach = 0.012
    a = np.linspace(-0.5, 0.5, 4) * (breadth - 2 * reach)
    b = np.linspace(-0.5, 0.5, 10) * (length - 2 * reach)
    k = 2 * math.ceil(reach / grid.resolution_m) + 1
    highest = np.asarray(cv2.dilate(grid.height_m, np.ones((k, k), np.uint8)), np.float32)
    height = highest.ravel()[_cells(grid, xy, along, across, a, b)]
    return np.asarray(height.max(axis=(1, 2)) < z_tool + config.palm_above_tool_m - 0.003)


def _line(along: Array, across: Array, s: Array, t: Array) -> Array:
    """``s * along + t * across``, (n, len(s), len(t), 2), of ``along, across`` (n, 2)."""
    return along[:, None, None] * s[:, None, None] + across[:, None, None] * t[:, None]


def _cells(
    grid: HeightMap, p: Array, along: Array, across: Array, s: Array, t: Array
) -> NDArray[np.int64]:
    """Nearest cells, as flat indices (n, len(s), len(t)), of ``p + s * along + t * across``.

    ``p, along, across`` are (n, 2); what lies outside the map takes the nearest cell at its edge.
    """
    size = grid.height_m.shape
    at = _line(along, across, s, t) + (p - grid.origin_m)[:, None, None]
    i, j = np.moveaxis(np.rint(at / grid.resolution_m).astype(np.int64), -1, 0)
    return np.asarray(np.clip(i, 0, size[0] - 1) * size[1] + np.clip(j, 0, size[1] - 1))


def _run_edges(inside: NDArray[np.bool_], mid: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last index of each row's run of True through ``mid`` (along the last axis)."""
    left = mid - np.argmin(
        np.concatenate([inside[..., mid::-1], np.zeros_like(inside[..., :1])], axis=-1), axis=-1
    )
    right = mid + np.argmin(
        np.concatenate([inside[..., mid:], np.zeros_like(inside[..., :1])], axis=-1), axis=-1
    )
    return left + 1, right - 1


def _side_angle(
    left: NDArray[np.int64], right: NDArray[np.int64], valid: NDArray[np.bool_], s: Array,
    step: float,
) -> Array:  # fmt: skip
    """(n,) rad: how far the worse of the two sides deviates from facing the closing direction."""
    weight = valid.astype(float)
    total = np.maximum(weight.sum(axis=1), 1.0)
    mean_s = (weight * s).sum(axis=1) / total
    ds = (s - mean_s[:, None]) * weight
    spread = np.maximum((ds**2).sum(axis=1), 1e-12)
    worst = np.zeros(len(left))
    for edge in (left, right):
        slope = (ds * edge * step).sum(axis=1) / spread
        worst = np.maximum(worst, np.abs(np.arctan(slope)))
    return worst
