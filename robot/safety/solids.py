"""Solids of the arm, what stands around them, and which of them have to stay apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.planning.obstacles import Box, HeldBox
from robot.planning.shapes import ArmShapes
from robot.planning.solids import Parts

Array = NDArray[np.float64]

_TABLE_M = (4.0, 4.0, 0.5)


@dataclass(frozen=True, slots=True)
class Margins:
    """How far solids stay apart, m.

    Attributes:
        self_m: the arm's from each other.
        scene_m: the arm's from what stands around.
    """

    self_m: float
    scene_m: float


class Solids:
    """Tells whether any two come nearer than they should, and how near each pair is.

    A finger is all that it can reach. What the hand holds keeps apart from the links that it does
    not move along with.

    Args:
        model: of the arm; Pinocchio's.
        shapes: which links are checked against which.
        parts: what each link is made of.
        margins: see :class:`Margins`.
        tool_frame: what is held moves along with it.
        opening_m: the fingers travel from closed to this.
    """

    def __init__(
        self,
        model: Any,
        shapes: ArmShapes,
        parts: Parts,
        margins: Margins,
        tool_frame: str,
        opening_m: float,
    ) -> None:
        self._model, self._data = model, model.createData()
        self._margins = margins
        self._tool = model.frames[model.getFrameId(tool_frame)]
        self._in_hand: HeldBox | None = None
        # What does not change with the surroundings is made once: it is most of the work.
        self._arm = pin.GeometryModel()
        self._arm_owners: list[str] = []
        self._arm_pairs: list[tuple[int, int]] = []
        solids: dict[str, list[int]] = {}
        fingers = shapes.finger_ways(opening_m)
        for link, own in parts.items():
            if link in fingers:
                own = [fingers[link]]
            frame = model.frames[model.getFrameId(link)]
            solids[link] = [
                _add(self._arm, self._arm_owners, link, frame.parentJoint, frame.placement * at, it)
                for it, at in own
            ]
        for first, second in shapes.checked_pairs():
            self._arm_pairs += [(a, b) for a in solids[first] for b in solids[second]]
        apart = {*shapes.on_table, *shapes.hand}
        self._movers = [i for link, own in solids.items() if link not in apart for i in own]
        # Always there, or picking something up would take the time to make all anew.
        wrist = self._tool.parentJoint
        self._held = _add(self._arm, self._arm_owners, "held object", wrist, *_in_hand(self._tool))
        joints = [solid.parentJoint for solid in self._arm.geometryObjects]
        self._arm_pairs += [
            (i, self._held) for own in solids.values() for i in own if joints[i] < wrist - 1
        ]
        self.surround(())

    def surround(self, boxes: Sequence[Box]) -> None:
        """The table and these stand around the arm from now on; takes a few milliseconds."""
        geometry, owners = self._arm.copy(), [*self._arm_owners]
        at = pin.SE3(np.eye(3), np.array([0.0, 0.0, -0.5 * _TABLE_M[2]]))
        around = [_add(geometry, owners, "table", 0, at, coal.Box(*_TABLE_M))]
        for box in boxes:
            at = pin.SE3(box.rotation, np.array(box.center_m))
            around.append(_add(geometry, owners, box.name, 0, at, coal.Box(*box.size_m)))
        # Pinocchio takes all pairs at once much faster than one by one, and puts them in order.
        pairs = sorted((*self._arm_pairs, *((a, b) for a in self._movers for b in around)))
        wanted = np.zeros((len(owners), len(owners)), dtype=bool)
        wanted[tuple(np.array(pairs).T)] = True
        geometry.setCollisionPairs(wanted, True)
        own, scene = self._margins.self_m, self._margins.scene_m
        #: (pairs,) m: nearer than this is too near.
        self.margin_m: Array = np.array([own if b < around[0] else scene for _, b in pairs])
        #: Who each pair is.
        self.names = [(owners[a], owners[b]) for a, b in pairs]
        self._geometry, self._near = geometry, geometry.createData()
        self._kept = geometry.createData()  # the manager refers to it
        for request, margin in zip(self._kept.collisionRequests, self.margin_m, strict=True):
            request.security_margin = margin
        # So few solids, most of which move at every tick, are compared one with another in half the
        # time that mending a tree takes.
        self._broad = pin.BroadPhaseManager_NaiveCollisionManager(self._model, geometry, self._kept)
        self.hold(self._in_hand)

    def hold(self, box: HeldBox | None) -> None:
        """This is between the fingers from now on, None for nothing; takes microseconds."""
        self._in_hand = box
        held = self._geometry.geometryObjects[self._held]
        placement, solid = _in_hand(self._tool, box)
        held.placement, held.geometry.halfSide = placement, solid.halfSide
        held.geometry.computeLocalAABB()
        self._broad.update(True)

    def near(self, q: Array) -> bool:
        """Whether any pair is nearer than its margin at joints (n,) rad."""
        return bool(pin.computeCollisions(self._model, self._data, self._broad, q, True))

    def distances(self, q: Array) -> Array:
        """(pairs,) m at joints (n,) rad; below 0 where they overlap."""
        pin.updateGeometryPlacements(self._model, self._data, self._geometry, self._near, q)
        pairs = range(len(self.names))
        return np.array(
            [pin.computeDistance(self._geometry, self._near, k).min_distance for k in pairs]
        )


def _in_hand(tool: Any, box: HeldBox | None = None) -> tuple[Any, Any]:
    """Where something stands in the last joint's frame, and its solid."""
    if box is None:
        return tool.placement, coal.Box(1e-3, 1e-3, 1e-3)
    at = pin.SE3(box.X_tool_box.rotation, np.array(box.X_tool_box.position_m))
    return tool.placement * at, coal.Box(*box.size_m)


def _add(geometry: Any, owners: list[str], owner: str, joint: int, at: Any, solid: Any) -> int:
    name = f"{len(owners)} {owner}"  # Pinocchio wants every name once
    owners.append(owner)
    return int(geometry.addGeometryObject(pin.GeometryObject(name, joint, at, solid)))
