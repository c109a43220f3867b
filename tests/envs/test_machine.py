"""The pick's state machine: every trouble, made to happen in the world, has its own recovery."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from envs.bullet import pybullet
from envs.expert import ExpertPolicy
from envs.objects import ObjectModel
from envs.physics import physics
from envs.scene import DropConfig
from envs.station import Station
from robot.execution.guard import MotionGuard
from robot.execution.machine import PickMachine
from robot.execution.scripted import ScriptedPolicy
from robot.execution.states import RECOVERIES, MotionTrouble, PickState, StateTimes, Trouble
from robot.safety.config import SafetyConfig

BOX = ObjectModel("box", "box", dimensions_m=(0.04, 0.09, 0.05))


@pytest.fixture(scope="module")
def station():
    # What holds the arm here would halt it: that is for the monitors' own tests.
    safety = SafetyConfig(off=("contact", "torque", "power"))
    made = Station(ExpertPolicy(0.22), physics("nominal"), "truth", safety=safety)
    made.player.guard = MotionGuard(made.loop)
    made.acting.squeeze = True
    yield made
    made.close()


@pytest.fixture()
def machine(station):
    station.begin([BOX], DropConfig(), 3)
    told = []
    made = PickMachine(station.picker, tell=told.append)
    made.told = told
    yield made
    station.world.before_tick = None


def once(station: Station, when, do) -> None:
    """``do`` something in the world, once, as soon as ``when`` holds."""
    done = []

    def happen() -> None:
        if not done and when():
            done.append(True)
            do()

    station.world.before_tick = happen


def troubles(machine: PickMachine) -> list[Trouble]:
    return [f.trouble for f in machine.told if f.trouble is not None]


def test_a_pick_without_trouble_goes_straight_through_its_states(machine):
    result = machine.pick()
    assert result.success and not troubles(machine)
    states = [f.state for f in machine.told]
    assert states == [PickState.LOOK, PickState.APPROACH, PickState.CARRY, PickState.HOME]
    assert machine.picker.acting.states.state is PickState.CHECK_HOLD


def test_an_object_that_is_lost_on_the_way_is_looked_for_and_picked_again(station, machine):
    (body,) = station.world.bodies
    player = station.player
    once(
        station,
        lambda: player.phase == "carry" and player.q_sent[0] < -0.15,
        lambda: station.world.place(body, [0.5, 0.05, 0.03], [0, 0, 0, 1]),
    )
    result = machine.pick()
    assert troubles(machine) == [Trouble.LOST_OBJECT]
    assert result.success and station.world.in_tray(body)


def snatched(station: Station, machine: PickMachine) -> None:
    """The object is 15 cm further on as soon as it is gripped, and still comes into the tray."""
    (body,) = station.world.bodies
    loop = station.loop
    x, y, _ = station.world.pose(body).position_m
    once(
        station,
        lambda: station.player.phase == "grasp" and loop.gripper_state.contact,
        lambda: station.world.place(body, [x, y - np.copysign(0.15, y), 0.03], [0, 0, 0, 1]),
    )
    result = machine.pick()
    assert result.success and station.world.in_tray(body), (result, machine.told)


def test_an_empty_hand_that_was_lifted_tries_again(station, machine):
    usual, station.policy = station.policy, ScriptedPolicy(0.22)
    try:
        snatched(station, machine)
    finally:
        station.policy = usual
    assert troubles(machine)[:1] == [Trouble.EMPTY_HAND], machine.told


def test_a_policy_that_closes_on_nothing_again_and_again_is_given_up(station, machine):
    snatched(station, machine)
    assert troubles(machine)[:1] == [Trouble.TOO_LONG], machine.told


def test_a_blocked_way_is_left_backwards_and_planned_anew(station, machine):
    """A wall appears in the carried object's way, holds the arm, and is gone at the next look."""
    world, walls = station.world, []
    player = station.player

    def build() -> None:
        at = station.loop.kinematics.forward(player.q_sent).position_m
        side = np.array([0.0, np.sign(-0.4 - at[1]) * 0.12, -0.03])
        shape = pybullet.createCollisionShape(
            pybullet.GEOM_BOX, halfExtents=[0.4, 0.02, 0.3], physicsClientId=world.client
        )
        walls.append(
            pybullet.createMultiBody(
                0, shape, basePosition=(at + side).tolist(), physicsClientId=world.client
            )
        )

    once(station, lambda: player.phase == "carry" and abs(player.qd_sent[0]) > 0.2, build)
    tell = machine.tell

    def tear_down(feedback) -> None:
        tell(feedback)
        if feedback.trouble is not None:
            for wall in walls:
                pybullet.removeBody(wall, physicsClientId=world.client)
            walls.clear()

    machine.tell = tear_down
    result = machine.pick()
    assert troubles(machine)[0] is Trouble.BLOCKED_PATH
    assert "back" in RECOVERIES[Trouble.BLOCKED_PATH]
    assert result.success


