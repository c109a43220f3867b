"""The work cell: whole picks with the truth, an emergency stop, and one path like the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.disturbance import misjudged
from envs.expert import ExpertPolicy
from envs.objects import ObjectModel
from envs.physics import physics
from envs.scene import DropConfig
from envs.station import Station
from policies.evaluation.protocols import EpisodeResult, clear_table, protocol, put_away
from robot.errors import ConfigError, PlanningError, SafetyError, SensorError
from robot.execution.acting import AtOnce
from robot.execution.grasp import TICKS, GraspLoop
from robot.geometry import grasp_rotation
from robot.interface import Policy
from robot.limits import load_limits
from robot.observation import OLD_S, part
from robot.planning.ranking import Refusal
from robot.planning.reach import reachable
from robot.safety.config import SafetyConfig, Zone
from robot.safety.suite import for_batches
from robot.safety.supervisor import Supervisor
from robot.types import (
    Detection,
    GraspCandidate,
    GripperState,
    JointState,
    Pose,
    RobotState,
    VerdictLevel,
)

LIFT_M = 0.22
BOX = ObjectModel("box", "box", dimensions_m=(0.04, 0.09, 0.05))
SLIM = ObjectModel("slim", "box", dimensions_m=(0.03, 0.08, 0.04))
CAN = ObjectModel("can", "cylinder", dimensions_m=(0.05, 0.05, 0.09))


@pytest.fixture(scope="module")
def station():
    made = Station(ExpertPolicy(LIFT_M), physics("nominal"), "truth")
    yield made
    made.close()


def at_rest(station: Station) -> bool:
    return bool(np.abs(station.arm.read().joints.velocity_rad_s).max() < 0.02)


class Narrow:
    """A scorer that trusts narrow grips."""

    def score(self, height_map, candidates):
        return np.array([max(0.0, 1.0 - 12 * c.width_m) for c in candidates], np.float32)


def test_a_pick_follows_the_scorer_and_says_why_it_refused_the_rest():
    made = Station(ExpertPolicy(LIFT_M), physics("nominal"), "truth", scorer=Narrow())
    try:
        made.begin([BOX], DropConfig(), 3)
        picker = made.picker
        look = picker.look()
        offered = picker.ranking.ranked(look, np.random.default_rng(0))
        attempt = picker.grasp(look)
        assert attempt.held
        widths = [item.candidate.width_m for item in offered]
        assert attempt.candidate.width_m <= np.median(widths) <= max(widths)
        refused = attempt.refused.as_dict()
        assert set(refused) <= {r.value for r in Refusal}
        assert sum(refused.values()) == len(offered) - 1 > 5
        result = picker.put_away(attempt)
        assert result.success and result.refused == refused
    finally:
        made.close()


def test_a_whole_pick_ends_in_the_tray_with_the_arm_at_home(station):
    station.begin([BOX], DropConfig(), 3)
    picker = station.picker
    (body,) = station.world.bodies
    attempt = picker.grasp(picker.look())
    assert attempt.held
    assert attempt.candidate.object_id == body == attempt.obj.object_id
    # Held by the fingers, all of it above the table, and both fingers touch it.
    assert station.world.aabb(body)[0][2] > 0.15
    assert station.world.contacts(station.world.arm_id, body) >= 2
    picker.hold(1.0)
    assert station.world.aabb(body)[0][2] > 0.15
    result = picker.put_away(attempt)
    assert (result.success, result.category) == (True, "success")
    assert result.object_id == body
    assert 1.0 < result.attempt_s < 30.0
    picker.home()
    assert station.world.in_tray(body)
    assert not station.world.in_workspace(body)
    state = station.arm.read()
    np.testing.assert_allclose(state.joints.position_rad, station.limits.home_rad, atol=5e-3)
    assert state.gripper.opening_m > 0.075
    assert at_rest(station)


def test_what_was_put_down_is_kept_clear_of_until_the_next_table(station):
    station.begin([BOX], DropConfig(), 3)
    picker = station.picker
    (body,) = station.world.bodies
    assert picker.put_away(picker.grasp(picker.look())).success
    (lies,) = picker.around.put_down
    x, y, _ = station.world.pose(body).position_m
    assert lies.covers(np.array(x), np.array(y))
    assert lies.size_m[0] == pytest.approx(np.hypot(0.04, 0.09), abs=0.01)
    assert lies.top_m == pytest.approx(0.09, abs=0.01)  # as if it stood upright
    picker.home()
    assert lies.cut(picker.placing.passed_m) in station.player.supervisor.signals.scene
    station.begin([], DropConfig(), 3)
    assert picker.around.put_down == ()


class Sees:
    """A watch that tells of the object where it stands, so much later."""

    def __init__(self, late_s: float) -> None:
        self.late_s, self.obj = late_s, None

    def begin(self, look, obj, now_s):
        self.obj = obj

    def read(self, now_s):
        return replace(self.obj, stamp_s=now_s - self.late_s)


@pytest.mark.parametrize(("late_s", "age_s"), [(0.2, 0.2), (0.5, OLD_S)])
def test_a_sight_that_comes_too_late_is_no_fresh_one(station, late_s, age_s):
    """A policy that waits for a fresh one would wait for ever."""
    station.begin([BOX], DropConfig(), 3)
    acting, seen = station.acting, []

    class Records:
        def reset(self):
            pass

        def act(self, observation):
            seen.append(float(observation[part("object_age")][0]))
            return np.array([0.0, 0.0, -1.0, 0.0, 1.0], np.float32)

    before = acting.policy, acting.watch
    acting.policy, acting.watch = AtOnce(Records()), Sees(late_s)
    try:
        station.picker.grasp(station.picker.look())
    finally:
        acting.policy, acting.watch = before
    np.testing.assert_allclose(seen[1:5], age_s, atol=1e-6)


class PressesOn:
    """Goes down, whatever happens."""

    def reset(self) -> None:
        pass

    def act(self, observation):
        return np.array([0.0, 0.0, 1.0, 0.0, 1.0], np.float32)


def test_a_finger_that_comes_down_on_the_object_touches_it_and_no_more():
    """All monitors are on, and none has to act."""
    made = Station(PressesOn(), physics("nominal"), "truth")
    try:
        made.begin([CAN], DropConfig(), 3)
        picker, supervisor = made.picker, made.player.supervisor
        pressed, levels = [], set()

        def watch() -> None:
            pressed.append(-supervisor.pressed[2])
            levels.add(supervisor.verdict.level)

        def beside(candidate: GraspCandidate) -> GraspCandidate:
            return misjudged(candidate, 0.033 * candidate.X_world_grasp.rotation[:, 1], 0.0)

        picker.misjudge, made.world.before_tick = beside, watch
        attempt = picker.grasp(picker.look())
        assert attempt.outcome == "touched"
        assert "came down on something" in attempt.reasons[0]
        assert made.loop.config.touch.force_n < max(pressed) < supervisor.config.force.contact_n
        assert levels == {VerdictLevel.OK}
    finally:
        made.close()


def test_a_table_of_three_is_cleared(station):
    models = [BOX, CAN, SLIM]
    station.begin(models, DropConfig(), 5)
    tally = EpisodeResult(5, objects=3)
    phases = []
    clear_table(station, protocol("clutter"), tally, lambda p: phases.append(p.category))
    assert put_away(station) == set(station.world.bodies)
    assert tally.successes == 3
    assert tally.attempts == len(phases)
    assert tally.failures == [p for p in phases if p != "success"]


def test_an_empty_table_has_no_candidate_and_the_arm_does_not_move(station):
    station.begin([], DropConfig(), 0)
    before = station.arm.read().joints.position_rad
    attempt = station.picker.grasp(station.picker.look())
    assert not attempt.held
    assert attempt.outcome == "no_candidate"
    assert "fits between the fingers" in attempt.reasons[0]
    np.testing.assert_array_equal(station.arm.read().joints.position_rad, before)
    tally = EpisodeResult(0)
    clear_table(station, protocol("clutter"), tally)
    assert (tally.attempts, tally.successes, tally.failures) == (0, 0, [])


class StopsMidway:
    """The expert until its n-th step, at which somebody hits the emergency stop."""

    def __init__(self, station: Station, step: int) -> None:
        self._expert = ExpertPolicy(LIFT_M)
        self._supervisor = station.player.supervisor
        self._left = step

    def reset(self) -> None:
        self._expert.reset()

    def act(self, observation):
        self._left -= 1
        if self._left == 0:
            self._supervisor.estop("button")
        return self._expert.act(observation)


@pytest.fixture
def with_policy(station):
    """Lets a test put in another policy, and puts the old one back."""
    old = station.policy

    def put(policy: Policy) -> None:
        station.policy = policy

    yield put
    station.policy = old


@pytest.mark.parametrize("step", [3, 30])  # on the way down, and when closing or lifting
def test_an_emergency_stop_in_the_middle_of_a_pick_stops_the_arm(station, with_policy, step):
    station.begin([BOX], DropConfig(), 3)
    with_policy(StopsMidway(station, step))
    player = station.player
    with pytest.raises(SafetyError, match="e-stop: button"):
        station.picker.grasp(station.picker.look())
    assert player.supervisor.halted
    station.world.step(48)  # 0.2 s for the momentum that is left
    there = station.arm.read().joints.position_rad
    station.world.step(240)
    np.testing.assert_allclose(station.arm.read().joints.position_rad, there, atol=1e-3)
    assert at_rest(station)
    # It stays latched, whatever is asked for next, until it is reset by hand.
    with pytest.raises(SafetyError):
        station.picker.hold(0.1)
    np.testing.assert_allclose(station.arm.read().joints.position_rad, there, atol=1e-3)
    player.sync()
    station.picker.hold(0.1)
    assert not player.supervisor.halted


def test_a_nan_from_the_policy_halts(station, with_policy):
    class Broken:
        def reset(self) -> None: ...

        def act(self, observation):
            return np.full(5, np.nan, dtype=np.float32)

    station.begin([BOX], DropConfig(), 3)
    with_policy(Broken())
    with pytest.raises(SafetyError, match="halted"):
        station.picker.grasp(station.picker.look())
    station.world.step(60)
    assert at_rest(station)
    assert np.isfinite(station.arm.read().joints.position_rad).all()


def test_a_policy_that_refuses_in_motion_has_the_arm_brake_within_its_limits(station, with_policy):
    class Refuses:
        def __init__(self, policy) -> None:
            self.policy, self.steps = policy, 0

        def reset(self) -> None:
            self.policy.reset()

        def act(self, observation):
            self.steps += 1
            if self.steps == 12:
                raise SafetyError("policy: observation holds nan")
            return self.policy.act(observation)

    station.begin([BOX], DropConfig(), 3)
    with_policy(Refuses(station.policy))
    player, sent = station.player, []
    station.arm.on_motors = lambda q, *_: sent.append(q)
    try:
        with pytest.raises(SafetyError, match="observation holds nan"):
            station.picker.grasp(station.picker.look())
    finally:
        station.arm.on_motors = None
    assert player.supervisor.halted and player.supervisor.at_rest
    speeds = np.diff(np.array(sent[-120:]), axis=0) * 240.0
    assert np.abs(speeds).max() > 0.05 and np.abs(speeds[-1]).max() < 1e-6
    most = station.limits.joints.acceleration_rad_s2 * 1.001
    assert (np.abs(np.diff(speeds, axis=0)) * 240.0 <= most).all()
    station.world.step(30)
    assert at_rest(station)


def test_the_next_episode_after_a_halt_is_as_if_nothing_had_happened(station, with_policy):
    def pose_after_grasp() -> np.ndarray:
        station.begin([BOX], DropConfig(), 7)
        assert station.picker.grasp(station.picker.look()).held
        (body,) = station.world.bodies
        return station.world.pose(body).position_m

    first = pose_after_grasp()
    station.begin([BOX], DropConfig(), 7)
    good = station.policy
    with_policy(StopsMidway(station, 5))
    with pytest.raises(SafetyError):
        station.picker.grasp(station.picker.look())
    with_policy(good)
    np.testing.assert_array_equal(pose_after_grasp(), first)


def test_rising_out_of_reach_is_a_planning_error(station):
    station.begin([], DropConfig(), 0)
    with pytest.raises(PlanningError):
        station.picker.rise(3.0)


def test_paths_go_around_what_is_closed_to_the_tool(monkeypatch):
    zone = Zone((0.55, -0.04, 0.0), (0.66, 0.04, 0.3), "what is closed")
    safety = SafetyConfig(keep_out=(zone,))
    station = Station(ExpertPolicy(LIFT_M), physics("nominal"), "truth", safety=safety)
    try:
        station.begin([], DropConfig(), 0)
        kinematics, home = station.loop.kinematics, station.limits.home_rad
        ends = [
            kinematics.inverse(Pose.from_matrix("world", "tool0", grasp_rotation(0.0), at), home)
            for at in ((0.5, -0.35, 0.15), (0.5, 0.35, 0.15))
        ]
        low, high = np.array(zone.min_m), np.array(zone.max_m)

        def inside(joints) -> bool:
            tools = np.array([kinematics.tool_position(q) for q in joints])
            return bool(((tools > low) & (tools < high)).all(axis=1).any())

        assert inside(np.linspace(*ends, 50))
        station.picker.travel(ends[0], None)
        played = []
        monkeypatch.setattr(station.player, "play", played.append)
        station.picker.travel(ends[1], None)
        assert not inside(played[0].position_rad)
        assert all(box.name != zone.name for box in station.picker.checker.boxes)
        np.testing.assert_allclose(played[0].position_rad[-1], ends[1])
    finally:
        station.close()


def test_camera_sensing_without_a_detector_is_refused():
    with pytest.raises(ConfigError, match="needs a detector"):
        Station(ExpertPolicy(LIFT_M), physics("nominal"), "camera")


class SeesNothing:
    """A detector that finds no object in any image."""

    def detect(self, frame) -> list[Detection]:
        return []


def test_one_dead_camera_is_done_without_and_two_are_an_error():
    made = Station(ExpertPolicy(LIFT_M), physics("nominal"), "camera", SeesNothing())
    try:
        made.begin([BOX], DropConfig(), 3)
        assert len(made.picker.look().frames) == 2
        made.cameras[0].working = False
        look = made.picker.look()
        assert [frame.camera for frame in look.frames] == ["wrist"]
        made.cameras[1].working = False
        with pytest.raises(SensorError, match=r"overhead.*wrist"):
            made.picker.look()
    finally:
        made.close()


# The path of deployment and the path of training --------------------------------------------


def chain() -> tuple[GraspLoop, Supervisor, GraspCandidate, np.ndarray]:
    limits = load_limits()
    loop = GraspLoop.make(limits)
    pose = Pose.from_matrix("world", "grasp", grasp_rotation(0.4), (0.5, 0.05, 0.04))
    chosen, q = reachable(
        loop, GraspCandidate(pose, 0.03, 0.07, 1.0, 0, 0.0), np.asarray(limits.home_rad)
    )
    supervisor = Supervisor(limits, loop.kinematics, for_batches())
    supervisor.reset(q)
    loop.begin(chosen, None, q, 0.07, 0.0)
    return loop, supervisor, chosen, q


def reading(q: np.ndarray, qd: np.ndarray, now_s: float) -> RobotState:
    return RobotState(now_s, JointState(q, qd, np.zeros(7)), GripperState(0.07, 0.0))


def sent(actions: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray, list[VerdictLevel]]:
    """What leaves the supervisor for ``actions``, judged ``batch`` ticks at a time.

    The arm follows its commands exactly; as in ``Player`` and ``GraspEnv`` the reading that is
    judged with a command is the newest one, and a verdict that is not OK moves the servo's
    reference.
    """
    loop, supervisor, _, q = chain()
    positions, rates, levels = [], [], []
    at, speed, tick = q, np.zeros(7), 0
    for action in actions:
        loop.observe(at, speed, tick / 240)
        loop.act(action)
        for _ in range(TICKS // batch):
            now = tick / 240
            targets, qd = loop.references(batch)
            targets, qd, verdict = supervisor.filter(reading(at, speed, now), targets, qd, now)
            if verdict.level:
                loop.servo.follow(targets[-1])
            positions.append(targets)
            rates.append(qd)
            levels.append(verdict.level)
            at, speed, tick = targets[-1], qd[-1], tick + batch
    return np.concatenate(positions), np.concatenate(rates), levels


def grasping_actions() -> np.ndarray:
    """Down, gently, with a turn and some sideways, rest and close, up: 3 s within all limits."""
    rng = np.random.default_rng(0)
    down = np.tile([0.05, -0.04, 0.09, 0.15, 0.7], (20, 1)) + rng.normal(0, 0.03, (20, 5)) * [
        1,
        1,
        0.2,
        1,
        1,
    ]
    close = np.tile([0.0, 0.0, 0.0, 0.0, -1.0], (15, 1))
    up = np.tile([0.0, 0.0, -0.6, 0.0, -1.0], (25, 1))
    return np.clip(np.concatenate([down, close, up]), -1, 1).astype(np.float32)


def test_ticks_one_by_one_and_in_batches_send_the_same_joints():
    actions = grasping_actions()
    single_q, single_qd, single_levels = sent(actions, 1)
    batch_q, batch_qd, batch_levels = sent(actions, TICKS)
    assert set(single_levels) == set(batch_levels) == {VerdictLevel.OK}
    np.testing.assert_array_equal(single_q, batch_q)
    np.testing.assert_array_equal(single_qd, batch_qd)
    # And it is a motion worth comparing.
    assert np.ptp(single_q, axis=0).max() > 0.2


def test_the_player_sends_what_a_batch_would(station):
    """The same through the real ``Player`` and arm: what reaches the motors is the batch's."""
    actions = grasping_actions()
    batch_q, batch_qd, _ = sent(actions, TICKS)
    _, _, chosen, q = chain()
    station.world.reset()
    station.arm.configure(0, 40.0)
    station.arm.reset(q)
    picker = station.picker
    station.player.sync()
    # Its own loop, set up as the batch's was.
    mine = picker.loop
    mine.begin(chosen, None, q, 0.07, station.player.clock.now_s())
    station.player.q_sent = q
    station.player.supervisor.reset(q)
    got_q, got_qd = [], []
    for action in actions:
        joints = station.player.state.joints
        mine.observe(joints.position_rad, joints.velocity_rad_s, station.player.clock.now_s())
        station.player.command_gripper(mine.act(action))
        for _ in range(TICKS):
            targets, qd = mine.references(1)
            verdict = station.player.tick(targets[0], qd[0])
            assert verdict.level is VerdictLevel.OK
            got_q.append(station.player.q_sent)
            got_qd.append(qd[0])
    np.testing.assert_array_equal(np.array(got_q), batch_q)
    np.testing.assert_array_equal(np.array(got_qd), batch_qd)
    # The arm was where it was told to be, within what a position motor lags behind.
    assert np.abs(station.arm.read().joints.position_rad - batch_q[-1]).max() < 0.02


def test_the_comparison_would_notice_a_verdict():
    """The servo keeps all limits by itself, so only what is no number is left to be refused."""
    wild = np.tile([1.0, 1.0, 1.0, 1.0, 1.0], (40, 1)).astype(np.float32)
    assert set(sent(wild, TICKS)[2]) == {VerdictLevel.OK}
    wild[20, 0] = np.nan
    assert VerdictLevel.HALT in sent(wild, TICKS)[2]
