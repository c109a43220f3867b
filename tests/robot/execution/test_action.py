"""The action means the same at every yaw, is clipped, and has an inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.errors import SteadyhandError
from robot.execution.action import ACTION, ActionScale, from_twist, to_twist
from robot.geometry import grasp_rotation

SCALE = ActionScale()
unit = st.floats(-1.0, 1.0, width=32)
actions = st.tuples(unit, unit, unit, unit, unit).map(lambda a: np.array(a, dtype=np.float32))
yaws = st.floats(-3.2, 3.2)


def test_positive_vz_approaches_and_positive_yaw_turns_about_the_approach():
    R = grasp_rotation(0.7)
    twist, opening = to_twist(np.array([0, 0, 1, 1, 1], np.float32), R)
    np.testing.assert_allclose(twist, [0, 0, -SCALE.linear_m_s, 0, 0, -SCALE.yaw_rad_s], atol=1e-12)
    assert opening == SCALE.opening_m


def test_vy_moves_along_the_closing_direction():
    R = grasp_rotation(0.7)
    twist, _ = to_twist(np.array([0, 1, 0, 0, 0], np.float32), R)
    np.testing.assert_allclose(twist[:3], R[:, 1] * SCALE.linear_m_s, atol=1e-12)


@pytest.mark.parametrize(("a", "opening"), [(-1, 0.0), (0, 0.04), (1, 0.08), (7, 0.08)])
def test_opening_runs_from_closed_to_open(a, opening):
    assert to_twist(np.array([0, 0, 0, 0, a], np.float32), np.eye(3))[1] == pytest.approx(opening)


@given(actions, yaws)
def test_from_twist_is_the_way_back(action, yaw):
    R = grasp_rotation(yaw)
    back = from_twist(*to_twist(action, R), R)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, action, atol=1e-6)


@given(actions, yaws, st.floats(1.0, 50.0))
def test_what_is_beyond_one_counts_as_one(action, yaw, factor):
    R = grasp_rotation(yaw)
    big = (action * factor).astype(np.float32)
    twist, opening = to_twist(big, R)
    clipped_twist, clipped_opening = to_twist(np.clip(big, -1, 1), R)
    np.testing.assert_array_equal(twist, clipped_twist)
    assert opening == clipped_opening
    assert np.linalg.norm(twist[:3]) <= SCALE.linear_m_s * np.sqrt(3) + 1e-9


def test_nan_is_not_hidden_by_the_clipping():
    twist, _ = to_twist(np.array([np.nan, 0, 0, 0, 0], np.float32), np.eye(3))
    assert np.isnan(twist).any()


def test_a_wrong_length_or_scale_is_refused():
    assert len(ACTION) == 5
    with pytest.raises(SteadyhandError, match="expected 5 numbers"):
        to_twist(np.zeros(4, np.float32), np.eye(3))
    with pytest.raises(SteadyhandError, match="above 0"):
        ActionScale(linear_m_s=0.0)
