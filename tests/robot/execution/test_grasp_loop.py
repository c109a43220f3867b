from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.execution.grasp import GraspLoop, Outcome, carried, is_round
from robot.geometry import grasp_rotation, quat_from_axis_angle, yaw_between
from robot.limits import load_limits
from robot.observation import part
from robot.types import GraspCandidate, GripperState, HeightMap, ObjectState, Pose

UP = np.array([0.0, 0.0, 1.0])
metres = st.floats(-0.1, 0.1)
angles = st.floats(-math.pi, math.pi)


def thing(x=0.5, y=0.0, yaw=0.0, class_name="box", stamp_s=0.0, size=(0.08, 0.04, 0.05)):
    pose = Pose("world", "object", [x, y, 0.025], quat_from_axis_angle(UP, yaw))
    return ObjectState(3, class_name, pose, np.array(size), 0.9, False, stamp_s)


def grip(x=0.5, y=0.01, yaw=0.2):
    pose = Pose.from_matrix("world", "grasp", grasp_rotation(yaw), [x, y, 0.02])
    return GraspCandidate(pose, 0.04, 0.06, 1.0, 3, 0.0)


@given(metres, metres, angles, angles)
def test_a_carried_candidate_keeps_its_place_on_the_object(dx, dy, yaw, turn):
    then, now = thing(yaw=yaw), thing(0.5 + dx, dy, yaw + turn, stamp_s=0.4)
    moved, half = carried(grip(), then, now)
    assert moved.stamp_s == 0.4
    before = then.X_world_obj.inverse() @ grip().X_world_grasp
    after = now.X_world_obj.inverse() @ moved.X_world_grasp
    np.testing.assert_allclose(after.position_m, before.position_m, atol=1e-9)
    # Half a turn of the hand is the same grip: the closing line is what stays.
    along = before.rotation[:, 1] @ after.rotation[:, 1]
    assert abs(along) == pytest.approx(1.0, abs=1e-9)
    assert half == (along < 0)
    turned = yaw_between(grip().X_world_grasp.rotation, moved.X_world_grasp.rotation)
    assert abs(turned) <= math.pi / 2 + 1e-6
    np.testing.assert_allclose(moved.X_world_grasp.rotation[:, 2], [0, 0, -1], atol=1e-9)


@given(angles)
def test_what_is_round_turns_no_hand(turn):
    then, now = (thing(yaw=a, class_name="ball", size=(0.05, 0.05, 0.05)) for a in (0.0, turn))
    assert is_round(then)
    np.testing.assert_allclose(
        carried(grip(), then, now)[0].X_world_grasp.matrix, grip().X_world_grasp.matrix, atol=1e-12
    )
    assert not is_round(thing(class_name="cylinder"))  # it lies


def test_what_tipped_over_has_not_turned():
    tipped = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    assert yaw_between(np.eye(3), tipped) == 0.0


@pytest.fixture
def loop():
    made = GraspLoop.make(load_limits("panda"))
    q = made.limits.home_rad
    made.begin(grip(), thing(), q, 0.06, 0.0)
    made.observe(q, np.zeros(7), 0.0)
    return made


def test_the_grasp_follows_its_object_but_not_the_noise(loop):
    loop.track(thing(0.503, 0.0, stamp_s=0.2))
    np.testing.assert_allclose(loop.target.position_m, [0.5, 0.01, 0.02])
    assert loop.target.obj.stamp_s == 0.2
    loop.track(thing(0.53, 0.0, stamp_s=0.4))
    np.testing.assert_allclose(loop.target.position_m, [0.53, 0.01, 0.02])
    assert loop.target.candidate.stamp_s == 0.4
    # Small steps add up: they are measured from the grasp in use.
    loop.track(thing(0.534, 0.0, stamp_s=0.6))
    loop.track(thing(0.538, 0.0, stamp_s=0.8))
    np.testing.assert_allclose(loop.target.position_m, [0.538, 0.01, 0.02])


def test_closing_fingers_end_the_following(loop):
    loop.act(np.array([0, 0, 0, 0, -1.0], np.float32))
    loop.track(thing(0.55, 0.0, stamp_s=0.2))
    np.testing.assert_allclose(loop.target.position_m, [0.5, 0.01, 0.02])


