from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from configs.load import find, load
from envs.disturbance import Disturbance, DisturbanceConfig, misjudged, mistake
from envs.expert import expert_for
from envs.grasp_env import GraspEnv
from envs.objects import object_set
from envs.perception_model import ModelledWatch, PerceptionModelConfig
from envs.physics import physics
from envs.scene import DropConfig
from envs.station import Station
from envs.truth import TruthWatch
from envs.world import World
from perception.camera import point_image
from robot.errors import SafetyError
from robot.execution.scripted import ScriptedPolicy
from robot.geometry import grasp_rotation, yaw_between
from robot.observation import part
from robot.planning.body import ArmBody
from robot.planning.reach import reachable
from robot.types import GraspCandidate, ObjectState, Pose

CONFIG = load(DisturbanceConfig, find("protocol", "disturbance"))
BOX = next(m for m in object_set("primitives") if m.class_name == "box")


@pytest.fixture(scope="module")
def world():
    made = World()
    yield made
    made.close()


@pytest.fixture
def body(world):
    world.reset()
    body = world.add(BOX, (0.5, 0.0, 0.5 * BOX.dimensions_m[2]), (0, 0, 0, 1))
    world.step(60)
    return body


def state(body, world):
    return ObjectState(body, "box", world.pose(body), np.array(BOX.dimensions_m), 1.0, False, 0.0)


@pytest.mark.parametrize("seed", range(6))
def test_a_shift_is_as_long_as_it_says_and_leaves_the_yaw(world, body, seed):
    config = replace(CONFIG, turn_share=0.0)
    before = world.pose(body)
    world.before_tick = Disturbance(config, world, body, np.random.default_rng(seed)).advance
    world.step(round(240 * config.start_s[0]) - 1)
    np.testing.assert_allclose(world.pose(body).position_m, before.position_m, atol=1e-4)
    world.step(240)
    after = world.pose(body)
    way = math.hypot(*(after.position_m - before.position_m)[:2])
    assert 0.9 * config.shift_m[0] < way < 1.1 * config.shift_m[1]
    assert abs(yaw_between(before.rotation, after.rotation)) < math.radians(5)
    assert np.linalg.norm(world.velocity(body)[0]) < 0.01
    assert world.in_workspace(body)


@pytest.mark.parametrize("seed", range(4))
def test_a_turn_is_as_wide_as_it_says_and_stays_in_place(world, body, seed):
    config = replace(CONFIG, turn_share=1.0)
    before = world.pose(body)
    world.before_tick = Disturbance(config, world, body, np.random.default_rng(seed)).advance
    world.step(300)
    after = world.pose(body)
    turn = abs(math.degrees(yaw_between(before.rotation, after.rotation)))
    assert 0.85 * config.turn_deg[0] < turn < 1.1 * config.turn_deg[1]
    assert math.hypot(*(after.position_m - before.position_m)[:2]) < 0.005


def test_a_mistake_is_within_its_bounds_and_fills_them():
    rng = np.random.default_rng(0)
    made = [mistake(CONFIG, rng) for _ in range(2000)]
    lengths = np.array([np.hypot(*shift[:2]) for shift, _ in made])
    turns = np.degrees([turn for _, turn in made])
    assert 0.98 * 0.02 < lengths.max() <= 0.02
    assert np.abs(turns).max() <= 20.0
    # Evenly over the disc: half of it lies beyond 0.71 of the radius.
    assert (lengths > 0.02 * math.sqrt(0.5)).mean() == pytest.approx(0.5, abs=0.05)
    candidate = GraspCandidate(
        Pose.from_matrix("world", "grasp", grasp_rotation(0.4), [0.5, 0.1, 0.02]),
        0.04,
        0.06,
        1,
        0,
        0,
    )
    wrong = misjudged(candidate, np.array([0.01, 0.0, -0.1]), 0.2, 0.012)
    np.testing.assert_allclose(wrong.X_world_grasp.position_m, [0.51, 0.1, 0.012])
    np.testing.assert_allclose(wrong.X_world_grasp.rotation, grasp_rotation(0.6), atol=1e-9)


def test_the_truth_is_told_late_once_a_sight_and_right(world, body):
    watch = TruthWatch(world, 0.2, 0.1)
    first = state(body, world)
    watch.begin(None, first, world.time_s)
    began = world.time_s
    world.place(body, np.add(world.pose(body).position_m, [0.03, 0.0, 0.0]), (0, 0, 0, 1))
    told = []
    for _ in range(20):
        world.step(12)
        seen = watch.read(world.time_s)
        if seen is not None:
            told.append((world.time_s - began, seen))
    np.testing.assert_allclose([t for t, _ in told], [0.3, 0.5, 0.7, 0.9], atol=1e-6)
    way = told[0][1].X_world_obj.position_m - first.X_world_obj.position_m
    np.testing.assert_allclose(way[:2], [0.03, 0.0], atol=1e-3)
    assert told[0][1].stamp_s == pytest.approx(began + 0.2)


