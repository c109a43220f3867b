"""Solids of the arm, what stands around them, and which of them have to stay apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
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
_PLACES = 16
_FAR_AWAY = pin.SE3(np.eye(3), np.array([0.0, 0.0, -1000.0]))


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
        self._make(_PLACES)
        self.surround(())

    def surround(self, boxes: Sequence[Box]) -> None:
        """The table and these stand around the arm from now on.

        Takes microseconds a box: places for them are kept ready, and what is in none is far away.
        Only where there are more of them than ever before, all is made anew, in milliseconds.
        """
        if len(boxes) > len(self._places):
            self._make(_PLACES * -(-len(boxes) // _PLACES))
        objects = self._geometry.geometryObjects
        # Places are the last of all: what stands in the first few has the lower numbers.
        end = self._places[0] + len(boxes)
        self._used = [k for k, (_, second) in enumerate(self._pairs) if second < end]
        for index, box in zip_longest(self._places, boxes):
            solid = objects[index]
            if box is None:
                self._owners[index], solid.placement = "", _FAR_AWAY
                continue
            self._owners[index] = box.name
            solid.placement = pin.SE3(box.rotation, np.array(box.center_m))
            solid.geometry.halfSide = 0.5 * np.array(box.size_m)
            solid.geometry.computeLocalAABB()
        self._broad.update(True)

    def _make(self, places_n: int) -> None:
        """Everything, with places for so many boxes around the arm."""
        geometry, owners = self._arm.copy(), [*self._arm_owners]
        at = pin.SE3(np.eye(3), np.array([0.0, 0.0, -0.5 * _TABLE_M[2]]))
        around = [_add(geometry, owners, "table", 0, at, coal.Box(*_TABLE_M))]
        self._places = [
            _add(geometry, owners, "", 0, _FAR_AWAY, coal.Box(1e-3, 1e-3, 1e-3))
            for _ in range(places_n)
        ]
        around += self._places
        # Pinocchio takes all pairs at once much faster than one by one, and puts them in order.
        self._pairs = sorted((*self._arm_pairs, *((a, b) for a in self._movers for b in around)))
        wanted = np.zeros((len(owners), len(owners)), dtype=bool)
        wanted[tuple(np.array(self._pairs).T)] = True
        geometry.setCollisionPairs(wanted, True)
        own, scene = self._margins.self_m, self._margins.scene_m
        #: (pairs,) m: nearer than this is too near.
        self.margin_m: Array = np.array([own if b < around[0] else scene for _, b in self._pairs])
        self._geometry, self._owners, self._near = geometry, owners, geometry.createData()
        self._kept = geometry.createData()  # the manager refers to it
        for request, margin in zip(self._kept.collisionRequests, self.margin_m, strict=True):
            request.security_margin = margin
        # So few solids, most of which move at every tick, are compared one with another in half the
        # time that mending a tree takes.
        self._broad = pin.BroadPhaseManager_NaiveCollisionManager(self._model, geometry, self._kept)
        self.hold(self._in_hand)

    def pair(self, k: int) -> tuple[str, str]:
        """Who the pair in place ``k`` of the distances is."""
        first, second = self._pairs[k]
        return self._owners[first], self._owners[second]

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
        """(pairs,) m at joints (n,) rad; below 0 where they overlap, endless where nothing is."""
        pin.updateGeometryPlacements(self._model, self._data, self._geometry, self._near, q)
        out = np.full(len(self._pairs), np.inf)
        out[self._used] = [
            pin.computeDistance(self._geometry, self._near, k).min_distance for k in self._used
        ]
        return out


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
