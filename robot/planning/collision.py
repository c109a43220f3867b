"""Whether the arm, at given joints, touches itself, the table or what stands on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from configs.load import bounded
from robot.errors import ConfigError, PlanningError
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.planning.obstacles import Box, columns, tray_walls
from robot.planning.shapes import ArmShapes, load_shapes
from robot.types import HeightMap, Pose

__all__ = ["Box", "CollisionChecker", "CollisionConfig", "tray_walls"]

Array = NDArray[np.float64]

HELD = "held object"
_TABLE_SIZE_M = (4.0, 4.0, 0.5)


@dataclass(frozen=True)
class CollisionConfig:
    """How much room the arm keeps.

    Attributes:
        scene_margin_m: kept from every box and column.
        search_margin_m: kept in addition, from scene and table, where a search asks for room.
        arm_above_table_m: the arm, without its hand, stays this far above the table.
        hand_above_table_m: so does the hand with its fingers, unless a call says otherwise.
        held_above_table_m: so does a held object.
        block_m: edge of the blocks that a height map is gathered into.
        lowest_m: what a height map shows below this height counts as table.
    """

    scene_margin_m: float = bounded(0.005, 0.0, 0.1)
    search_margin_m: float = bounded(0.01, 0.0, 0.1)
    arm_above_table_m: float = bounded(0.01, 0.0, 0.2)
    hand_above_table_m: float = bounded(0.003, 0.0, 0.2)
    held_above_table_m: float = bounded(0.002, 0.0, 0.2)
    block_m: float = bounded(0.015, 0.002, 0.1)
    lowest_m: float = bounded(0.01, 0.0, 0.1)


class CollisionChecker:
    """Checks joints against the arm itself, the table, boxes, and a height map.

    The arm is what ``<name>_collision.yaml`` beside its URDF says. The table is the plane z = 0,
    endless. One instance serves one thread.

    Args:
        limits: of the arm.
        kinematics: of the same arm; only its model is used.
        config: margins.
        shapes: the arm's solids; read from the file when None.

    Raises:
        ConfigError: the file of solids is missing, malformed, or does not fit the URDF.
    """

    def __init__(
        self,
        limits: RobotLimits,
        kinematics: Kinematics,
        config: CollisionConfig | None = None,
        shapes: ArmShapes | None = None,
    ) -> None:
        self.config = CollisionConfig() if config is None else config
        path = limits.urdf.parent / f"{limits.name}_collision.yaml"
        self.shapes = load_shapes(path) if shapes is None else shapes
        self.max_opening_m = limits.gripper.max_opening_m
        self._tool_frame = limits.tool_frame
        self._model = kinematics.model
        self._data = self._model.createData()
        missing = [n for n in self.shapes.links if not self._model.existFrame(n)]
        if missing:
            raise ConfigError(f"{path}: link {missing[0]!r} is not in {limits.urdf}")
        self._opening_m = self.max_opening_m
        self._hand_table_m = self.config.hand_above_table_m
        self._boxes: list[Box] = []
        self._held: tuple[Array, pin.SE3] | None = None
        self._roomy: tuple[Any, Any] | None = None
        self._build()

    # ---- what there is

    def set_scene(
        self,
        height_map: HeightMap | None,
        boxes: Sequence[Box] = (),
        cleared: Sequence[Box] = (),
    ) -> None:
        """Replace everything that stands on the table.

        Args:
            height_map: what the cameras saw on the table; None for nothing.
            boxes: further solids, a tray's walls for example.
            cleared: height-map cells in the footprints of these are taken as table, so that an
                object that is already held does not stand in its own way.
        """
        config = self.config
        self._boxes = list(boxes)
        if height_map is not None:
            self._boxes += columns(
                height_map, config.block_m, config.lowest_m, cleared=tuple(cleared)
            )
        self._build()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """What the scene consists of now: the boxes given and the height map's columns."""
        return tuple(self._boxes)

    def attach_box(self, size_m: Sequence[float], X_tool_obj: Pose) -> None:
        """Let a box move with the tool: checked against table, scene and the arm, not the hand.

        Args:
            size_m: (3,) full edge lengths along the object's axes, m.
            X_tool_obj: its centre and axes in the tool's frame.

        Raises:
            PlanningError: a size is not positive, or the pose is not given in the tool's frame.
        """
        size = np.array(size_m, dtype=np.float64)
        if size.shape != (3,) or not np.isfinite(size).all() or (size <= 0).any():
            raise PlanningError(f"attach_box: size must be 3 lengths above 0 m, got {size_m}")
        if X_tool_obj.parent != self._tool_frame:
            raise PlanningError(
                f"attach_box: pose must be given in {self._tool_frame}, not {X_tool_obj.parent}"
            )
        self._held = (size, pin.SE3(X_tool_obj.rotation, np.array(X_tool_obj.position_m)))
        self._build()

    def detach(self) -> None:
        """Nothing is held any more; harmless when nothing was."""
        if self._held is not None:
            self._held = None
            self._build()

    def set_hand(self, opening_m: float | None = None, clearance_m: float | None = None) -> None:
        """Set what all further checks, and the paths planned with them, assume of the hand.

        Args:
            opening_m: between the fingertips; fully open when None.
            clearance_m: the hand stays this far above the table; as configured when None.
        """
        opening = self.max_opening_m if opening_m is None else float(opening_m)
        clearance = self.config.hand_above_table_m if clearance_m is None else float(clearance_m)
        if opening != self._opening_m:
            self._opening_m = opening
            self._place_fingers()
        if clearance != self._hand_table_m:
            self._hand_table_m = clearance
            self._geometry.geometryObjects[self._hand_table].placement = _table_at(clearance)

    # ---- what is asked

    def is_free(self, q: Array) -> bool:
        """Whether nothing touches at joints (n,) rad, the hand as last set; the fast check."""
        return not pin.computeCollisions(self._model, self._data, self._broad, q, True)

    def has_room(self, q: Array) -> bool:
        """As :meth:`is_free`, with ``search_margin_m`` more to scene and table: for searches."""
        if self._roomy is None:
            data = self._geometry.createData()
            pairs = self._geometry.collisionPairs
            for pair, request in zip(pairs, data.collisionRequests, strict=True):
                if pair.second in self._surroundings:
                    request.security_margin = self.config.search_margin_m
            self._roomy = data, _broad_phase(self._model, self._geometry, data)
        return not pin.computeCollisions(self._model, self._data, self._roomy[1], q, True)

    def in_collision(
        self,
        q: Array,
        hand_opening: float | None = None,
        allow_hand_below_m: float | None = None,
    ) -> str | None:
        """The first pair that touches at joints ``q``, as "a hits b", or None.

        Args:
            q: (n,) joints, rad.
            hand_opening: between the fingertips, m, for this call; as last set when None.
            allow_hand_below_m: hand and fingers may come down to this height above the table, in
                this call; as last set when None.
        """
        before = self._opening_m, self._hand_table_m
        opening, clearance = hand_opening, allow_hand_below_m
        self.set_hand(
            before[0] if opening is None else opening, before[1] if clearance is None else clearance
        )
        try:
            return self.first_contact(q)
        finally:
            self.set_hand(*before)

    def first_contact(self, q: Array) -> str | None:
        """As :meth:`in_collision`, the hand as last set."""
        return None if self.is_free(q) else min(self.contacts(q), default=None)

    def contacts(self, q: Array) -> frozenset[str]:
        """All pairs that touch at joints (n,) rad, each as "a hits b", the hand as last set."""
        geometry, data = self._geometry, self._geometry_data
        pin.computeCollisions(self._model, self._data, geometry, data, q, False)
        return frozenset(
            f"{self._owner[pair.first]} hits {self._owner[pair.second]}"
            for pair, result in zip(geometry.collisionPairs, data.collisionResults, strict=True)
            if result.isCollision()
        )

    # ---- how it is kept

    def _build(self) -> None:
        """Make Pinocchio's geometry anew; a few milliseconds."""
        self._geometry = pin.GeometryModel()
        self._owner: list[str] = []
        self._surroundings: set[int] = set()
        solids: dict[str, list[int]] = {}
        self._finger_rest: list[tuple[int, pin.SE3, str]] = []
        for link, shapes in self.shapes.links.items():
            frame = self._model.frames[self._model.getFrameId(link)]
            for shape in shapes:
                solid, placement = shape.geometry()
                index = self._add(link, frame.parentJoint, frame.placement * placement, solid)
                solids.setdefault(link, []).append(index)
                if link in self.shapes.fingers:
                    self._finger_rest.append((index, placement, link))
        for first, second in self.shapes.checked_pairs():
            self._pair(solids[first], solids[second])

        config = self.config
        hand = [i for link in self.shapes.hand for i in solids[link]]
        apart = {*self.shapes.on_table, *self.shapes.hand}
        arm = [i for link, own in solids.items() if link not in apart for i in own]
        table = coal.Box(*_TABLE_SIZE_M)
        self._pair(arm, [self._add("table", 0, _table_at(config.arm_above_table_m), table)])
        self._hand_table = self._add("table", 0, _table_at(self._hand_table_m), table)
        self._pair(hand, [self._hand_table])
        scene = []
        for box in self._boxes:
            size = np.array(box.size_m) + 2 * config.scene_margin_m
            at = pin.SE3(box.rotation, np.array(box.center_m, dtype=np.float64))
            scene.append(self._add(box.name, 0, at, coal.Box(*size)))
        objects = self._geometry.geometryObjects
        moving = [i for own in solids.values() for i in own if objects[i].parentJoint > 0]
        self._pair(moving, scene)

        if self._held is not None:
            size, X_tool_obj = self._held
            tool = self._model.frames[self._model.getFrameId(self._tool_frame)]
            held = self._add(HELD, tool.parentJoint, tool.placement * X_tool_obj, coal.Box(*size))
            self._pair([held], [self._add("table", 0, _table_at(config.held_above_table_m), table)])
            self._pair([held], scene)
            # The last links stay where they are as seen from the hand: nothing to check there.
            far = [i for own in solids.values() for i in own
                   if objects[i].parentJoint < tool.parentJoint - 1]  # fmt: skip
            self._pair([held], far)
        self._place_fingers()
        self._geometry_data = self._geometry.createData()
        self._broad = _broad_phase(self._model, self._geometry, self._geometry_data)
        self._roomy = None  # made when first asked for

    def _add(self, owner: str, joint: int, placement: pin.SE3, solid: Any) -> int:
        name = f"{len(self._owner)} {owner}"  # Pinocchio wants every name once
        self._owner.append(owner)
        solid = pin.GeometryObject(name, joint, placement, solid)
        index = int(self._geometry.addGeometryObject(solid))
        if joint == 0 and owner not in self.shapes.links:
            self._surroundings.add(index)
        return index

    def _pair(self, firsts: Sequence[int], seconds: Sequence[int]) -> None:
        for first in firsts:
            for second in seconds:
                self._geometry.addCollisionPair(pin.CollisionPair(first, second))

    def _place_fingers(self) -> None:
        for index, rest, link in self._finger_rest:
            way = np.array(self.shapes.fingers[link]) * 0.5 * self._opening_m
            travel = pin.SE3(np.eye(3), way)
            frame = self._model.frames[self._model.getFrameId(link)]
            self._geometry.geometryObjects[index].placement = frame.placement * travel * rest


def _broad_phase(model: Any, geometry: Any, data: Any) -> Any:
    return pin.BroadPhaseManager_DynamicAABBTreeCollisionManager(model, geometry, data)


def _table_at(height_m: float) -> pin.SE3:
    return pin.SE3(np.eye(3), np.array([0.0, 0.0, height_m - 0.5 * _TABLE_SIZE_M[2]]))
