"""Whether the arm, at given joints, touches itself, the table or what stands on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from configs.load import bounded
from robot.errors import ConfigError, PlanningError
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.planning.mesh_shapes import arm_shapes
from robot.planning.obstacles import Box, columns, tray_walls
from robot.planning.shapes import ArmShapes
from robot.planning.solids import Room, Solids, Surroundings, hulls_of, solids_of
from robot.types import HeightMap, Pose

__all__ = ["Box", "CollisionChecker", "CollisionConfig", "tray_walls"]

Array = NDArray[np.float64]

_HULLS, _ALL = 0, 1


@dataclass(frozen=True)
class CollisionConfig:
    """How much room the arm keeps.

    Attributes:
        scene_margin_m: kept from every box and column.
        search_margin_m: kept in addition, from scene and table, where a search asks for room.
        least_apart_m: the arm's own links, and what is held, come no nearer to each other;
        self_margin_m: they are well apart where they are so far from each other.
        arm_above_table_m: the arm, without its hand, stays this far above the table.
        hand_above_table_m: so does the hand with its fingers, unless a call says otherwise.
        held_above_table_m: so does a held object.
        block_m: edge of the blocks that a height map is gathered into.
        lowest_m: what a height map shows below this height counts as table.
    """

    scene_margin_m: float = bounded(0.005, 0.0, 0.1)
    search_margin_m: float = bounded(0.01, 0.0, 0.1)
    least_apart_m: float = bounded(0.002, 0.0, 0.1)
    self_margin_m: float = bounded(0.015, 0.0, 0.1)
    arm_above_table_m: float = bounded(0.01, 0.0, 0.2)
    hand_above_table_m: float = bounded(0.003, 0.0, 0.2)
    held_above_table_m: float = bounded(0.002, 0.0, 0.2)
    block_m: float = bounded(0.015, 0.002, 0.1)
    lowest_m: float = bounded(0.01, 0.0, 0.1)


class CollisionChecker:
    """Checks joints against the arm itself, the table, boxes, and a height map.

    The arm is what ``<name>_collision.yaml`` beside its URDF says, or the hulls of the URDF's own
    meshes. The table is the plane z = 0, endless. One instance serves one thread.

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
        self.shapes = arm_shapes(limits, kinematics) if shapes is None else shapes
        self.max_opening_m = limits.gripper.max_opening_m
        self._tool_frame = limits.tool_frame
        self._model = kinematics.model
        missing = [n for n in self.shapes.links if not self._model.existFrame(n)]
        if missing:
            raise ConfigError(
                f"{limits.name}_collision.yaml: link {missing[0]!r} is not in {limits.urdf}"
            )
        self._opening_m = self.max_opening_m
        self._hand_table_m = self.config.hand_above_table_m
        self._boxes: list[Box] = []
        self._closed: list[Box] = []
        self._held: tuple[Array, pin.SE3] | None = None
        c = self.config
        self._room = Room(
            c.scene_margin_m,
            c.search_margin_m,
            c.least_apart_m,
            c.self_margin_m,
            c.arm_above_table_m,
            c.held_above_table_m,
        )
        self._parts = hulls_of(self.shapes), solids_of(self.shapes)
        self._made: list[Solids | None] = [None, None]

    # ---- what there is

    def set_scene(
        self,
        height_map: HeightMap | None,
        boxes: Sequence[Box] = (),
        cleared: Sequence[Box] = (),
        closed: Sequence[Box] = (),
    ) -> None:
        """Replace everything that stands on the table.

        Args:
            height_map: what the cameras saw on the table; None for nothing.
            boxes: further solids, a tray's walls for example.
            cleared: height-map cells in the footprints of these are taken as table, so that an
                object that is already held does not stand in its own way.
            closed: zones in which nothing stands, and which are not free all the same.
        """
        config = self.config
        self._boxes = list(boxes)
        if height_map is not None:
            self._boxes += columns(
                height_map, config.block_m, config.lowest_m, cleared=tuple(cleared)
            )
        self._closed = list(closed)
        self._changed()

    @property
    def closed(self) -> tuple[Box, ...]:
        """Zones in which nothing stands, and which are not free all the same."""
        return tuple(self._closed)

    def prepare(self) -> None:
        """Make now what the first check after a change of the scene would make; milliseconds."""
        for which in (_HULLS, _ALL):
            self._solids(which)

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
        self._changed()

    def detach(self) -> None:
        """Nothing is held any more; harmless when nothing was."""
        if self._held is not None:
            self._held = None
            self._changed()

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
            for solids in filter(None, self._made):
                solids.open(opening)
        if clearance != self._hand_table_m:
            self._hand_table_m = clearance
            for solids in filter(None, self._made):
                solids.lower_hand(clearance)

    # ---- what is asked

    def is_free(self, q: Array) -> bool:
        """Whether nothing touches at joints (n,) rad, the hand as last set; the fast check."""
        return self._solids(_HULLS).free(q) or self._solids(_ALL).free(q)

    def has_room(self, q: Array) -> bool:
        """As :meth:`is_free`, with ``search_margin_m`` more to scene and table: for searches."""
        return self._solids(_HULLS).roomy(q) or self._solids(_ALL).roomy(q)

    def has_hull_room(self, q: Array) -> bool:
        """As :meth:`has_room`, judged by the links' hulls alone: faster, and never too lenient."""
        return self._solids(_HULLS).roomy(q)

    def is_apart(self, q: Array) -> bool:
        """Whether the arm's own links, and what is held, are ``self_margin_m`` from each other."""
        return self._solids(_HULLS).apart(q) or self._solids(_ALL).apart(q)

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
        return self._solids(_ALL).contacts(q)

    # ---- how it is kept

    def _changed(self) -> None:
        """The scene, or what is held, is another; both models are made anew when asked for."""
        self._made = [None, None]

    def _solids(self, which: int) -> Solids:
        """With hulls (0) or all solids (1); a few milliseconds when the scene has changed."""
        solids = self._made[which]
        if solids is None:
            around = Surroundings(
                (*self._boxes, *self._closed), self._held, self._opening_m, self._hand_table_m
            )
            solids = Solids(
                self._model, self._tool_frame, self.shapes, self._room, around, self._parts[which]
            )
            self._made[which] = solids
        return solids
