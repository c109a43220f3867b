"""The arm's model agrees with PyBullet's Panda; inverse kinematics is exact and within limits."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pinocchio as pin
import pybullet_data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.errors import ConfigError, PlanningError
from robot.geometry import grasp_rotation, rotation_vector
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.types import Pose

LIMITS = load_limits("panda")
ARM = Kinematics(LIMITS)
REFERENCE = Path(pybullet_data.getDataPath()) / "franka_panda" / "panda.urdf"


def random_joints(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(LIMITS.joints.lower_rad, LIMITS.joints.upper_rad)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("tool0", "panda_grasptarget")]
    + [(name, name) for name in ("panda_link2", "panda_link4", "panda_link7", "panda_link8")]
    + [(name, name) for name in ("panda_hand", "panda_leftfinger", "panda_rightfinger")],
)
def test_every_frame_is_where_pybullets_panda_has_it(ours, theirs):
    mine = pin.buildModelFromUrdf(str(LIMITS.urdf))
    reference = pin.buildModelFromUrdf(str(REFERENCE))
    my_data, their_data = mine.createData(), reference.createData()
    rng = np.random.default_rng(1)
    for _ in range(50):
        q = np.concatenate((random_joints(rng), rng.uniform(0, 0.04, 2)))
        pin.framesForwardKinematics(mine, my_data, q)
        pin.framesForwardKinematics(reference, their_data, q)
        a = my_data.oMf[mine.getFrameId(ours)].homogeneous
        b = their_data.oMf[reference.getFrameId(theirs)].homogeneous
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_urdf_has_the_limits_of_the_yaml():
    model = pin.buildModelFromUrdf(str(LIMITS.urdf))
    assert [model.names[i] for i in range(1, 8)] == [f"panda_joint{i}" for i in range(1, 8)]
    np.testing.assert_array_equal(model.lowerPositionLimit[:7], LIMITS.joints.lower_rad)
    np.testing.assert_array_equal(model.upperPositionLimit[:7], LIMITS.joints.upper_rad)
    np.testing.assert_array_equal(model.velocityLimit[:7], LIMITS.joints.velocity_rad_s)
    np.testing.assert_array_equal(model.effortLimit[:7], LIMITS.joints.torque_nm)


def test_every_inertia_is_one_that_a_body_can_have():
    """Positive definite, and no principal moment above the sum of the other two."""
    model = pin.buildModelFromUrdf(str(LIMITS.urdf))
    for inertia in list(model.inertias)[1:]:
        moments = np.linalg.eigvalsh(inertia.inertia)
        assert inertia.mass > 0
        assert moments[0] > 0
        assert moments[2] <= moments[0] + moments[1]
    assert 15.0 < sum(i.mass for i in model.inertias) < 20.0  # the arm weighs about 18 kg


def test_gravity_torques_at_home_are_within_the_motors():
    torque = ARM.gravity_torque(LIMITS.home_rad)
    assert abs(torque[0]) < 1e-6  # about the vertical axis gravity does nothing
    assert (np.abs(torque) < LIMITS.joints.torque_nm).all()
    assert abs(torque[1]) > 5.0


def test_home_looks_straight_down():
    X_world_tool = ARM.forward(LIMITS.home_rad)
    assert (X_world_tool.parent, X_world_tool.child) == ("world", "tool0")
    np.testing.assert_allclose(X_world_tool.position_m, [0.38, 0.0, 0.5], atol=1e-5)
    np.testing.assert_allclose(X_world_tool.rotation, grasp_rotation(0.0), atol=1e-5)


def test_forward_and_its_fast_forms_agree():
    q = random_joints(np.random.default_rng(2))
    matrix = ARM.forward_matrix(q)
    np.testing.assert_allclose(ARM.forward(q).matrix, matrix, atol=1e-12)
    np.testing.assert_array_equal(ARM.tool_position(q), matrix[:3, 3])
    kept = matrix.copy()
    ARM.forward_matrix(q + 0.1)
    np.testing.assert_array_equal(matrix, kept)  # no view of shared memory


def test_the_jacobian_is_the_derivative_of_forward():
    rng = np.random.default_rng(3)
    for _ in range(20):
        q = random_joints(rng)
        J = ARM.jacobian(q)
        before = ARM.forward_matrix(q)
        for joint in range(7):
            step = np.zeros(7)
            step[joint] = 1e-6
            after = ARM.forward_matrix(q + step)
            np.testing.assert_allclose((after - before)[:3, 3] / 1e-6, J[:3, joint], atol=1e-5)
            turn = rotation_vector(after[:3, :3] @ before[:3, :3].T)
            np.testing.assert_allclose(turn / 1e-6, J[3:, joint], atol=1e-4)


def assert_reaches(q: np.ndarray | None, X: Pose) -> None:
    assert q is not None
    assert LIMITS.joints.contains(q)
    got = ARM.forward_matrix(q)
    assert np.linalg.norm(got[:3, 3] - X.position_m) <= 1e-4
    assert np.linalg.norm(rotation_vector(got[:3, :3] @ X.rotation.T)) <= math.radians(0.05)


@settings(max_examples=60)
@given(
    x=st.floats(0.32, 0.65),
    y=st.floats(-0.3, 0.3),
    z=st.floats(0.01, 0.35),
    yaw=st.floats(-math.pi / 2, math.pi / 2),
)
def test_every_top_down_grasp_on_the_table_is_reached_one_way_round(x, y, z, yaw):
    found = []
    for turn in (0.0, math.pi):
        X = Pose.from_matrix("world", "tool0", grasp_rotation(yaw + turn), [x, y, z])
        q = ARM.inverse(X, LIMITS.home_rad)
        if q is not None:
            assert_reaches(q, X)
            found.append(q)
    assert found


def test_most_poses_that_joints_can_reach_are_found():
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(100):
        X = ARM.forward(random_joints(rng))
        q = ARM.inverse(X)
        if q is not None:
            assert_reaches(q, X)
            found += 1
    assert found >= 90


def test_the_answer_is_near_the_seed_and_repeats():
    rng = np.random.default_rng(5)
    middle = 0.5 * (LIMITS.joints.lower_rad + LIMITS.joints.upper_rad)
    for _ in range(50):
        q = middle + 0.95 * (random_joints(rng) - middle)
        seed = q + rng.uniform(-0.02, 0.02, 7)
        X = ARM.forward(q)
        first, again = ARM.inverse(X, seed), Kinematics(LIMITS).inverse(X, seed)
        assert_reaches(first, X)
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - seed).max() < 0.5


def test_out_of_reach_is_none_and_a_wrong_frame_raises():
    far = Pose("world", "tool0", [2.0, 0.0, 0.5], [1, 0, 0, 0])
    assert ARM.inverse(far, LIMITS.home_rad) is None
    with pytest.raises(PlanningError, match="world"):
        ARM.inverse(Pose("cam", "tool0", [0.4, 0, 0.3], [1, 0, 0, 0]))
    with pytest.raises(PlanningError, match="tries"):
        ARM.inverse(far, tries=0)


def test_a_urdf_that_does_not_load_is_named(tmp_path):
    broken = tmp_path / "broken.urdf"
    broken.write_text("<robot name='x'>")
    with pytest.raises(ConfigError, match=r"broken\.urdf"):
        Kinematics(dataclasses.replace(LIMITS, urdf=broken))
    short = tmp_path / "short.urdf"
    short.write_text("<robot name='x'><link name='a'/></robot>")
    with pytest.raises(ConfigError, match=r"short\.urdf: expected joints panda_joint1, "):
        Kinematics(dataclasses.replace(LIMITS, urdf=short))
