"""What is reckoned in plain numbers, or ruled out early, is what the arrays' formulas say."""

from __future__ import annotations

import math

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.mesh_shapes import arm_shapes
from robot.planning.obstacles import Box
from robot.planning.solids import hulls_of
from robot.safety.config import SafetyConfig
from robot.safety.distance import DistanceMonitor
from robot.safety.envelope import Envelope
from robot.safety.forces import TorqueMonitor
from robot.safety.joints import AccelerationMonitor, JerkMonitor, PositionMonitor, VelocityMonitor
from robot.safety.readings import FiniteMonitor, SensorMonitor
from robot.safety.sent import Sent
from robot.safety.signals import Signals
from robot.safety.solids import Margins, Solids
from robot.safety.space import WorkspaceMonitor
from robot.safety.thermal import TemperatureMonitor
from robot.safety.tick import Tick
from robot.types import OK, GripperState, JointState, RobotState, VerdictLevel

LIMITS = load_limits("panda")
JOINTS = LIMITS.joints
ARM = Kinematics(LIMITS)
CONFIG = SafetyConfig()
DT = CONFIG.tick_s
HOME = LIMITS.home_rad
GRIPPER = GripperState(0.08, 0.0)

seeds = st.integers(0, 2**32 - 1)


def state(
    q: np.ndarray = HOME,
    qd: np.ndarray | None = None,
    effort: np.ndarray | None = None,
    stamp_s: float = 0.0,
) -> RobotState:
    rest = np.zeros(7)
    joints = JointState(q, rest if qd is None else qd, rest if effort is None else effort)
    return RobotState(stamp_s, joints, GRIPPER)


def postures(rng: np.random.Generator) -> np.ndarray:
    """Anywhere within the limits, often at the end of a joint's range."""
    q = rng.uniform(JOINTS.lower_rad, JOINTS.upper_rad)
    at_end = rng.random(7) < 0.2
    return np.where(at_end, rng.choice([JOINTS.lower_rad, JOINTS.upper_rad]), q)


def moving(rng: np.random.Generator) -> tuple[Sent, np.ndarray]:
    """What was sent, and a next command (1, 7) within or a little beyond some of the limits."""
    sent, q = Sent(7), postures(rng)
    sent.rest_at(q)
    velocity = rng.uniform(-1.0, 1.0, 7) * JOINTS.velocity_rad_s
    a = rng.uniform(-1.0, 1.0, 7) * JOINTS.acceleration_rad_s2
    sent.advance(q, velocity, velocity - a * DT)
    j = rng.uniform(-1.0, 1.0, 7) * JOINTS.jerk_rad_s3 * rng.choice([0.1, 0.7, 0.8])
    a_next = np.clip(a + j * DT, -JOINTS.acceleration_rad_s2, JOINTS.acceleration_rad_s2)
    return sent, (q + (velocity + a_next * DT * rng.choice([1.0, 1.0, 1.01])) * DT)[None]


@settings(max_examples=300)
@given(seeds, st.booleans())
def test_the_envelope_holds_a_tick_just_where_the_monitors_and_the_speeds_are_fine(seed, jerk):
    rng = np.random.default_rng(seed)
    config = CONFIG if jerk else CONFIG.without("jerk")
    sent, q = moving(rng)
    qd = (q - sent.position_rad) / DT
    monitors = [
        kind(LIMITS, config, sent)
        for kind in (PositionMonitor, VelocityMonitor, AccelerationMonitor)
    ]
    monitors += [JerkMonitor(LIMITS, config, sent)] if jerk else []
    fine = all(m.check(state(), q, 0.0) is OK for m in monitors)
    fine = fine and bool((np.abs(qd) <= JOINTS.velocity_rad_s * (1.0 + config.tolerance)).all())
    assert Envelope(LIMITS, config).holds(q, qd, sent) is fine


def test_both_answers_of_the_envelope_come_up():
    found = []
    for seed in range(300):
        sent, q = moving(np.random.default_rng(seed))
        qd = (q - sent.position_rad) / DT
        found.append(Envelope(LIMITS, CONFIG).holds(q, qd, sent))
    assert 10 < sum(found) < 290


@given(
    st.lists(
        st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([1e99, 1e154, -1e200]),
        min_size=21,
        max_size=21,
    )
)
def test_readings_are_sound_where_their_squares_sum_to_a_number(numbers):
    with np.errstate(all="ignore"):
        reading = state()
        rows = np.array(numbers).reshape(3, 7)
        for name, row in zip(("position_rad", "velocity_rad_s", "effort_nm"), rows, strict=True):
            object.__setattr__(reading.joints, name, row)
        assert FiniteMonitor(LIMITS).sound(reading) is math.isfinite(sum(r.dot(r) for r in rows))


