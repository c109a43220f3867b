"""Rotations agree with each other and with an independent library (SciPy)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot import geometry

component = st.floats(-1.0, 1.0)


@st.composite
def quaternions(draw: st.DrawFn) -> np.ndarray:
    quat = np.array([draw(component) for _ in range(4)])
    norm = float(np.linalg.norm(quat))
    assume(norm > 1e-3)
    return quat / norm


@given(quaternions())
def test_matrix_from_quat_agrees_with_scipy(quat):
    np.testing.assert_allclose(
        geometry.matrix_from_quat(quat), Rotation.from_quat(quat).as_matrix(), atol=1e-12
    )


@given(quaternions())
def test_quat_from_matrix_is_the_way_back(quat):
    back = geometry.quat_from_matrix(geometry.matrix_from_quat(quat))
    assert back[3] >= 0
    assert abs(abs(float(back @ quat)) - 1.0) < 1e-12  # q and -q are one rotation


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [-1, 2, 0.5]])
def test_quat_from_matrix_at_half_turns(axis):
    """Where w is 0 the naive formula divides by zero."""
    turn = Rotation.from_rotvec(np.array(axis) / np.linalg.norm(axis) * math.pi)
    back = geometry.matrix_from_quat(geometry.quat_from_matrix(turn.as_matrix()))
    np.testing.assert_allclose(back, turn.as_matrix(), atol=1e-12)


@given(quaternions(), quaternions())
def test_quat_multiply_composes_rotations(a, b):
    np.testing.assert_allclose(
        geometry.matrix_from_quat(geometry.quat_multiply(a, b)),
        geometry.matrix_from_quat(a) @ geometry.matrix_from_quat(b),
        atol=1e-12,
    )


@given(quaternions())
def test_conjugate_undoes(quat):
    product = geometry.quat_multiply(quat, geometry.quat_conjugate(quat))
    np.testing.assert_allclose(product, [0, 0, 0, 1], atol=1e-12)


@given(quaternions())
def test_rotation_vector_agrees_with_scipy(quat):
    turn = Rotation.from_quat(quat)
    assume(turn.magnitude() < math.pi - 1e-6)  # at a half turn either sign is right
    np.testing.assert_allclose(
        geometry.rotation_vector(turn.as_matrix()), turn.as_rotvec(), atol=1e-7
    )


@given(st.floats(-10, 10), st.tuples(component, component, component))
def test_quat_from_axis_angle_agrees_with_scipy(angle, axis):
    vector = np.array(axis)
    assume(np.linalg.norm(vector) > 1e-3)
    unit = vector / np.linalg.norm(vector)
    np.testing.assert_allclose(
        geometry.matrix_from_quat(geometry.quat_from_axis_angle(vector, angle)),
        Rotation.from_rotvec(unit * angle).as_matrix(),
        atol=1e-12,
    )


@given(st.floats(-7, 7))
def test_grasp_rotation_points_down_with_x_at_the_yaw(yaw):
    R = geometry.grasp_rotation(yaw)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1.0)
    np.testing.assert_array_equal(R[:, 2], [0, 0, -1])
    np.testing.assert_allclose(R[:, 0], [math.cos(yaw), math.sin(yaw), 0], atol=1e-12)


@given(st.floats(-100, 100), st.sampled_from([math.pi, 2 * math.pi]))
def test_wrap_angle_moves_by_whole_periods_into_range(angle, period):
    wrapped = geometry.wrap_angle(angle, period)
    assert -period / 2 <= wrapped <= period / 2
    turns = (angle - wrapped) / period
    assert abs(turns - round(turns)) < 1e-9
