"""A halted arm stops within its limits from whatever it did, and soon."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.limits import load_limits
from robot.safety.braking import Brake
from robot.safety.sent import Sent

LIMITS = load_limits("panda")
DT = 1.0 / 240.0
JOINTS = LIMITS.joints


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(0.0, 1.0), share=st.sampled_from([0.7, 1.0]))
def test_it_comes_to_rest_within_acceleration_and_jerk(seed, size, share):
    rng = np.random.default_rng(seed)
    sent = Sent(7)
    sent.rest_at(LIMITS.home_rad)
    speed = rng.uniform(-size, size, 7) * JOINTS.velocity_rad_s
    drift = rng.uniform(-1.0, 1.0, 7) * JOINTS.acceleration_rad_s2
    sent.advance(np.array(LIMITS.home_rad), speed, speed - drift * DT)
    brake = Brake(JOINTS, DT, share)
    velocity, acceleration = [speed], [drift]
    while not sent.at_rest:
        q, qd = brake.next(sent)
        np.testing.assert_allclose(q, sent.position_rad + qd * DT, atol=1e-12)
        sent.advance(q, qd)
        velocity.append(qd)
        acceleration.append((velocity[-1] - velocity[-2]) / DT)
        assert len(velocity) < 120  # 0.5 s; 2.175 rad/s at 7.5 rad/s² take 70 ticks
    acceleration.append(np.zeros(7))
    jerk = np.diff(acceleration, axis=0) / DT
    assert (np.abs(acceleration) <= JOINTS.acceleration_rad_s2 * (1 + 1e-9)).all()
    assert (np.abs(jerk) <= JOINTS.jerk_rad_s3 * share * (1 + 1e-9)).all()


def test_the_way_is_hardly_longer_than_the_shortest():
    sent = Sent(7)
    sent.rest_at(LIMITS.home_rad)
    speed = 0.9 * JOINTS.velocity_rad_s
    sent.advance(np.array(LIMITS.home_rad), speed, speed)
    brake = Brake(JOINTS, DT)
    while not sent.at_rest:
        sent.advance(*brake.next(sent))
    way = sent.position_rad - LIMITS.home_rad
    shortest = speed**2 / (2.0 * JOINTS.acceleration_rad_s2)
    assert (way >= shortest - speed * DT).all()
    assert (way <= shortest + 2.0 * speed * DT).all()
