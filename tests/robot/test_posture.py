"""Postures and paths that no monitor would slow down: not near singular ones, links well apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.execution.servo import CartesianServo
from robot.geometry import grasp_rotation
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.collision import CollisionChecker
from robot.planning.paths import PathConfig, PathPlanner
from robot.planning.posture import WELL_CONDITIONED, elbow_aside, unhindered, worst_condition
from robot.safety.config import SafetyConfig
from robot.types import Pose

LIMITS = load_limits()
KINEMATICS = Kinematics(LIMITS)
CHECKER = CollisionChecker(LIMITS, KINEMATICS)
HOME = np.asarray(LIMITS.home_rad)


def over(x: float, y: float, z: float, yaw: float) -> Pose:
    return Pose.from_matrix("world", LIMITS.tool_frame, grasp_rotation(yaw), (x, y, z))


def the_way_down(x: float, y: float, yaw: float) -> list[Pose]:
    return [over(x, y, z, yaw) for z in (0.12, 0.06, 0.01, 0.23)]


def test_what_counts_as_well_conditioned_is_below_where_the_monitor_slows():
    assert SafetyConfig().singular_slow > WELL_CONDITIONED
    assert SafetyConfig().self_slow_m < CHECKER.config.self_margin_m


def test_the_condition_number_is_that_of_the_jacobian_in_half_metres():
    rng = np.random.default_rng(0)
    joints = LIMITS.joints
    for q in rng.uniform(joints.lower_rad, joints.upper_rad, (50, joints.count)):
        J = np.array(KINEMATICS.jacobian(q))
        J[:3] /= 0.5
        assert KINEMATICS.condition(q) == pytest.approx(np.linalg.cond(J), rel=1e-4)


def test_a_swivel_keeps_the_tool_where_it_is():
    way = KINEMATICS.swivel(HOME)
    assert way is not None
    np.testing.assert_allclose(KINEMATICS.jacobian(HOME) @ way, 0.0, atol=1e-9)


def test_an_arm_of_six_joints_has_no_elbow_to_swing():
    limits = load_limits("xarm6")
    kinematics = Kinematics(limits)
    assert kinematics.swivel(np.asarray(limits.home_rad)) is None
    here = kinematics.forward(np.asarray(limits.home_rad))
    found = elbow_aside(kinematics, [here], np.asarray(limits.home_rad))
    assert found is not None
    np.testing.assert_array_equal(found[0], limits.home_rad)


@settings(max_examples=25)
@given(st.floats(0.29, 0.36), st.floats(-0.2, 0.2), st.floats(-1.5, 1.5))
def test_close_to_the_base_the_elbow_goes_aside(x, y, yaw):
    """There the wrist comes near the shoulder's axis: condition numbers up to 50."""
    pregrasp, *rest = the_way_down(x, y, yaw)
    q = KINEMATICS.inverse(pregrasp, HOME, tries=3)
    before = worst_condition(KINEMATICS, rest, q, CHECKER.is_apart)
    aside, after = elbow_aside(KINEMATICS, rest, q, CHECKER.is_apart)
    assert after <= before
    assert after == worst_condition(KINEMATICS, rest, aside, CHECKER.is_apart)
    here, there = KINEMATICS.forward(q), KINEMATICS.forward(aside)
    np.testing.assert_allclose(there.position_m, here.position_m, atol=1e-3)
    if before <= WELL_CONDITIONED:
        np.testing.assert_array_equal(aside, q)


def test_it_is_good_then_nearly_everywhere():
    rng = np.random.default_rng(1)
    needed, good = 0, 0
    for x, y, yaw in rng.uniform((0.29, -0.2, -1.5), (0.36, 0.2, 1.5), (40, 3)):
        pregrasp, *rest = the_way_down(float(x), float(y), float(yaw))
        q = KINEMATICS.inverse(pregrasp, HOME, tries=3)
        if worst_condition(KINEMATICS, rest, q, CHECKER.is_apart) > WELL_CONDITIONED:
            needed += 1
            aside = elbow_aside(KINEMATICS, rest, q, CHECKER.is_apart)
            good += aside[1] <= WELL_CONDITIONED
    assert needed > 20
    assert good / needed > 0.8


def test_what_cannot_be_reached_is_none_and_links_that_touch_are_the_worst():
    far = over(1.4, 0.0, 0.3, 0.0)
    assert worst_condition(KINEMATICS, [far], HOME) is None
    assert elbow_aside(KINEMATICS, [far], HOME) is None
    assert worst_condition(KINEMATICS, [], HOME, lambda q: False) == 25.0
    bent = HOME.copy()
    bent[3] = LIMITS.joints.lower_rad[3]
    nearer = KINEMATICS.forward(bent).position_m - np.array([0.05, 0.0, 0.0])
    here = KINEMATICS.forward(bent)
    back = Pose("world", "tool0", nearer, here.quat_xyzw)
    assert worst_condition(KINEMATICS, [back], bent) in (None, math.inf)


