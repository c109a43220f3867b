"""As libfranka tests its limiter: what is within passes to the bit, the rest is cut to within."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.safety.config import SafetyConfig
from robot.safety.suite import BATCH, NAMES
from robot.safety.supervisor import Supervisor
from robot.types import OK, GripperCommand, GripperState, JointState, RobotState, VerdictLevel

LIMITS = load_limits("panda")
JOINTS = LIMITS.joints
ARM = Kinematics(LIMITS)
HOME = LIMITS.home_rad
#: What judges commands alone, one tick at a time.
CONFIG = SafetyConfig(off=tuple(n for n in NAMES if n not in (*BATCH, "jerk")))
DT = CONFIG.tick_s


def read(now_s: float) -> RobotState:
    return RobotState(now_s, JointState(HOME, np.zeros(7), np.zeros(7)), GripperState(0.08, 0.0))


def guard() -> Supervisor:
    out = Supervisor(LIMITS, ARM, CONFIG)
    out.reset(HOME)
    return out


def within(rng: np.random.Generator, ticks: int) -> np.ndarray:
    """(ticks, 7) rad from rest at home, within all limits, sideways with the wrist alone."""
    qd, a, rows, q = np.zeros(7), np.zeros(7), [], np.array(HOME)
    for _ in range(ticks):
        step = 0.6 * JOINTS.jerk_rad_s3 * DT
        wish = rng.uniform(-1, 1, 7) * 0.9 * JOINTS.acceleration_rad_s2 - 2.0 * qd
        a = np.clip(wish, a - step, a + step)
        a = np.clip(a, -0.95 * JOINTS.acceleration_rad_s2, 0.95 * JOINTS.acceleration_rad_s2)
        a[:5] = 0.0
        qd = qd + a * DT
        q = q + qd * DT
        rows.append(q)
    return np.array(rows)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_within_limits_passes_to_the_bit(seed):
    supervisor, before = guard(), np.array(HOME)
    for k, q in enumerate(within(np.random.default_rng(seed), 60)):
        row, rate = q[None].copy(), ((q - before) / DT)[None]
        kept = row.copy()
        q_out, qd_out, verdict = supervisor.filter(read(k * DT), row, rate, k * DT)
        assert verdict == OK
        assert q_out is row
        assert qd_out is rate
        np.testing.assert_array_equal(q_out, kept)
        before = q


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([0.0, 1e-12, 1e-4, 1e-2, 0.15, 10.0, 1e6, 1e300]),
)
def test_whatever_comes_what_leaves_is_within(seed, size):
    """Steps of any size, none at all included; a HALT brakes within the same limits."""
    rng, supervisor = np.random.default_rng(seed), guard()
    sent = [np.array(HOME)] * 3
    for k in range(80):
        with np.errstate(over="ignore", invalid="ignore"):
            q = (sent[-1] if k % 2 else HOME) + rng.normal(size=7) * size
            qd = rng.normal(size=7) * size
            out, out_rate, _ = supervisor.filter(read(k * DT), q[None], qd[None], k * DT)
        assert np.isfinite(out).all()
        assert np.isfinite(out_rate).all()
        sent.append(out[0].copy())
    q = np.array(sent)
    v = np.diff(q, axis=0) / DT
    a = np.diff(v, axis=0) / DT
    j = np.diff(a, axis=0) / DT
    assert JOINTS.contains(q, 1e-6)
    assert (np.abs(v) <= JOINTS.velocity_rad_s * (1 + 2e-3)).all()
    assert (np.abs(a) <= JOINTS.acceleration_rad_s2 * (1 + 2e-3)).all()
    assert (np.abs(j) <= JOINTS.jerk_rad_s3 * (1 + 2e-3)).all()


def test_jerk_is_cut_to_its_share():
    supervisor = guard()
    sent, levels = [np.array(HOME)] * 3, set()
    for k in range(40):
        q = sent[-1].copy()
        q[6] += 0.45 * JOINTS.acceleration_rad_s2[6] * DT**2 * (-1.0) ** k
        rate = (q - sent[-1]) / DT
        out, _, verdict = supervisor.filter(read(k * DT), q[None], rate[None], k * DT)
        sent.append(out[0].copy())
        levels.add(verdict.level)
    jerk = np.diff(np.array(sent), 3, axis=0)[:, 6] / DT**3
    assert np.abs(jerk).max() <= CONFIG.jerk_share * JOINTS.jerk_rad_s3[6] * (1 + 2e-3)
    assert VerdictLevel.SCALE in levels


def test_the_gripper_is_cut_too_and_keeps_its_hold_while_halted():
    supervisor, last = guard(), GripperCommand(0.02, 40.0)
    inside = GripperCommand(0.05, 60.0)
    assert supervisor.grip(inside, last) is inside
    assert supervisor.grip(GripperCommand(1.0, 500.0), last) == GripperCommand(0.08, 70.0)
    assert supervisor.grip(GripperCommand(-1.0, 1.0), last) == GripperCommand(0.0, 1.0)
    supervisor.estop()
    assert supervisor.grip(inside, last) is last
