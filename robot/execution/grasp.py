"""The part of a pick that the policy drives: from the pre-grasp until the hold is confirmed.

Training environment, evaluation and deployment all act through :class:`GraspLoop`, so that the
same observation, the same servo and the same verdict on the outcome hold everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.execution.action import DEFAULT_SCALE, POLICY_TICKS, TICK_S, ActionScale, to_twist
from robot.execution.gripper import GripperConfig, GripperController
from robot.execution.servo import CartesianServo, ServoConfig
from robot.execution.touch import Touch, TouchConfig
from robot.fingers import FingerMap
from robot.geometry import yaw_between
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.observation import Around, Target, observe, offset, patch
from robot.planning.grasps import GraspPlanner
from robot.planning.obstacles import HeldBox
from robot.types import (
    GraspCandidate,
    GripperCommand,
    GripperState,
    HeightMap,
    ObjectState,
    Pose,
)

Array = NDArray[np.float64]

TICKS = POLICY_TICKS
#: What x, y, z and yaw become in axes that are turned by half a turn.
_HALF_TURN = np.array([-1.0, -1.0, 1.0, 1.0])
_DRAGGED = 2.0
"""Fingers on cranks go down as they close and drag what they press on along, by friction: what is
felt along the approach then is at most so many times their mean force, as there are two."""


@dataclass(frozen=True)
class GraspLoopConfig:
    """When the policy takes over and when its part is done.

    Attributes:
        pregrasp_m: how far out along the approach the policy takes over.
        touch: how it comes down, and what it does where it touches something.
        lift_m: how far above the grasp the object is lifted.
        hold_steps_n: policy steps for which contact must last at the top.
        timeout_s: longest time the policy may act.
        stray_m: farther than this to the side of the grasp, the attempt has failed.
        track_m: an object that is seen anew must have moved its grasp by so much,
        track_deg: or turned it by so much, for the grasp to follow.
    """

    pregrasp_m: float = bounded(0.10, 0.02, 0.3)
    touch: TouchConfig = TouchConfig()
    lift_m: float = bounded(0.22, 0.02, 0.6)
    hold_steps_n: int = bounded(3, 1, 100)
    timeout_s: float = bounded(10.0, 0.5, 60.0)
    stray_m: float = bounded(0.12, 0.01, 1.0)
    track_m: float = bounded(0.005, 0.0, 0.1)
    track_deg: float = bounded(5.0, 0.0, 90.0)


class Outcome(Enum):
    """How the policy's part stands, judged by the robot's own readings.

    ``TOUCHED``: the hand came down on something that does not fit between the fingers.
    ``UNSURE`` is no failure: what the policy sees is unlike anything before, and worth a look.
    """

    RUNNING = "running"
    HELD = "held"
    MISSED = "missed"
    TOUCHED = "touched"
    STRAYED = "strayed"
    TIMEOUT = "timeout"
    UNSURE = "unsure"


class GraspLoop:
    """Observation in, joint references out, and whether the policy's part is done.

    Args:
        limits: of the arm.
        kinematics: of the arm; this loop's own instance.
        servo: follows Cartesian velocities.
        gripper: turns openings into commands and finger readings into contact.
        config: see :class:`GraspLoopConfig`.
        scale: what an action of 1 means.
    """

    def __init__(
        self,
        limits: RobotLimits,
        kinematics: Kinematics,
        servo: CartesianServo,
        gripper: GripperController,
        config: GraspLoopConfig | None = None,
        scale: ActionScale = DEFAULT_SCALE,
    ) -> None:
        self.limits = limits
        self.kinematics = kinematics
        self.servo = servo
        self.gripper = gripper
        self.config = config or GraspLoopConfig()
        self.scale = scale
        self.gripper_state = GripperState(limits.gripper.max_opening_m, 0.0)
        self.commanded_opening_m = limits.gripper.max_opening_m
        self._twist = np.zeros(6)
        self._planner = GraspPlanner(limits.gripper)
        self._in_reach: HeldBox | None = None
        self._dragged = _DRAGGED if FingerMap(limits).turns else 0.0
        fingertip_m = limits.gripper.fingertip_beyond_tool_m
        self._touch = Touch(self.config.touch, scale, fingertip_m)

    @classmethod
    def make(
        cls, limits: RobotLimits, config: GraspLoopConfig | None = None, tick_s: float = TICK_S
    ) -> GraspLoop:
        """With its own kinematics, servo and gripper, configured by default but for the tick."""
        kinematics = Kinematics(limits)
        return cls(
            limits,
            kinematics,
            CartesianServo(kinematics, limits, ServoConfig(tick_s=tick_s)),
            GripperController(limits.gripper, GripperConfig(tick_s=tick_s)),
            config,
        )

    def pregrasp(self, candidate: GraspCandidate) -> Pose:
        """``X_world_tool0`` from which the policy takes over."""
        pose = candidate.X_world_grasp
        out = pose.position_m - pose.rotation[:, 2] * self.config.pregrasp_m
        return Pose("world", self.limits.tool_frame, out, pose.quat_xyzw)

    def around(self, heights: HeightMap | None, candidate: GraspCandidate) -> Around | None:
        """What a look's heights, if any, show around a candidate; takes longer than a tick."""
        if heights is None:
            return None
        better = self._planner.near(heights, candidate)
        aim = np.zeros(4) if better is None else offset(candidate.X_world_grasp, better)
        return Around(patch(heights, candidate), aim)

    def begin(
        self,
        candidate: GraspCandidate,
        obj: ObjectState | None,
        q: Array,
        opening_m: float,
        now_s: float,
        around: Around | None = None,
    ) -> None:
        """Start on a candidate, the arm at rest at joints (n,) rad, the fingers open so far.

        What a look showed ``around`` it is seen all the time, and moves along with it; without that
        it is flat there.
        """
        patch_m, aim = (None, None) if around is None else (around.patch_m, around.aim)
        self.target = self._planned = Target.make(candidate, obj, patch_m, aim)
        self.previous_action = np.zeros(5, dtype=np.float32)
        self.gripper_state = GripperState(opening_m, 0.0)
        self.commanded_opening_m = candidate.opening_m
        self._twist = np.zeros(6)
        self.servo.reset(q)
        self.gripper.reset()
        self._begun_s = now_s
        self._held_steps = 0
        self.X_world_tool = self.kinematics.forward_matrix(q)
        self._touch.begin(float(self.target.patch_m.max()))
        self._in_reach = None if obj is None else HeldBox.between(candidate, obj)

    def track(self, obj: ObjectState) -> None:
        """Take in a new state of the candidate's object: where it went, the candidate goes.

        Not once the fingers close: then the hand moves the object, and hides it.
        """
        planned = self._planned
        if planned.obj is None or self.closing or self.gripper_state.contact:
            return
        candidate, turned = carried(planned.candidate, planned.obj, obj)
        around, aim = planned.patch_m, planned.aim
        if turned:
            around, aim = around[::-1, ::-1], aim * _HALF_TURN
        fresh = Target.make(candidate, obj, around, aim)
        # What is within the errors of a look would only make the hand tremble.
        way_m = np.linalg.norm(fresh.position_m - self.target.position_m)
        turn = abs(yaw_between(self.target.rotation, fresh.rotation))
        if way_m < self.config.track_m and turn < math.radians(self.config.track_deg):
            fresh = replace(fresh, position_m=self.target.position_m, rotation=self.target.rotation)
        self.target = fresh

    @property
    def closing(self) -> bool:
        """Whether the policy has told the fingers to close on something."""
        return self.commanded_opening_m < self.target.candidate.opening_m - 0.01

    @property
    def held(self) -> HeldBox | None:
        """What the fingers hold; None for nothing, or for what was never seen."""
        return self._in_reach if self.gripper_state.contact else None

    @property
    def above_grasp_m(self) -> float:
        """How far the hand is from the grasp, back along the approach, at the last observation."""
        here = self.X_world_tool[:3, 3]
        return -float(self.target.rotation[:, 2] @ (here - self.target.position_m))

    def feel(self, readings: Sequence[tuple[float, float]]) -> GripperState:
        """Take in the fingers' readings, (opening m, force N), of one or more control ticks."""
        self.gripper_state = self.gripper.update(readings, self.commanded_opening_m)
        return self.gripper_state

    def observe(self, q: Array, qd: Array, now_s: float) -> NDArray[np.float32]:
        """The policy's observation for measured joints (n,) rad and rad/s."""
        self.X_world_tool, velocity = self.kinematics.tool_motion(q, qd)
        return observe(
            self.X_world_tool,
            velocity,
            self.gripper_state,
            self.previous_action,
            self.target,
            now_s,
        )

    def act(self, action: NDArray[np.float32]) -> GripperCommand:
        """Take in the policy's action (5,); what the gripper is to do meanwhile.

        A NaN in it leaves the gripper as it was and reaches the supervisor as NaN joints.
        """
        action = self._touch.gently(action, self.above_grasp_m)
        self._twist, opening_m = to_twist(self._beside(action), self.target.rotation, self.scale)
        self.previous_action = np.minimum(np.maximum(action, -1.0), 1.0).astype(np.float32)
        if math.isfinite(opening_m):
            self.commanded_opening_m = opening_m
        return self.gripper.command(self.commanded_opening_m)

    def feel_below(self, wrench: Array, q: Array) -> None:
        """Take in what the tool presses with, (6,) N and N·m in world axes, at joints (n,) rad.

        What the hand comes down on it rises off at once.
        """
        across, _, down = self.target.rotation.T
        grip = self.gripper_state
        pressed_n = float(down @ wrench[:3]) - self._dragged * grip.force_n
        if grip.contact or pressed_n <= self._touch.config.force_n:
            return
        here = self.kinematics.forward_matrix(q)[:3, 3]
        above_m = -float(down @ (here - self.target.position_m))
        if not self._touch.feels(pressed_n, above_m):
            return
        # A finger that is pressed alone turns the hand.
        lever_m = 0.0 if self.closing else float(across @ wrench[3:]) / pressed_n
        if self._touch.met(above_m, lever_m / (0.5 * max(grip.opening_m, 1e-3))):
            self._twist = np.array([*(-self._touch.config.speed_m_s * down), 0.0, 0.0, 0.0])

    def _beside(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """What of an action is commanded, beside what was touched before."""
        above_m = self.above_grasp_m
        if not self.gripper_state.contact:
            aside_m = self._touch.aside_m(above_m)
            if aside_m:
                way = aside_m * self.target.rotation[:, 1]
                self._planned, self.target = shifted(self._planned, way), shifted(self.target, way)
            return self._touch.off(action, above_m)
        return action

    def brake(self) -> None:
        """Let the coming references slow down to a stop; the gripper stays as it is."""
        self._twist = np.zeros(6)

    @property
    def acting(self) -> bool:
        """Whether the newest action still asks for a motion."""
        return bool(self._twist.any())

    @property
    def moving(self) -> bool:
        """Whether the references have not come to rest."""
        return bool(np.abs(self.servo.qd_ref).max() > 1e-3)

    def references(self, ticks: int) -> tuple[Array, Array]:
        """Joint references (ticks, n) rad and rad/s of the coming ticks under the newest action.

        They keep the servo's own limits; the supervisor still has to pass them. Twelve calls for
        one tick give what one call for twelve gives.
        """
        return self.servo.rollout(self._twist, ticks)

    def outcome(self, now_s: float) -> Outcome:
        """How the attempt stands after the newest ``observe``."""
        c = self.config
        from_grasp_m = self.X_world_tool[:3, 3] - self.target.position_m
        x, y, z = self.target.rotation.T.dot(from_grasp_m).tolist()
        if -z >= c.lift_m and self.closing:
            if not self.gripper_state.contact:
                return Outcome.MISSED
            self._held_steps += 1
            if self._held_steps >= c.hold_steps_n:
                return Outcome.HELD
        else:
            self._held_steps = 0
        if not self.closing and self._touch.in_vain():
            return Outcome.TOUCHED
        if math.hypot(x, y) > c.stray_m or -z > c.lift_m + 0.15:
            return Outcome.STRAYED
        if now_s - self._begun_s >= c.timeout_s:
            return Outcome.TIMEOUT
        return Outcome.RUNNING


def shifted(target: Target, way_m: Array) -> Target:
    """The same target, its grasp moved by (3,) m; the object stays where it was seen."""
    grasp = target.candidate.X_world_grasp
    moved = grasp.turned(0.0, grasp.position_m, grasp.position_m + way_m)
    candidate = replace(target.candidate, X_world_grasp=moved)
    return replace(target, position_m=target.position_m + way_m, candidate=candidate)


def carried(
    candidate: GraspCandidate, then: ObjectState, now: ObjectState
) -> tuple[GraspCandidate, bool]:
    """The candidate after its object moved over the table, stamped like the newer look.

    A grip is the same after half a turn, so the hand turns by a right angle at most; the second
    value says whether half a turn was taken off.
    """
    here, there = then.X_world_obj, now.X_world_obj
    turn = 0.0 if is_round(then) else yaw_between(here.rotation, there.rotation)
    grasp = candidate.X_world_grasp
    to = np.array([*there.position_m[:2], here.position_m[2]])
    moved = grasp.turned(turn, here.position_m, to)
    half = abs(turn) > math.pi / 2
    if half:
        moved = moved.turned(math.pi, moved.position_m, moved.position_m)
    return replace(candidate, X_world_grasp=moved, stamp_s=now.stamp_s), half


def is_round(obj: ObjectState) -> bool:
    """Whether an object looks the same from above however it is turned."""
    a, b = obj.dimensions_m[:2]
    return obj.class_name in ("ball", "cylinder") and abs(a - b) < 0.1 * max(a, b)
