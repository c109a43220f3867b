"""How near the arm comes to itself and to what stands around it."""

from __future__ import annotations

from typing import Any

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.planning.mesh_shapes import arm_shapes
from robot.planning.obstacles import Box
from robot.planning.shapes import ArmShapes
from robot.safety.config import SafetyConfig
from robot.safety.sent import Sent
from robot.safety.signals import Signals
from robot.safety.tick import Tick
from robot.safety.verdict import halt, slow
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]

_TABLE_M = (4.0, 4.0, 0.5)
_FAR_M = 1.0


class DistanceMonitor:
    """The arm's solids keep apart from each other, from the table and from the scene.

    Looked at is where the joints would come to rest if they braked now. The hand and its fingers
    may touch what stands around: that is their work. Where all pairs are further apart than their
    slowing distance, one broad-phase check says so; only the others' distances are reckoned.
    """

    name = "distance"
    source = "MoveIt Servo: 0.01 m to itself, 0.02 m to the scene"

    def __init__(
        self,
        limits: RobotLimits,
        kinematics: Kinematics,
        config: SafetyConfig,
        sent: Sent,
        tick: Tick,
        signals: Signals,
        shapes: ArmShapes | None = None,
    ) -> None:
        self._shapes = arm_shapes(limits, kinematics) if shapes is None else shapes
        self._model = kinematics.model
        self._data = self._model.createData()
        self._c, self._sent, self._tick, self._signals = config, sent, tick, signals
        self._build(())

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE the nearer it comes, HALT where it would touch; what moves apart is free."""
        if self._signals.scene_version != self._version:
            self._build(self._signals.scene)
        tick = self._tick
        stop = tick.stop_rad
        if not pin.computeCollisions(self._model, self._data, self._broad, stop, True):
            return OK
        return self._judge(stop)

    def _judge(self, stop: Array) -> SafetyVerdict:
        near, names = self._distances(stop)
        here, _ = self._distances(self._sent.position_rad)
        share = near / self._slow_m
        # What is as near already and comes no nearer may go: there must be a way out.
        share[near >= here - 1e-5] = 1.0
        k = int(share.argmin())
        if share[k] >= 1.0:
            return OK
        what = f"distance: {names[k][0]} would come to {max(near[k], 0.0):.3f} m of {names[k][1]}"
        if near[k] <= 0.0 and here[k] < 0.25 * self._slow_m[k]:
            return halt(what)
        # Of the way that is left to contact, no more than a part is used up in braking.
        return slow(float(np.clip(here[k] / self._slow_m[k], 0.0, 1.0)) * 0.5, what)

    def _distances(self, q: Array) -> tuple[Array, list[tuple[str, str]]]:
        pin.updateGeometryPlacements(self._model, self._data, self._geometry, self._near, q)
        count = len(self._geometry.collisionPairs)
        found = np.full(count, _FAR_M)
        for k in range(count):
            found[k] = pin.computeDistance(self._geometry, self._near, k).min_distance
        return found, self._names

    def _build(self, boxes: tuple[Box, ...]) -> None:
        """Make the geometry anew; a few milliseconds, where the scene changes."""
        self._version = self._signals.scene_version
        self._geometry = pin.GeometryModel()
        self._owner: list[str] = []
        solids: dict[str, list[int]] = {}
        for link, shapes in self._shapes.links.items():
            frame = self._model.frames[self._model.getFrameId(link)]
            for shape in shapes:
                solid, place = shape.geometry()
                index = self._add(link, frame.parentJoint, frame.placement * place, solid)
                solids.setdefault(link, []).append(index)
        margins: list[float] = []
        for first, second in self._shapes.checked_pairs():
            # The fingers travel; the hand, which holds them, stands for them.
            if first not in self._shapes.fingers and second not in self._shapes.fingers:
                self._pair(solids[first], solids[second], self._c.self_slow_m, margins)
        apart = {*self._shapes.on_table, *self._shapes.hand}
        arm = [i for link, own in solids.items() if link not in apart for i in own]
        at = pin.SE3(np.eye(3), np.array([0.0, 0.0, -0.5 * _TABLE_M[2]]))
        around = [self._add("table", 0, at, coal.Box(*_TABLE_M))]
        for box in boxes:
            place = pin.SE3(box.rotation, np.array(box.center_m))
            around.append(self._add(box.name, 0, place, coal.Box(*box.size_m)))
        self._pair(arm, around, self._c.scene_slow_m, margins)
        self._slow_m = np.array(margins)
        self._names = [
            (self._owner[pair.first], self._owner[pair.second])
            for pair in self._geometry.collisionPairs
        ]
        self._near = self._geometry.createData()
        data = self._geometry.createData()
        for request, margin in zip(data.collisionRequests, margins, strict=True):
            request.security_margin = margin
        self._broad: Any = pin.BroadPhaseManager_DynamicAABBTreeCollisionManager(
            self._model, self._geometry, data
        )
        self._kept = data  # the manager refers to it

    def _add(self, owner: str, joint: int, place: pin.SE3, solid: Any) -> int:
        name = f"{len(self._owner)} {owner}"  # Pinocchio wants every name once
        self._owner.append(owner)
        return int(self._geometry.addGeometryObject(pin.GeometryObject(name, joint, place, solid)))

    def _pair(
        self, firsts: list[int], seconds: list[int], margin_m: float, margins: list[float]
    ) -> None:
        for first in firsts:
            for second in seconds:
                self._geometry.addCollisionPair(pin.CollisionPair(first, second))
                margins.append(margin_m)
