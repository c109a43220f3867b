"""Which grasps the arm can reach, and which way round the hand comes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robot.execution.grasp import GraspLoop
from robot.geometry import grasp_rotation
from robot.limits import load_limits
from robot.planning import reach
from robot.planning.collision import CollisionChecker
from robot.planning.posture import IMPASSABLE, Apart, worst_condition
from robot.planning.reach import reachable, turned
from robot.types import GraspCandidate, Pose

LIMITS = load_limits()
LOOP = GraspLoop.make(LIMITS)
HOME = np.asarray(LIMITS.home_rad)


def candidate(x: float, y: float, z: float, yaw: float) -> GraspCandidate:
    pose = Pose.from_matrix("world", "grasp", grasp_rotation(yaw), (x, y, z))
    return GraspCandidate(pose, 0.03, 0.06, 0.7, 4, 1.25)


def grips(nearest_m: float) -> st.SearchStrategy[GraspCandidate]:
    x, y, z = st.floats(nearest_m, 0.66), st.floats(-0.22, 0.22), st.floats(0.01, 0.12)
    return st.builds(candidate, x, y, z, st.floats(-math.pi, math.pi))


workspace = grips(0.32)
away_from_the_base = grips(0.45)  # where the elbow need not be swung aside


@settings(max_examples=40)
@given(workspace)
@example(candidate(0.34375, 0.125, 0.01, -0.203125))  # the top of its lift takes a second start
def test_the_joints_are_those_of_the_pregrasp_within_limits(grip):
    found = reachable(LOOP, grip, HOME)
    assert found is not None  # all of the workspace can be reached from above
    chosen, q = found
    X = LOOP.kinematics.forward_matrix(q)
    pose = chosen.X_world_grasp
    want = pose.position_m - LOOP.config.pregrasp_m * pose.rotation[:, 2]
    np.testing.assert_allclose(X[:3, 3], want, atol=1e-3)
    np.testing.assert_allclose(X[:3, :3], pose.rotation, atol=5e-3)
    assert (q > LIMITS.joints.lower_rad).all()
    assert (q < LIMITS.joints.upper_rad).all()


@settings(max_examples=40)
@given(away_from_the_base)
def test_the_hand_comes_the_way_round_that_turns_less_if_it_can_still_turn_on(grip):
    chosen, q = reachable(LOOP, grip, HOME)
    other = turned(chosen)
    assert _same(chosen, grip) or _same(chosen, turned(grip))
    q_other = LOOP.kinematics.inverse(LOOP.pregrasp(other), HOME, tries=3)
    if q_other is not None:
        nearer = np.abs(q - HOME).max() <= np.abs(q_other - HOME).max() + 1e-6
        assert nearer or _room(q_other) < 1.0 <= _room(q)
        assert _room(q) >= 1.0  # one of the two always has it: half a turn is more than that


def test_a_grip_at_the_end_of_the_last_joint_is_taken_the_other_way_round():
    rooms = []
    for yaw in np.linspace(-math.pi / 2, math.pi / 2, 19):
        chosen, q = reachable(LOOP, candidate(0.5, 0.0, 0.05, float(yaw)), HOME)
        near = LOOP.kinematics.inverse(LOOP.pregrasp(turned(chosen)), HOME, tries=3)
        rooms.append((_room(q), _room(near), np.abs(q - HOME).max() > np.abs(near - HOME).max()))
    assert any(longer and other < 1.0 for _, other, longer in rooms)
    assert all(room >= 1.0 for room, _, _ in rooms)


@settings(max_examples=20)
@given(away_from_the_base)
def test_the_answer_does_not_depend_on_which_way_round_was_asked(grip):
    a, qa = reachable(LOOP, grip, HOME)
    b, qb = reachable(LOOP, turned(grip), HOME)
    away_a, away_b = (float(np.abs(q - HOME).max()) for q in (qa, qb))
    assert _same(a, b) or away_a == pytest.approx(away_b, abs=1e-6)


@pytest.mark.parametrize(
    "grip",
    [(0.254, -0.122, 0.062, 168.0), (0.287, -0.026, 0.009, 45.0), (0.254, 0.071, 0.009, 0.0)],
)
def test_close_to_the_base_the_elbow_goes_where_the_arm_does_not_get_stuck(grip):
    """Each was the end of a pick: a joint at its end half-way down, or a singular posture."""
    apart = CollisionChecker(LIMITS, LOOP.kinematics).is_apart
    *at, yaw = grip
    found = reachable(LOOP, candidate(*at, math.radians(yaw)), HOME, apart)
    assert found is not None and worst(found, apart) <= IMPASSABLE


@pytest.mark.parametrize(("condition", "refused"), [(29.0, False), (31.0, True), (math.inf, True)])
def test_where_the_arm_would_get_stuck_a_grasp_is_refused(monkeypatch, condition, refused):
    monkeypatch.setattr(reach, "elbow_aside", lambda kinematics, poses, q, apart: (q, condition))
    assert (reachable(LOOP, candidate(0.5, 0.0, 0.05, 0.0), HOME) is None) is refused


def worst(found: tuple[GraspCandidate, np.ndarray], apart: Apart) -> float | None:
    chosen, q = found
    X, c = chosen.X_world_grasp, LOOP.config
    way = [
        Pose("world", LIMITS.tool_frame, X.position_m - out_m * X.rotation[:, 2], X.quat_xyzw)
        for out_m in (0.5 * c.pregrasp_m, 0.0, c.lift_m)
    ]
    return worst_condition(LOOP.kinematics, way, q, apart)


@pytest.mark.parametrize("at", [(1.1, 0.0, 0.05), (0.5, 0.9, 0.05), (0.0, 0.0, 0.05)])
def test_what_is_too_far_or_in_the_base_is_refused(at):
    assert reachable(LOOP, candidate(*at, 0.0), HOME) is None


def test_a_grasp_that_can_be_reached_but_not_lifted_is_refused():
    """Near the end of the arm the grasp itself still works; the top of the lift does not."""
    found = [x for x in np.arange(0.60, 0.90, 0.01) if _grasp_only(float(x))]
    lifted = [x for x in found if reachable(LOOP, candidate(float(x), 0.0, 0.1, 0.0), HOME)]
    assert lifted
    assert len(found) > len(lifted)
    assert max(lifted) < max(found)


def test_half_a_turn_keeps_all_but_the_hands_way_round():
    grip = candidate(0.5, 0.1, 0.04, 0.3)
    other = turned(grip)
    a, b = grip.X_world_grasp, other.X_world_grasp
    np.testing.assert_array_equal(a.position_m, b.position_m)
    np.testing.assert_allclose(a.rotation[:, 2], b.rotation[:, 2], atol=1e-12)
    np.testing.assert_allclose(a.rotation[:, :2], -b.rotation[:, :2], atol=1e-12)
    same = ("width_m", "opening_m", "score", "object_id", "stamp_s")
    assert all(getattr(grip, name) == getattr(other, name) for name in same)
    assert _same(turned(other), grip)


def test_it_is_deterministic():
    grip = candidate(0.55, -0.1, 0.05, 2.0)
    a, b = (reachable(LOOP, grip, HOME) for _ in range(2))
    np.testing.assert_array_equal(a[1], b[1])


def _grasp_only(x: float) -> bool:
    grip = candidate(x, 0.0, 0.1, 0.0)
    pose = grip.X_world_grasp
    tool = Pose("world", LIMITS.tool_frame, pose.position_m, pose.quat_xyzw)
    return LOOP.kinematics.inverse(tool, HOME, tries=3) is not None


def _room(q):
    joints = LIMITS.joints
    return min(q[-1] - joints.lower_rad[-1], joints.upper_rad[-1] - q[-1])


def _same(a: GraspCandidate, b: GraspCandidate) -> bool:
    return bool(
        np.allclose(a.X_world_grasp.matrix, b.X_world_grasp.matrix, atol=1e-9)
        and a.score == b.score
    )
