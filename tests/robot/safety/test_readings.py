"""Readings and clocks: what is odd slows or halts, what is only late or lost once does not."""

from __future__ import annotations

import numpy as np
import pytest

from robot.limits import load_limits
from robot.safety.config import SafetyConfig
from robot.safety.readings import FiniteMonitor, OverrunMonitor, PolicyMonitor, SensorMonitor
from robot.safety.sent import Sent
from robot.safety.signals import Signals
from robot.types import GripperCommand, GripperState, JointState, RobotState, VerdictLevel

LIMITS = load_limits("panda")
CONFIG = SafetyConfig()
DT = CONFIG.tick_s
HOME = LIMITS.home_rad
OK, SCALE, HALT = VerdictLevel.OK, VerdictLevel.SCALE, VerdictLevel.HALT


def state(stamp_s: float, q: np.ndarray = HOME, opening_m: float = 0.08) -> RobotState:
    joints = JointState(q, np.zeros(7), np.zeros(7))
    return RobotState(stamp_s, joints, GripperState(opening_m, 0.0))


def moving(rad_s: float = 0.5) -> Sent:
    sent = Sent(7)
    sent.rest_at(HOME)
    sent.advance(np.array(HOME), np.full(7, rad_s), np.full(7, rad_s))
    return sent


def levels(monitor, states) -> list[VerdictLevel]:
    return [monitor.check(s, HOME[None], s.stamp_s).level for s in states]


def test_an_arm_that_moves_and_is_seen_to_move_is_fine():
    seen = [state(k * DT, HOME + 0.002 * k) for k in range(50)]
    assert set(levels(SensorMonitor(LIMITS, CONFIG, moving()), seen)) == {OK}


def test_readings_that_freeze_slow_and_then_halt():
    seen = [state(k * DT, HOME + 0.002 * min(k, 20)) for k in range(40)]
    found = levels(SensorMonitor(LIMITS, CONFIG, moving()), seen)
    assert found[:21] == [OK] * 21
    assert SCALE in found[21:27]
    assert HALT in found[21:29]


def test_an_arm_at_rest_may_read_the_same_for_ever():
    rest = Sent(7)
    rest.rest_at(HOME)
    seen = [state(k * DT) for k in range(300)]
    assert set(levels(SensorMonitor(LIMITS, CONFIG, rest), seen)) == {OK}


def test_a_start_is_given_time_for_latency():
    seen = [state(k * DT) for k in range(CONFIG.timing.frozen_start_n)]
    assert HALT not in levels(SensorMonitor(LIMITS, CONFIG, moving(0.1)), seen)


def test_one_leap_slows_and_three_halt():
    rng = np.random.default_rng(0)
    wild = [state(k * DT, HOME + rng.normal(0, 0.3, 7)) for k in range(5)]
    found = levels(SensorMonitor(LIMITS, CONFIG, moving()), wild)
    assert found[:4] == [OK, SCALE, SCALE, HALT]


def test_readings_out_of_order_are_odd():
    order = [0, 1, 2, 1.5, 3, 2.5, 4, 3.5, 5, 4.5]
    seen = [state(k * DT, HOME + 0.002 * k) for k in order]
    found = levels(SensorMonitor(LIMITS, CONFIG, moving()), seen)
    assert found[:3] == [OK] * 3
    assert found[3] is SCALE
    assert HALT in found


def overruns(gaps: list[float]) -> list[VerdictLevel]:
    monitor, now, out = OverrunMonitor(CONFIG, moving()), 10.0, []
    monitor.check(state(now), HOME[None], now)
    for gap in gaps:
        now += gap * DT
        out.append(monitor.check(state(now), HOME[None], now).level)
    return out


def test_periods_in_time_and_a_late_one_pass():
    assert set(overruns([1.0] * 20 + [4.0] + [1.0] * 20)) == {OK}


def test_late_ones_again_and_again_slow():
    found = overruns([1.0, 4.0] * 6)
    assert found[:7] == [OK] * 7
    assert set(found[7:]) == {SCALE}


@pytest.mark.parametrize(("gap", "level"), [(20.9, OK), (21.5, HALT), (-1.0, HALT)])
def test_silence_and_a_clock_set_back_halt(gap, level):
    assert overruns([1.0, gap])[-1] is level


@pytest.mark.parametrize(("age_s", "level"), [(0.05, OK), (0.08, SCALE), (0.11, HALT)])
def test_a_policy_that_does_not_act(age_s, level):
    signals = Signals()
    monitor = PolicyMonitor(CONFIG, signals)
    assert monitor.check(state(5.0), HOME[None], 5.0).level is OK
    signals.policy_stamp_s = 5.0 - age_s
    assert monitor.check(state(5.0), HOME[None], 5.0).level is level


def test_the_gripper_is_a_number_too():
    signals = Signals()
    monitor = FiniteMonitor(LIMITS, signals)
    assert monitor.check(state(0.0), HOME[None], 0.0).level is OK
    assert monitor.check(state(0.0, opening_m=float("nan")), HOME[None], 0.0).level is HALT
    signals.gripper_command = GripperCommand(float("nan"), 1.0)
    assert monitor.check(state(0.0), HOME[None], 0.0).level is HALT


@pytest.mark.parametrize(
    ("joint", "value", "words"),
    [
        (2, np.nan, "position_rad of joint 3 is nan"),
        (6, np.inf, "position_rad of joint 7 is inf"),
        (0, 1e300, "too large"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_what_is_no_reading_is_named(joint, value, words):
    broken = state(0.0)
    numbers = HOME.copy()
    numbers[joint] = value
    object.__setattr__(broken.joints, "position_rad", numbers)  # as a driver that checks nothing
    verdict = FiniteMonitor(LIMITS, Signals()).check(broken, HOME[None], 0.0)
    assert verdict.level is HALT
    assert words in verdict.reason


def test_a_state_of_another_arm_is_no_reading():
    verdict = FiniteMonitor(LIMITS, Signals()).check(
        RobotState(0.0, JointState(*(np.zeros(6),) * 3), GripperState(0.08, 0.0)), HOME[None], 0.0
    )
    assert verdict.level is HALT
    assert "expected 7 joints, got shape (6,)" in verdict.reason
