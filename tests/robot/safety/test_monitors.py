"""Each monitor in pairs: just within its limit is OK, just beyond is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from configs.load import find, load
from robot.errors import ConfigError, SafetyError
from robot.interface import SafetyMonitor
from robot.kinematics import Kinematics
from robot.limits import RobotLimits, load_limits
from robot.safety.config import ForceConfig, SafetyConfig, ThermalConfig, TimingConfig, Zone
from robot.safety.joints import AccelerationMonitor, PositionMonitor, VelocityMonitor
from robot.safety.readings import FiniteMonitor, StaleMonitor
from robot.safety.sent import Sent
from robot.safety.space import WorkspaceMonitor
from robot.safety.suite import load_safety
from robot.types import GripperState, JointState, Pose, RobotState, VerdictLevel

LIMITS = load_limits("panda")
ARM = Kinematics(LIMITS)
CONFIG = SafetyConfig()
DT = CONFIG.tick_s
HOME = LIMITS.home_rad
OK, SCALE, HALT = VerdictLevel.OK, VerdictLevel.SCALE, VerdictLevel.HALT


def state(stamp_s: float = 0.0, q: np.ndarray = HOME) -> RobotState:
    return RobotState(stamp_s, JointState(q, np.zeros(7), np.zeros(7)), GripperState(0.08, 0.0))


def sent_at(q: np.ndarray, qd: np.ndarray | None = None) -> Sent:
    sent = Sent(7)
    sent.rest_at(q)
    if qd is not None:
        sent.advance(np.array(q), np.array(qd))
    return sent


def unit(joint: int) -> np.ndarray:
    out = np.zeros(7)
    out[joint] = 1.0
    return out


def test_every_monitor_is_one():
    sent = sent_at(HOME)
    monitors = (
        FiniteMonitor(LIMITS),
        StaleMonitor(CONFIG),
        PositionMonitor(LIMITS, CONFIG, sent),
        VelocityMonitor(LIMITS, CONFIG, sent),
        AccelerationMonitor(LIMITS, CONFIG, sent),
        WorkspaceMonitor(LIMITS, ARM, CONFIG, sent),
    )
    for monitor in monitors:
        assert isinstance(monitor, SafetyMonitor)
        assert monitor.check(state(), HOME[None], 0.0).level is OK


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_a_halt(bad):
    monitor = FiniteMonitor(LIMITS)
    rows = np.tile(HOME, (12, 1))
    assert monitor.check(state(), rows, 0.0).level is OK
    rows[7, 3] = bad
    assert monitor.check(state(), rows, 0.0).level is HALT


def test_infinities_that_cancel_are_still_seen():
    rows = np.tile(HOME, (2, 1))
    rows[0, 0], rows[1, 0] = np.inf, -np.inf
    assert FiniteMonitor(LIMITS).check(state(), rows, 0.0).level is HALT


@pytest.mark.parametrize("shape", [(7,), (1, 6), (0, 7), (1, 1, 7)])
def test_a_wrong_shape_is_a_halt(shape):
    verdict = FiniteMonitor(LIMITS).check(state(), np.zeros(shape), 0.0)
    assert verdict.level is HALT
    assert "expected (ticks, 7)" in verdict.reason


def test_a_late_state_slows_more_and_more_and_halts_at_its_deadline():
    monitor = StaleMonitor(CONFIG)

    def at(age: float):
        return monitor.check(state(10.0), HOME[None], 10.0 + age)

    assert at(0.0).level is OK
    assert at(CONFIG.stale_after_s - 1e-6).level is OK
    early, late = at(CONFIG.stale_after_s + 0.01), at(CONFIG.stale_deadline_s - 0.01)
    assert early.level is late.level is SCALE
    assert 1.0 > early.scale > late.scale > 0.0
    assert at(CONFIG.stale_deadline_s + 1e-3).level is HALT
    assert at(np.nan).level is HALT


def test_a_state_from_the_future_is_a_halt():
    monitor = StaleMonitor(CONFIG)
    assert monitor.check(state(1.0), HOME[None], 1.0 - 0.9 * CONFIG.future_s).level is OK
    verdict = monitor.check(state(1.0), HOME[None], 1.0 - 2 * CONFIG.future_s)
    assert verdict.level is HALT
    assert "ahead of the clock" in verdict.reason


def test_deadlines_in_the_wrong_order_are_refused():
    with pytest.raises(SafetyError, match="stale_after_s"):
        SafetyConfig(stale_after_s=0.3)


@pytest.mark.parametrize("joint", range(7))
@pytest.mark.parametrize("side", [-1, 1])
def test_position_limits(joint, side):
    edge = HOME.copy()
    edge[joint] = (LIMITS.joints.upper_rad if side > 0 else LIMITS.joints.lower_rad)[joint]
    monitor = PositionMonitor(LIMITS, CONFIG, sent_at(edge))
    assert monitor.check(state(), edge[None], 0.0).level is OK
    verdict = monitor.check(state(), (edge + side * 1e-4 * unit(joint))[None], 0.0)
    assert verdict.level is SCALE
    assert f"joint {joint + 1}" in verdict.reason


def test_a_jump_is_a_halt_wherever_in_the_batch():
    monitor = PositionMonitor(LIMITS, CONFIG, sent_at(HOME))
    rows = np.tile(HOME, (12, 1))
    rows[6:, 2] += 0.99 * CONFIG.jump_rad
    assert monitor.check(state(), rows, 0.0).level is OK
    jump = np.tile(HOME, (12, 1))
    jump[6:, 2] += 1.01 * CONFIG.jump_rad
    verdict = monitor.check(state(), jump, 0.0)
    assert verdict.level is HALT
    assert "joint 3: command jumps" in verdict.reason


@pytest.mark.parametrize("joint", range(7))
def test_velocity_limits(joint):
    monitor = VelocityMonitor(LIMITS, CONFIG, sent_at(HOME))
    step = LIMITS.joints.velocity_rad_s[joint] * DT * unit(joint)
    assert monitor.check(state(), (HOME - step)[None], 0.0).level is OK
    verdict = monitor.check(state(), (HOME - 1.25 * step)[None], 0.0)
    assert verdict.level is SCALE
    assert verdict.scale == pytest.approx(0.8)
    assert f"joint {joint + 1}: velocity" in verdict.reason


@pytest.mark.parametrize("joint", range(7))
def test_acceleration_limits_from_what_was_sent_and_within_a_batch(joint):
    qd = 0.5 * unit(joint)
    change = LIMITS.joints.acceleration_rad_s2[joint] * DT * unit(joint)
    monitor = AccelerationMonitor(LIMITS, CONFIG, sent_at(HOME, qd))
    first = HOME + (qd + change) * DT
    assert monitor.check(state(), first[None], 0.0).level is OK
    within = np.stack((first, first + (qd + 2 * change) * DT))
    assert monitor.check(state(), within, 0.0).level is OK
    beyond = np.stack((first, first + (qd + 2.1 * change) * DT))
    verdict = monitor.check(state(), beyond, 0.0)
    assert verdict.level is SCALE
    assert f"joint {joint + 1}: acceleration" in verdict.reason
    assert monitor.check(state(), (HOME + (qd + 1.1 * change) * DT)[None], 0.0).level is SCALE


def joints_at(position_m: list[float], seed: np.ndarray = HOME) -> np.ndarray:
    q = ARM.inverse(Pose("world", "tool0", position_m, [1, 0, 0, 0]), seed)
    assert q is not None
    return q


@pytest.mark.parametrize("ticks", [1, 12])
def test_the_tool_may_go_as_far_as_it_can_still_stop(ticks):
    floor = float(LIMITS.workspace_min_m[2])
    start = joints_at([0.5, 0.0, floor + 0.004])
    monitor = WorkspaceMonitor(LIMITS, ARM, CONFIG, sent_at(start))
    tool = ARM.tool_position(start)

    def down(distance: float) -> np.ndarray:
        end = joints_at([tool[0], tool[1], tool[2] - distance], start)
        return start + np.linspace(0, 1, ticks + 1)[1:, None] * (end - start)

    def braking(distance: float) -> float:
        return (distance / (ticks * DT)) ** 2 / (2 * CONFIG.workspace_deceleration_m_s2)

    assert monitor.check(state(), down(0.0003), 0.0).level is OK
    verdict = monitor.check(state(), down(0.0045), 0.0)
    assert verdict.level is SCALE
    assert "tool z is going below 0.008" in verdict.reason
    shrunk = 0.0045 * verdict.scale
    assert shrunk + braking(shrunk) == pytest.approx(0.004, abs=3e-4)


def narrow(max_x_m: float) -> RobotLimits:
    high = np.array(LIMITS.workspace_max_m)
    high[0] = max_x_m
    return dataclasses.replace(LIMITS, workspace_max_m=high)


def test_back_in_is_allowed_but_not_further_out():
    outside = joints_at([0.51, 0.0, 0.3])
    inward = joints_at([0.5099, 0.0, 0.3], outside)
    outward = joints_at([0.5101, 0.0, 0.3], outside)
    monitor = WorkspaceMonitor(narrow(0.5), ARM, CONFIG, sent_at(outside))
    assert monitor.check(state(), inward[None], 0.0).level is OK
    verdict = monitor.check(state(), outward[None], 0.0)
    assert verdict.level is SCALE
    assert verdict.scale == 0.0
    assert "tool x is going above 0.500" in verdict.reason


@pytest.mark.parametrize(("beyond", "level"), [(0.02, SCALE), (0.04, HALT)])
def test_far_outside_and_going_further_is_a_halt(beyond, level):
    start = joints_at([0.5 + beyond, 0.0, 0.3])
    outward = joints_at([0.5005 + beyond, 0.0, 0.3], start)
    monitor = WorkspaceMonitor(narrow(0.5), ARM, CONFIG, sent_at(start))
    assert monitor.check(state(), outward[None], 0.0).level is level


def test_the_shipped_file_is_the_default():
    assert load(SafetyConfig, find("safety", "default")) == SafetyConfig()
    with pytest.raises(ConfigError, match="jump_rad"):
        load(SafetyConfig, overrides=["jump_rad=100"])


def test_a_cell_has_a_file_of_its_own(tmp_path):
    assert load_safety() == load_safety("default") == SafetyConfig()
    own = tmp_path / "cell.yaml"
    own.write_text(
        "keep_out:\n  - {name: the door, min_m: [0.4, 0.3, 0.0], max_m: [0.8, 0.7, 0.6]}\n"
        "force: {contact_stop_n: 120}\noff: [novelty]\n"
    )
    zone = Zone((0.4, 0.3, 0.0), (0.8, 0.7, 0.6), "the door")
    force = ForceConfig(contact_stop_n=120.0)
    assert load_safety(own) == SafetyConfig(keep_out=(zone,), force=force, off=("novelty",))
    with pytest.raises(ConfigError, match="configs/safety: no configuration 'cell'"):
        load_safety("cell")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("off: [nose]", "cell.yaml: off: no monitor is called 'nose'; there are finite"),
        ("force: {contact_stop_n: 80}", "contact_most_n"),
        ("keep_out:\n  - {min_m: [1, 1, 1], max_m: [0, 0, 0]}", "min_m must be below max_m"),
        ("singular_slow: .nan", "singular_slow"),
    ],
)
def test_a_cells_file_that_makes_no_sense_is_refused(tmp_path, text, said):
    own = tmp_path / "cell.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_safety(own)


@pytest.mark.parametrize("kind", [VelocityMonitor, AccelerationMonitor])
def test_no_number_is_not_within_a_limit_even_where_nobody_asked_before(kind):
    command = np.tile(HOME, (3, 1))
    command[1, 2] = np.nan
    verdict = kind(LIMITS, CONFIG, sent_at(HOME)).check(state(), command, 0.0)
    assert verdict.level is not OK


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"timing": TimingConfig(policy_late_s=0.5)}, "policy_late_s .* policy_deadline_s"),
        ({"thermal": ThermalConfig(warn_c=120.0)}, "warn_c .* stop_c"),
        ({"force": ForceConfig(contact_n=90.0)}, "contact_n .* contact_most_n"),
        ({"force": ForceConfig(contact_most_n=150.0)}, "contact_most_n .* contact_stop_n"),
        ({"singular_slow": 30.0}, "singular_slow .* singular_stop"),
    ],
)
def test_a_threshold_beyond_its_stop_is_refused(change, said):
    """Otherwise what should be slowed, and then stopped, would pass."""
    with pytest.raises(SafetyError, match=said):
        SafetyConfig(**change)
