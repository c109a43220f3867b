"""The grasp environments: Gymnasium's contract, seeds, golden episodes, what makes success."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401  (registers the ids)
from envs.critic import TRUTH
from envs.expert import ExpertPolicy
from policies.bundle.format import shipped
from robot import observation
from robot.errors import ConfigError
from robot.execution.grasp import TICKS
from robot.execution.scripted import ScriptedPolicy

SINGLE, CLUTTER = "Steadyhand/GraspSingle-v0", "Steadyhand/GraspClutter-v0"


@pytest.fixture(scope="module")
def env():
    made = gymnasium.make(SINGLE, bank_size=6, objects="primitives", disable_env_checker=True)
    yield made
    made.close()


def play(env, policy, **reset):
    obs, _ = env.reset(**reset)
    policy.reset()
    trace, over = [obs], False
    while not over:
        obs, reward, done, cut, info = env.step(policy.act(obs))
        trace.append(obs)
        over = done or cut
    return np.array(trace), reward, info


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [SINGLE, CLUTTER])
def test_gymnasiums_checker_passes(name):
    made = gymnasium.make(name, bank_size=2, objects="primitives", disable_env_checker=True)
    check_env(made.unwrapped, skip_render_check=True)
    made.close()


@pytest.mark.parametrize("name", [SINGLE, CLUTTER])
def test_kwargs_are_plain_json(name):
    json.dumps(gymnasium.spec(name).kwargs)
    assert isinstance(gymnasium.spec(name).entry_point, str)


def test_the_same_seed_is_the_same_episode_whatever_came_before(env):
    expert = ExpertPolicy(0.22)
    first, _, _ = play(env, expert, seed=5)
    play(env, expert, seed=6)
    again, _, _ = play(env, expert, seed=5)
    np.testing.assert_array_equal(first, again)


def test_the_expert_lifts_and_holds(env):
    expert = ExpertPolicy(0.22)
    infos = [play(env, expert, seed=s)[2] for s in range(6)]
    assert sum(info["is_success"] for info in infos) >= 5


def test_an_idle_policy_times_out_and_is_truncated_not_terminated(env):
    env.reset(seed=0)
    still = np.array([0, 0, 0, 0, 1], dtype=np.float32)
    for _ in range(201):  # 10 s
        _, reward, done, cut, info = env.step(still)
        if done or cut:
            break
    assert (done, cut, info["is_success"], info["outcome"]) == (False, True, False, "timeout")
    assert reward == -0.01


def test_a_step_costs_what_it_was_told_to():
    made = gymnasium.make(
        SINGLE, bank_size=2, objects="primitives", step_cost=0.25, disable_env_checker=True
    )
    made.reset(seed=0)
    assert made.step(np.array([0, 0, 0, 0, 1], dtype=np.float32))[1] == -0.25
    made.close()


def test_lifting_nothing_is_a_miss(env):
    env.reset(seed=0)
    up = np.array([0, 0, -1, 0, -1], dtype=np.float32)
    over = False
    while not over:
        _, _, done, cut, info = env.step(up)
        over = done or cut
    assert info["outcome"] == "missed"
    assert done and not info["is_success"]


def test_a_nan_action_halts_the_episode(env):
    env.reset(seed=1)
    _, _, done, _, info = env.step(np.full(5, np.nan, dtype=np.float32))
    assert done
    assert info["outcome"] == "halted"


def test_the_open_loop_script_works_on_a_clean_candidate(env):
    assert sum(play(env, ScriptedPolicy(0.22), seed=s)[2]["is_success"] for s in range(6)) >= 4


def test_options_choose_the_scene(env):
    _, a = env.reset(seed=0, options={"scene": 3})
    _, b = env.reset(seed=99, options={"scene": 3})
    assert a["scene"] == b["scene"]
    assert a["object"] == b["object"]


def test_observation_layout():
    names = observation.names()
    assert len(names) == observation.SIZE == len(set(names))
    assert names[observation.part("force")] == ["force"]
    with pytest.raises(KeyError):
        observation.part("nothing")


def test_bad_arguments_are_named():
    with pytest.raises(ConfigError, match="physics"):
        gymnasium.make(SINGLE, physics="soft")


def test_rendering_gives_an_image():
    made = gymnasium.make(
        SINGLE, bank_size=1, objects="primitives", render_mode="rgb_array", disable_env_checker=True
    )
    made.reset(seed=0)
    image = made.render()
    made.close()
    assert image.shape == (240, 320, 3)
    assert image.std() > 10


def test_one_batch_of_ticks_and_single_ticks_give_the_same_references(env):
    env.reset(seed=2)
    loop = env.unwrapped.loop
    action = np.array([0.3, -0.2, 0.5, 0.4, 0.2], dtype=np.float32)
    start = loop.servo.q_ref
    loop.act(action)
    batch, rates = loop.references(TICKS)
    loop.servo.reset(start)
    loop.act(action)
    singles = [loop.references(1) for _ in range(TICKS)]
    np.testing.assert_array_equal(batch, np.concatenate([q for q, _ in singles]))
    np.testing.assert_array_equal(rates, np.concatenate([qd for _, qd in singles]))


def test_candidates_of_a_camera_come_with_its_errors_and_heights(tmp_path, monkeypatch):
    models = shipped() / "models"
    seen = {"detector": str(models / "detector.onnx"), "scorer": str(models / "scorer.onnx")}
    monkeypatch.setenv("STEADYHAND_CACHE", str(tmp_path))
    env = gymnasium.make(SINGLE, objects="primitives", bank_size=2, **seen)
    exact = gymnasium.make(SINGLE, objects="primitives", bank_size=2)
    try:
        for scene in range(2):
            options = {"scene": scene}
            cameras, _ = env.reset(seed=4, options=options)
            truth, _ = exact.reset(seed=4, options=options)
            task, other = env.unwrapped, exact.unwrapped
            # The same scene, but what stands there is not exactly where it is said to be.
            assert np.array_equal(
                task.world.pose(task._bodies[0]).position_m,
                other.world.pose(other._bodies[0]).position_m,
            )
            apart = [
                t.loop.target.obj.X_world_obj.position_m[:2]
                - t.world.pose(t._bodies[0]).position_m[:2]
                for t in (task, other)
            ]
            assert 1e-5 < np.linalg.norm(apart[0] - apart[1]) < 0.02
            patches = [o[observation.part("patch")] for o in (cameras, truth)]
            # Something stands between the fingers, and the table lies below.
            assert all(p.max() > -0.01 and p.min() < -0.005 for p in patches)
            assert cameras[observation.part("object_age")] == pytest.approx([observation.OLD_S])
        again, _ = env.reset(seed=4, options={"scene": 1})
        assert np.array_equal(again, cameras)
    finally:
        env.close()
        exact.close()


def test_only_a_critic_sees_the_truth():
    plain = gymnasium.make(SINGLE, objects="primitives", bank_size=3, disturbed=1.0)
    wide = gymnasium.make(
        SINGLE,
        objects="primitives",
        bank_size=3,
        disturbed=1.0,
        with_truth=True,
    )
    try:
        size = sum(n for _, n in TRUTH)
        assert wide.observation_space.shape == (observation.SIZE + size,)
        a, _ = plain.reset(seed=5)
        b, _ = wide.reset(seed=5)
        assert np.array_equal(b[: observation.SIZE], a)
        task = wide.unwrapped
        up = np.array([0.0, 0.0, 0.0, 0.0, 1.0], np.float32)
        for _ in range(20):  # as long as the disturbance takes
            a, *_ = plain.step(up)
            b, *_ = wide.step(up)
        assert np.array_equal(b[: observation.SIZE], a)
        parts = np.split(b[observation.SIZE :], np.cumsum([n for _, n in TRUTH])[:-1])
        told = dict(zip([name for name, _ in TRUTH], parts, strict=True))
        body = task.world.pose(task._bodies[0])
        from_hand = body.position_m - task.loop.X_world_tool[:3, 3]
        expected = task.loop.target.rotation.T @ from_hand / 0.05
        assert told["object_position"] == pytest.approx(np.clip(expected, -5, 5), abs=1e-5)
        mass, friction = task.world.mass_and_friction(task._bodies[0])
        assert told["mass"] == pytest.approx([2 * mass])
        assert told["friction"] == pytest.approx([friction])
    finally:
        plain.close()
        wide.close()
