"""The servo goes where the twist says, keeps the tilt, and never breaks a joint limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.errors import SteadyhandError
from robot.execution.servo import CartesianServo, ServoConfig
from robot.geometry import grasp_rotation
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.types import Pose

LIMITS = load_limits("panda")
ARM = Kinematics(LIMITS)
CONFIG = ServoConfig()
DT = CONFIG.tick_s


def servo_at(q: np.ndarray, config: ServoConfig | None = None) -> CartesianServo:
    servo = CartesianServo(ARM, LIMITS, config)
    servo.reset(q)
    return servo


def over_the_table(x: float = 0.5, y: float = 0.0, z: float = 0.2, yaw: float = 0.0) -> np.ndarray:
    X = Pose.from_matrix("world", "tool0", grasp_rotation(yaw), [x, y, z])
    q = ARM.inverse(X, LIMITS.home_rad)
    assert q is not None
    return q


def ramped_way(speed: float, acceleration: float, seconds: float) -> float:
    """The way after ``seconds`` when the speed rises by steps of a tick."""
    way = velocity = 0.0
    for _ in range(round(seconds / DT)):
        velocity = min(velocity + acceleration * DT, speed)
        way += velocity * DT
    return way


def tilt_rad(rotation: np.ndarray) -> float:
    return math.acos(min(1.0, float(-rotation[2, 2])))


@pytest.mark.parametrize(
    "direction", [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [1, 1, -1]]
)
def test_a_velocity_is_followed_within_a_millimetre_after_a_second(direction):
    unit = np.array(direction) / np.linalg.norm(direction)
    q0 = over_the_table()
    q, _ = servo_at(q0).rollout(np.concatenate((0.15 * unit, np.zeros(3))), 240)
    start, end = ARM.forward_matrix(q0), ARM.forward_matrix(q[-1])
    way = ramped_way(0.15, CONFIG.linear_acceleration_m_s2, 1.0)
    error = end[:3, 3] - (start[:3, 3] + unit * way)
    assert np.linalg.norm(error) < 1e-3
    assert tilt_rad(end[:3, :3]) < math.radians(0.05)


@pytest.mark.parametrize("rate", [-1.2, 1.2])
def test_a_yaw_turns_the_hand_on_the_spot(rate):
    q0 = over_the_table(yaw=-rate / 4)
    q, _ = servo_at(q0).rollout(np.array([0, 0, 0, 0, 0, rate]), 240)
    start, end = ARM.forward_matrix(q0), ARM.forward_matrix(q[-1])
    turn = end[:3, :3] @ start[:3, :3].T
    way = math.copysign(ramped_way(1.2, CONFIG.angular_acceleration_rad_s2, 1.0), rate)
    assert math.atan2(turn[1, 0], turn[0, 0]) == pytest.approx(way, abs=2e-3)
    assert np.linalg.norm(end[:3, 3] - start[:3, 3]) < 1e-3
    assert tilt_rad(end[:3, :3]) < math.radians(0.05)


def test_the_velocity_ramps_up_and_comes_to_rest():
    servo = servo_at(over_the_table())
    twist = np.array([0.2, 0, 0, 0, 0, 0])
    q, qd = servo.rollout(twist, 60)
    speeds = [ARM.jacobian(a)[:3] @ b for a, b in zip(q, qd, strict=True)]
    step = CONFIG.linear_acceleration_m_s2 * DT
    assert 0.5 * step < np.linalg.norm(speeds[0]) < 1.01 * step
    assert np.linalg.norm(speeds[-1]) == pytest.approx(0.2, rel=0.02)
    q, qd = servo.rollout(np.zeros(6), 240)
    assert np.abs(qd[-1]).max() < 1e-3
    np.testing.assert_allclose(q[-1], q[-20], atol=1e-5)


def test_no_twist_is_no_motion():
    q0 = over_the_table()
    q, qd = servo_at(q0).rollout(np.zeros(6), 240)
    np.testing.assert_allclose(q, np.tile(q0, (240, 1)), atol=1e-12)
    np.testing.assert_allclose(qd, 0.0, atol=1e-12)


def test_many_ticks_at_once_are_the_same_as_one_by_one():
    rng = np.random.default_rng(0)
    batch, single = servo_at(LIMITS.home_rad), servo_at(LIMITS.home_rad)
    for _ in range(30):
        twist = rng.uniform(-1, 1, 6) * [0.4, 0.4, 0.4, 0.2, 0.2, 2.0]
        q, qd = batch.rollout(twist, 12)
        rows = [single.rollout(twist, 1) for _ in range(12)]
        np.testing.assert_array_equal(q, np.concatenate([r[0] for r in rows]))
        np.testing.assert_array_equal(qd, np.concatenate([r[1] for r in rows]))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), wildness=st.sampled_from([0.3, 1.0, 10.0]))
def test_random_twists_never_break_a_joint_limit(seed, wildness):
    rng = np.random.default_rng(seed)
    joints = LIMITS.joints
    start = rng.uniform(joints.lower_rad, joints.upper_rad)
    middle = 0.5 * (joints.lower_rad + joints.upper_rad)
    start = middle + 0.98 * (start - middle)
    servo = servo_at(start)
    rows = [start[None]]
    for _ in range(25):
        twist = rng.normal(size=6) * np.array([0.5, 0.5, 0.5, 2, 2, 2]) * wildness
        q, qd = servo.rollout(twist, 12)
        assert (np.abs(qd) <= joints.velocity_rad_s).all()
        rows.append(q)
    q = np.concatenate(rows)
    velocity = np.diff(q, axis=0, prepend=q[:1]) / DT
    acceleration = np.diff(velocity, axis=0) / DT
    assert joints.contains(q)
    assert (np.abs(velocity) <= joints.velocity_rad_s * (1 + 1e-6)).all()
    assert (np.abs(acceleration) <= joints.acceleration_rad_s2 * (1 + 1e-6)).all()


def test_a_hand_that_turns_round_again_and_again_keeps_the_joints_jerk():
    joints, servo = LIMITS.joints, servo_at(over_the_table())
    rng = np.random.default_rng(0)
    rows = [servo.q_ref[None]] * 3
    for step in range(120):
        up = 0.25 if step % 2 else -0.25
        # Also turned round before the hand has come up to its speed.
        rows.append(servo.rollout(np.array([0, 0, up, 0, 0, 0]), int(rng.integers(4, 24)))[0])
    jerk = np.diff(np.concatenate(rows), 3, axis=0) / DT**3
    assert (np.abs(jerk) <= CONFIG.jerk_share * joints.jerk_rad_s3 * (1 + 1e-6)).all()


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_tilt_is_kept_over_the_table_whatever_the_actions(seed):
    rng = np.random.default_rng(seed)
    servo = servo_at(over_the_table())
    for _ in range(20):
        twist = np.array([*rng.uniform(-0.15, 0.15, 3), 0, 0, rng.uniform(-1.0, 1.0)])
        q, _ = servo.rollout(twist, 12)
        assert tilt_rad(ARM.forward_matrix(q[-1])[:3, :3]) < math.radians(0.2)


def test_a_reversal_is_followed_at_once_after_pushing_against_the_reach():
    """The reference must not have run away while the arm could not follow."""
    servo = servo_at(over_the_table(x=0.7, z=0.3))
    q_stretched, _ = servo.rollout(np.array([0.25, 0, 0.05, 0, 0, 0]), 960)
    assert LIMITS.joints.contains(q_stretched)
    before = ARM.forward_matrix(q_stretched[-1])
    q, _ = servo.rollout(np.array([-0.25, 0, -0.05, 0, 0, 0]), 240)
    back = before[0, 3] - ARM.forward_matrix(q[-1])[0, 3]
    assert back > 0.1
    assert tilt_rad(ARM.forward_matrix(q[-1])[:3, :3]) < math.radians(2.0)


def test_pushing_a_joint_to_its_limit_stops_short_of_it():
    servo = servo_at(LIMITS.home_rad)
    q, qd = servo.rollout(np.array([0, 0, 0, 0, 0, -1.5]), 960)
    assert LIMITS.joints.upper_rad[6] - 0.05 < q[-1, 6] < LIMITS.joints.upper_rad[6]
    assert np.abs(qd[-1]).max() < 0.05


@pytest.mark.parametrize("rate", [-1.2, 1.2])
def test_a_joint_at_its_limit_does_not_stop_the_others(rate):
    servo = servo_at(over_the_table())
    for _ in range(8):  # until the last joint cannot turn the hand any further
        servo.rollout(np.array([0, 0, 0, 0, 0, rate]), 120)
    before = ARM.forward_matrix(servo.q_ref)
    q, _ = servo.rollout(np.array([0.05, 0.05, 0.05, 0, 0, rate]), 240)
    after = ARM.forward_matrix(q[-1])
    assert np.all(after[:3, 3] - before[:3, 3] > 0.03)
    assert tilt_rad(after[:3, :3]) < math.radians(3.0)
    assert np.all(q >= LIMITS.joints.lower_rad) and np.all(q <= LIMITS.joints.upper_rad)


def test_follow_goes_on_from_what_was_sent():
    servo = servo_at(over_the_table())
    servo.rollout(np.array([0.1, 0, 0, 0, 0, 0]), 60)
    sent = servo.q_ref - 0.002
    servo.follow(sent)
    q, _ = servo.rollout(np.array([0.1, 0, 0, 0, 0, 0]), 1)
    assert np.abs(q[0] - sent).max() < 0.01
    np.testing.assert_array_equal(servo.q_ref, q[-1])


def test_nan_gives_nan_and_leaves_the_reference_alone():
    servo = servo_at(LIMITS.home_rad)
    q, qd = servo.rollout(np.array([np.nan, 0, 0, 0, 0, 0]), 3)
    assert q.shape == qd.shape == (3, 7)
    assert np.isnan(q).all()
    np.testing.assert_array_equal(servo.q_ref, LIMITS.home_rad)


@pytest.mark.parametrize("q", [np.zeros(6), np.full(7, np.nan)])
def test_reset_refuses_what_is_not_seven_numbers(q):
    with pytest.raises(SteadyhandError, match="expected 7 finite joints"):
        CartesianServo(ARM, LIMITS).reset(q)
