"""How near the arm comes to itself and to what stands around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.planning.mesh_shapes import arm_shapes
from robot.planning.obstacles import Box, HeldBox
from robot.planning.shapes import ArmShapes
from robot.planning.solids import hulls_of, solids_of
from robot.safety.config import SafetyConfig
from robot.safety.sent import Sent
from robot.safety.signals import Signals
from robot.safety.solids import Margins, Solids
from robot.safety.tick import Tick
from robot.safety.verdict import halt, slow
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]

_SPARE_M = 1e-4  # hulls keep so much more, so that no rounding sets them apart where solids are not


class DistanceMonitor:
    """The arm's solids keep apart from each other, from the table and from the scene.

    Looked at is where the joints would come to rest if they braked now. The hand and its fingers
    may touch what stands around: that is their work. What they hold may, too, but not the arm.
    Nearly always one hull a link says that all is apart, since it holds all of the link's solids;
    else a check of all solids may say so; only then their distances are reckoned.
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
        shapes = arm_shapes(limits, kinematics) if shapes is None else shapes
        hand = limits.tool_frame, limits.gripper.max_opening_m
        model, near, far = kinematics.model, config.self_slow_m, config.scene_slow_m
        self._solids = Solids(model, shapes, solids_of(shapes), Margins(near, far), *hand)
        roomy = Margins(near + _SPARE_M, far + _SPARE_M)
        self._hulls = Solids(model, shapes, hulls_of(shapes), roomy, *hand)
        self._sent, self._tick, self._signals = sent, tick, signals
        self._held: HeldBox | None = None
        self._surround(signals.scene)
        # At once where the scene changes, which takes longer than a tick may.
        signals.on_scene.append(self._surround)

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """SCALE the nearer it comes, HALT where it would touch; what moves apart is free."""
        held = self._signals.held
        if held is not self._held:
            self._held = held
            self._hulls.hold(held)
            self._solids.hold(held)
        stop = self._tick.stop_rad
        if not self._hulls.near(stop) or not self._solids.near(stop):
            return OK
        return self._judge(stop)

    def _judge(self, stop: Array) -> SafetyVerdict:
        solids = self._solids
        near, here = solids.distances(stop), solids.distances(self._sent.position_rad)
        share = near / solids.margin_m
        # What is as near already and comes no nearer may go: there must be a way out.
        share[near >= here - 1e-5] = 1.0
        k = int(share.argmin())
        if share[k] >= 1.0:
            return OK
        first, second = solids.pair(k)
        what = f"distance: {first} would come to {max(near[k], 0.0):.3f} m of {second}"
        if near[k] <= 0.0 and here[k] < 0.25 * solids.margin_m[k]:
            return halt(what)
        # Of the way that is left to contact, no more than a part is used up in braking.
        return slow(float(np.clip(here[k] / solids.margin_m[k], 0.0, 1.0)) * 0.5, what)

    def _surround(self, boxes: Sequence[Box]) -> None:
        self._hulls.surround(boxes)
        self._solids.surround(boxes)