def test_the_model_errs_as_much_as_it_says(world, body):
    config = PerceptionModelConfig()
    watch = ModelledWatch(world, config)
    first = state(body, world)
    rng = np.random.default_rng(1)
    seen = [watch.seen(first, rng) for _ in range(400)]
    errors = np.array([s.X_world_obj.position_m - first.X_world_obj.position_m for s in seen])
    np.testing.assert_allclose(errors.std(axis=0), config.position_m, rtol=0.15)
    sizes = np.array([s.dimensions_m - first.dimensions_m for s in seen])
    np.testing.assert_allclose(sizes.std(axis=0), config.dimension_m, rtol=0.15)
    watch.begin(None, seen[-1], world.time_s)
    told = []
    for k in range(8000):
        world.step(12)
        seen_now = watch.read(world.time_s) is not None
        if k % 4 == 1:  # one sight every fourth step
            told.append(seen_now)
        else:
            assert not seen_now
    told = np.array(told[1:])
    after = told[1:]
    assert 1 - after[told[:-1]].mean() == pytest.approx(config.missed, abs=0.02)
    assert 1 - after[~told[:-1]].mean() == pytest.approx(config.missed_again, abs=0.06)


def test_disturbed_episodes_repeat_with_their_seed_and_differ_from_still_ones():
    env = GraspEnv(objects="primitives", bank_size=4, disturbed=1.0, physics="hard")
    still = GraspEnv(objects="primitives", bank_size=4, physics="hard")
    script = ScriptedPolicy(0.22)

    def play(env, seed):
        seen, info = env.reset(seed=seed)
        script.reset()
        rows, over = [seen], False
        while not over:
            seen, _, done, cut, info = env.step(script.act(seen))
            rows.append(seen)
            over = done or cut
        return np.array(rows), info

    first, info = play(env, 3)
    play(env, 4)
    again, _ = play(env, 3)
    other, _ = play(still, 3)
    env.close()
    still.close()
    np.testing.assert_array_equal(first, again)
    assert info["disturbed"]
    assert first.shape != other.shape or not np.allclose(first, other)


def test_the_arm_knows_its_own_points_in_an_image_and_leaves_the_object():
    station = Station(ScriptedPolicy(0.22), physics("nominal"), "truth")
    try:
        station.begin((BOX,), DropConfig(), 0)
        pose = Pose.from_matrix("world", "grasp", grasp_rotation(0.3), [0.5, 0.2, 0.03])
        grip = GraspCandidate(pose, 0.04, 0.06, 1.0, 0, 0.0)
        found = reachable(station.loop, grip, station.limits.home_rad)
        assert found is not None
        q = found[1]
        station.arm.reset(q, 0.06)
        own_body = ArmBody(station.limits, station.loop.kinematics)
        camera = station.cameras[0]
        frame, bodies = camera.capture()
        points, valid = point_image(frame)
        arm = valid & (bodies == station.world.arm_id)
        (box,) = station.world.bodies
        thing = valid & (bodies == box)
        assert arm.sum() > 200
        assert thing.sum() > 50
        covered = own_body.covers(points[arm].astype(float), q, 0.06, 0.015)
        assert covered.mean() > 0.97
        assert not own_body.covers(points[thing].astype(float), q, 0.06).any()
    finally:
        station.close()


def test_an_arm_that_halts_in_a_disturbed_pick_says_so():
    # The hook must not outlive its episode.
    station = Station(ScriptedPolicy(0.22), physics("nominal"), "truth", watches=True)
    try:
        station.begin((BOX,), DropConfig(), 0, CONFIG)
        assert station.world.before_tick is not None
        assert station.picker.misjudge is not None
        try:
            station.picker.grasp(station.picker.look())
        except SafetyError:
            pytest.fail("a disturbance must not halt the arm")
        station.begin((BOX,), DropConfig(), 0)
        assert station.world.before_tick is None
        assert station.picker.misjudge is None
    finally:
        station.close()


def test_an_object_that_slips_falls_and_can_be_gripped_again():
    env = GraspEnv(objects="primitives", bank_size=4, slips=1.0, timeout_s=10.0)
    expert = expert_for(env)
    regripped = 0
    for seed in range(4):
        seen, info = env.reset(seed=seed)
        held_n, lost_n, over = 0, 0, False
        while not over:
            seen, _, done, cut, info = env.step(expert.act(seen))
            contact = bool(seen[part("contact")][0] > 0.5)
            held_n += contact
            lost_n += held_n > 0 and not contact
            over = done or cut
        assert info["slips"]
        regripped += held_n > 5 and lost_n > 3 and info["is_success"]
    assert regripped >= 1
    # The fingers have their force back, also where the episode ended meanwhile.
    env.reset(seed=9)
    assert env.arm.force_limit_n == pytest.approx(physics("nominal").gripper_force_n)
    env.close()
