"""A simulated arm in another process, behind DDS, driven as any arm behind ros2_control is."""

from __future__ import annotations

import multiprocessing
import os
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the extra ros2: pip install 'steadyhand[ros2]'")

from envs.arm import SimArm
from envs.clock import SimClock
from envs.world import World
from robot.dds.port import DdsConfig
from robot.dds.robot import DdsRobot, DdsRobotConfig
from robot.dds.served import ServedArm
from robot.errors import SensorError
from robot.execution.grasp import GraspLoop
from robot.execution.player import Player
from robot.limits import load_limits
from robot.loop.clock import PacedClock, RealClock
from robot.planning.collision import CollisionChecker
from robot.planning.paths import PathPlanner
from robot.safety.supervisor import Supervisor
from robot.types import GripperCommand, JointCommand

DOMAIN = 20 + os.getpid() % 80
LIMITS = load_limits("panda")


def serve(domain: int, ended, told) -> None:
    world = World()
    arm = SimArm(world, LIMITS)
    served = ServedArm(arm, PacedClock(SimClock(world)), dds=DdsConfig(domain_id=domain))
    served.run(ended.is_set)
    told.put((served.commands, served.stops, arm.read().joints.position_rad.tolist()))


@pytest.fixture()
def server():
    context = multiprocessing.get_context("spawn")
    ended, told = context.Event(), context.Queue()
    process = context.Process(target=serve, args=(DOMAIN, ended, told), daemon=True)
    process.start()
    yield ended, told
    ended.set()
    process.join(10)
    process.kill()


@pytest.mark.slow  # two processes in real time
@pytest.mark.parametrize("command", ["forward", "trajectory"])
def test_a_planned_motion_over_dds_ends_where_it_should(server, command):
    ended, told = server
    robot = DdsRobot(DdsRobotConfig(command=command, connect_s=60.0), DdsConfig(domain_id=DOMAIN))
    robot.connect()
    loop = GraspLoop.make(LIMITS)
    start = robot.read()
    clock = RealClock(start.stamp_s)  # the arm's clock is the one that stamps
    player = Player(robot, clock, Supervisor(LIMITS, loop.kinematics), loop)
    paths = PathPlanner(LIMITS, loop.kinematics, CollisionChecker(LIMITS, loop.kinematics), 0)
    goal = LIMITS.home_rad + np.array([0.3, 0.1, -0.2, 0.1, 0.2, 0.1, 0.3])
    player.play(paths.to_joints(player.q_sent, goal))
    player.hold(0.5)
    assert np.abs(robot.read().joints.position_rad - goal).max() < 0.01
    robot.close()
    ended.set()
    commands, _, last = told.get(timeout=20)
    assert commands > 100
    np.testing.assert_allclose(last, goal, atol=0.01)


@pytest.mark.slow
def test_in_the_shadow_nothing_moves_and_silence_stops_the_arm(server):
    ended, told = server
    dds, config = DdsConfig(domain_id=DOMAIN), DdsRobotConfig(connect_s=60.0)
    shadow = DdsRobot(config, dds, shadow=True)
    shadow.connect()
    home = shadow.read().joints.position_rad
    away = JointCommand(home + 0.05, np.zeros(7))
    grip = GripperCommand(0.04, 20.0)
    for _ in range(60):
        assert shadow.send(away, grip) is away
        time.sleep(1 / 240)
    np.testing.assert_allclose(shadow.read().joints.position_rad, home, atol=1e-3)
    robot = DdsRobot(config, dds)
    robot.connect()
    for _ in range(120):
        robot.send(away, grip)
        time.sleep(1 / 240)
    time.sleep(1.0)  # no command: the arm's own side must notice
    assert robot.read().gripper.opening_m == pytest.approx(0.04, abs=0.004)
    robot.close()
    ended.set()
    commands, stops, _ = told.get(timeout=20)
    assert commands > 20 and stops >= 1


def test_an_arm_that_is_not_there_is_one_clear_error():
    robot = DdsRobot(DdsRobotConfig(connect_s=0.3), DdsConfig(domain_id=DOMAIN + 100))
    with pytest.raises(SensorError, match="panda_joint1"):
        robot.connect()
    with pytest.raises(SensorError, match="connect first"):
        robot.read()
