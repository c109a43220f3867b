"""In pairs: what is within the limits passes unchanged, what is not is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.execution.limiter import JointLimiter
from robot.limits import load_limits

JOINTS = load_limits("panda").joints
DT = 1 / 240
MIDDLE = 0.5 * (JOINTS.lower_rad + JOINTS.upper_rad)


def test_within_limits_the_very_same_array_comes_back():
    wanted = 0.9 * JOINTS.acceleration_rad_s2 * DT
    qd, share = JointLimiter(JOINTS, DT).limit(MIDDLE, np.zeros(7), wanted)
    assert qd is wanted
    assert share == 1.0


def test_a_change_that_is_too_quick_is_scaled_as_a_whole():
    wanted = np.array([0.5, 0.2, -0.3, 0.1, 0.4, -0.2, 0.1])
    qd, share = JointLimiter(JOINTS, DT).limit(MIDDLE, np.zeros(7), wanted)
    np.testing.assert_allclose(qd / wanted, qd[0] / wanted[0])  # the direction is kept
    assert np.isclose((np.abs(qd) / (JOINTS.acceleration_rad_s2 * DT)).max(), 1.0)
    assert 0 < share < 1
    assert np.isclose(share, qd[0] / wanted[0])


def test_a_speed_that_is_too_high_is_scaled_as_a_whole():
    wanted = 2.0 * JOINTS.velocity_rad_s
    before = 0.999 * JOINTS.velocity_rad_s
    qd, _ = JointLimiter(JOINTS, DT).limit(MIDDLE, before, wanted)
    np.testing.assert_allclose(qd, JOINTS.velocity_rad_s)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 100.0))
def test_whatever_is_asked_no_limit_is_ever_broken(seed, wildness):
    rng = np.random.default_rng(seed)
    limiter = JointLimiter(JOINTS, DT)
    q, qd = rng.uniform(JOINTS.lower_rad, JOINTS.upper_rad), np.zeros(7)
    for k in range(300):
        if k % 20 == 0:
            wanted = rng.normal(size=7) * wildness
        new, share = limiter.limit(q, qd, wanted)
        assert 0.0 <= share <= 1.0
        assert (np.abs(new) <= JOINTS.velocity_rad_s + 1e-9).all()
        assert (np.abs(new - qd) / DT <= JOINTS.acceleration_rad_s2 * (1 + 1e-9)).all()
        q, qd = q + new * DT, new
        assert JOINTS.contains(q, 1e-9)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 30.0), st.integers(1, 6))
def test_where_no_limit_can_bind_velocities_pass_unchanged(seed, wildness, ticks):
    rng = np.random.default_rng(seed)
    limiter = JointLimiter(JOINTS, DT)
    for _ in range(50):
        q = rng.uniform(JOINTS.lower_rad, JOINTS.upper_rad)
        before = rng.normal(size=7) * wildness
        qd = before + np.cumsum(rng.normal(size=(ticks, 7)), axis=0) * 0.02 * wildness
        q_next = q + np.cumsum(qd, axis=0) * DT
        if not limiter.free(q, before, qd):
            continue
        for wanted, after in zip(qd, q_next, strict=True):
            new, share = limiter.limit(q, before, wanted)
            np.testing.assert_array_equal(new, wanted)
            assert share == 1.0
            q, before = after, wanted


def test_what_is_free_says_what_binds():
    limiter, still = JointLimiter(JOINTS, DT), np.zeros(7)

    def free(q: np.ndarray, before: np.ndarray, wanted: np.ndarray) -> bool:
        return limiter.free(q, before, wanted[None])

    assert free(MIDDLE, still, still)
    assert free(MIDDLE, still, JOINTS.acceleration_rad_s2 * DT * 0.99)
    assert not free(MIDDLE, still, JOINTS.acceleration_rad_s2 * DT * 1.01)
    fast = JOINTS.velocity_rad_s * 1.01
    assert not free(MIDDLE, fast, fast)
    assert not free(JOINTS.upper_rad - 1e-3, still, still)
    assert not free(JOINTS.lower_rad + 1e-3, still, still)


def test_a_change_of_acceleration_is_free_only_within_the_jerk_limit():
    limiter, still = JointLimiter(JOINTS, DT, jerk_share=0.2), np.zeros(7)
    bend = 0.2 * JOINTS.jerk_rad_s3 * DT**2
    for share, allowed in ((0.99, True), (1.01, False)):
        rows = np.array([share * bend, share * bend])  # one bend, and another back to even speed
        assert limiter.free(MIDDLE, still, rows, still) is allowed
        assert limiter.free(MIDDLE, still, rows)  # nobody asked about jerk
        eased = limiter.ease(MIDDLE, still, still, share * bend)
        np.testing.assert_allclose(eased, min(share, 1.0) * bend)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(100.0, 10_000.0))
def test_with_little_jerk_a_speed_is_reached_and_not_shot_past(seed, jerk):
    rng = np.random.default_rng(seed)
    slow = replace(JOINTS, jerk_rad_s3=np.full(7, jerk))
    limiter = JointLimiter(slow, DT, jerk_share=0.65)
    wanted = rng.uniform(-0.6, 0.6, 7)
    before = last = np.zeros(7)
    for _ in range(400):
        one, _ = limiter.limit(MIDDLE, last, wanted)
        new = limiter.ease(MIDDLE, before, last, one)
        bent = np.abs((new - last) - (last - before)) / DT**2
        assert (bent <= 0.65 * jerk * (1 + 1e-9)).all()
        before, last = last, new
        assert (np.abs(last) <= np.abs(wanted) + 0.65 * jerk * DT**2).all()
    np.testing.assert_allclose(last, wanted, atol=1e-6)