def test_without_an_object_there_is_nothing_to_follow(loop):
    loop.begin(grip(), None, loop.limits.home_rad, 0.06, 0.0)
    loop.track(thing(0.55))
    np.testing.assert_allclose(loop.target.position_m, [0.5, 0.01, 0.02])


def test_a_bar_beside_the_grasp_is_aimed_at_and_followed_when_it_turns(loop):
    """The candidate's fingers close along x, the bar stands 1 cm further on."""
    step, shape = 0.0025, (121, 121)
    x = 0.35 + step * np.arange(shape[0])
    heights = np.where(np.abs(x - 0.51)[:, None] < 0.015, 0.05, 0.0) * np.ones(shape)
    origin = np.array([0.35, -0.15])
    grid = HeightMap(origin, step, heights.astype(np.float32), np.ones(shape, bool), 0.0)
    candidate = grip(yaw=math.pi / 2 - 0.1)
    q = loop.limits.home_rad
    loop.begin(candidate, thing(), q, 0.06, 0.0, loop.around(grid, candidate))
    aim = loop.target.aim
    pose = candidate.X_world_grasp
    across = np.array([1.0, 0.0, 0.0])
    assert abs((pose.rotation @ aim[:3] + pose.position_m - [0.51, 0, 0]) @ across) < 0.004
    seen = loop.observe(q, np.zeros(7), 0.0)
    tool = seen[part("tool_position")]
    np.testing.assert_allclose(seen[part("aim_position")], tool - aim[:3], atol=1e-6)
    loop.track(thing(0.55, 0.0, yaw=math.pi - 0.1, stamp_s=0.2))  # half a turn is taken off
    np.testing.assert_allclose(loop.target.aim, aim * [-1, -1, 1, 1])
    loop.begin(candidate, thing(), q, 0.06, 0.0)
    assert not loop.target.aim.any()


DOWN = np.array([0, 0, 1, 0, 1], np.float32)


def over(loop: GraspLoop, above_m: float) -> np.ndarray:
    """Joints at which the hand is so far above the grasp; seen there at rest."""
    grasp = loop.target.candidate.X_world_grasp
    at = Pose("world", "tool0", grasp.position_m + above_m * UP, grasp.quat_xyzw)
    q = loop.kinematics.inverse(at, loop.limits.home_rad)
    loop.observe(q, np.zeros(len(q)), 0.0)
    return q


def test_the_hand_comes_slowly_to_where_its_fingers_might_touch(loop):
    x, y = 0.005 * (np.arange(61) - 30.0) + 0.5, 0.005 * (np.arange(61) - 30.0)
    top = (np.hypot(x[:, None] - 0.5, y[None] - 0.01) < 0.02) * 0.05  # 3 cm above the grasp
    grid = HeightMap(
        np.array([x[0], y[0]]), 0.005, top.astype(np.float32), np.ones((61, 61), bool), 0.0
    )
    around = loop.around(grid, grip())
    loop.begin(grip(), thing(), loop.limits.home_rad, 0.06, 0.0, around)
    speeds = {}
    for above_m in (0.09, 0.05, 0.03, 0.0):
        over(loop, above_m)
        loop.act(DOWN)
        speeds[above_m] = float(loop.previous_action[2]) * loop.scale.linear_m_s
        # What the policy is told it asked for is what was made of it.
        assert -loop._twist[2] == pytest.approx(speeds[above_m], abs=1e-6)
    slow = loop.config.touch.speed_m_s
    assert speeds[0.09] > speeds[0.05] >= speeds[0.03] == speeds[0.0] == pytest.approx(slow)
    loop.act(-DOWN)
    assert loop._twist[2] == pytest.approx(0.25)  # up as fast as it likes
    loop.act(np.array([0, 0, np.nan, 0, 1], np.float32))
    assert np.isnan(loop._twist[2])


LOW_M = 0.005  # the table might be touched from here


def pressing(force_n: float, side: float = 0.0) -> np.ndarray:
    """What the tool presses with, downwards, at its middle or at a finger (side 1 or -1)."""
    rotation = grip().X_world_grasp.rotation
    force = force_n * rotation[:, 2]
    return np.concatenate((force, np.cross(0.03 * side * rotation[:, 1], force)))


def up_m_s(loop: GraspLoop) -> float:
    return float(loop._twist[2])


