"""Any environment in one form: order, scale and names, and demonstrations that belong to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from classic_envs import GoalEnv
from gymnasium import spaces
from reach_env import REACH

from policies.demos.dataset import Demonstrations, load_demonstrations
from policies.demos.describe import describe_env
from policies.demos.matching import matched
from policies.demos.record import RecordConfig, record
from policies.evaluation.flat_env import FlatEnv, flattened
from policies.evaluation.returns import compared, figures
from policies.evaluation.rollouts import Behaviour, Episode, Rollouts, episode_seeds
from policies.evaluation.specs import ActorSpec, EnvSpec
from robot.errors import ConfigError, SteadyhandError

GOAL = EnvSpec("Test/Goal-v0", imports=("classic_envs",))
EXPERT = ActorSpec("classic_envs:GoalExpert")


def test_a_goal_environment_is_flattened_in_its_fixed_order() -> None:
    env = FlatEnv(GoalEnv(), "goal")
    observation, _ = env.reset(seed=3)
    base = env.unwrapped
    assert observation.dtype == np.float32
    assert env.observation_space.contains(observation)
    assert np.allclose(observation, [*base.at, 0.0, *base.at, *base.goal])
    assert env.names == (
        *(f"observation.{i}" for i in range(3)),
        *(f"achieved_goal.{i}" for i in range(2)),
        *(f"desired_goal.{i}" for i in range(2)),
    )


def test_nested_parts_and_several_axes_are_laid_end_to_end() -> None:
    env = GoalEnv()
    inner = spaces.Dict({"z": spaces.Box(0, 1, (2, 2)), "a": spaces.Box(0, 1, (1,))})
    env.observation_space = spaces.Dict({"later": inner, "observation": spaces.Box(0, 1, (1,))})
    flat = FlatEnv(env, "nested")
    assert flat.names == ("observation.0", "later.a.0", *(f"later.z.{i}" for i in range(4)))
    seen = {
        "later": {"z": np.array([[1, 2], [3, 4]]), "a": np.array([9])},
        "observation": np.array([7]),
    }
    assert flat.flatten(seen).tolist() == [7, 9, 1, 2, 3, 4]


def test_actions_reach_the_bounds_of_the_environments_own_box() -> None:
    env = FlatEnv(GoalEnv(), "goal")
    env.reset(seed=0)
    for action, wanted in (([-1, -1], [-0.1, 0.0]), ([1, 1], [0.3, 0.05]), ([0, 9], [0.1, 0.05])):
        before = env.unwrapped.at.copy()
        env.step(np.array(action, dtype=np.float32))
        assert np.allclose(env.unwrapped.at - before, wanted, atol=1e-6)


def test_an_environment_that_has_the_form_is_left_alone() -> None:
    env = gymnasium.make("Test/Reach-v0")
    assert flattened(env, "reach") is env
    assert isinstance(flattened(gymnasium.make("Pendulum-v1"), "pendulum"), FlatEnv)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (EnvSpec("CartPole-v1"), "action space must be a Box"),
        (EnvSpec("Nowhere-v0"), "--import names the package"),
        (EnvSpec("Test/Goal-v0", imports=("no_such_package",)), "cannot be imported"),
        (EnvSpec("no_such_package:Goal-v0"), "cannot be imported"),
        (EnvSpec("Pendulum-v1", {"level": 3}), "unexpected keyword"),
        (EnvSpec("Test/Unbounded-v0"), "finite bounds"),
        (EnvSpec("Test/DiscretePart-v0"), r"mode is Discrete\(3\)"),
    ],
)
def test_what_cannot_be_learned_is_one_clear_error(env: EnvSpec, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        env.make()


def test_names_rate_and_bounds_are_described() -> None:
    goal, pendulum = describe_env(GOAL), describe_env(EnvSpec("Pendulum-v1"))
    assert (goal.rate_hz, goal.action_low, goal.action_high) == (10.0, (-1.0, 0.0), (3.0, 0.5))
    assert goal.observation_names[5] == "desired_goal.0"
    # Its time step says 20 Hz; what it is drawn with says 30.
    assert (pendulum.rate_hz, pendulum.action_low, pendulum.action_high) == (20.0, (-2,), (2,))
    assert describe_env(EnvSpec("MountainCarContinuous-v0")).rate_hz == 30.0


@pytest.fixture(scope="module")
def goal_demos(tmp_path_factory: pytest.TempPathFactory) -> Demonstrations:
    root = tmp_path_factory.mktemp("goal") / "demos"
    result = record(root, GOAL, EXPERT, RecordConfig(episodes=8, seed=1, workers=0))
    assert (result.episodes, result.successes) == (8, 8)
    return load_demonstrations(root)


def test_demonstrations_of_the_environment_fit_it(goal_demos: Demonstrations) -> None:
    spec = describe_env(GOAL)
    assert goal_demos.spec == spec
    assert matched(goal_demos, GOAL).spec == spec
    # Someone else's set says less; what it leaves open comes from the environment.
    names = tuple(str(i) for i in range(7))
    plain = replace(spec, observation_names=names, action_low=(), action_high=(), env={})
    assert matched(replace(goal_demos, spec=plain), GOAL).spec == spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observation_names": ("a", "b")}, "hold 2 numbers an observation, .* has 7"),
        ({"action_names": ("a",)}, "hold 1 numbers an action, .* has 2"),
        ({"observation_names": tuple("abcdefg")}, "observation 0 is 'a' in the set"),
        ({"rate_hz": 25.0}, "are at 25 Hz, the environment is acted on at 10 Hz"),
        ({"action_high": (30.0, 5.0)}, r"action_high is \[30.0, 5.0\] in the set"),
    ],
)
def test_demonstrations_of_something_else_are_refused(
    goal_demos: Demonstrations, change: dict, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        matched(replace(goal_demos, spec=replace(goal_demos.spec, **change)), GOAL)


def test_demonstrations_in_other_units_are_refused(
    goal_demos: Demonstrations, reach_demos: Demonstrations
) -> None:
    in_mm = replace(goal_demos, observation=goal_demos.observation * 1000)
    with pytest.raises(ConfigError, match=r"goes from .* to .*; other units\?"):
        matched(in_mm, GOAL)
    in_mm = replace(
        reach_demos, spec=replace(reach_demos.spec, observation_units=("mm", "m", "m", ""))
    )
    with pytest.raises(ConfigError, match="position is in 'mm' in the set and in 'm'"):
        matched(in_mm, REACH)


def test_an_expert_in_the_environments_own_units_is_refused(tmp_path: Path) -> None:
    expert = ActorSpec("classic_envs:GoalExpert", {"own_units": True})
    with pytest.raises(SteadyhandError, match=r"expected \[-1, 1\]: a share of the action box"):
        record(tmp_path, GOAL, expert, RecordConfig(episodes=2, workers=0))


def test_a_nan_reward_names_the_environment_and_the_step() -> None:
    env = EnvSpec("Test/Goal-v0", {"nan_at": 4})
    with (
        Rollouts(env, workers=0) as rollouts,
        pytest.raises(SteadyhandError, match="Test/Goal-v0: gave a reward of nan at step 4"),
    ):
        list(rollouts.run(Behaviour(EXPERT), [0]))


@pytest.mark.parametrize(("flag", "rate"), [("is_success", 1.0), ("success", 1.0), ("", None)])
def test_success_is_what_the_environment_tells(flag: str, rate: float | None) -> None:
    with Rollouts(EnvSpec("Test/Goal-v0", {"flag": flag}), workers=0) as rollouts:
        first = list(rollouts.run(Behaviour(EXPERT), episode_seeds(5, 0, 6)))
    result = figures(first)
    assert (result["episodes"], result["success_rate"]) == (6, rate)
    assert (result["success_ci95"] is None) is (rate is None)
    assert result["return_ci95"][0] <= result["mean_return"] <= result["return_ci95"][1]
    assert result["length"] == {"mean": 20.0, "min": 20, "max": 20}
    difference = compared(first, first)
    assert difference["return"] == {"difference": 0.0, "ci95": [0.0, 0.0]}
    assert (difference["success"] is None) is (rate is None)


def test_differences_are_paired() -> None:
    def episodes(shift: float) -> list[Episode]:
        return [Episode(seed, None, seed * 10 + shift, 3) for seed in range(20)]

    result = compared(episodes(1.0), episodes(0.0))
    assert result["return"] == {"difference": 1.0, "ci95": [1.0, 1.0]}
    with pytest.raises(SteadyhandError, match="the seeds differ"):
        compared(episodes(0.0), episodes(0.0)[:5])


def test_without_a_success_flag_every_episode_is_kept(tmp_path: Path) -> None:
    env = EnvSpec("Test/Goal-v0", {"flag": ""})
    record(tmp_path, env, EXPERT, RecordConfig(episodes=3, workers=0))
    demos = load_demonstrations(tmp_path)
    assert (demos.episodes, demos.judged, demos.summary()["successes"]) == (3, False, None)
    whole = [demos.reward[demos.frames_of([e])].sum() for e in range(3)]
    assert np.allclose(demos.returns, whole)
    tail, gains = 0.0, []
    for reward in demos.reward[: demos.starts[1]][::-1]:
        tail = float(reward) + 0.9 * tail
        gains.append(tail)
    one = replace(demos, reward=demos.reward[: demos.starts[1]], starts=demos.starts[:2])
    assert one.return_scale(0.9) == pytest.approx(1.0 / np.std(gains))
