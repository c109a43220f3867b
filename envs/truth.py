"""Perception with the truth: heights by rays through the exact shapes, objects from the simulator.

Implements the ``Perception`` protocol. What it returns no real robot could know; results that used
it say ``sensing: truth``.
"""

from __future__ import annotations

import numpy as np

from envs.world import World
from perception.oriented_box import oriented_box
from robot.geometry import quat_from_axis_angle
from robot.types import HeightMap, Look, ObjectState, Pose

RESOLUTION_M = 0.003


class TruthPerception:
    """Looks at a world and sees it as it is.

    Args:
        world: what is looked at; its arm must be above ``top_m``.
        top_m: where the rays start.
    """

    def __init__(self, world: World, top_m: float = 0.42) -> None:
        self.world = world
        self.top_m = top_m

    def look(self) -> Look:
        """Heights around all objects on the table, and each object's oriented box."""
        world = self.world
        bodies = [b for b in world.bodies if world.in_workspace(b)]
        stamp_s = world.time_s
        if not bodies:
            empty = np.zeros((2, 2), dtype=np.float32)
            grid = HeightMap(np.array([0.5, 0.0]), RESOLUTION_M, empty, empty == 0, stamp_s)
            return Look((), grid, stamp_s, "truth")
        corners = [world.aabb(b) for b in bodies]
        margin = 0.03
        lower = np.min([c[0] for c in corners], axis=0)[:2] - margin
        upper = np.max([c[1] for c in corners], axis=0)[:2] + margin
        lower = np.floor(lower / RESOLUTION_M) * RESOLUTION_M
        shape = np.ceil((upper - lower) / RESOLUTION_M).astype(int) + 1
        cells = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
        xy = lower + RESOLUTION_M * cells.reshape(-1, 2)
        heights, hit = world.ray_heights(xy, self.top_m)
        # Everything that is not one of the objects (the tray's rim, say) counts as table.
        heights = heights.reshape(shape)
        hit = hit.reshape(shape)
        grid = HeightMap(lower, RESOLUTION_M, heights, np.ones(shape, dtype=bool), stamp_s)
        objects = []
        for body in bodies:
            where = np.argwhere(hit == body)
            if not len(where):  # wholly under another one
                continue
            objects.append(self._state(body, lower + RESOLUTION_M * where, stamp_s))
        return Look(tuple(objects), grid, stamp_s, "truth")

    def _state(self, body: int, xy: np.ndarray, stamp_s: float) -> ObjectState:
        lower, upper = self.world.aabb(body)
        bottom = max(float(lower[2]), 0.0)
        centre, yaw, size = oriented_box(np.column_stack([xy, np.zeros(len(xy))]))
        linear, _ = self.world.velocity(body)
        pose = Pose(
            "world",
            f"object_{body}",
            np.array([centre[0], centre[1], 0.5 * (bottom + upper[2])]),
            quat_from_axis_angle(np.array([0.0, 0.0, 1.0]), yaw),
        )
        # A cell is seen at its centre; the object reaches half a cell beyond on each side.
        dims = np.array([size[0] + RESOLUTION_M, size[1] + RESOLUTION_M, upper[2] - bottom])
        model = self.world.bodies[body].model
        moving = bool(np.linalg.norm(linear) > 0.02)
        return ObjectState(body, model.class_name, pose, dims, 1.0, moving, stamp_s)
