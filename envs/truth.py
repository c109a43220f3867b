"""Perception with the truth: heights by rays through the exact shapes, objects from the simulator.

Implements the ``Perception`` protocol. What it returns no real robot could know; results that used
it say ``sensing: truth``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from envs.world import World
from perception.oriented_box import oriented_box
from robot.geometry import quat_from_axis_angle, yaw_between
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


class TruthWatch:
    """Where an object that moves over the table really is, as late and as rarely as cameras say.

    Args:
        world: where it is; its objects' ids are those of the objects that are watched.
        period_s: from one sight to the next.
        latency_s: from a sight to its state.
    """

    def __init__(self, world: World, period_s: float = 0.2, latency_s: float = 0.1) -> None:
        self.world = world
        self.period_s = period_s
        self.latency_s = latency_s

    def begin(self, look: Look | None, obj: ObjectState, now_s: float) -> None:
        """Watch an object; ``obj`` is its state now."""
        self._first = obj
        self._start = self.world.pose(obj.object_id)
        self._next_s = now_s + self.period_s
        self._pending: ObjectState | None = None

    def read(self, now_s: float) -> ObjectState | None:
        """Its newest state, once for each sight."""
        if now_s + 1e-9 >= self._next_s:
            self._next_s += self.period_s
            self._pending = self._state(now_s)
        pending = self._pending
        if pending is None or now_s + 1e-9 < pending.stamp_s + self.latency_s:
            return None
        self._pending = None
        return pending

    def _state(self, now_s: float) -> ObjectState:
        here = self.world.pose(self._first.object_id)
        turn = yaw_between(self._start.rotation, here.rotation)
        moved = self._first.X_world_obj.turned(turn, self._start.position_m, here.position_m)
        return replace(self._first, X_world_obj=moved, stamp_s=now_s)
