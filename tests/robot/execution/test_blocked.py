"""Something comes into the way of a motion: the arm stops on its path, or finds another way."""

from __future__ import annotations

import numpy as np
import pytest

from robot.execution.grasp import GraspLoop
from robot.execution.player import TICK_S, Player
from robot.execution.states import MotionTrouble, PathBlocked, Trouble
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.collision import CollisionChecker
from robot.planning.obstacles import Box
from robot.planning.paths import PathPlanner
from robot.planning.scene import SceneModel
from robot.safety.suite import for_batches
from robot.safety.supervisor import Supervisor
from robot.safety.verdict import slow
from robot.types import (
    GripperCommand,
    GripperState,
    JointCommand,
    JointState,
    Pose,
    RobotState,
)

LIMITS = load_limits("panda")
HOME = LIMITS.home_rad


class Arm:
    """Goes exactly where it is told; real enough for what is tested here, and so is its clock."""

    def __init__(self) -> None:
        self.q, self.qd, self.now = HOME.copy(), np.zeros(7), 0.0
        self.path: list[np.ndarray] = []
        self.at_tick = {}

    def connect(self) -> None:
        pass

    def read(self) -> RobotState:
        return RobotState(
            self.now, JointState(self.q, self.qd, np.zeros(7)), GripperState(0.08, 0.0)
        )

    def send(self, joints: JointCommand, gripper: GripperCommand) -> JointCommand:
        self.q, self.qd = joints.position_rad.copy(), joints.velocity_rad_s.copy()
        self.path.append(self.q)
        if len(self.path) in self.at_tick:
            self.at_tick[len(self.path)]()
        return joints

    def stop(self) -> None:
        self.qd = np.zeros(7)

    def now_s(self) -> float:
        return self.now

    def sleep_until(self, time_s: float) -> None:
        self.now = time_s


def cell():
    arm = Arm()
    loop = GraspLoop.make(LIMITS)
    # It reports no torques, so nothing may be made of them.
    player = Player(arm, arm, Supervisor(LIMITS, loop.kinematics, for_batches()), loop)
    kinematics = Kinematics(LIMITS)
    checker = CollisionChecker(LIMITS, kinematics)
    around = SceneModel(checker, ())
    player.blocked = around.ahead
    player.open(0.08)
    return arm, player, PathPlanner(LIMITS, kinematics, checker), around


def pole(q: np.ndarray) -> Box:
    x, y, z = Kinematics(LIMITS).forward(q).position_m
    return Box((float(x), float(y), float(z)), (0.05, 0.05, 0.3), name="pole")


def test_the_arm_stops_before_what_appears_within_its_limits() -> None:
    arm, player, paths, around = cell()
    around.show(None)
    goal = HOME + np.array([1.2, 0, 0, 0, 0, 0, 0])
    motion = paths.to_joints(HOME, goal)
    arm.at_tick = {round(0.4 * len(motion.time_s)): lambda: around.appear(pole(goal))}
    with pytest.raises(PathBlocked, match="hits pole"):
        player.play(motion)
    driven = np.array(arm.path)
    assert not np.allclose(driven[-1], goal, atol=0.05)
    assert np.abs(driven[-1] - driven[-5]).max() < 1e-9  # at rest
    off = [np.abs(motion.position_rad - q).max(axis=1).min() for q in driven[::20]]
    assert max(off) < 0.02  # never left its path
    speed = np.diff(driven, axis=0) / TICK_S
    assert (np.abs(speed) <= LIMITS.joints.velocity_rad_s * 1.001).all()
    assert (
        np.abs(np.diff(speed, axis=0)) / TICK_S <= LIMITS.joints.acceleration_rad_s2 * 1.0001
    ).all()
    checker = around._checker
    assert not any(checker.first_contact(q) for q in driven[::10])


def test_a_motion_that_monitors_hold_back_waits_and_is_given_up() -> None:
    arm, player, paths, around = cell()
    around.show(None)
    goal = HOME + np.array([1.2, 0, 0, 0, 0, 0, 0])
    supervisor = player.supervisor
    judge, asked_rad = supervisor.filter, []

    def hold(state, q, qd, now_s, gripper=None):
        asked_rad.append(float(np.abs(q[0] - player.q_sent).max()))
        out = judge(state, q, qd, now_s, gripper)
        if not 0.5 < now_s < 20.0:
            return out
        return player.q_sent[None], np.zeros((1, 7)), slow(0.0, "something is near")

    supervisor.filter = hold
    with pytest.raises(MotionTrouble) as told:
        player.play(paths.to_joints(HOME, goal))
    assert told.value.trouble is Trouble.TOO_LONG
    assert 5.0 < arm.now < 12.0 and max(asked_rad) < 0.15  # it would jump where it is let go
    assert np.abs(arm.path[-1] - arm.path[-5]).max() < 1e-9  # at rest on its way


def test_a_motion_that_was_slowed_speeds_up_within_the_limits() -> None:
    _, player, paths, around = cell()
    around.show(None)
    supervisor = player.supervisor
    judge, asked, slowed = supervisor.filter, [], []

    def slowly(state, q, qd, now_s, gripper=None):
        asked.append(q[0].copy())
        if 0.5 < now_s < 0.7:
            slowed.append(len(asked))
            q = player.q_sent + 0.5 * (q - player.q_sent)
            return q, 0.5 * qd, slow(0.5, "for a while")
        return judge(state, q, qd, now_s, gripper)

    supervisor.filter = slowly
    player.play(paths.to_joints(HOME, HOME + np.array([1.2, 0, 0, 0, 0, 0, 0])))
    after = np.diff(np.array(asked[slowed[-1] + 1 :]), axis=0) / TICK_S
    assert len(after) > 60
    change = np.abs(np.diff(after, axis=0)) / TICK_S
    assert (change <= LIMITS.joints.acceleration_rad_s2).all()


def test_what_appears_beside_the_path_does_not_stop_it() -> None:
    arm, player, paths, around = cell()
    around.show(None)
    goal = HOME + np.array([0.5, 0, 0, 0, 0, 0, 0])
    motion = paths.to_joints(HOME, goal)
    arm.at_tick = {30: lambda: around.appear(pole(HOME - np.array([1.0, 0, 0, 0, 0, 0, 0])))}
    player.play(motion)
    assert np.abs(arm.q - goal).max() < 1e-6


def test_a_start_in_contact_and_a_goal_out_of_reach_are_named() -> None:
    from robot.errors import PlanningError

    _, _, paths, around = cell()
    around.declared = (Box((0.38, 0.0, 0.55), (0.3, 0.3, 0.3), name="block"),)
    around.show(None)
    with pytest.raises(PlanningError, match="block"):
        paths.to_joints(HOME, HOME + 0.3)
    around.declared = ()
    around.show(None)
    far = Pose("world", "tool0", np.array([1.5, 0.0, 0.3]), np.array([1.0, 0, 0, 0]))
    with pytest.raises(PlanningError, match="no joints reach"):
        paths.to_pose(HOME, far)