def test_slip_is_met_with_more_force_and_less_speed(station, machine):
    """The object is pulled through the fingers for a moment while it is carried."""
    player, guard = station.player, station.player.guard
    before = station.loop.gripper.command(0.0).force_n
    forces, speeds = [], []

    def pull() -> None:
        station.loop.gripper._contact_opening_m += 0.004  # as if the fingers had come closer

    def happen() -> None:
        if player.phase == "carry" and not forces and player.q_sent[0] < -0.1:
            pull()
            forces.append(player.gripper.force_n)
        if forces:
            forces.append(player.gripper.force_n)
            speeds.append(guard.speed)

    station.world.before_tick = happen
    result = machine.pick()
    assert result.success
    assert forces[0] == before < max(forces) <= station.limits.gripper.max_force_n
    assert min(speeds) == guard.config.slip_speed


def test_nothing_on_the_table_is_told_after_two_looks(station):
    station.begin([], DropConfig(), 1)
    told = []
    result = PickMachine(station.picker, tell=told.append).pick()
    assert result.category == "no_candidate" and not result.success
    assert [f.state for f in told].count(PickState.LOOK) == 2
    assert told[2].trouble is Trouble.NOTHING_SEEN and told[2].recovery


def test_a_state_that_takes_too_long_ends_the_policys_part(station, machine):
    class Hovering:
        def reset(self) -> None: ...

        def act(self, observation):
            return np.array([0, 0, 0, 0, 1.0], dtype=np.float32)

    expert, times = station.policy, station.acting.states.times
    station.policy = Hovering()
    station.acting.states.times = StateTimes(descend_s=0.5)
    try:
        attempt = station.picker.grasp(station.picker.look())
    finally:
        station.policy, station.acting.states.times = expert, times
    assert not attempt.held and attempt.late is PickState.DESCEND


def test_an_arm_that_is_pushed_while_it_lets_go_has_let_go(station, machine, monkeypatch):
    def pushed(seconds: float) -> None:
        raise MotionTrouble(Trouble.BLOCKED_PATH)

    hold = station.player.hold
    attempt = station.picker.grasp(station.picker.look())
    assert attempt.held
    monkeypatch.setattr(station.player, "hold", pushed)
    result = station.picker.put_away(attempt)
    hold(0.5)
    (body,) = station.world.bodies
    assert result.success and station.world.in_tray(body)


def test_every_trouble_has_a_recovery_and_every_time_a_state():
    assert set(RECOVERIES) == set(Trouble)
    names = {f"{state.value.replace(' ', '_')}_s" for state in PickState}
    assert {field.name for field in fields(StateTimes)} <= names


def strange_in(station: Station, monkeypatch: pytest.MonkeyPatch, parts: int) -> list[str]:
    """What the policy sees is unlike anything before in its first ``parts``; the phases so far."""
    signals, phases = station.player.supervisor.signals, [""]

    def happen() -> None:
        if station.player.phase != phases[-1]:
            phases.append(station.player.phase)
        strange = phases[-1] == "grasp" and phases.count("grasp") <= parts
        signals.novelty = 2.0 if strange else None

    station.world.before_tick = happen
    monkeypatch.setattr(signals, "novelty", None)
    return phases


def test_an_unsure_policy_gets_another_look_and_then_picks(station, machine, monkeypatch):
    phases, looks = strange_in(station, monkeypatch, 1), []
    look = station.picker.look
    monkeypatch.setattr(station.picker, "look", lambda: looks.append(phases[-1]) or look())
    result = machine.pick()
    assert result.success and not troubles(machine)
    assert phases.count("grasp") == 2
    assert looks == ["", "home"]


def test_a_policy_that_stays_unsure_goes_on_slowly_after_one_look(station, machine, monkeypatch):
    phases = strange_in(station, monkeypatch, 99)
    attempt = station.picker.grasp(station.picker.look())
    assert attempt.held
    assert phases.count("grasp") == 2


def test_what_is_strange_for_a_moment_or_judged_by_nobody_changes_nothing(
    station, machine, monkeypatch
):
    acting, supervisor = station.acting, station.player.supervisor
    assert station.picker.grasp(station.picker.look()).held  # so that there is a grip to judge
    acting.player.loop.commanded_opening_m = acting.player.loop.target.candidate.opening_m
    monkeypatch.setattr(supervisor.signals, "novelty", 2.0)
    assert supervisor.wants_look
    monkeypatch.setattr(acting, "_strange_n", 0)
    for _ in range(acting.unsure_n - 1):
        assert not acting._unsure()
    supervisor.signals.novelty = 1.0
    assert not acting._unsure()
    supervisor.signals.novelty = 2.0
    assert not acting._unsure()
    monkeypatch.delitem(supervisor.monitors, "novelty")
    assert not supervisor.wants_look
