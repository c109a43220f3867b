"""The supervisor: what is within limits passes bit for bit, what is not is cut, and HALT stays."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.errors import SafetyError
from robot.execution.servo import CartesianServo
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.safety.config import SafetyConfig
from robot.safety.suite import for_batches
from robot.safety.supervisor import Supervisor
from robot.types import OK, GripperState, JointState, RobotState, SafetyVerdict, VerdictLevel

LIMITS = load_limits("panda")
ARM = Kinematics(LIMITS)
CONFIG = for_batches()
DT = CONFIG.tick_s
HOME = LIMITS.home_rad
HALT, SCALE = VerdictLevel.HALT, VerdictLevel.SCALE


def state(q: np.ndarray = HOME, stamp_s: float = 0.0) -> RobotState:
    return RobotState(stamp_s, JointState(q, np.zeros(7), np.zeros(7)), GripperState(0.08, 0.0))


class Timeless(Supervisor):
    """Takes each command for one in its time: for what says nothing of time."""

    def _too_soon(self, ticks: int, now_s: float) -> bool:
        return False


def supervisor(**kwargs) -> Supervisor:
    """With the monitors that judge commands alone."""
    out = Timeless(LIMITS, ARM, CONFIG, **kwargs)
    out.reset(HOME)
    return out


def hold(ticks: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return np.tile(HOME, (ticks, 1)), np.zeros((ticks, 7))


def assert_within_joint_limits(q: np.ndarray, start: np.ndarray) -> None:
    """Positions (ticks, 7) sent one after the other, from rest at ``start``."""
    velocity = np.diff(np.vstack((start, start, q)), axis=0) / DT
    acceleration = np.diff(velocity, axis=0) / DT
    assert LIMITS.joints.contains(q, 1e-9)
    assert (np.abs(velocity) <= LIMITS.joints.velocity_rad_s * (1 + 2e-3)).all()
    assert (np.abs(acceleration) <= LIMITS.joints.acceleration_rad_s2 * (1 + 2e-3)).all()


@pytest.mark.parametrize("ticks", [1, 12])
def test_what_is_within_limits_passes_unchanged(ticks):
    servo, guard = CartesianServo(ARM, LIMITS), supervisor()
    rng = np.random.default_rng(0)
    for _ in range(40):
        q, qd = servo.rollout(rng.uniform(-1, 1, 6) * [0.2, 0.2, 0.1, 0, 0, 1.0], ticks)
        kept, kept_qd = q.copy(), qd.copy()
        q_out, qd_out, verdict = guard.filter(state(), q, qd, 0.0)
        assert verdict == OK
        np.testing.assert_array_equal(q_out, kept)
        np.testing.assert_array_equal(qd_out, kept_qd)
        assert guard.verdict is verdict


def test_a_batch_and_single_ticks_give_the_same_commands():
    """The same limits hold in training (a batch a policy step) and in deployment (every tick)."""
    servo, batch, single = CartesianServo(ARM, LIMITS), supervisor(), supervisor()
    rng = np.random.default_rng(1)
    for _ in range(40):
        q, qd = servo.rollout(rng.uniform(-1, 1, 6) * [0.25, 0.25, 0.1, 0, 0, 1.5], 12)
        q_batch, qd_batch, verdict = batch.filter(state(), q, qd, 0.0)
        rows = [single.filter(state(), q[k : k + 1], qd[k : k + 1], 0.0) for k in range(12)]
        assert verdict == OK
        assert all(row[2] == OK for row in rows)
        np.testing.assert_array_equal(q_batch, np.concatenate([r[0] for r in rows]))
        np.testing.assert_array_equal(qd_batch, np.concatenate([r[1] for r in rows]))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([1e-4, 1e-3, 1e-2]),
    ticks=st.sampled_from([1, 12]),
)
def test_whatever_is_commanded_what_is_sent_keeps_the_joint_limits(seed, size, ticks):
    rng = np.random.default_rng(seed)
    guard = supervisor()
    target, sent = HOME.copy(), []
    for _ in range(120 // ticks):
        q = target + np.cumsum(rng.normal(size=(ticks, 7)) * size, axis=0)
        target = q[-1]
        q_out, _, verdict = guard.filter(state(), q, np.zeros((ticks, 7)), 0.0)
        sent.append(q_out)
        if verdict.level is HALT:  # a jump that grew too large: what follows brakes
            for _ in range(120):
                sent.append(guard.filter(state(), q, np.zeros((ticks, 7)), 0.0)[0])
            assert guard.at_rest
            break
    assert_within_joint_limits(np.concatenate(sent), HOME)


def test_a_step_is_approached_within_limits_and_without_overshoot():
    guard = supervisor()
    target = HOME + 0.05
    rows = [guard.filter(state(), target[None], np.zeros((1, 7)), 0.0)[0] for _ in range(240)]
    q = np.concatenate(rows)
    assert_within_joint_limits(q, HOME)
    assert (q <= target + 5e-4).all()
    np.testing.assert_allclose(q[-1], target, atol=1e-5)


@pytest.mark.parametrize("ticks", [1, 12])
@pytest.mark.parametrize("speed", [0.1, 0.25, 0.5])
def test_going_down_stops_above_the_table(ticks, speed):
    servo, guard = CartesianServo(ARM, LIMITS), supervisor()
    sent, levels = [], set()
    for _ in range(round(1.4 / speed * 0.5 * 240) // ticks):
        q, qd = servo.rollout(np.array([0, 0, -speed, 0, 0, 0]), ticks)
        q, qd, verdict = guard.filter(state(), q, qd, 0.0)
        levels.add(verdict.level)
        if verdict.level is not VerdictLevel.OK:
            servo.follow(q[-1])
        sent.append(q)
    q = np.concatenate(sent)
    heights = np.array([ARM.tool_position(row)[2] for row in q])
    assert levels == {VerdictLevel.OK, SCALE}
    assert heights.min() > LIMITS.workspace_min_m[2] - 1e-3
    assert heights[-1] < LIMITS.workspace_min_m[2] + 2e-3
    assert_within_joint_limits(q, HOME)
    for _ in range(240 // ticks):  # and up again
        q, qd = servo.rollout(np.array([0, 0, speed, 0, 0, 0]), ticks)
        out, _, verdict = guard.filter(state(), q, qd, 0.0)
        assert verdict.level is not HALT
        if verdict.level is not VerdictLevel.OK:
            servo.follow(out[-1])
    assert verdict == OK
    assert ARM.tool_position(out[0])[2] > LIMITS.workspace_min_m[2] + 0.05


def test_a_stale_state_slows_the_motion_by_the_scale():
    servo, guard = CartesianServo(ARM, LIMITS), supervisor()
    twist = np.array([0, 0.1, 0, 0, 0, 0])
    for _ in range(60):
        q, qd = servo.rollout(twist, 1)
        guard.filter(state(), q, qd, 0.0)
    full = np.linalg.norm(qd)
    age = 0.5 * (CONFIG.stale_after_s + CONFIG.stale_deadline_s)
    for _ in range(30):
        q, qd = servo.rollout(twist, 1)
        q, qd, verdict = guard.filter(state(), q, qd, age)
        servo.follow(q[-1])
    assert verdict.level is SCALE
    assert verdict.scale == pytest.approx(0.5)
    assert np.linalg.norm(qd) == pytest.approx(0.5 * full, rel=0.1)


def test_one_lost_state_does_not_latch_but_many_do():
    guard = supervisor()
    assert guard.filter(state(), *hold(), 0.0)[2] == OK
    assert guard.filter(None, *hold(), 0.05)[2] == OK
    assert guard.filter(None, *hold(), 0.15)[2].level is SCALE
    assert guard.filter(state(stamp_s=0.16), *hold(), 0.16)[2] == OK
    assert guard.filter(None, *hold(), 0.5)[2].level is HALT
    assert guard.filter(state(stamp_s=0.6), *hold(), 0.6)[2].level is HALT
    assert guard.halted


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["position", "velocity"])
def test_nan_halts_holds_the_last_sent_and_latches_until_reset(bad, where):
    guard = supervisor()
    q, qd = hold(3)
    last = HOME + 1e-5
    guard.filter(state(), last[None], np.zeros((1, 7)), 0.0)
    (q if where == "position" else qd)[1, 4] = bad
    q_out, qd_out, verdict = guard.filter(state(), q, qd, 0.0)
    assert verdict.level is HALT
    np.testing.assert_array_equal(q_out, np.tile(last, (3, 1)))
    np.testing.assert_array_equal(qd_out, 0.0)
    good = guard.filter(state(), *hold(), 0.0)
    assert good[2] is verdict  # the first reason stays
    np.testing.assert_array_equal(good[0], last[None])
    guard.reset()
    assert not guard.halted
    assert guard.filter(state(), last[None], np.zeros((1, 7)), 0.0)[2] == OK


def test_reset_while_the_cause_remains_halts_again():
    guard = supervisor()
    q, qd = hold()
    q[0, 0] = np.nan
    guard.filter(state(), q, qd, 0.0)
    guard.reset()
    assert guard.filter(state(), q, qd, 0.0)[2].level is HALT


def test_the_emergency_stop_latches():
    guard = supervisor()
    guard.filter(state(), *hold(), 0.0)
    guard.estop("button at the door")
    assert guard.halted
    q, _, verdict = guard.filter(state(), (HOME + 1e-6)[None], np.zeros((1, 7)), 0.0)
    assert verdict.level is HALT
    assert verdict.reason == "e-stop: button at the door"
    np.testing.assert_array_equal(q[0], HOME)


class Broken:
    def check(self, state, position_rad, now_s):
        raise RuntimeError("sensor unplugged")


class Says:
    def __init__(self, verdict: SafetyVerdict) -> None:
        self.verdict = verdict

    def check(self, state, position_rad, now_s):
        return self.verdict


def test_a_monitor_that_raises_is_a_halt(caplog):
    guard = supervisor(extra=[Broken()])
    with caplog.at_level(logging.WARNING):
        verdict = guard.filter(state(), *hold(), 0.0)[2]
    assert verdict.level is HALT
    assert verdict.reason == "monitor Broken failed: sensor unplugged"
    assert "sensor unplugged" in caplog.text


def test_the_worst_of_all_verdicts_wins():
    mild, strong = SafetyVerdict(SCALE, 0.8, "mild"), SafetyVerdict(SCALE, 0.3, "strong")
    for order in ([mild, strong], [strong, mild]):
        guard = supervisor(extra=[Says(v) for v in order])
        assert guard.filter(state(), *hold(), 0.0)[2] is strong
    halting = SafetyVerdict(HALT, 0.0, "worst")
    guard = supervisor(extra=[Says(halting), Says(strong)])
    assert guard.filter(state(), *hold(), 0.0)[2] is halting


def test_a_monitor_with_an_impossible_scale_is_a_halt():
    guard = supervisor(extra=[Says(SafetyVerdict(SCALE, float("nan"), "odd"))])
    assert guard.filter(state(), *hold(), 0.0)[2].level is HALT


def test_the_first_command_must_start_where_the_arm_is():
    guard = Supervisor(LIMITS, ARM, CONFIG)
    verdict = guard.filter(state(HOME + 0.15), *hold(), 0.0)[2]
    assert verdict.level is HALT
    assert "from where the joint is" in verdict.reason
    other = Timeless(LIMITS, ARM, CONFIG)
    servo = CartesianServo(ARM, LIMITS)
    for _ in range(20):
        q, qd = servo.rollout(np.array([0.2, 0, 0, 0, 0, 0]), 1)
        sent, _, verdict = other.filter(state(HOME + 0.01), q, qd, 0.0)
        assert verdict == OK
        np.testing.assert_array_equal(sent, q)


def test_a_feed_forward_beyond_the_limits_is_replaced():
    guard = supervisor()
    q, qd = hold(2)
    qd[0, 3] = 10.0
    q_out, qd_out, verdict = guard.filter(state(), q, qd, 0.0)
    assert verdict.level is SCALE
    np.testing.assert_allclose(q_out, q, atol=1e-9)
    assert np.abs(qd_out).max() < 1e-6


def test_an_array_that_is_reused_by_its_owner_is_judged_anew():
    guard = supervisor()
    q, qd = hold()
    assert guard.check(state(), q, qd, 0.0) == OK
    q[0, 0] += 0.05
    assert guard.check(state(), q, qd, 0.0).level is SCALE


def test_without_any_state_there_is_nothing_to_hold():
    guard = Supervisor(LIMITS, ARM, CONFIG)
    with pytest.raises(SafetyError, match="nothing to hold"):
        guard.filter(None, *hold(), 0.0)
    with pytest.raises(SafetyError, match="7 finite joints"):
        guard.reset(np.zeros(3))


@pytest.mark.parametrize("ticks", [1, 12])
def test_of_many_commands_in_a_period_the_first_counts(ticks):
    guard = Supervisor(LIMITS, ARM, CONFIG)
    guard.reset(HOME)
    q, qd = hold(ticks)
    q = q + 2e-4
    first, _, verdict = guard.filter(state(), q, qd, 0.0)
    assert verdict.level is not HALT
    for k in range(1, 20):
        again, _, verdict = guard.filter(state(), q + 1e-3 * k, qd, 1e-5 * k)
        np.testing.assert_array_equal(again, first)
        assert verdict.level is SCALE and "more than one" in verdict.reason
    later, _, verdict = guard.filter(state(), q + 1e-4, qd, ticks * DT)
    assert "more than one" not in verdict.reason
    assert (later != first).any()


@pytest.mark.parametrize("lost", [False, True])
def test_commands_that_outrun_time_do_not_outrun_the_joints(lost):
    """A controller at twice the rate that the supervisor was told of; its readings may be lost."""
    guard = Supervisor(LIMITS, ARM, CONFIG)
    guard.reset(HOME)
    q, start = HOME.copy(), HOME[6]
    guard.filter(state(), q[None], np.zeros((1, 7)), 0.0)
    for k in range(1, 240):
        now_s = 0.5 * k * DT
        q[6] += 0.99 * LIMITS.joints.velocity_rad_s[6] * DT
        read = None if lost else RobotState(now_s, state().joints, state().gripper)
        out, _, verdict = guard.filter(read, q[None], np.zeros((1, 7)), now_s)
        if verdict.level is HALT:
            break
        assert out[0, 6] - start <= LIMITS.joints.velocity_rad_s[6] * (now_s + 1.5 * DT)


def test_jitter_passes_unchanged():
    guard = Supervisor(LIMITS, ARM, CONFIG)
    guard.reset(HOME)
    rng, now_s = np.random.default_rng(0), 0.0
    for k in range(400):
        now_s = max(now_s, (k + rng.uniform(-0.3, 0.3)) * DT)
        read = RobotState(now_s, state().joints, state().gripper)
        assert guard.filter(read, *hold(), now_s)[2] == OK


def test_a_reset_waits_until_the_cause_is_gone():
    guard = Supervisor(LIMITS, ARM, SafetyConfig())
    guard.reset(HOME)
    held = ARM.gravity_torque(HOME)
    pressed = held + ARM.jacobian(HOME)[:3].T @ np.array([0.0, 0.0, -200.0])
    at_rest = state().joints

    def read(effort):
        joints = JointState(at_rest.position_rad, at_rest.velocity_rad_s, effort)
        return RobotState(1.0, joints, state().gripper)

    guard.estop()
    with pytest.raises(SafetyError, match="the cause is not gone: contact"):
        guard.reset(HOME, read(pressed), 1.0)
    assert guard.halted
    with pytest.raises(SafetyError, match="the cause is not gone: stale"):
        guard.reset(HOME, read(held), 2.0)
    guard.reset(HOME, read(held), 1.0)
    assert not guard.halted
