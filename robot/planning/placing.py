"""Where in the tray to let go of what is held, and the way there."""

from __future__ import annotations

import math
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
from robot.types import GraspCandidate, ObjectState, Pose, Trajectory

Array = NDArray[np.float64]

_RISE_M = (0.04, 0.08, 0.12)
"""The hand leaves the tray straight up; looked at there."""
_SPOTS_M = ((0.06, 0.03), (-0.06, -0.03), (0.06, -0.03), (-0.06, 0.03))
"""From the tray's middle, in turn, so that objects do not pile up in one place."""
_SPEED_SCALE = 0.8
_PASSED_M = 0.02
"""What is carried passes so far above what was put down before."""


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


class PlacePlanner:
    """Plans the way of a held object into the tray.

    Args:
        kinematics: of the arm.
        checker: holds the scene; a held object is attached while a path is sought.
        paths: finds paths.
        config: the tray.
    """

    def __init__(
        self,
        kinematics: Kinematics,
        checker: CollisionChecker,
        paths: PathPlanner,
        config: TrayConfig,
    ) -> None:
        self.config = config
        self.walls = tray_walls(config.centre_m, config.size_m, config.wall_m)
        self._kinematics = kinematics
        self._checker = checker
        self._paths = paths

    def path(
        self, q: Array, candidate: GraspCandidate, obj: ObjectState | None, placed: int
    ) -> Trajectory:
        """From joints (n,) rad, at the top of the lift, to over the tray.

        Args:
            q: where the arm stands.
            candidate: the grasp that holds.
            obj: what is held, as it was seen before; None where it is unknown.
            placed: how many lie in the tray.

        Raises:
            PlanningError: no way round the hand reaches the tray on a free path.
        """
        goals = self._goals(q, candidate, placed)
        if obj is not None:
            held = HeldBox.between(candidate, obj)
            self._checker.attach_box(held.size_m, held.X_tool_box)
        problem = PlanningError("tray: out of reach")
        try:
            # First with what is held. Its box is an upper bound: where no way is free with it,
            # try without.
            for _ in range(2 if obj is not None else 1):
                for goal in goals:
                    try:
                        return self._paths.to_joints(q, goal, speed_scale=_SPEED_SCALE)
                    except PlanningError as error:
                        problem = error
                self._checker.detach()
        finally:
            self._checker.detach()
        raise problem

    def laid(self, q: Array, candidate: GraspCandidate, obj: ObjectState | None) -> Box:
        """Where it lies what was let go at joints (n,) rad, however it fell.

        No higher than what is brought next passes by: what stands higher tips over.
        """
        x, y, _ = self._kinematics.forward(q).position_m.tolist()
        size = np.full(3, candidate.width_m) if obj is None else obj.dimensions_m
        highest_m = self.config.wall_m + self.config.release_above_wall_m - _PASSED_M
        edge_m, height_m = float(np.hypot(size[0], size[1])), min(float(size.max()), highest_m)
        return Box((x, y, 0.5 * height_m), (edge_m, edge_m, height_m), name="put down")

    def _goals(self, q: Array, candidate: GraspCandidate, placed: int) -> list[Array]:
        c = self.config
        here = self._kinematics.forward_matrix(q)
        yaw = math.atan2(here[1, 0], here[0, 0])
        below_m = max(float(candidate.X_world_grasp.position_m[2]), 0.0)  # under the tool
        dx, dy = _SPOTS_M[placed % len(_SPOTS_M)]
        at = (
            c.centre_m[0] + dx,
            c.centre_m[1] + dy,
            c.wall_m + c.release_above_wall_m + below_m,
        )
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
