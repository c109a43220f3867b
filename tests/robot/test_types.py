"""The nouns refuse what makes no sense, and poses obey the algebra of their frames."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from robot.errors import SensorError, SteadyhandError
from robot.types import (
    CameraIntrinsics,
    GripperCommand,
    HeightMap,
    JointCommand,
    JointState,
    Pose,
    RgbdFrame,
    Trajectory,
    VerdictLevel,
    Wrench,
)

number = st.floats(-2.0, 2.0)


@st.composite
def poses(draw: st.DrawFn, parent: str, child: str) -> Pose:
    quat = np.array([draw(number) for _ in range(4)])
    assume(np.linalg.norm(quat) > 1e-2)
    return Pose(parent, child, [draw(number) for _ in range(3)], quat / np.linalg.norm(quat))


@given(poses("world", "base"), poses("base", "tool"))
def test_poses_compose_as_their_matrices(X_world_base, X_base_tool):
    X_world_tool = X_world_base @ X_base_tool
    assert (X_world_tool.parent, X_world_tool.child) == ("world", "tool")
    np.testing.assert_allclose(
        X_world_tool.matrix, X_world_base.matrix @ X_base_tool.matrix, atol=1e-12
    )


@given(poses("world", "tool"))
def test_a_pose_times_its_inverse_is_identity(X_world_tool):
    X_world_world = X_world_tool @ X_world_tool.inverse()
    np.testing.assert_allclose(X_world_world.matrix, np.eye(4), atol=1e-12)


@given(poses("world", "cam"), st.lists(st.tuples(number, number, number), min_size=1, max_size=5))
def test_transform_takes_points_there_and_back(X_world_cam, points):
    given_points = np.array(points)
    back = X_world_cam.inverse().transform(X_world_cam.transform(given_points))
    np.testing.assert_allclose(back, given_points, atol=1e-12)


@given(poses("world", "tool"))
def test_from_matrix_is_the_way_back(X):
    back = Pose.from_matrix("world", "tool", X.rotation, X.position_m)
    np.testing.assert_allclose(back.matrix, X.matrix, atol=1e-12)


def test_poses_that_do_not_meet_are_refused():
    a = Pose("world", "base", [0, 0, 0], [0, 0, 0, 1])
    b = Pose("cam", "obj", [0, 0, 0], [0, 0, 0, 1])
    with pytest.raises(SteadyhandError, match="X_world_base @ X_cam_obj"):
        _ = a @ b


@pytest.mark.parametrize(
    ("position", "quat", "message"),
    [
        ([0, 0], [0, 0, 0, 1], r"position_m: expected 3 numbers"),
        ([0, 0, float("nan")], [0, 0, 0, 1], "NaN"),
        ([0, 0, 0], [0, 0, 0, 2], "unit quaternion, norm is 2"),
        ([0, 0, 0], [0, 0, 0, 0], "unit quaternion"),
        ([0, 0, 0], [0, 0, 1], "expected 4 numbers"),
    ],
)
def test_a_pose_checks_its_numbers(position, quat, message):
    with pytest.raises(SteadyhandError, match=message):
        Pose("world", "tool", position, quat)


def test_nouns_are_frozen_and_keep_their_own_copy():
    source = np.zeros(3)
    pose = Pose("world", "tool", source, [0, 0, 0, 1])
    source[0] = 5.0
    assert pose.position_m[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        pose.position_m[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        pose.parent = "base"  # type: ignore[misc]


def test_joint_state_wants_one_length_and_finite_numbers():
    with pytest.raises(SteadyhandError, match="velocity_rad_s: expected 7"):
        JointState(np.zeros(7), np.zeros(6), np.zeros(7))
    with pytest.raises(SteadyhandError, match="NaN"):
        JointState(np.full(7, np.nan), np.zeros(7), np.zeros(7))


def test_joint_command_may_carry_nan_for_the_supervisor_but_not_a_wrong_shape():
    command = JointCommand(np.full(7, np.nan), np.zeros(7))
    assert np.isnan(command.position_rad).all()
    with pytest.raises(SteadyhandError, match="one length"):
        JointCommand(np.zeros(7), np.zeros(6))


def test_gripper_command_refuses_a_negative_force():
    with pytest.raises(SteadyhandError, match="force_n"):
        GripperCommand(0.04, -1.0)


def test_wrench_checks_its_vectors():
    with pytest.raises(SteadyhandError, match="torque_nm"):
        Wrench("tool0", np.zeros(3), np.zeros(2))


def test_intrinsics_refuse_an_empty_image():
    with pytest.raises(SteadyhandError, match="must be > 0"):
        CameraIntrinsics(0, 240, 400, 400, 160, 120)


@pytest.mark.parametrize(
    ("rgb", "depth", "message"),
    [
        (np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6)), "depth .*float32"),
        (np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.float32), "expected rgb"),
        (np.zeros((6, 4, 3), np.uint8), np.zeros((4, 6), np.float32), "expected rgb"),
    ],
)
def test_a_frame_checks_its_images(rgb, depth, message):
    pose = Pose("world", "cam", [0, 0, 1], [0, 0, 0, 1])
    with pytest.raises(SensorError, match=message):
        RgbdFrame("overhead", 0.0, rgb, depth, CameraIntrinsics(6, 4, 5, 5, 3, 2), pose)


def test_a_height_map_has_no_nan_and_one_shape():
    height = np.zeros((3, 4), np.float32)
    seen = np.ones((3, 4), bool)
    HeightMap([0, 0], 0.01, height, seen, 0.0)
    with pytest.raises(SteadyhandError, match="one shape"):
        HeightMap([0, 0], 0.01, height, seen[:2], 0.0)
    height[1, 1] = np.nan
    with pytest.raises(SteadyhandError, match="NaN"):
        HeightMap([0, 0], 0.01, height, seen, 0.0)


def test_a_trajectory_has_rising_times_and_one_shape():
    rows = np.zeros((3, 7))
    assert Trajectory(np.array([0.0, 0.1, 0.2]), rows, rows, rows).duration_s == 0.2
    with pytest.raises(SteadyhandError, match="rise strictly"):
        Trajectory(np.array([0.0, 0.1, 0.1]), rows, rows, rows)
    with pytest.raises(SteadyhandError, match="shapes"):
        Trajectory(np.array([0.0, 0.1, 0.2]), rows, rows[:2], rows)


def test_verdict_levels_are_ordered_by_how_bad_they_are():
    assert VerdictLevel.OK < VerdictLevel.SCALE < VerdictLevel.HALT