@given(seeds)
def test_leaps_are_what_the_arrays_say(seed):
    rng = np.random.default_rng(seed)
    sent = Sent(7)
    sent.rest_at(HOME)
    monitor = SensorMonitor(LIMITS, CONFIG, sent)
    monitor.check(state(), HOME[None], 0.0)
    most = JOINTS.velocity_rad_s * CONFIG.timing.wild_factor * DT + CONFIG.timing.wild_rad
    change = rng.uniform(-1.0, 1.0, 7) * most * rng.choice([0.9, 1.0, 1.2])
    verdict = monitor.check(state(HOME + change, stamp_s=DT), HOME[None], 0.0)
    wild = (np.abs((HOME + change) - HOME) > most).any()
    assert verdict.level is (VerdictLevel.SCALE if wild else VerdictLevel.OK)


@given(seeds)
def test_torques_at_their_limit_or_changing_too_fast_are_what_the_arrays_say(seed):
    rng = np.random.default_rng(seed)
    monitor = TorqueMonitor(LIMITS, CONFIG)
    limit = JOINTS.torque_nm * CONFIG.force.torque_share
    window = round(CONFIG.force.torque_rate_s / DT)
    past: list[np.ndarray] = []
    for _ in range(20):
        effort = rng.uniform(-1.0, 1.0, 7) * limit * rng.choice([0.2, 0.5, 1.01])
        oldest = past[-window] if len(past) >= window else effort
        past.append(effort)
        swing = JOINTS.torque_rate_nm_s * window * DT
        odd = (np.abs(effort) >= limit).any() or np.abs(effort - oldest).max() > swing
        assert (monitor.check(state(effort=effort), HOME[None], 0.0) is not OK) == odd


@given(seeds)
def test_the_motors_warm_as_the_arrays_say(seed):
    rng = np.random.default_rng(seed)
    monitor, c = TemperatureMonitor(LIMITS, CONFIG), CONFIG.thermal
    celsius, stamp_s = np.full(7, c.ambient_c), 0.0
    for k in range(10):
        effort, seconds = rng.normal(size=7) * JOINTS.torque_nm, rng.random()
        before, stamp_s = stamp_s, stamp_s + seconds
        monitor.check(state(effort=effort, stamp_s=stamp_s), HOME[None], 0.0)
        if k:
            share = 1.0 - math.exp(-(stamp_s - before) / c.time_constant_s)
            goal = c.ambient_c + (c.rise_c / JOINTS.torque_nm**2) * effort * effort
            celsius = celsius + share * (goal - celsius)
        assert monitor.celsius == celsius.tolist()


@given(seeds)
def test_a_tick_is_reckoned_to_the_bit_as_the_arrays_say(seed):
    rng = np.random.default_rng(seed)
    sent, q = moving(rng)
    tick = Tick(ARM, sent, JOINTS, CONFIG)
    data, felt = ARM.model.createData(), np.zeros(7)
    acceleration = np.zeros(7)
    for k in range(3):
        qd, effort = rng.normal(size=7), rng.normal(size=7) * 10.0
        tick.begin(state(sent.position_rad, qd, effort, k * DT), q)
        own = pin.rnea(ARM.model, data, sent.position_rad, qd, acceleration)
        acceleration = (sent.velocity_rad_s - sent.velocity_before_rad_s) / DT
        felt = felt + CONFIG.force.filter_share * (effort - own - felt)
        np.testing.assert_array_equal(tick.external_nm, felt)
    np.testing.assert_array_equal(tick.qd, (q[-1] - sent.position_rad) / DT)
    capped = np.minimum(np.maximum(tick.qd, -JOINTS.velocity_rad_s), JOINTS.velocity_rad_s)
    easing_s = 0.5 * JOINTS.acceleration_rad_s2 / JOINTS.jerk_rad_s3 + DT
    stop = q[-1] + capped * (np.abs(capped) * (0.5 / JOINTS.acceleration_rad_s2) + easing_s)
    np.testing.assert_array_equal(tick.stop_rad, stop)


def test_torques_are_not_felt_where_nothing_judges_them():
    sent = Sent(7)
    sent.rest_at(HOME)
    tick = Tick(ARM, sent, JOINTS, CONFIG.without("contact"))
    tick.begin(state(effort=np.full(7, 5.0)), HOME[None])
    assert not tick.external_nm.any()


@given(seeds)
def test_the_condition_number_is_that_of_the_scaled_jacobian(seed):
    q = np.random.default_rng(seed).uniform(JOINTS.lower_rad, JOINTS.upper_rad)
    scale = np.array([1.0 / CONFIG.singular_length_m] * 3 + [1.0] * 3)
    wanted = np.linalg.cond(scale[:, None] * ARM.jacobian(q))
    if wanted < 1e4:
        assert Tick(ARM, Sent(7), JOINTS, CONFIG).condition(q) == pytest.approx(wanted, rel=1e-4)


@given(seeds)
def test_the_tool_is_to_the_bit_where_the_kinematics_say(seed):
    """The workspace takes its place from the Jacobian's computation, where there was one."""
    rng = np.random.default_rng(seed)
    q, other = postures(rng), postures(rng)
    tick = Tick(ARM, Sent(7), JOINTS, CONFIG)
    assert tick.tool_at(q.tobytes()) is None
    tick.begin(state(), q[None])
    assert tick.tool_at(q.tobytes()) == ARM.tool_position(q)
    assert tick.tool_at(other.tobytes()) is None