def test_links_are_apart_whatever_stands_around():
    assert CHECKER.is_apart(HOME)
    folded = HOME.copy()
    folded[3], folded[5] = LIMITS.joints.lower_rad[3], LIMITS.joints.lower_rad[5]
    assert not CHECKER.is_apart(folded)
    low = KINEMATICS.inverse(over(0.5, 0.0, -0.05, 0.0), HOME)
    assert not CHECKER.is_free(low)  # in the table
    assert CHECKER.is_apart(low)


def test_paths_keep_to_the_workspace_where_their_ends_do():
    """Outside of it the arm would creep to the wall and get no further."""
    paths = PathPlanner(LIMITS, KINEMATICS, CHECKER, 1)
    inside = unhindered(KINEMATICS, lambda q: False, HOME)
    rng = np.random.default_rng(5)
    joints = LIMITS.joints
    needed, good = 0, 0
    while needed < 8:
        q_from, q_to = rng.uniform(joints.lower_rad, joints.upper_rad, (2, joints.count))
        if not all(CHECKER.has_room(q) and inside(q) for q in (q_from, q_to)):
            continue
        line = [q_from + s * (q_to - q_from) for s in np.linspace(0.0, 1.0, 50)]
        if all(map(inside, line)) or not all(map(CHECKER.has_room, line)):
            continue
        needed += 1
        places = map(KINEMATICS.tool_position, paths.to_joints(q_from, q_to).position_rad[::10])
        tools = np.array(list(places))
        kept = (tools > LIMITS.workspace_min_m) & (tools < LIMITS.workspace_max_m)
        good += bool(kept.all())
    assert good >= 7


def test_paths_go_around_singular_postures_where_their_ends_are_good():
    paths = PathPlanner(LIMITS, KINEMATICS, CHECKER, 1, PathConfig(detour_rounds=1000))
    behind = HOME + np.eye(7)[0] * 2.5
    well = unhindered(KINEMATICS, CHECKER.is_apart, behind)
    assert well(behind) and not unhindered(KINEMATICS, CHECKER.is_apart)(behind)
    rng = np.random.default_rng(3)
    joints = LIMITS.joints
    needed, good = 0, 0
    while needed < 6:
        q_from, q_to = rng.uniform(joints.lower_rad, joints.upper_rad, (2, joints.count))
        ends = (q_from, q_to)
        if not all(CHECKER.has_room(q) and CHECKER.is_apart(q) for q in ends):
            continue
        if max(map(KINEMATICS.condition, ends)) > 10.0:
            continue
        line = [q_from + s * (q_to - q_from) for s in np.linspace(0.0, 1.0, 100)]
        if all(map(well, line)) or not all(map(CHECKER.has_room, line)):
            continue
        needed += 1
        good += all(map(well, paths.to_joints(q_from, q_to).position_rad[::10]))
    assert good >= 5


def test_the_way_down_is_followed_as_the_servo_goes_it() -> None:
    """Close to the base: each pose has good joints, and the servo gets stuck on the way to them."""
    q = np.array([0.95, -0.29, -1.12, -2.94, -0.68, 2.73, -0.13])
    here = KINEMATICS.forward(q)

    def down(by_m: float) -> Pose:
        return Pose("world", "tool0", here.position_m - [0.0, 0.0, by_m], here.quat_xyzw)

    poses = [down(0.05), down(0.1), down(-0.12)]
    alone = [KINEMATICS.inverse(pose, q, tries=3) for pose in poses]
    assert all(KINEMATICS.condition(there) < WELL_CONDITIONED for there in alone)
    assert worst_condition(KINEMATICS, poses, q) > WELL_CONDITIONED

    def driven(start: np.ndarray) -> float:
        servo = CartesianServo(KINEMATICS, LIMITS)
        servo.reset(start)
        path, _ = servo.rollout(np.array([0.0, 0.0, -0.05, 0.0, 0.0, 0.0]), 480)
        return max(map(KINEMATICS.condition, path[::12]))

    assert driven(q) > WELL_CONDITIONED
    aside, condition = elbow_aside(KINEMATICS, poses, q, CHECKER.is_apart)
    assert condition < worst_condition(KINEMATICS, poses, q)
    assert driven(aside) < driven(q)
