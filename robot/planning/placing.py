"""Where in the tray to let go of what is held, and the way there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.errors import PlanningError
from robot.geometry import grasp_rotation
from robot.kinematics import Kinematics
from robot.planning.collision import CollisionChecker
from robot.planning.obstacles import Box, HeldBox, tray_walls
from robot.planning.paths import PathPlanner
from robot.planning.posture import WELL_CONDITIONED, elbow_aside
from robot.planning.scene import SceneModel
from robot.types import GraspCandidate, Look, ObjectState, Pose, Trajectory

Array = NDArray[np.float64]

_RISE_M = (0.04, 0.08, 0.12)
"""The hand leaves the tray straight up; looked at there."""
_SPOTS_M = ((0.06, 0.03), (-0.06, -0.03), (0.06, -0.03), (-0.06, 0.03))
"""From the tray's middle, in turn, so that objects do not pile up in one place."""
_SPEED_SCALE = 0.8
_PASSED_M = 0.02
"""What is carried is let go no lower than this above what was put down before."""

_FLAT_M = 0.005
"""Nothing that was put down is lower, however low the tray."""


@dataclass(frozen=True)
class TrayConfig:
    """The put-away tray.

    Attributes:
        centre_m: its middle, world x, y.
        size_m: its outer edges along x, y.
        wall_m: height of its walls.
        release_above_wall_m: the object's lowest point is let go so far above the walls.
    """

    centre_m: tuple[float, float] = (0.15, -0.48)
    size_m: tuple[float, float] = (0.36, 0.26)
    wall_m: float = bounded(0.06, 0.0, 0.5)
    release_above_wall_m: float = bounded(0.04, 0.0, 0.3)

    @property
    def walls(self) -> list[Box]:
        """The tray, as what the arm keeps clear of."""
        return tray_walls(self.centre_m, self.size_m, self.wall_m)


class PlacePlanner:
    """Plans the way of a held object into the tray.

    Args:
        kinematics: of the arm.
        checker: holds the scene; a held object is attached while a path is sought.
        paths: finds paths.
        around: the scene; knows what was put down.
        config: the tray.
    """

    def __init__(
        self,
        kinematics: Kinematics,
        checker: CollisionChecker,
        paths: PathPlanner,
        around: SceneModel,
        config: TrayConfig,
    ) -> None:
        self.config = config
        #: What lies in the tray is passed at this height by what is let go at the usual one.
        self.passed_m = max(config.wall_m + config.release_above_wall_m - _PASSED_M, _FLAT_M)
        self._kinematics = kinematics
        self._checker = checker
        self._paths = paths
        self._around = around

    def path(
        self, q: Array, candidate: GraspCandidate, obj: ObjectState | None, look: Look | None
    ) -> Trajectory:
        """From joints (n,) rad, at the top of the lift, to over the tray.

        What was put down before may stand upright, and may have rolled anywhere in the tray: so it
        is first kept clear of at its full height, and what is held is let go above all of it. That
        height and the held object's box are upper bounds: where they bar every way, what was put
        down counts as no higher than ``passed_m``, as it would tip over, and then the hand goes
        without what it holds.

        Args:
            q: where the arm stands.
            candidate: the grasp that holds.
            obj: what is held, as it was seen before; None where it is unknown.
            look: what the cameras saw.

        Raises:
            PlanningError: no way round the hand reaches the tray on a free path.
        """
        c, there = self.config, self._around.put_down
        low_m = c.wall_m + c.release_above_wall_m
        high_m = max((box.top_m + _PASSED_M for box in there), default=0.0)
        tries = [(self.passed_m, low_m, obj)]
        if high_m > low_m:
            tries.insert(0, (math.inf, high_m, obj))
        if obj is not None:
            tries.append((self.passed_m, low_m, None))
        problem = PlanningError("tray: out of reach")
        for highest_m, release_m, held in tries:
            self._around.show(look, candidate, highest_m)
            try:
                goals = self._goals(q, candidate, release_m, len(there))
                return self._path(q, goals, candidate, held)
            except PlanningError as error:
                problem = error
        raise problem

    def _path(
        self, q: Array, goals: Sequence[Array], candidate: GraspCandidate, obj: ObjectState | None
    ) -> Trajectory:
        """To the first of the ``goals`` that a free path leads to."""
        problem = PlanningError("tray: out of reach")
        if obj is not None:
            held = HeldBox.between(candidate, obj)
            self._checker.attach_box(held.size_m, held.X_tool_box)
        try:
            for goal in goals:
                try:
                    return self._paths.to_joints(q, goal, speed_scale=_SPEED_SCALE)
                except PlanningError as error:
                    problem = error
        finally:
            self._checker.detach()
        raise problem

    def laid(self, q: Array, candidate: GraspCandidate, obj: ObjectState | None) -> Box:
        """Where it lies what was let go at joints (n,) rad, however it fell."""
        x, y, _ = self._kinematics.forward(q).position_m.tolist()
        size = np.full(3, candidate.width_m) if obj is None else obj.dimensions_m
        edge_m, height_m = float(np.hypot(size[0], size[1])), float(size.max())
        return Box((x, y, 0.5 * height_m), (edge_m, edge_m, height_m), name="put down")

    def _goals(
        self, q: Array, candidate: GraspCandidate, release_m: float, placed: int
    ) -> list[Array]:
        c = self.config
        here = self._kinematics.forward_matrix(q)
        yaw = math.atan2(here[1, 0], here[0, 0])
        below_m = max(float(candidate.X_world_grasp.position_m[2]), 0.0)  # under the tool
        dx, dy = _SPOTS_M[placed % len(_SPOTS_M)]
        at = (c.centre_m[0] + dx, c.centre_m[1] + dy, release_m + below_m)
        goals: list[tuple[bool, Array]] = []
        for turn in (0.0, math.pi / 2, -math.pi / 2, math.pi):
            pose = Pose.from_matrix("world", "tool0", grasp_rotation(yaw + turn), at)
            first = self._kinematics.inverse(pose, q, tries=4)
            up = [pose.position_m + np.array([0.0, 0.0, m]) for m in _RISE_M]
            rise = [Pose("world", "tool0", p, pose.quat_xyzw) for p in up]
            apart = self._checker.is_apart
            if first is not None:
                found = elbow_aside(self._kinematics, rise, first, apart)
                goal, condition = (first, math.inf) if found is None else found
                goals.append((condition > WELL_CONDITIONED, goal))
        return [goal for _, goal in sorted(goals, key=lambda item: item[0])]
