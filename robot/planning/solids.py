"""The arm and its surroundings as Pinocchio's geometry: all solids, or one hull a link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.planning.hulls import enclosing_hull
from robot.planning.obstacles import Box
from robot.planning.shapes import ArmShapes

Array = NDArray[np.float64]

HELD = "held object"
_TABLE_SIZE_M = (4.0, 4.0, 0.5)


Parts = dict[str, list[tuple[Any, Any]]]


def solids_of(shapes: ArmShapes) -> Parts:
    """Each link's solids and their placements."""
    return {link: [shape.geometry() for shape in own] for link, own in shapes.links.items()}


def hulls_of(shapes: ArmShapes) -> Parts:
    """For each link a convex hull of all of its solids."""
    return {
        link: [(enclosing_hull([shape.corners() for shape in own]), pin.SE3.Identity())]
        for link, own in shapes.links.items()
    }


@dataclass(frozen=True, slots=True)
class Room:
    """How far everything stays apart, m; see ``CollisionConfig``."""

    scene_m: float
    search_m: float
    least_self_m: float
    self_m: float
    arm_above_table_m: float
    held_above_table_m: float


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What the arm could touch besides itself, and how its hand stands.

    Attributes:
        boxes: of the scene.
        held: (3,) size, m, and the placement in the tool's frame of what the hand holds.
        opening_m: of the fingers.
        hand_above_table_m: hand and fingers stay this far above the table.
    """

    boxes: tuple[Box, ...]
    held: tuple[Array, Any] | None
    opening_m: float
    hand_above_table_m: float


class Solids:
    """Checks joints against everything that may not be touched.

    Args:
        model: of the arm; Pinocchio's.
        tool_frame: which a held object moves with.
        shapes: the arm's solids.
        room: what is kept apart.
        around: the scene, and how the hand stands.
        parts: what each link is made of, in its frame: all of its solids, or one hull that holds
            them. What is free for the hulls is free; what is not may be free nevertheless.
    """

    def __init__(
        self,
        model: Any,
        tool_frame: str,
        shapes: ArmShapes,
        room: Room,
        around: Surroundings,
        parts: Parts,
    ) -> None:
        self._model, self._data = model, model.createData()
        self._shapes, self._room = shapes, room
        self._geometry = pin.GeometryModel()
        self._owner: list[str] = []
        self._surroundings: set[int] = set()
        self._finger_rest: list[tuple[int, Any, str]] = []
        solids: dict[str, list[int]] = {}
        for link, own in parts.items():
            frame = model.frames[model.getFrameId(link)]
            for solid, placement in own:
                index = self._add(link, frame.parentJoint, frame.placement * placement, solid)
                solids.setdefault(link, []).append(index)
                if link in shapes.fingers:
                    self._finger_rest.append((index, placement, link))
        for first, second in shapes.checked_pairs():
            self._pair(solids[first], solids[second])
        self._around(solids, tool_frame, around)
        self.open(around.opening_m)
        self._geometry_data = self._fresh_data()
        self._broad = self._broad_phase(self._geometry_data)
        self._roomy: Any = None  # made when first asked for
        self._apart: Any = None

    def free(self, q: Array) -> bool:
        """Whether nothing touches at joints (n,) rad."""
        return not pin.computeCollisions(self._model, self._data, self._broad, q, True)

    def roomy(self, q: Array) -> bool:
        """As :meth:`free`, with ``search_m`` more to scene and table."""
        if self._roomy is None:
            data = self._fresh_data()
            pairs = self._geometry.collisionPairs
            for pair, request in zip(pairs, data.collisionRequests, strict=True):
                if pair.second in self._surroundings:
                    request.security_margin = self._room.search_m
            self._roomy = data, self._broad_phase(data)
        return not pin.computeCollisions(self._model, self._data, self._roomy[1], q, True)

    def apart(self, q: Array) -> bool:
        """Whether the arm's own parts are ``self_m`` from each other, whatever stands around."""
        if self._apart is None:
            data = self._geometry.createData()
            for k, pair in enumerate(self._geometry.collisionPairs):
                if pair.second in self._surroundings:
                    data.deactivateCollisionPair(k)
                else:
                    data.collisionRequests[k].security_margin = self._room.self_m
            self._apart = data, self._broad_phase(data)
        return not pin.computeCollisions(self._model, self._data, self._apart[1], q, True)

    def contacts(self, q: Array) -> frozenset[str]:
        """All pairs that touch at joints (n,) rad, each as "a hits b"."""
        geometry, data = self._geometry, self._geometry_data
        pin.computeCollisions(self._model, self._data, geometry, data, q, False)
        return frozenset(
            f"{self._owner[pair.first]} hits {self._owner[pair.second]}"
            for pair, result in zip(geometry.collisionPairs, data.collisionResults, strict=True)
            if result.isCollision()
        )

    def gaps(self, q: Array) -> dict[tuple[str, str], float]:
        """How far the arm's own links are from each other at joints (n,) rad, m; below 0: touch."""
        geometry, data = self._geometry, self._geometry_data
        pin.computeDistances(self._model, self._data, geometry, data, q)
        out: dict[tuple[str, str], float] = {}
        for pair, result in zip(geometry.collisionPairs, data.distanceResults, strict=True):
            if pair.second not in self._surroundings:
                links = self._owner[pair.first], self._owner[pair.second]
                out[links] = min(out.get(links, np.inf), float(result.min_distance))
        return out

    def open(self, opening_m: float) -> None:
        """Place the fingers."""
        for index, rest, link in self._finger_rest:
            way = np.array(self._shapes.fingers[link]) * 0.5 * opening_m
            travel = pin.SE3(np.eye(3), way)
            frame = self._model.frames[self._model.getFrameId(link)]
            self._geometry.geometryObjects[index].placement = frame.placement * travel * rest

    def lower_hand(self, clearance_m: float) -> None:
        """Let the hand come down to this height above the table."""
        self._geometry.geometryObjects[self._hand_table].placement = _table_at(clearance_m)

    def _around(self, solids: dict[str, list[int]], tool_frame: str, around: Surroundings) -> None:
        hand = [i for link in self._shapes.hand for i in solids[link]]
        apart = {*self._shapes.on_table, *self._shapes.hand}
        arm = [i for link, own in solids.items() if link not in apart for i in own]
        table = coal.Box(*_TABLE_SIZE_M)
        room = self._room
        self._pair(arm, [self._add("table", 0, _table_at(room.arm_above_table_m), table)])
        self._hand_table = self._add("table", 0, _table_at(around.hand_above_table_m), table)
        self._pair(hand, [self._hand_table])
        scene = []
        for box in around.boxes:
            size = np.array(box.size_m) + 2 * room.scene_m
            at = pin.SE3(box.rotation, np.array(box.center_m, dtype=np.float64))
            scene.append(self._add(box.name, 0, at, coal.Box(*size)))
        objects = self._geometry.geometryObjects
        moving = [i for own in solids.values() for i in own if objects[i].parentJoint > 0]
        self._pair(moving, scene)
        if around.held is None:
            return
        size, X_tool_obj = around.held
        tool = self._model.frames[self._model.getFrameId(tool_frame)]
        held = self._add(HELD, tool.parentJoint, tool.placement * X_tool_obj, coal.Box(*size))
        self._pair([held], [self._add("table", 0, _table_at(room.held_above_table_m), table)])
        self._pair([held], scene)
        # The last links stay where they are as seen from the hand: nothing to check there.
        far = [i for own in solids.values() for i in own
               if objects[i].parentJoint < tool.parentJoint - 1]  # fmt: skip
        self._pair([held], far)

    def _add(self, owner: str, joint: int, placement: Any, solid: Any) -> int:
        name = f"{len(self._owner)} {owner}"  # Pinocchio wants every name once
        self._owner.append(owner)
        index = int(
            self._geometry.addGeometryObject(pin.GeometryObject(name, joint, placement, solid))
        )
        if joint == 0 and owner not in self._shapes.links:
            self._surroundings.add(index)
        return index

    def _pair(self, firsts: Sequence[int], seconds: Sequence[int]) -> None:
        for first in firsts:
            for second in seconds:
                self._geometry.addCollisionPair(pin.CollisionPair(first, second))

    def _fresh_data(self) -> Any:
        """Of the geometry, in which the arm's own parts touch where they are so near."""
        data = self._geometry.createData()
        for pair, request in zip(
            self._geometry.collisionPairs, data.collisionRequests, strict=True
        ):
            if pair.second not in self._surroundings:
                request.security_margin = self._room.least_self_m
        return data

    def _broad_phase(self, data: Any) -> Any:
        return pin.BroadPhaseManager_DynamicAABBTreeCollisionManager(
            self._model, self._geometry, data
        )


def _table_at(height_m: float) -> Any:
    return pin.SE3(np.eye(3), np.array([0.0, 0.0, height_m - 0.5 * _TABLE_SIZE_M[2]]))
