"""Every arm in simulation: it follows, its fingers go where they are told and press as hard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from envs.arm import SimArm
from envs.bullet import pybullet
from envs.world import World
from robot.limits import load_limits
from robot.planning.obstacles import Box
from robot.types import GripperCommand, GripperState, JointCommand


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


def pressed(arm: SimArm, force_n: float) -> GripperState:
    """What the fingers read when they close on a box that cannot move."""
    from robot.kinematics import Kinematics

    arm.world.reset()
    arm.reset()
    tool = Kinematics(arm.limits).forward(arm.limits.home_rad)
    x, y, z = (float(v) for v in tool.position_m)
    arm.world.fix(Box((x, y, z), (0.03, 0.04, 0.05)))
    drive(arm, arm.limits.home_rad, 0.0, force_n, 480)
    grip = arm.read().gripper
    arm.world.reset()
    return grip


@pytest.mark.parametrize("force_n", [15.0, 29.0])
def test_fingers_press_as_hard_as_they_are_told(arm: SimArm, force_n: float) -> None:
    """However light they are, and wherever their levers have turned to."""
    grip = pressed(arm, force_n)
    assert grip.force_n == pytest.approx(force_n, rel=0.02)
    assert 0.03 < grip.opening_m < 0.05


GRIPPER = """<robot name="odd">
<link name="world_base"><inertial><mass value="1"/><inertia ixx="0.01" iyy="0.01" izz="0.01"
 ixy="0" ixz="0" iyz="0"/></inertial></link>
<link name="slide"><inertial><mass value="2"/><inertia ixx="0.01" iyy="0.01" izz="0.01"
 ixy="0" ixz="0" iyz="0"/></inertial></link>
<joint name="up" type="prismatic"><parent link="world_base"/><child link="slide"/>
<origin xyz="0 0 0.6"/><axis xyz="0 0 1"/><limit lower="-0.3" upper="0.3" effort="200"
 velocity="1"/></joint>
<link name="tool0"/>
<joint name="tool" type="fixed"><parent link="slide"/><child link="tool0"/>
<origin xyz="0 0 -0.1" rpy="3.14159265 0 0"/></joint>
{fingers}
</robot>"""
FINGER = """<link name="{name}"><inertial><origin xyz="0 {off} -0.1"/><mass value="{kg}"/>
<inertia ixx="1e-5" iyy="1e-5" izz="1e-5" ixy="0" ixz="0" iyz="0"/></inertial><collision>
<origin xyz="0 {off} -0.1"/><geometry><box size="0.02 0.01 0.04"/></geometry></collision></link>
<joint name="{name}_joint" type="prismatic"><parent link="slide"/><child link="{name}"/>
<axis xyz="0 {axis} 0"/><limit lower="{low}" upper="{high}" effort="100" velocity="0.2"/></joint>"""


@pytest.mark.parametrize(
    ("axis", "closed", "opened", "kg"),
    [
        (-1, 0.0, 0.04, 0.06),  # the two open in the same sense
        (1, 0.0, -0.04, 0.06),  # mirrored
        (-1, 0.02, 0.06, 0.06),  # from somewhere else
        (1, 0.0, -0.04, 0.005),  # and very light
    ],
)
def test_fingers_of_any_kind_keep_in_step(
    tmp_path: Path, axis: int, closed: float, opened: float, kg: float
) -> None:
    off = -0.005 + closed * axis * -1
    left = FINGER.format(name="left", off=0.005, axis=1, low=0.0, high=0.04, kg=kg)
    low, high = sorted((closed, opened))
    right = FINGER.format(name="right", off=off, axis=axis, low=low, high=high, kg=kg)
    (tmp_path / "odd.urdf").write_text(GRIPPER.format(fingers=left + right))
    (tmp_path / "odd.yaml").write_text(
        f"""name: odd
source: own
urdf: odd.urdf
tool_frame: tool0
cartesian: {{velocity_m_s: 1.0, acceleration_m_s2: 10.0, jerk_m_s3: 1000.0,
  angular_velocity_rad_s: 2.0, angular_acceleration_rad_s2: 10.0, angular_jerk_rad_s3: 1000.0}}
workspace_min_m: [-1.0, -1.0, 0.0]
workspace_max_m: [1.0, 1.0, 1.0]
fingers:
  left_joint: {{closed: 0.0, open: 0.04}}
  right_joint: {{closed: {closed}, open: {opened}}}
joints: {{names: [up], lower_rad: [-0.3], upper_rad: [0.3], velocity_rad_s: [1.0],
  acceleration_rad_s2: [10.0], jerk_rad_s3: [1000.0], torque_nm: [200.0]}}
gripper: {{max_opening_m: 0.08, max_force_n: 60.0, max_speed_m_s: 0.1}}
home_rad: [0.0]
"""
    )
    limits = load_limits(tmp_path / "odd.yaml")
    world = World(arm=limits.simulated_urdf)
    try:
        one = SimArm(world, limits)
        one.reset()
        drive(one, limits.home_rad, 0.05, 30.0, 240)
        share = 0.05 / 0.08
        wanted = [share * 0.04, closed + share * (opened - closed)]
        at = [
            pybullet.getJointState(world.arm_id, k, physicsClientId=world.client)[0]
            for k in one._fingers
        ]
        assert np.abs(np.array(at) - wanted).max() < 0.001
        assert one.read().gripper.opening_m == pytest.approx(0.05, abs=0.001)
        grip = pressed(one, 30.0)
        assert grip.opening_m == pytest.approx(0.04, abs=0.004)
        assert grip.force_n == pytest.approx(30.0, rel=0.05)
    finally:
        world.close()
