"""Every arm in simulation: it follows, its fingers go where they are told and press as hard."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from envs.arm import SimArm
from envs.world import World
from robot.limits import load_limits
from robot.planning.obstacles import Box
from robot.types import GripperCommand, JointCommand


@pytest.fixture(scope="module", params=["iiwa14", "xarm6"])
def arm(request: pytest.FixtureRequest) -> Iterator[SimArm]:
    limits = load_limits(request.param)
    world = World(arm=limits.simulated_urdf)
    yield SimArm(world, limits)
    world.close()


def drive(arm: SimArm, q: np.ndarray, opening_m: float, force_n: float, ticks: int) -> None:
    rest = np.zeros(len(q))
    for _ in range(ticks):
        arm.send(JointCommand(q, rest), GripperCommand(opening_m, force_n))
        arm.world.step()


def test_joints_and_fingers_go_where_they_are_told(arm: SimArm) -> None:
    arm.world.reset()
    arm.reset()
    q = arm.limits.home_rad + 0.1
    opening = 0.5 * arm.limits.gripper.max_opening_m
    drive(arm, q, opening, 30.0, 240)
    state = arm.read()
    assert np.abs(state.joints.position_rad - q).max() < 0.01
    assert abs(state.gripper.opening_m - opening) < 0.003
    assert state.gripper.force_n < 5.0


def test_fingers_close_on_a_box_and_feel_it(arm: SimArm) -> None:
    from robot.kinematics import Kinematics

    arm.world.reset()
    arm.reset()
    tool = Kinematics(arm.limits).forward(arm.limits.home_rad)
    x, y, z = (float(v) for v in tool.position_m)
    arm.world.fix(Box((x, y, z + 0.0), (0.03, 0.04, 0.05)))
    drive(arm, arm.limits.home_rad, 0.0, 20.0, 240)
    grip = arm.read().gripper
    arm.world.reset()
    assert 0.03 < grip.opening_m < 0.05
    assert 8.0 < grip.force_n < 25.0


def test_the_panda_is_the_same_class() -> None:
    assert SimArm is SimArm