def test_a_hand_that_comes_down_on_something_rises_and_stays_off(loop):
    touch = loop.config.touch
    q = over(loop, LOW_M)
    loop.act(DOWN)
    for gentle in (pressing(-40.0), pressing(0.9 * touch.force_n)):
        loop.feel_below(gentle, q)
        assert up_m_s(loop) < 0.0
    loop.feel_below(pressing(40.0), q)
    assert up_m_s(loop) == pytest.approx(touch.speed_m_s)
    loop.act(DOWN)  # still there
    assert up_m_s(loop) == pytest.approx(touch.speed_m_s)
    over(loop, LOW_M + touch.recoil_m + 1e-4)
    loop.act(DOWN)
    assert not loop._twist.any()
    assert loop.previous_action[2] > 0.0  # as the policy asked
    outcomes = [loop.outcome(0.05 * step) for step in range(touch.steps_n + 1)]
    assert set(outcomes[:-1]) == {Outcome.RUNNING} and outcomes[-1] is Outcome.TOUCHED
    loop.begin(grip(), thing(), loop.limits.home_rad, 0.06, 0.0)
    over(loop, LOW_M)
    loop.act(DOWN)
    assert up_m_s(loop) < 0.0  # forgotten


@pytest.mark.parametrize(("robot", "rises"), [("panda", True), ("xarm6", False)])
def test_what_fingers_on_cranks_drag_along_was_not_come_down_on(robot, rises):
    loop = GraspLoop.make(load_limits(robot))
    loop.begin(grip(), thing(), loop.limits.home_rad, 0.06, 0.0)
    q = over(loop, LOW_M)
    loop.act(DOWN - np.array([0, 0, 0, 0, 2], np.float32))
    loop.gripper_state = GripperState(0.04, 20.0)
    loop.feel_below(pressing(60.0), q)
    assert (up_m_s(loop) > 0.0) == rises
    loop.feel_below(pressing(80.0), q)
    assert up_m_s(loop) > 0.0


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_where_one_finger_came_down_the_grasp_moves_to_its_side(loop, side):
    touch = loop.config.touch
    there = grip().X_world_grasp.position_m
    across = grip().X_world_grasp.rotation[:, 1]
    for nth in range(1, touch.asides_n + 2):
        q = over(loop, LOW_M)
        loop.feel_below(pressing(40.0, side), q)
        loop.act(DOWN)
        over(loop, LOW_M + touch.recoil_m + 1e-4)
        loop.act(DOWN)
        steps = min(nth, touch.asides_n)
        np.testing.assert_allclose(
            loop.target.position_m, there + steps * side * touch.aside_m * across, atol=1e-9
        )
        assert (up_m_s(loop) < 0.0) == (nth <= touch.asides_n)
    # The object stays where it was seen, and what is seen of it next does not undo the steps.
    np.testing.assert_allclose(loop.target.object_position_m, thing().X_world_obj.position_m)
    loop.track(thing(stamp_s=0.2))
    assert np.linalg.norm(loop.target.position_m - there) > 0.01


def test_fingers_that_close_stay_off_until_they_hold(loop):
    q = over(loop, LOW_M)
    closing = DOWN - np.array([0, 0, 0, 0, 2], np.float32)
    loop.act(closing)
    loop.feel_below(pressing(40.0, 1.0), q)
    over(loop, 0.03)
    loop.act(closing)
    assert not loop._twist.any()
    np.testing.assert_allclose(loop.target.position_m, grip().X_world_grasp.position_m)
    assert loop.outcome(0.0) is Outcome.RUNNING
    loop.gripper_state = GripperState(0.04, 20.0, contact=True)
    loop.act(closing)
    assert up_m_s(loop) < 0.0


def test_what_is_held_is_known_while_the_fingers_feel_it(loop):
    assert loop.held is None
    loop.gripper_state = GripperState(0.04, 20.0, contact=True)
    held = loop.held
    assert held.size_m == (0.08, 0.04, 0.05)
    X_world_box = grip().X_world_grasp.matrix @ held.X_tool_box.matrix
    np.testing.assert_allclose(X_world_box, thing().X_world_obj.matrix, atol=1e-9)
    loop.begin(grip(), None, loop.limits.home_rad, 0.06, 0.0)
    loop.gripper_state = GripperState(0.04, 20.0, contact=True)
    assert loop.held is None
