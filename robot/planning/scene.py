"""What the arm keeps clear of: what the cameras saw, and what the configuration declares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robot.errors import PlanningError
from robot.kinematics import Kinematics
from robot.planning.collision import CollisionChecker
from robot.planning.obstacles import Box
from robot.types import GraspCandidate, Look, Pose

Array = NDArray[np.float64]

_STEP_M = 0.02
_AHEAD_EVERY = 6
_HELD_M = 0.22
"""Edge of the column around a grasp in which heights are taken as the held object's own."""

_STANDS_M, _ON_TOP_M, _BESIDE_M = 0.01, 0.02, 0.01
"""What begins so low stands on the table; what is so close above or beside it belongs to it."""


class SceneModel:
    """Puts together the scene that paths are planned in.

    Args:
        checker: gets the scene.
        always: boxes that stand there all the time: the tray's walls.
        declared: boxes of this table: a bin, a board, a clamp.
    """

    def __init__(
        self, checker: CollisionChecker, always: Sequence[Box], declared: Sequence[Box] = ()
    ) -> None:
        self._checker = checker
        self._always = tuple(always)
        #: Zones that are closed, though nothing solid stands there.
        self.closed: tuple[Box, ...] = ()
        #: What the configuration says stands on this table.
        self.declared = tuple(declared)
        #: What lies where the arm put it, as high as it can be.
        self.put_down: tuple[Box, ...] = ()
        #: Cells that no camera saw are taken to be filled up to here, m; None: as estimated.
        self.unseen_m: float | None = None
        self._shown: tuple[Look | None, GraspCandidate | None, float] = (None, None, math.inf)
        self._news = False

    def appear(self, box: Box) -> None:
        """Something new stands on the table; a motion under way is looked at again."""
        self.declared = (*self.declared, box)
        self._news = True

    def ahead(self, q: Array) -> str | None:
        """What hits at joints (m, n) rad still to come, if anything appeared since; or None."""
        if not self._news:
            return None
        self.show(*self._shown)
        for joints in q[::_AHEAD_EVERY]:
            contact = self._checker.first_contact(joints)
            if contact is not None:
                return contact
        return None

    def show(
        self,
        look: Look | None,
        held: GraspCandidate | None = None,
        highest_m: float = math.inf,
    ) -> None:
        """Let the checker know what a look saw, but for what is held.

        Args:
            look: what the cameras saw; None for nothing.
            held: the grasp that holds something: that is not in the way.
            highest_m: what was put down counts as no higher than this.
        """
        self._shown, self._news = (look, held, highest_m), False
        cleared: list[Box] = []
        if look is not None and held is not None:
            x, y, _ = held.X_world_grasp.position_m
            cleared.append(Box((x, y, 0.2), (_HELD_M, _HELD_M, 0.4), name="held"))
        heights = None if look is None else look.height_map
        if heights is not None and self.unseen_m is not None:
            filled = np.maximum(heights.height_m, np.float32(self.unseen_m))
            heights = replace(heights, height_m=np.where(heights.seen, heights.height_m, filled))
        there = [box.cut(highest_m) for box in self.put_down]
        solid = [*self._always, *self.declared, *there]
        self._checker.set_scene(heights, solid, cleared, self.closed)

    def drawn_on(self, look: Look) -> Look:
        """The same look, its heights with what is declared to stand on the table drawn in."""
        grid = look.height_map
        standing = [box for box in self.declared if box.bottom_m < _STANDS_M]
        if not standing:
            return look
        places = np.indices(grid.height_m.shape)
        x, y = (o + grid.resolution_m * k for o, k in zip(grid.origin_m, places, strict=True))
        height, seen = grid.height_m.copy(), grid.seen.copy()
        for box in standing:
            covered = box.covers(x, y)
            height[covered] = np.maximum(height[covered], np.float32(box.top_m))
            seen |= covered
        return replace(look, height_map=replace(grid, height_m=height, seen=seen))

    def is_part(self, at_m: Array) -> NDArray[np.bool_]:
        """Which of (n, 3) m belong to something declared: a camera sees walls, too."""
        part = np.zeros(len(at_m), dtype=bool)
        for box in self.declared:
            level = (at_m[:, 2] >= box.bottom_m) & (at_m[:, 2] <= box.top_m + _ON_TOP_M)
            part |= level & box.covers(at_m[:, 0], at_m[:, 1], _BESIDE_M)
        return part

    def check_line(
        self, kinematics: Kinematics, candidate: GraspCandidate, q: Array, lift_m: float
    ) -> None:
        """Check the straight way down to a grasp and up again against what is declared.

        Only declared boxes count: around the object itself the fingers come as close as the
        candidate allows.

        Args:
            kinematics: of the arm.
            candidate: the grip.
            q: (n,) rad, at its pre-grasp.
            lift_m: how far the object is lifted above the grasp.

        Raises:
            PlanningError: what is hit, or that the joints do not get there.
        """
        if not self.declared:
            return
        checker = self._checker
        checker.set_scene(None, self.declared)
        begin = kinematics.forward(q)
        at = candidate.X_world_grasp.position_m
        where = np.array2string(at, precision=3)
        rise = -candidate.X_world_grasp.rotation[:, 2]
        top = max(lift_m, float(np.linalg.norm(begin.position_m - at)))
        for part in np.append(np.arange(0.0, top, _STEP_M), top):
            pose = Pose("world", begin.child, at + part * rise, begin.quat_xyzw)
            found = kinematics.inverse(pose, q, tries=2)
            if found is None:
                raise PlanningError(
                    f"grasp at {where} m: the straight way leaves the joints' limits"
                )
            contact = checker.in_collision(found, candidate.opening_m, 0.0)
            if contact is not None:
                raise PlanningError(f"grasp at {where} m: {contact}")