@given(seeds)
def test_the_workspace_says_the_same_whether_or_not_the_tool_is_known(seed):
    rng = np.random.default_rng(seed)
    sent = Sent(7)
    sent.rest_at(postures(rng))
    tick = Tick(ARM, sent, JOINTS, CONFIG)
    knows = WorkspaceMonitor(LIMITS, ARM, CONFIG, sent, tick)
    for _ in range(4):
        q = (sent.position_rad + rng.normal(size=7) * 0.01)[None]
        tick.begin(state(), q)
        asked = WorkspaceMonitor(LIMITS, ARM, CONFIG, sent).check(state(), q, 0.0)
        assert knows.check(state(), q, 0.0) == asked
        if rng.random() < 0.7:
            sent.advance(q[0].copy(), (q[0] - sent.position_rad) / DT)


def test_a_command_that_its_caller_changed_in_place_is_reckoned_anew():
    sent = Sent(7)
    sent.rest_at(HOME)
    q = HOME[None].copy()
    assert not sent.velocity_to(q, DT).any()
    q += DT
    sent.forget_moved()
    np.testing.assert_allclose(sent.velocity_to(q, DT), 1.0)


def cluttered(rng: np.random.Generator) -> tuple[Box, ...]:
    """Boxes within reach."""
    at = rng.uniform([-0.6, -0.6, 0.0], [0.8, 0.6, 0.9], (6, 3))
    sizes = rng.uniform(0.02, 0.3, (6, 3))
    return tuple(
        Box(tuple(p), tuple(s), name=f"box {k}")
        for k, (p, s) in enumerate(zip(at, sizes, strict=True))
    )


@pytest.fixture(scope="module")
def watched() -> tuple[DistanceMonitor, Signals]:
    signals, sent = Signals(), Sent(7)
    tick = Tick(ARM, sent, JOINTS, CONFIG)
    return DistanceMonitor(LIMITS, ARM, CONFIG, sent, tick, signals), signals


@given(seeds)
def test_hulls_and_solids_say_apart_only_where_all_pairs_are(watched, seed):
    monitor, signals = watched
    rng = np.random.default_rng(seed)
    signals.see(cluttered(rng))
    for _ in range(5):
        q = postures(rng)
        too_near = bool((monitor._solids.distances(q) < monitor._solids.margin_m).any())
        assert monitor._solids.near(q) == too_near
        assert monitor._hulls.near(q) or not too_near


def test_a_new_scene_is_taken_in_where_it_is_told_and_not_at_a_tick(monkeypatch):
    signals, sent = Signals(), Sent(7)
    sent.rest_at(HOME)
    tick = Tick(ARM, sent, JOINTS, CONFIG)
    monitor = DistanceMonitor(LIMITS, ARM, CONFIG, sent, tick, signals)
    free_m = np.isfinite(monitor._solids.distances(HOME)).sum()
    signals.see((Box((0.5, 0.0, 0.1), (0.1, 0.1, 0.2), name="post"),))
    named = [monitor._solids.pair(k) for k in monitor._solids._used]
    assert np.isfinite(monitor._solids.distances(HOME)).sum() == len(named) > free_m
    assert any(second == "post" for _, second in named)
    for solids in (monitor._solids, monitor._hulls):
        monkeypatch.setattr(solids, "surround", None)  # would fail
    tick.begin(state(), HOME[None])
    assert monitor.check(state(), HOME[None], 0.0) is OK
    signals.on_scene.clear()
    signals.see(())
    late = DistanceMonitor(LIMITS, ARM, CONFIG, sent, tick, signals)
    assert np.isfinite(late._solids.distances(HOME)).sum() == free_m


def test_places_that_are_kept_ready_give_what_a_model_of_its_own_gives():
    shapes = arm_shapes(LIMITS, ARM)
    rng = np.random.default_rng(0)
    joints = rng.uniform(JOINTS.lower_rad, JOINTS.upper_rad, (60, 7))

    def made() -> Solids:
        return Solids(
            ARM.model, shapes, hulls_of(shapes), Margins(0.01, 0.02), LIMITS.tool_frame, 0.08
        )

    kept = made()
    for count in (5, 12, 0, 40, 3):  # 40 are more than there are places for
        boxes = [
            Box(
                tuple(rng.uniform((0.2, -0.5, 0.0), (0.7, 0.5, 0.6)).tolist()),
                tuple(rng.uniform(0.02, 0.2, 3).tolist()),
                float(rng.uniform(-3, 3)),
                name=f"box {n}",
            )
            for n in range(count)
        ]
        kept.surround(boxes)
        fresh = made()
        fresh.surround(boxes)
        for q in joints:
            assert kept.near(q) == fresh.near(q)
            mine, its = kept.distances(q), fresh.distances(q)
            nearest, same = int(mine.argmin()), int(its.argmin())
            assert mine[nearest] == pytest.approx(its[same], abs=1e-9)
            assert kept.pair(nearest) == fresh.pair(same)
        assert len({kept.pair(k)[1] for k in kept._used} & {b.name for b in boxes}) == count
