"""Solids of the arm, what stands around them, and which of them have to stay apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.planning.obstacles import Box
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

    The fingers are left out: they travel, and the hand, which holds them, stands for them.

    Args:
        model: of the arm; Pinocchio's.
        shapes: which links are checked against which.
        parts: what each link is made of.
        margins: see :class:`Margins`.
    """

    def __init__(self, model: Any, shapes: ArmShapes, parts: Parts, margins: Margins) -> None:
        self._model, self._data = model, model.createData()
        self._margins = margins
        # What does not change with the surroundings is made once: it is most of the work.
        self._arm = pin.GeometryModel()
        self._arm_owners: list[str] = []
        self._arm_pairs: list[tuple[int, int]] = []
        solids: dict[str, list[int]] = {}
        for link, own in parts.items():
            if link in shapes.fingers:
                continue
            frame = model.frames[model.getFrameId(link)]
            solids[link] = [
                _add(self._arm, self._arm_owners, link, frame.parentJoint, frame.placement * at, it)
                for it, at in own
            ]
        for first, second in shapes.checked_pairs():
            if first in solids and second in solids:
                self._arm_pairs += [(a, b) for a in solids[first] for b in solids[second]]
        apart = {*shapes.on_table, *shapes.hand}
        self._movers = [i for link, own in solids.items() if link not in apart for i in own]
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


def _add(geometry: Any, owners: list[str], owner: str, joint: int, at: Any, solid: Any) -> int:
    name = f"{len(owners)} {owner}"  # Pinocchio wants every name once
    owners.append(owner)
    return int(geometry.addGeometryObject(pin.GeometryObject(name, joint, at, solid)))
