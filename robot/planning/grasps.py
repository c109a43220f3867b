"""Grasp candidates from a height map: top-down, antipodal, clear of everything around.

For many points on the objects and many closing directions the heights along the closing line are
read from the map. Where the object is narrow enough to fit between the fingers, where the fingers
find free space on both sides down to their tips, and where the palm stays above all that lies
under it, there is a candidate. Its score prefers sides that face each other, grips near the
object's middle, and depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from robot.geometry import grasp_rotation
from robot.limits import GripperLimits
from robot.planning.grips import GraspConfig, find_grips, quality
from robot.types import GraspCandidate, HeightMap, Look, ObjectState, Pose

Array = NDArray[np.float64]
Solid = Callable[[Array], NDArray[np.bool_]]


class GraspPlanner:
    """Proposes grasp candidates for what a look saw.

    Args:
        gripper: opening and fingertips of the hand.
        config: see :class:`GraspConfig`.
    """

    def __init__(self, gripper: GripperLimits, config: GraspConfig | None = None) -> None:
        self.config = config or GraspConfig()
        self.gripper = gripper

    def propose(
        self, look: Look, rng: np.random.Generator, solid: Solid | None = None
    ) -> list[GraspCandidate]:
        """Candidates, best first; an empty list where nothing can be gripped.

        Args:
            look: objects and heights.
            rng: chooses the points that are tried.
            solid: which of (n, 3) m belong to what is no object: a bin's walls.
        """
        grid = look.height_map
        standing = grid.height_m > self.config.min_height_m
        if solid is not None:
            cells = np.argwhere(standing)
            places = grid.origin_m + grid.resolution_m * cells
            standing[standing] = ~solid(np.column_stack((places, grid.height_m[standing])))
        cells = np.argwhere(standing)
        cells = cells[_on_an_object(look, grid.origin_m + grid.resolution_m * cells)]
        if not len(cells):
            return []
        if len(cells) > self.config.points_n:
            cells = cells[rng.choice(len(cells), self.config.points_n, replace=False)]
        yaws = np.arange(self.config.yaws_n) * math.pi / self.config.yaws_n
        yaws = yaws + rng.uniform(0, math.pi / self.config.yaws_n)
        for depth_m in (self.config.depth_m, self.config.shallow_m):
            found = find_grips(self.gripper, self.config, grid, cells, yaws, depth_m)
            if solid is not None:
                kept = ~solid(np.column_stack((found["xy"], found["z"])))
                found = {name: values[kept] for name, values in found.items()}
            candidates = self._spread(found, look, standing)
            if candidates:
                break
        return candidates

    def near(self, grid: HeightMap, candidate: GraspCandidate) -> Pose | None:
        """The best grip close to a candidate; None where there is none.

        Args:
            grid: heights in which the object is where it was when the candidate was chosen.
            candidate: perhaps a little off.
        """
        c = self.config
        here = candidate.X_world_grasp
        x_axis = here.rotation[:, 0]
        yaw = math.atan2(x_axis[1], x_axis[0])
        reach = math.ceil(c.near_m / grid.resolution_m)
        every = 2  # cells: finer than that its edges tell
        around = np.arange(-reach, reach + 1, every)
        cells = np.stack(np.meshgrid(around, around, indexing="ij"), axis=-1).reshape(-1, 2)
        cells = cells[np.hypot(cells[:, 0], cells[:, 1]) * grid.resolution_m <= c.near_m]
        cells += grid.cells_at(here.position_m[:2])
        cells = cells[((cells >= 0) & (cells < grid.height_m.shape)).all(axis=1)]
        cells = cells[grid.height_m[cells[:, 0], cells[:, 1]] > c.min_height_m]
        if not len(cells):
            return None
        turns = np.radians(np.linspace(-c.near_deg, c.near_deg, c.near_yaws_n))
        for depth_m in (c.depth_m, c.shallow_m):
            found = find_grips(self.gripper, c, grid, cells, yaw + turns, depth_m)
            off = np.linalg.norm(found["xy"] - here.position_m[:2], axis=1) / c.near_m
            turn = (found["yaw"] - yaw) / math.radians(c.near_deg)
            score = np.where(off <= 1.0, quality(c, found), -np.inf)
            score -= c.near_weight * (off**2 + turn**2)
            best = int(score.argmax()) if len(score) else -1
            if best >= 0 and np.isfinite(score[best]):
                rotation = grasp_rotation(float(found["yaw"][best]))
                at = (*found["xy"][best], found["z"][best])
                return Pose.from_matrix("world", "grasp", rotation, at)
        return None

    def _spread(
        self, found: dict[str, Array], look: Look, standing: NDArray[np.bool_]
    ) -> list[GraspCandidate]:
        """Score, then keep the best of each neighbourhood."""
        c = self.config
        xy, yaw = found["xy"], found["yaw"]
        if not len(xy):
            return []
        owner, middle = _owners(look, standing, xy)
        from_middle_m = np.linalg.norm(xy - middle, axis=1)
        score = quality(c, found) - c.centre_weight_per_m * from_middle_m
        chosen: list[int] = []
        left = np.argsort(-score)
        while len(left) and len(chosen) < c.keep_n:
            best, left = int(left[0]), left[1:]
            chosen.append(best)
            left = left[_apart(xy[left], yaw[left], xy[best], yaw[best])]
        return [
            GraspCandidate(
                Pose.from_matrix(
                    "world",
                    "grasp",
                    grasp_rotation(float(yaw[i])),
                    (xy[i, 0], xy[i, 1], found["z"][i]),
                ),
                float(found["width"][i]),
                float(found["opening"][i]),
                float(score[i]),
                int(owner[i]),
                look.stamp_s,
            )
            for i in chosen
        ]


def _owners(look: Look, standing: NDArray[np.bool_], xy: Array) -> tuple[NDArray[np.int64], Array]:
    """The object each point belongs to (-1: none) and that object's middle, (n, 2) m.

    Where no object's footprint holds the point, the middle is that of the connected heights
    where something is ``standing``.
    """
    grid = look.height_map
    mask = standing.astype(np.uint8)
    count, labels = cv2.connectedComponents(mask)
    cell = grid.cells_at(xy)
    cell = np.clip(cell, 0, np.array(labels.shape) - 1)
    label = labels[cell[:, 0], cell[:, 1]]
    middle = np.array(xy)
    # The mean of each heap's cells, weighted by height.
    rows, columns = np.nonzero(mask)
    heap, weight = labels[rows, columns], grid.height_m[rows, columns].astype(np.float64)
    total = np.maximum(np.bincount(heap, weight, count), 1e-12)
    mean = np.column_stack([np.bincount(heap, weight * k, count) / total for k in (rows, columns)])
    held = label > 0
    middle[held] = grid.origin_m + grid.resolution_m * mean[label[held]]
    owner = np.full(len(xy), -1)
    best = np.full(len(xy), np.inf)
    several = len(look.objects) > 1
    for obj in look.objects:
        distance = np.linalg.norm(xy - obj.X_world_obj.position_m[:2], axis=1)
        better = _in_footprint(obj, xy) & (distance < best)
        owner[better] = obj.object_id
        best[better] = distance[better]
        if several:
            middle[better] = obj.X_world_obj.position_m[:2]
    return owner, middle


def _on_an_object(look: Look, xy: Array) -> NDArray[np.bool_]:
    """Which points lie on what was recognised as an object, rather than on clutter of the map."""
    on = np.zeros(len(xy), dtype=bool)
    for obj in look.objects:
        on |= _in_footprint(obj, xy)
    return on


def _in_footprint(obj: ObjectState, xy: Array) -> NDArray[np.bool_]:
    """Which of (n, 2) m lie on an object or at most 1 cm beside it."""
    u, v = obj.X_world_obj.rotation[:2, :2].T @ (xy - obj.X_world_obj.position_m[:2]).T
    half = 0.5 * obj.dimensions_m[:2] + 0.01
    return np.asarray((np.abs(u) <= half[0]) & (np.abs(v) <= half[1]))


def _apart(xy: Array, yaw: Array, xy_best: Array, yaw_best: float) -> NDArray[np.bool_]:
    """Which of (n, 2) m and (n,) rad grips differ enough from another to be worth trying too."""
    turn = np.abs((yaw - yaw_best + math.pi / 2) % math.pi - math.pi / 2)
    far = np.hypot(xy[:, 0] - xy_best[0], xy[:, 1] - xy_best[1]) > 0.012
    return np.asarray(far | (turn > math.radians(20)))
