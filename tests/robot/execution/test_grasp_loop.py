from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.execution.grasp import GraspLoop, carried, is_round
from robot.geometry import grasp_rotation, quat_from_axis_angle, yaw_between
from robot.limits import load_limits
from robot.observation import part
from robot.types import GraspCandidate, HeightMap, ObjectState, Pose

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
    loop.begin(candidate, thing(), q, 0.06, 0.0, grid)
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
