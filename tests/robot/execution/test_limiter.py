"""In pairs: what is within the limits passes unchanged, what is not is cut."""

from __future__ import annotations

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
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 30.0))
def test_as_long_as_the_limits_are_far_the_short_way_gives_the_same(seed, wildness):
    rng = np.random.default_rng(seed)
    limiter = JointLimiter(JOINTS, DT)
    q, qd = rng.uniform(JOINTS.lower_rad, JOINTS.upper_rad), np.zeros(7)
    left = 0
    for k in range(200):
        if k % 20 == 0:
            wanted = rng.normal(size=7) * wildness
        left = left - 1 if left > 0 else limiter.clear_ticks(q, qd)
        new, share = limiter.limit(q, qd, wanted)
        short, short_share = limiter.limit(q, qd, wanted, clear=left > 0)
        np.testing.assert_array_equal(short, new)
        assert short_share == share
        q, qd = q + new * DT, new
