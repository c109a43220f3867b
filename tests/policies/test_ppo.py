"""PPO's guards on real, small runs: frozen is frozen, a drop is undone, and it can improve."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from reach_env import REACH

from policies.demos.dataset import Demonstrations
from policies.evaluation.rollouts import Rollouts
from policies.evaluation.specs import EnvSpec
from policies.learning.actor_critic import (
    GuardedPolicy,
    extract_actor,
    load_actor,
    policy_kwargs,
)
from policies.learning.clone import CloneConfig, clone
from policies.learning.crew import Crew
from policies.learning.guard import CHECKPOINT, Guard, MeasureConfig
from policies.learning.guarded import GuardConfig, GuardedPPO
from policies.learning.network import NetworkConfig, PolicyNetwork
from policies.learning.ppo import PpoConfig, improve
from robot.errors import SteadyhandError

SHAPE = NetworkConfig(hidden=(32, 32), activation="tanh")
# The point moves half as far as in the demonstrations: the clone is too slow and can be improved.
SLOW = EnvSpec("Test/Reach-v0", {"gain": 0.05, "steps": 30}, imports=("reach_env",))


@pytest.fixture(scope="module")
def cloned(reach_demos: Demonstrations) -> PolicyNetwork:
    config = CloneConfig(network=SHAPE, epochs=6, batch_size=128, learning_rate=3e-3, threads=1)
    return clone(reach_demos, None, config).network


def guarded(
    network: PolicyNetwork, demos: Demonstrations, guards: GuardConfig, **kwargs: object
) -> GuardedPPO:
    settings = {"n_steps": 128, "batch_size": 64, "n_epochs": 2, "seed": 0, **kwargs}
    data = (demos.observation, demos.action)
    return GuardedPPO(Crew(REACH, 0), network, data, guards, critic_hidden=(32,), **settings)


def test_the_network_goes_into_the_policy_and_back(
    cloned: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    model = guarded(cloned, reach_demos, GuardConfig())
    x = reach_demos.observation[:200] * 3
    ours = cloned(torch.from_numpy(x)).detach().numpy()
    theirs, _ = model.predict(x, deterministic=True)
    assert np.array_equal(ours, theirs)
    back = extract_actor(model.policy, cloned)
    a, b = cloned.state_dict(), back.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert float(model.policy.log_std.detach().exp().mean()) == pytest.approx(np.exp(-2), rel=1e-6)
    with pytest.raises(SteadyhandError, match="do not fit"):
        load_actor(model.policy, PolicyNetwork(NetworkConfig((8,)), np.zeros(4), np.ones(4), 2))


def _bits(model: GuardedPPO, part: str) -> list[torch.Tensor]:
    names = {"actor": ("policy_net", "action_net", "log_std"), "critic": ("value_net",)}[part]
    state = model.policy.state_dict()
    return [v.clone() for k, v in state.items() if any(n in k for n in names)]


def _same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_critic_warmup_leaves_the_actor_bit_for_bit(
    cloned: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    model = guarded(cloned, reach_demos, GuardConfig(critic_warmup_steps=256))
    actor, critic = _bits(model, "actor"), _bits(model, "critic")
    model.learn(256)
    assert _same(actor, _bits(model, "actor"))
    assert not _same(critic, _bits(model, "critic"))
    model.learn(128, reset_num_timesteps=False)
    assert not _same(actor, _bits(model, "actor"))


def test_exploration_noise_stays_within_its_bounds(
    cloned: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    guards = GuardConfig(critic_warmup_steps=0, log_std_min=-2.01, log_std_max=-1.99)
    model = guarded(cloned, reach_demos, guards, learning_rate=0.05)
    model.learn(256)
    log_std = model.policy.log_std.detach().numpy()
    assert (log_std >= -2.01 - 1e-6).all() and (log_std <= -1.99 + 1e-6).all()
    with pytest.raises(SteadyhandError, match="must lie between"):
        GuardConfig(log_std_start=-2.0, log_std_max=-3.0)


def test_kl_and_cloning_loss_hold_the_policy_near(
    cloned: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    x = torch.from_numpy(reach_demos.observation)

    y = torch.from_numpy(reach_demos.action)

    def drift(guards: GuardConfig) -> tuple[float, float]:
        """(KL to the clone, squared error on the demonstrations) after a hasty training."""
        torch.manual_seed(0)
        model = guarded(cloned, reach_demos, guards, learning_rate=3e-3, n_epochs=6)
        assert float(model.kl_to_clone(x).detach()) == pytest.approx(0.0, abs=1e-6)
        model.learn(512)
        with torch.no_grad():
            error = (extract_actor(model.policy, cloned).raw(x) - y).square().mean()
            return float(model.kl_to_clone(x)), float(error)

    free = GuardConfig(
        critic_warmup_steps=0, clone_coefficient=0, clone_coefficient_end=0, kl_coefficient=0
    )
    free_kl, free_error = drift(free)
    assert drift(replace(free, kl_coefficient=1.0))[0] < 0.5 * free_kl
    tied = replace(free, clone_coefficient=50.0, clone_coefficient_end=50.0)
    assert drift(tied)[1] < 0.5 * free_error


def test_the_cloning_loss_decays(cloned: PolicyNetwork, reach_demos: Demonstrations) -> None:
    guards = GuardConfig(clone_coefficient=2.0, clone_coefficient_end=0.5)
    model = guarded(cloned, reach_demos, guards)
    seen = []
    for remaining in (1.0, 0.5, 0.0):
        model._current_progress_remaining = remaining
        seen.append(model.clone_coefficient())
    assert seen == [2.0, 1.25, 0.5]


def test_a_measured_drop_is_rolled_back(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    measure = MeasureConfig(evaluation_episodes=20, rollback_drop=0.1, max_rollbacks=2)
    model = guarded(cloned, reach_demos, GuardConfig())
    events: list[dict] = []
    with Rollouts(REACH, workers=0) as rollouts:
        guard = Guard(cloned, measure, rollouts, tmp_path, "hash", events.append)
        guard.attach(model)
        assert guard.best_score >= 0.8
        good = copy.deepcopy(model.policy.state_dict())
        for spoiled in (1, 2):
            with torch.no_grad():
                model.policy.action_net.weight.mul_(-1.0)  # away from the target
            model.num_timesteps += 100
            guard.look()
            assert events[-1]["event"] == "rollback" and events[-1]["score"] < 0.3
            now = model.policy.state_dict()
            assert all(torch.equal(good[k], now[k]) for k in good)
            assert model.rate_scale == 0.5**spoiled
            assert guard.stopped is (spoiled == 2)


def test_ppo_improves_a_clone_and_resumes(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    guards = GuardConfig(
        critic_warmup_steps=1000,
        clone_coefficient=0.0,
        clone_coefficient_end=0.0,
        kl_coefficient=0.0,
        log_std_start=-1.0,
        log_std_max=-0.5,
    )
    measure = MeasureConfig(
        evaluate_every=2000,
        evaluation_episodes=40,
        metric="return",
        rollback_drop=1.0,
        final_episodes=60,
    )
    config = PpoConfig(
        guards=guards,
        steps=6000,
        workers=0,
        rollout_steps=500,
        batch_size=100,
        epochs=8,
        learning_rate=2e-3,
        critic_hidden=(32,),
        gamma=0.9,
        measure=measure,
        threads=1,
        target_kl=0.05,
    )
    looks: list[dict] = []

    def interrupt(figures: dict) -> None:
        looks.append(figures)
        if figures["steps"] == 2000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        improve(cloned, reach_demos, SLOW, tmp_path, config, progress=interrupt)
    assert [f["steps"] for f in looks] == [0, 2000]
    assert (tmp_path / CHECKPOINT).exists()
    result = improve(cloned, reach_demos, SLOW, tmp_path, config, progress=looks.append)
    assert result.steps == 6000 and looks[2]["steps"] > 0
    assert result.chosen == "ppo" and result.interval[0] > 0
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["after"] > written["before"]
    saved = PolicyNetwork.load(tmp_path / "network.pt")
    assert torch.equal(saved.head.weight, result.network.head.weight)
    with pytest.raises(SteadyhandError, match="belongs to another config or clone"):
        improve(cloned, reach_demos, SLOW, tmp_path, replace(config, gamma=0.8))


def test_a_ppo_that_does_not_help_ships_the_clone(
    cloned: PolicyNetwork,
    reach_demos: Demonstrations,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finals = 0
    scores = Guard.scores

    def count(self: Guard, network: PolicyNetwork, seeds: list[int] | None = None) -> np.ndarray:
        nonlocal finals
        finals += seeds is not None
        return scores(self, network, seeds)

    monkeypatch.setattr(Guard, "scores", count)
    measure = MeasureConfig(evaluate_every=256, evaluation_episodes=10, final_episodes=20)
    config = PpoConfig(
        steps=256,
        workers=0,
        rollout_steps=128,
        batch_size=64,
        epochs=1,
        measure=measure,
        learning_rate=0.3,
        guards=GuardConfig(critic_warmup_steps=0),
        threads=1,
    )
    for _ in range(2):  # the second time from the checkpoint
        result = improve(cloned, reach_demos, REACH, tmp_path, config)
        assert result.history[-1]["event"] == "rollback" and result.chosen == "clone"
        assert torch.equal(result.network.head.weight, cloned.head.weight)
        assert result.difference is not None and result.after == result.before
    assert finals == 2  # nobody measures the clone against itself


def test_ppo_alone_begins_from_weights_that_nobody_cloned(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    config = PpoConfig(
        fresh=True,
        steps=64,
        workers=0,
        rollout_steps=32,
        batch_size=16,
        guards=GuardConfig(critic_warmup_steps=64),  # the actor stays as it began
        measure=MeasureConfig(evaluation_episodes=6, final_episodes=6),
    )
    result = improve(cloned, reach_demos, REACH, tmp_path, config)
    x = torch.from_numpy(reach_demos.observation[:50])
    with torch.no_grad():
        assert not torch.allclose(result.network.raw(x), cloned.raw(x), atol=0.05)
        assert float(result.network.raw(x).abs().max()) < 0.5  # timid, as fresh networks are
    assert torch.equal(result.network.normalizer.mean, cloned.normalizer.mean)


class NanReward(gymnasium.RewardWrapper):
    def reward(self, reward: float) -> float:
        return float("nan")


gymnasium.register("Test/NanReach-v0", lambda: NanReward(gymnasium.make("Test/Reach-v0")))


def test_a_nan_reward_is_one_clear_error(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    config = PpoConfig(
        steps=64,
        workers=0,
        rollout_steps=32,
        batch_size=16,
        measure=MeasureConfig(evaluation_episodes=2),
    )
    with pytest.raises(SteadyhandError, match="Test/NanReach-v0: gave a reward of nan"):
        improve(cloned, reach_demos, EnvSpec("Test/NanReach-v0"), tmp_path, config)


def test_two_worker_processes_step_and_a_dead_one_is_reported(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    measure = MeasureConfig(evaluate_every=10_000, evaluation_episodes=4, final_episodes=4)
    config = PpoConfig(
        steps=128,
        workers=2,
        rollout_steps=64,
        batch_size=64,
        epochs=1,
        measure=measure,
        threads=1,
    )
    result = improve(cloned, reach_demos, REACH, tmp_path / "good", config)
    assert result.steps == 128
    dying = EnvSpec("Test/Reach-v0", {"die_at_seed": 0}, imports=("reach_env",))
    with pytest.raises(SteadyhandError, match="a training worker died"):
        improve(
            cloned,
            reach_demos,
            dying,
            tmp_path / "bad",
            replace(config, workers=1),
            evaluation_env=REACH,
        )


def test_a_critic_that_sees_more_leaves_the_actor_as_it_is(
    cloned: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    network = cloned
    n = network.observation_size
    kwargs = policy_kwargs(network, (16, 16), -2.0)
    wide = spaces.Box(-np.inf, np.inf, (n + 3,), np.float32)
    policy = GuardedPolicy(
        wide, spaces.Box(-1, 1, (network.action_size,), np.float32), lambda _: 1e-3, **kwargs
    )
    load_actor(policy, network)
    x = torch.from_numpy(reach_demos.observation[:20])
    more = torch.randn(20, 3)
    seen = torch.cat([x, more], dim=1)
    mean = policy.get_distribution(seen).distribution.mean
    assert torch.allclose(mean, network.raw(x), atol=1e-6)
    assert torch.allclose(mean, policy.get_distribution(seen.flip(0)).distribution.mean.flip(0))
    other = torch.cat([x, more + 1.0], dim=1)
    assert torch.equal(mean, policy.get_distribution(other).distribution.mean)
    assert not torch.allclose(policy.predict_values(seen), policy.predict_values(other))
    kept = extract_actor(policy, network)
    assert torch.allclose(kept.raw(x), network.raw(x), atol=1e-6)


def test_an_episode_out_of_time_is_worth_what_it_earned(
    cloned: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    def rewards(timeout_fails: bool) -> np.ndarray:
        torch.manual_seed(0)
        guards = GuardConfig(critic_warmup_steps=10**6)
        model = guarded(cloned, reach_demos, guards, timeout_fails=timeout_fails)
        with torch.no_grad():  # a critic that thinks highly of everything
            model.policy.value_net.bias.fill_(5.0)
        model.learn(128)
        return model.rollout_buffer.rewards.ravel().copy()

    lost, hoped = rewards(True), rewards(False)
    assert lost.max() <= 0.0  # the task pays nothing but distance
    ends = hoped - lost
    assert (ends > 3.0).sum() >= 1 and (ends[ends <= 3.0] == 0.0).all()


def test_a_chunking_network_is_no_beginning(reach_demos: Demonstrations, tmp_path: Path) -> None:
    config = CloneConfig(epochs=1, architecture="chunking")
    network = clone(reach_demos, None, config).network
    with pytest.raises(SteadyhandError, match="PPO: begins from a perceptron"):
        improve(network, reach_demos, REACH, tmp_path, PpoConfig())  # type: ignore[arg-type]
