"""What only a critic sees: how far a candidate is from the nearest true grasp."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.critic import REACH_M, aim
from robot.geometry import grasp_rotation
from robot.types import GraspCandidate, Pose


def grasp(x, y, z, yaw):
    return Pose.from_matrix("world", "grasp", grasp_rotation(yaw), [x, y, z])


def candidate(x, y, z, yaw):
    return GraspCandidate(grasp(x, y, z, yaw), 0.04, 0.06, 1.0, 0, 0.0)


small, turns = st.floats(-0.015, 0.015), st.floats(-0.5, 0.5)


@given(small, small, small, turns, st.floats(-3.0, 3.0), st.booleans())
def test_the_aim_leads_from_the_candidate_to_the_grasp(dx, dy, dz, turn, yaw, half):
    here = candidate(0.5, 0.1, 0.05, yaw)
    pose = here.X_world_grasp
    there = pose.position_m + pose.rotation @ np.array([dx, dy, dz])
    # Turned about the approach, which points down; a grip is the same after half a turn.
    truth = grasp(*there, yaw - turn + (np.pi if half else 0.0))
    far = grasp(0.7, -0.2, 0.05, yaw)
    assert aim(here, [far, truth]) == pytest.approx([dx, dy, dz, turn], abs=1e-9)


def test_what_is_too_far_is_no_aim():
    here = candidate(0.5, 0.1, 0.05, 0.3)
    assert not aim(here, []).any()
    assert not aim(here, [grasp(0.5 + 1.1 * REACH_M, 0.1, 0.05, 0.3)]).any()
    assert not aim(here, [grasp(0.5, 0.1, 0.05, 0.3 + np.radians(50))]).any()
