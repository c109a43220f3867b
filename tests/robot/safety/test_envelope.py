"""The envelope says yes to nothing that a monitor would object to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.execution.servo import CartesianServo
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.safety.envelope import Envelope
from robot.safety.sent import Sent
from robot.safety.suite import for_batches
from robot.safety.supervisor import SafetyConfig, Supervisor
from robot.types import GripperState, JointState, RobotState

LIMITS = load_limits("panda")
ARM = Kinematics(LIMITS)
HOME = LIMITS.home_rad
STATE = RobotState(0.0, JointState(HOME, np.zeros(7), np.zeros(7)), GripperState(0.08, 0.0))


class Never:
    def holds(self, *_: object) -> bool:
        return False


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 3.0), st.sampled_from([1, 5, 12]))
def test_the_short_way_and_all_monitors_give_the_same(seed, wildness, ticks):
    rng = np.random.default_rng(seed)
    servo, short, long = (
        CartesianServo(ARM, LIMITS),
        *(Supervisor(LIMITS, ARM, for_batches()) for _ in range(2)),
    )
    long._envelope = Never()
    for supervisor in (short, long):
        supervisor.reset(HOME)
    for _ in range(20):
        q, qd = servo.rollout(rng.normal(size=6) * 0.2 * wildness, ticks)
        if rng.random() < 0.3:  # beyond a limit here and there
            q[-1] += rng.normal(size=7) * 10 ** rng.uniform(-6, -1.5)
            qd *= wildness
        q_short, qd_short, verdict = short.filter(STATE, q, qd, 0.0)
        q_long, qd_long, asked = long.filter(STATE, q, qd, 0.0)
        assert verdict == asked
        np.testing.assert_array_equal(q_short, q_long)
        np.testing.assert_array_equal(qd_short, qd_long)
        if verdict.level:
            servo.follow(q_short[-1])


def sent() -> Sent:
    start = Sent(7)
    start.rest_at(HOME)
    return start


def test_rest_is_within_and_the_first_command_is_left_to_the_monitors():
    envelope, rest = Envelope(LIMITS, SafetyConfig()), np.zeros((3, 7))
    q = np.tile(HOME, (3, 1))
    assert envelope.holds(q, rest, sent())
    assert not envelope.holds(q, rest, Sent(7))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_within(bad):
    envelope, rest = Envelope(LIMITS, SafetyConfig()), np.zeros((3, 7))
    q = np.tile(HOME, (3, 1))
    for array in (q, rest):
        kept, array[1, 2] = array[1, 2], bad
        assert not envelope.holds(q, rest, sent())
        array[1, 2] = kept


def test_wrong_shapes_and_no_ticks_are_not_within():
    envelope = Envelope(LIMITS, SafetyConfig())
    for q, qd in (
        (np.zeros((0, 7)), np.zeros((0, 7))),
        (np.zeros((2, 6)), np.zeros((2, 6))),
        (np.tile(HOME, (2, 1)), np.zeros((1, 7))),
        (HOME, np.zeros(7)),
    ):
        assert not envelope.holds(q, qd, sent())


def test_a_jump_limit_below_the_speed_limit_counts():
    tight = dataclasses.replace(SafetyConfig(), jump_rad=0.001)
    q = HOME + np.array([[0.0] * 7, [0.0012, 0, 0, 0, 0, 0, 0]]) * 0.2
    envelope = Envelope(LIMITS, tight)
    assert envelope.holds(q, np.zeros((2, 7)), sent())
    assert not envelope.holds(
        HOME + np.array([[0.0012, 0, 0, 0, 0, 0, 0]]), np.zeros((1, 7)), sent()
    )
