"""Forces, heat, grip, space and distance: just within is OK, just beyond is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pinocchio as pin
import pytest

from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.obstacles import Box, HeldBox
from robot.safety.config import SafetyConfig, Zone
from robot.safety.distance import DistanceMonitor
from robot.safety.forces import ContactMonitor, PowerMonitor, TorqueMonitor
from robot.safety.grip import GripperMonitor, SlipMonitor
from robot.safety.nearing import NearingMonitor
from robot.safety.sent import Sent
from robot.safety.signals import Signals
from robot.safety.space import SingularityMonitor, ToolSpeedMonitor, ZoneMonitor
from robot.safety.thermal import TemperatureMonitor
from robot.safety.tick import Tick
from robot.types import (
    GripperCommand,
    GripperState,
    JointState,
    Pose,
    RobotState,
    VerdictLevel,
)

LIMITS = load_limits("panda")
ARM = Kinematics(LIMITS)
CONFIG = SafetyConfig()
DT = CONFIG.tick_s
HOME = LIMITS.home_rad
OK, SCALE, HALT = VerdictLevel.OK, VerdictLevel.SCALE, VerdictLevel.HALT


def sent_at(q: np.ndarray, qd: np.ndarray | None = None) -> Sent:
    sent = Sent(7)
    sent.rest_at(q)
    if qd is not None:
        sent.advance(np.array(q), np.array(qd), np.array(qd))
    return sent


def state(
    effort: np.ndarray | None = None,
    qd: np.ndarray | None = None,
    stamp_s: float = 0.0,
    q: np.ndarray = HOME,
    gripper: GripperState | None = None,
) -> RobotState:
    torque = ARM.gravity_torque(q) if effort is None else effort
    joints = JointState(q, np.zeros(7) if qd is None else qd, torque)
    return RobotState(stamp_s, joints, gripper or GripperState(0.08, 0.0))


def pressed(force: tuple[float, float, float]) -> np.ndarray:
    """Torques that hold the arm while the tool presses with so much."""
    return ARM.gravity_torque(HOME) + ARM.jacobian(HOME)[:3].T @ np.array(force)


def felt(effort: np.ndarray, qd: np.ndarray | None = None) -> Tick:
    tick = Tick(ARM, sent_at(HOME), LIMITS.joints, CONFIG)
    rate = np.zeros(7) if qd is None else qd
    for k in range(60):
        tick.begin(state(effort, stamp_s=k * DT), (HOME + rate * DT)[None])
    return tick


def test_the_tools_force_is_what_the_torques_say():
    force_n, torque_nm, wrench = felt(pressed((10.0, -20.0, 30.0))).contact
    np.testing.assert_allclose(wrench[:3], [10.0, -20.0, 30.0], rtol=0.02)
    np.testing.assert_allclose(wrench[3:], 0.0, atol=0.1)
    assert force_n == pytest.approx(np.sqrt(1400.0), rel=0.02)
    assert torque_nm < 0.5


def test_an_arm_that_moves_freely_feels_nothing():
    rng = np.random.default_rng(0)
    a, v = rng.normal(0, 3, 7), rng.normal(0, 0.5, 7)
    sent = sent_at(HOME)
    config = replace(CONFIG, force=replace(CONFIG.force, filter_share=1.0))
    tick = Tick(ARM, sent, LIMITS.joints, config)
    q = np.array(HOME)
    data = ARM.model.createData()
    for k in range(5):
        before, v = v, v + a * DT
        q = q + v * DT
        sent.advance(q, v, before)
        own = pin.rnea(ARM.model, data, q, v, a)
        tick.begin(state(own, v, k * DT, q), (q + v * DT)[None])
    np.testing.assert_allclose(tick.external_nm, 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("down_n", "way", "level"),
    [(50.0, -1, OK), (80.0, -1, SCALE), (80.0, 1, OK), (130.0, -1, SCALE), (150.0, 1, HALT)],
)
def test_pressing_on_is_slowed_withdrawing_is_free(down_n, way, level):
    up = ARM.jacobian(HOME)
    qd = up.T @ np.linalg.solve(up @ up.T, np.array([0, 0, 0.1 * way, 0, 0, 0]))
    monitor = ContactMonitor(CONFIG, felt(pressed((0.0, 0.0, -down_n)), qd))
    assert monitor.check(state(), HOME[None], 0.0).level is level


def test_a_motor_at_its_limit_slows_and_then_halts():
    full = np.zeros(7)
    full[6] = 12.0
    monitor = TorqueMonitor(LIMITS, CONFIG)
    found = [monitor.check(state(full), HOME[None], 0.0).level for _ in range(30)]
    assert found[0] is SCALE
    assert found.index(HALT) == round(CONFIG.force.torque_s / DT) - 1
    assert monitor.check(state(0.97 * full), HOME[None], 0.0).level is OK


@pytest.mark.parametrize(("speed_rad_s", "ticks"), [(-0.2, 3), (0.2, 24), (-0.1, 24)])
def test_a_motor_that_is_driven_against_all_it_has_halts_at_once(speed_rad_s, ticks):
    full, speed = np.zeros(7), np.zeros(7)
    full[1], speed[1] = 87.0, speed_rad_s
    monitor = TorqueMonitor(LIMITS, CONFIG)
    found = [monitor.check(state(full, speed), HOME[None], 0.0) for _ in range(ticks)]
    assert [v.level for v in found] == [SCALE] * (ticks - 1) + [HALT] and found[-1].at_once
    assert ("driven against" in found[-1].reason) == (ticks == 3)


@pytest.mark.parametrize(("swing_nm", "level"), [(45.0, OK), (55.0, SCALE)])
def test_torque_rate_over_fifty_milliseconds(swing_nm, level):
    monitor = TorqueMonitor(LIMITS, CONFIG)
    for k in range(13):
        effort = np.zeros(7)
        effort[1] = swing_nm * k / 12
        verdict = monitor.check(state(effort), HOME[None], 0.0)
    assert verdict.level is level


@pytest.mark.parametrize(("watts", "level"), [(75.0, OK), (100.0, SCALE), (200.0, HALT)])
def test_power(watts, level):
    effort, qd = np.zeros(7), np.zeros(7)
    effort[1], qd[1] = 50.0, watts / 50.0
    monitor = PowerMonitor(CONFIG)
    for _ in range(100):
        verdict = monitor.check(state(effort, qd), HOME[None], 0.0)
    assert verdict.level is level


def test_the_motor_model_follows_its_formula_and_a_reset_does_not_cool_it():
    monitor = TemperatureMonitor(LIMITS, CONFIG)
    c, effort = CONFIG.thermal, np.zeros(7)
    effort[3] = 0.6 * LIMITS.joints.torque_nm[3]
    for second in range(601):
        verdict = monitor.check(state(effort, stamp_s=float(second)), HOME[None], 0.0)
    goal = c.rise_c * 0.36
    assert monitor.celsius[3] == pytest.approx(c.ambient_c + goal * (1 - np.exp(-1.0)), rel=1e-3)
    assert monitor.celsius[0] == c.ambient_c
    assert verdict.level is OK
    for second in range(601, 4000):
        verdict = monitor.check(state(effort, stamp_s=float(second)), HOME[None], 0.0)
    assert verdict.level is HALT  # 25 + 65 degrees
    assert not hasattr(monitor, "forget")


@pytest.mark.parametrize(("celsius", "level"), [(69.0, OK), (77.5, SCALE), (85.0, HALT)])
def test_what_the_robot_reports_counts(celsius, level):
    hot = np.full(7, 30.0)
    hot[2] = celsius
    monitor = TemperatureMonitor(LIMITS, CONFIG)
    verdict = monitor.check(replace(state(), motor_temperature_c=hot), HOME[None], 0.0)
    assert verdict.level is level
    if level is SCALE:
        assert verdict.scale == pytest.approx(0.5)


def test_slip_and_loss():
    signals = Signals(gripper_command=GripperCommand(0.0, 40.0))
    monitor = SlipMonitor(CONFIG, signals)

    def check(
        now_s: float, contact: bool, slip: bool = False, opening_m: float = 0.03
    ) -> VerdictLevel:
        signals.gripper = GripperState(opening_m, 20.0 if contact else 0.0, contact, slip)
        return monitor.check(state(), HOME[None], now_s).level

    assert {check(k * DT, True) for k in range(80)} == {OK}
    # What settles between the fingers is no slip, however far; what goes faster is, while it does.
    settling = [0.03 - 0.009 * k * DT for k in range(100)]
    assert {check((80 + k) * DT, True, True, settling[k]) for k in range(100)} == {OK}
    sliding = [settling[-1] - 0.012 * k * DT for k in range(1, 60)]
    levels = [check((180 + k) * DT, True, True, opening) for k, opening in enumerate(sliding)]
    assert levels[0] is OK and levels[-1] is SCALE
    assert levels.index(SCALE) <= CONFIG.grip.slip_window_s / DT
    stopped_s = 239 * DT
    assert check(stopped_s + 2 * DT, True, True, sliding[-1]) is SCALE
    for k in range(60):
        last = check(stopped_s + (3 + k) * DT, True, True, sliding[-1])
    assert last is OK
    assert check(1.0, False) is SCALE
    assert check(2.0, False) is SCALE
    signals.gripper_command = GripperCommand(0.08, 40.0)
    assert check(2.1, False) is OK
    signals.gripper_command = GripperCommand(0.0, 40.0)
    assert check(2.2, False) is OK


@pytest.mark.parametrize(
    ("gripper", "told_m", "level"),
    [
        (GripperState(0.03, 69.0), 0.0, OK),
        (GripperState(0.03, 80.0), 0.0, HALT),
        (GripperState(0.03, 0.0, opening_force_n=35.0), 0.08, HALT),
        (GripperState(0.03, 0.0, opening_force_n=15.0), 0.08, OK),
        (GripperState(0.079, 0.0, opening_force_n=35.0), 0.08, OK),
    ],
)
def test_the_fingers_load(gripper, told_m, level):
    signals = Signals(gripper_command=GripperCommand(told_m, 40.0))
    monitor = GripperMonitor(LIMITS.gripper, CONFIG, signals)
    for _ in range(60):
        verdict = monitor.check(state(gripper=gripper), HOME[None], 0.0)
    assert verdict.level is level


def tick_of(q: np.ndarray, qd: np.ndarray, config: SafetyConfig = CONFIG) -> Tick:
    tick = Tick(ARM, sent_at(q - qd * DT, qd), LIMITS.joints, config)
    tick.begin(state(q=q), q[None])
    return tick


@pytest.mark.parametrize(("share", "level"), [(0.99, OK), (1.02, SCALE)])
def test_tool_speed(share, level):
    J = ARM.jacobian(HOME)
    twist = np.array([0, share * LIMITS.cartesian.velocity_m_s, 0, 0, 0, 0])
    qd = J.T @ np.linalg.solve(J @ J.T, twist)
    monitor = ToolSpeedMonitor(LIMITS, CONFIG, tick_of(np.array(HOME), qd))
    verdict = monitor.check(state(), HOME[None], 0.0)
    assert verdict.level is level


def test_a_zone_is_braked_for_and_left_again():
    x = ARM.tool_position(HOME)[0]
    config = SafetyConfig(keep_out=(Zone((x + 0.05, -1, -1), (x + 1, 1, 2), "corner"),))
    J = ARM.jacobian(HOME)

    def at(speed: float, offset_m: float = 0.0) -> VerdictLevel:
        zone = Zone((x + 0.05 - offset_m, -1, -1), (x + 1, 1, 2), "corner")
        qd = J.T @ np.linalg.solve(J @ J.T, np.array([speed, 0, 0, 0, 0, 0]))
        monitor = ZoneMonitor(replace(config, keep_out=(zone,)), tick_of(np.array(HOME), qd))
        return monitor.check(state(), HOME[None], 0.0).level

    stops = np.sqrt(2 * CONFIG.workspace_deceleration_m_s2 * 0.045)  # 5 mm before it
    assert at(0.95 * stops) is OK
    assert at(1.05 * stops) is SCALE
    assert at(-1.0) is OK
    assert at(0.1, offset_m=0.053) is SCALE  # at the rim
    assert at(0.1, offset_m=0.06) is HALT  # inside, and further in
    assert at(-0.1, offset_m=0.06) is OK  # the nearest way out


def nearing(velocity: tuple[float, float, float], *boxes: Box) -> tuple[VerdictLevel, float, str]:
    """What is said where the tool is at home and moves so."""
    J = ARM.jacobian(HOME)
    qd = J.T @ np.linalg.solve(J @ J.T, np.array([*velocity, 0, 0, 0]))
    signals = Signals()
    monitor = NearingMonitor(LIMITS, CONFIG, tick_of(np.array(HOME), qd), signals)
    signals.see(boxes)
    verdict = monitor.check(state(), HOME[None], 0.0)
    return verdict.level, verdict.scale, verdict.reason


def test_the_hand_comes_gently_to_the_table_and_to_boxes():
    x, y, z = ARM.tool_position(HOME)
    gap_m = z - LIMITS.gripper.fingertip_beyond_tool_m
    most = np.sqrt(CONFIG.near_speed_m_s**2 + 2 * CONFIG.near_deceleration_m_s2 * gap_m)
    assert nearing((0.0, 0.0, -0.95 * most))[0] is OK
    level, scale, reason = nearing((0.0, 0.0, -1.1 * most))
    assert level is SCALE and "table" in reason
    assert scale == pytest.approx(1 / 1.1, rel=1e-6)
    assert nearing((0.0, 0.0, 1.5))[0] is OK
    # A box 0.15 m below the tool; turned, and wider than high.
    box = Box((x, y, z - 0.25), (0.3, 0.2, 0.2), 0.7, "crate")
    gap_m = 0.15 - LIMITS.gripper.fingertip_beyond_tool_m
    most = np.sqrt(CONFIG.near_speed_m_s**2 + 2 * CONFIG.near_deceleration_m_s2 * gap_m)
    assert nearing((0.0, 0.0, -0.95 * most), box)[0] is OK
    level, scale, reason = nearing((0.0, 0.0, -1.1 * most), box)
    assert level is SCALE and "crate" in reason
    assert scale == pytest.approx(1 / 1.1, rel=1e-6)
    # Obliquely it comes as fast as along its way, which is longer.
    most = np.sqrt(CONFIG.near_speed_m_s**2 + 2 * CONFIG.near_deceleration_m_s2 * 1.25 * gap_m)
    oblique = np.array([0.6, 0.0, -0.8]) * most
    assert nearing(tuple(0.99 * oblique), box)[0] is OK
    assert nearing(tuple(1.1 * oblique), box)[1] == pytest.approx(1 / 1.1, rel=1e-6)
    assert nearing((1.5, 0.0, 0.0), box)[0] is OK  # past it
    beside = Box((x + 0.2, y, z), (0.1, 0.1, 0.1), name="post")
    assert nearing((0.9, 0.0, 0.0), beside, box)[2].endswith("post")
    assert nearing((-0.9, 0.0, 0.0), beside, box)[0] is OK
    # The tool passes it by, a finger would not; both do further off.
    ahead = [0.5 * 0.1 + share * CONFIG.near_hand_m for share in (0.9, 3.0)]
    for offset_m, expected in zip(ahead, (SCALE, OK), strict=True):
        below = Box((x + offset_m, y, z - 0.1), (0.1, 0.1, 0.1), name="rim")
        assert nearing((0.0, 0.0, -0.6), below)[0] is expected


@pytest.mark.parametrize("touching", [0.0, 0.02])
def test_a_gentle_hand_is_free_wherever_it_is(touching):
    x, y, z = ARM.tool_position(HOME)
    box = Box((x, y, z - 0.05 + touching), (0.1, 0.1, 0.1), name="held")
    for axis in range(3):
        velocity = [0.0, 0.0, 0.0]
        velocity[axis] = -0.99 * CONFIG.near_speed_m_s
        assert nearing(tuple(velocity), box)[0] is OK


def test_a_command_that_was_held_back_does_not_leap_over_a_singular_posture():
    before = np.array([0.68, -0.07, -1.81, -2.38, -0.10, 2.39, -1.87])
    worst = np.array([0.65, -0.01, -1.79, -2.37, -0.01, 2.37, -1.94])
    sent = sent_at(before)
    tick = Tick(ARM, sent, LIMITS.joints, CONFIG)
    assert tick.condition(before) < CONFIG.singular_stop < tick.condition(worst)
    assert tick.condition(before + 6.0 * (worst - before)) < CONFIG.singular_slow
    monitor = SingularityMonitor(LIMITS, CONFIG, tick, sent)
    scales = []
    for share in np.linspace(0.01, 3.0, 100):  # the command goes on, the arm does not
        command = before + share * (worst - before)
        tick.begin(state(q=before), command[None])
        scales.append(monitor.check(state(), command[None], 0.0).scale)
    assert min(scales[-50:]) == max(scales[-50:]) == 0.0


def test_into_a_singular_posture_is_slowed_out_of_it_is_free():
    # The elbow is in line at about -0.5 rad of joint 4; here the condition number is above 17.
    stretched = np.array([0.0, 0.6, 0.0, -0.8, 0.0, 1.6, 0.8])
    speed = np.zeros(7)
    speed[3] = 1.8
    for sign, level in ((1.0, SCALE), (-1.0, OK)):
        sent = sent_at(stretched, sign * speed)
        tick = Tick(ARM, sent, LIMITS.joints, CONFIG)
        monitor = SingularityMonitor(LIMITS, CONFIG, tick, sent)
        for k in range(2):
            q = stretched + sign * speed * DT * k
            tick.begin(state(q=stretched), q[None])
            verdict = monitor.check(state(), q[None], 0.0)
            sent.advance(q, sign * speed)
        assert verdict.level is level
    assert tick.condition(stretched) > CONFIG.singular_slow


def distance(
    q: np.ndarray,
    qd: np.ndarray,
    boxes: tuple[Box, ...] = (),
    held: HeldBox | None = None,
) -> VerdictLevel:
    signals, sent = Signals(), sent_at(q - qd * DT, qd)
    tick = Tick(ARM, sent, LIMITS.joints, CONFIG)
    monitor = DistanceMonitor(LIMITS, ARM, CONFIG, sent, tick, signals)
    signals.held = held
    signals.see(boxes)
    tick.begin(state(q=q), q[None])
    return monitor.check(state(), q[None], 0.0).level


def test_the_arm_slows_towards_a_box_and_not_away_from_it():
    q, turn = np.array(HOME), np.zeros(7)
    turn[0] = 1.0
    assert distance(q, turn) is OK
    for y, level in ((0.25, OK), (0.19, SCALE), (0.16, HALT)):
        post = Box((0.3, y, 0.55), (0.1, 0.1, 0.3), name="post")  # beside forearm and wrist
        assert distance(q, turn, (post,)) is level
        assert distance(q, -turn, (post,)) is OK


def test_what_is_held_keeps_away_from_the_arm():
    """A rod held by its end reaches back to the arm where the hand folds in."""
    on = np.zeros(7)
    on[5] = -1.0
    rod = HeldBox((0.3, 0.03, 0.03), Pose("tool0", "obj", [0.15, 0.0, 0.02], [0, 0, 0, 1]))
    back = HeldBox((0.3, 0.03, 0.03), Pose("tool0", "obj", [-0.15, 0.0, 0.02], [0, 0, 0, 1]))
    wrists = np.arange(3.2, 2.0, -0.1)
    said = {
        name: {
            distance(np.array([0.0, -0.6, 0.0, -2.7, 0.0, w, 0.8]), on, held=box) for w in wrists
        }
        for name, box in (("nothing", None), ("rod", rod), ("other end", back))
    }
    assert said["nothing"] == {OK}
    assert (said["rod"] | said["other end"]) & {SCALE, HALT}


def test_the_arm_slows_towards_itself():
    """The hand is folded towards the arm's own foot, joint 4 at its end."""
    on = np.zeros(7)
    on[5] = -1.0
    found = {
        wrist: distance(np.array([0.0, -1.2, 0.0, -3.0, 0.0, wrist, 0.8]), on)
        for wrist in (2.0, 1.4, 1.3, 1.2, 1.1)
    }
    assert found[2.0] is OK
    assert set(found.values()) & {SCALE, HALT}
