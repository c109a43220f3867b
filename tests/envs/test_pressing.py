"""An arm that runs into something stops there, and does not go on pressing."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from envs.expert import ExpertPolicy
from envs.objects import ObjectModel
from envs.physics import physics
from envs.scene import DropConfig
from envs.station import Station
from robot.errors import SafetyError
from robot.planning.obstacles import Box
from robot.safety.config import SafetyConfig
from robot.types import VerdictLevel

BALL = ObjectModel("ball", "ball", dimensions_m=(0.05, 0.05, 0.05))


@pytest.fixture(scope="module")
def station():
    made = Station(ExpertPolicy(0.22), physics("nominal"), "truth", safety=SafetyConfig())
    yield made
    made.close()


@pytest.mark.parametrize("speed_m_s", [0.25, 0.6])
@pytest.mark.parametrize("way", [(0.0, 0.0, -1.0), (0.6, 0.4, -0.7), (-0.5, 0.5, -0.7)])
def test_what_runs_into_a_block_halts_and_lets_go_of_it(station, way, speed_m_s):
    station.begin([BALL], DropConfig(), 3)
    player, servo = station.player, station.loop.servo
    servo.reset(player.q_sent)
    start = station.loop.kinematics.forward(player.q_sent).position_m
    at = start + 0.2 * np.array(way)
    station.world.fix(Box(tuple(at), (0.08, 0.08, 0.08)))  # which no camera saw
    twist = np.array([*way, 0.0, 0.0, 0.0]) * speed_m_s
    strained: list[bool] = []

    def feel() -> None:
        effort = station.arm.read_arrays()[2]
        strained.append(bool((np.abs(effort) > 0.98 * station.limits.joints.torque_nm).any()))

    station.world.before_tick = feel

    def drive() -> None:
        for _ in range(600):
            q, qd = servo.rollout(twist, 1)
            if player.tick(q[0], qd[0]).level is not VerdictLevel.OK:
                servo.follow(player.q_sent)

    with pytest.raises(SafetyError, match="halted: (contact|joint)"):
        drive()
    station.world.step(120)
    runs = [len(list(of)) for at_limit, of in groupby(strained) if at_limit]
    assert max(runs) <= 60  # 0.25 s
    assert not any(strained[-90:])
    assert np.abs(station.arm.read_arrays()[1]).max() < 0.05


def test_a_stopped_arm_gives_way_to_what_comes_to_press_on_it(station):
    station.begin([BALL], DropConfig(), 3)
    arm, world = station.arm, station.world
    tip = station.loop.kinematics.forward(station.player.q_sent).position_m
    top = tip[2] - station.limits.gripper.fingertip_beyond_tool_m
    arm.stop()
    world.step(5)
    world.fix(Box((tip[0], tip[1], top + 0.004 - 0.05), (0.2, 0.2, 0.1)))  # 4 mm into the fingers
    world.step(240)
    effort = arm.read_arrays()[2]
    assert not station.limits.joints.strained(effort).any()
    assert np.abs(arm.read_arrays()[1]).max() < 0.02
