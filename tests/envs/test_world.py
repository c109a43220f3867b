"""The world: exact restoring, drops that stay in reach, the truth's height map, the objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from envs.arm import SimArm
from envs.objects import CLASSES, ObjectModel, drop_quaternion, from_urdf, object_set, primitives
from envs.scene import DropConfig, drop, settle
from envs.truth import TruthPerception
from envs.world import World
from robot.errors import SteadyhandError
from robot.limits import load_limits
from robot.types import GripperCommand, JointCommand


@pytest.fixture(scope="module")
def cell():
    world = World()
    arm = SimArm(world, load_limits())
    yield world, arm
    world.close()


def test_the_split_is_bullet3s():
    train, test = object_set("train"), object_set("test")
    assert len(test) == 100
    assert all(int(m.name) % 10 == 0 for m in test)
    assert len(train) == 899  # 900 less number 168, whose mesh is broken
    assert not {m.name for m in train} & {m.name for m in test}
    assert "168" not in {m.name for m in train}


def test_primitives_fit_between_the_fingers():
    models = primitives(np.random.default_rng(0), 30)
    assert {m.class_name for m in models} == set(CLASSES) - {"irregular"}
    assert all(min(m.dimensions_m) <= 0.07 for m in models)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<robot", "cannot load"),
        ('<robot name="a"><link name="b"/></robot>', "no collision geometry"),
        ("0.2 0.2 0.2", "too large for the gripper"),
        ("0.5 0.05 0.05", "no edge may be longer"),
    ],
)
def test_a_bad_urdf_gets_one_clear_line(tmp_path: Path, body: str, message: str):
    if body[0].isdigit():
        body = (
            '<robot name="a"><link name="b"><inertial><mass value="0.1"/><inertia ixx="1" ixy="0" '
            'ixz="0" iyy="1" iyz="0" izz="1"/></inertial><collision><geometry><box size="'
            f'{body}"/></geometry></collision></link></robot>'
        )
    file = tmp_path / "thing.urdf"
    file.write_text(body)
    with pytest.raises(SteadyhandError, match=message) as caught:
        from_urdf(file)
    assert "\n" not in str(caught.value)
    assert "thing.urdf" in str(caught.value)


def test_a_glob_without_a_match_says_what_would_do():
    with pytest.raises(SteadyhandError, match="train, test, validation, primitives"):
        object_set("no/such/*.urdf")


def test_pybullet_datas_own_objects_load():
    import pybullet_data

    root = Path(pybullet_data.getDataPath())
    assert from_urdf(root / "lego" / "lego.urdf").class_name == "box"
    assert from_urdf(root / "duck_vhacd.urdf").class_name == "irregular"


def fingerprint(world: World, arm: SimArm, seed: int) -> list[float]:
    """Positions and joints after a short episode."""
    rng = np.random.default_rng(seed)
    world.reset()
    arm.reset()
    models = [object_set("train")[int(i)] for i in rng.integers(899, size=2)]
    drop(world, models, DropConfig(), rng)
    q = arm.read().joints.position_rad
    for k in range(60):
        arm.send(JointCommand(q + 0.001 * k, np.zeros(7)), GripperCommand(0.0, 40.0))
        world.step()
    out = [v for b in world.bodies for v in world.pose(b).position_m.tolist()]
    return out + arm.read().joints.position_rad.tolist()


def test_an_episode_does_not_depend_on_what_came_before(cell):
    world, arm = cell
    first = fingerprint(world, arm, 3)
    fingerprint(world, arm, 4)
    assert fingerprint(world, arm, 3) == first


def test_two_worlds_agree(cell):
    world, arm = cell
    other = World()
    try:
        assert fingerprint(other, SimArm(other, load_limits()), 5) == fingerprint(world, arm, 5)
    finally:
        other.close()


def test_dropped_objects_come_to_rest_within_reach(cell):
    world, arm = cell
    rng = np.random.default_rng(1)
    world.reset()
    arm.reset()
    drop(world, primitives(rng, 4), DropConfig(area_m=0.25), rng)
    assert len(world.bodies) == 4
    assert all(world.in_workspace(b) for b in world.bodies)
    assert all(np.abs(world.velocity(b)[0]).max() < 0.05 for b in world.bodies)


def test_the_truth_sees_a_box_as_it_is(cell):
    world, arm = cell
    world.reset()
    arm.reset()
    yaw = 0.4
    box = ObjectModel("box", "box", dimensions_m=(0.08, 0.04, 0.06))
    world.add(box, (0.5, 0.1, 0.03), (0, 0, np.sin(yaw / 2), np.cos(yaw / 2)))
    settle(world, 1.0)
    look = TruthPerception(world).look()
    (state,) = look.objects
    assert state.class_name == "box"
    np.testing.assert_allclose(state.dimensions_m, [0.08, 0.04, 0.06], atol=0.006)
    np.testing.assert_allclose(state.X_world_obj.position_m, [0.5, 0.1, 0.03], atol=0.004)
    turn = state.X_world_obj.rotation[:2, 0]
    assert abs(abs(turn @ [np.cos(yaw), np.sin(yaw)]) - 1) < 0.01
    assert abs(look.height_map.height_m.max() - 0.06) < 0.003


def test_an_empty_table_is_an_empty_look(cell):
    world, arm = cell
    world.reset()
    arm.reset()
    assert TruthPerception(world).look().objects == ()


def test_latency_delays_commands_by_so_many_ticks(cell):
    world, arm = cell
    world.reset()
    arm.configure(12, 40.0)
    arm.reset()
    q = arm.read().joints.position_rad.copy()
    target = q + np.array([0, 0, 0, 0, 0, 0, 0.05])
    moved = []
    for _ in range(24):
        arm.send(JointCommand(target, np.zeros(7)), GripperCommand(0.08, 40.0))
        world.step()
        moved.append(abs(arm.read().joints.position_rad[6] - q[6]) > 1e-3)
    arm.configure(0, 40.0)
    assert not any(moved[:12])
    assert moved[-1]


def test_the_gripper_presses_with_no_more_than_its_limit(cell):
    world, arm = cell
    world.reset()
    arm.configure(0, 20.0)
    arm.reset()
    tool = np.array([0.38, 0.0, 0.5])
    block = ObjectModel("block", "box", dimensions_m=(0.04, 0.04, 0.04))
    body = world.add(block, tool, (0, 0, 0, 1))
    world.dynamics(body, mass=0.0)  # fixed in the air between the fingers
    q = arm.read().joints.position_rad
    for _ in range(240):
        arm.send(JointCommand(q, np.zeros(7)), GripperCommand(0.0, 60.0))
        world.step()
    state = arm.read().gripper
    arm.configure(0, 40.0)
    assert abs(state.opening_m - 0.04) < 0.003
    assert 15.0 < state.force_n <= 20.5


def test_random_orientations_are_unit_and_spread():
    rng = np.random.default_rng(0)
    quats = np.array([drop_quaternion(rng) for _ in range(500)])
    np.testing.assert_allclose(np.linalg.norm(quats, axis=1), 1.0, atol=1e-12)
    assert np.abs(quats.mean(axis=0)).max() < 0.1


def test_keys_of_the_window_have_names(cell, monkeypatch):
    from envs.bullet import pybullet

    world, _ = cell

    down, fresh = pybullet.KEY_IS_DOWN, pybullet.KEY_WAS_TRIGGERED
    events = {
        ord("w"): down,
        ord("s"): pybullet.KEY_WAS_RELEASED,
        ord(" "): down,
        ord("["): down | fresh,
        pybullet.B3G_RETURN: fresh,
        pybullet.B3G_BACKSPACE: down,
        pybullet.B3G_F1: down,
    }
    monkeypatch.setattr(pybullet, "getKeyboardEvents", lambda **_: events)
    assert world.keys() == frozenset()  # no window
    monkeypatch.setattr(world, "gui", True)
    assert world.keys() == {"w", "[", "enter"}
    events[pybullet.B3G_SHIFT] = down
    assert world.keys() == {"W", "[", "enter"}
