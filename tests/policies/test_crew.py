"""Workers that collect: the same steps however many run, and what PPO makes of them."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from reach_env import REACH

from policies.demos.dataset import Demonstrations
from policies.evaluation.specs import EnvSpec
from policies.learning.crew import Crew, Explorer, Stretch
from policies.learning.guarded import GuardConfig, GuardedPPO
from policies.learning.network import NetworkConfig, PolicyNetwork
from robot.errors import ConfigError, SteadyhandError

SHORT = EnvSpec("Test/Reach-v0", {"steps": 7}, imports=("reach_env",))


@pytest.fixture(scope="module")
def network() -> PolicyNetwork:
    torch.manual_seed(0)
    return PolicyNetwork(NetworkConfig((16, 16)), np.zeros(4), np.ones(4), 2)


def explorer(network: PolicyNetwork, std: float = 0.1, persistence: float = 0.0) -> Explorer:
    return Explorer(network.actor(), 4, np.full(2, std, np.float32), persistence)


def same(a: Stretch, b: Stretch) -> bool:
    names = ("observation", "action", "reward", "starts", "last")
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


def test_a_seed_fixes_every_step_in_this_process_and_in_workers(network: PolicyNetwork) -> None:
    with_noise = explorer(network, 0.3, 0.5)
    gone: list[list[Stretch]] = []
    for workers in (0, 2, 2):
        crew = Crew(SHORT, workers)
        try:
            crew.seed(11)
            first = crew.reset()
            gone.append([s for n in (20, 9) for s in crew.collect(with_noise, n)])
            assert np.array_equal(first, [s.observation[0] for s in gone[-1][: crew.num_envs]])
        finally:
            crew.close()
    alone, two, again = gone
    assert all(same(a, b) for a, b in zip(two, again, strict=True))
    assert same(alone[0], two[0]) and same(alone[1], two[2])
    assert not same(two[0], two[1])  # each environment has a seed of its own


def test_a_stretch_goes_on_where_the_last_one_ended(network: PolicyNetwork) -> None:
    crew = Crew(SHORT, 0)
    crew.reset()
    (one,), (two,) = crew.collect(explorer(network), 10), crew.collect(explorer(network), 10)
    assert np.array_equal(one.last, two.observation[0])
    starts = np.flatnonzero(np.concatenate([one.starts, two.starts]))
    assert starts.tolist() == [0, 7, 14]
    assert [i for i, _ in one.cut] == [6] and [i for i, _ in two.cut] == [3]
    assert not one.over and not two.over
    # What an episode was cut in is not where the next one begins.
    assert not np.array_equal(one.cut[0][1], one.observation[7])


@pytest.mark.parametrize("persistence", [0.0, 0.85])
def test_noise_that_lasts_is_as_strong_as_noise_that_does_not(
    network: PolicyNetwork, persistence: float
) -> None:
    crew = Crew(REACH, 0)
    crew.reset()
    (gone,) = crew.collect(explorer(network, 0.2, persistence), 6000)
    with torch.no_grad():
        mean = network.raw(torch.from_numpy(gone.observation)).numpy()
    noise = (gone.action - mean) / 0.2
    assert noise.std() == pytest.approx(1.0, abs=0.08)
    lagged = (noise[1:] * noise[:-1]).mean() / noise.var()
    assert lagged == pytest.approx(persistence, abs=0.04)


def test_what_ppo_stores_is_what_its_policy_gives_step_by_step(
    reach_demos: Demonstrations,
) -> None:
    """Against Stable-Baselines3's own recursion for advantages, written out."""
    torch.manual_seed(1)
    size = reach_demos.observation.shape[1], reach_demos.action.shape[1]
    network = PolicyNetwork(NetworkConfig((16, 16)), np.zeros(size[0]), np.ones(size[0]), size[1])
    model = GuardedPPO(
        Crew(SHORT, 2),
        network,
        (reach_demos.observation, reach_demos.action),
        GuardConfig(critic_warmup_steps=10**6),
        n_steps=16,
        batch_size=8,
        n_epochs=1,
        reward_scale=0.5,
        seed=3,
        gamma=0.9,
        gae_lambda=0.8,
    )
    seen: list[Stretch] = []
    crew = model.env
    assert isinstance(crew, Crew)
    collect = crew.collect
    crew.collect = lambda e, n: [*map(keep, collect(e, n))]  # type: ignore[method-assign]

    def keep(stretch: Stretch) -> Stretch:
        seen.append(stretch)
        return stretch

    critic = model.policy.predict_values
    try:
        model._setup_learn(32, None)
        assert model.env is not None
        from stable_baselines3.common.callbacks import ConvertCallback

        callback = ConvertCallback(lambda *_: True)
        callback.init_callback(model)
        assert model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
        assert model.num_timesteps == 32
        buffer = model.rollout_buffer
        for k, stretch in enumerate(seen):
            rewards = 0.5 * stretch.reward.astype(np.float64)
            with torch.no_grad():
                values = critic(torch.from_numpy(stretch.observation)).numpy().ravel()
                after = float(critic(torch.from_numpy(stretch.last[None])))
                for i, ended_in in stretch.cut:
                    rewards[i] += 0.9 * float(critic(torch.from_numpy(ended_in[None])))
            advantage, expected = 0.0, np.zeros(16)
            for t in reversed(range(16)):
                over = stretch.over if t == 15 else bool(stretch.starts[t + 1])
                ahead = after if t == 15 else values[t + 1]
                error = rewards[t] + 0.9 * ahead * (not over) - values[t]
                advantage = error + 0.9 * 0.8 * (not over) * advantage
                expected[t] = advantage
            assert np.allclose(buffer.advantages[:, k], expected, atol=1e-5)
            assert np.allclose(buffer.values[:, k], values, atol=1e-6)
            assert np.array_equal(buffer.actions[:, k], stretch.action)
    finally:
        crew.close()


def test_an_environment_that_cannot_be_made_is_told_as_it_is() -> None:
    unknown = EnvSpec("Test/Reach-v0", {"no_such_argument": 1}, imports=("reach_env",))
    for workers in (0, 1):
        with pytest.raises(ConfigError, match="no_such_argument"):
            Crew(unknown, workers)


def test_a_wrong_reward_in_a_worker_comes_back_as_the_error_it_is(network: PolicyNetwork) -> None:
    crew = Crew(EnvSpec("Test/Reach-v0", {"nan_at_step": 5}, imports=("reach_env",)), 1)
    try:
        crew.reset()
        with pytest.raises(SteadyhandError, match="gave a reward of nan at step 5"):
            crew.collect(explorer(network), 20)
    finally:
        crew.close()


def test_a_killed_worker_does_not_keep_the_others(network: PolicyNetwork) -> None:
    crew = Crew(REACH, 2)
    crew.reset()
    processes = list(crew._processes)
    os.kill(processes[0].pid, signal.SIGKILL)
    with pytest.raises((EOFError, BrokenPipeError, ConnectionResetError)):
        crew.collect(explorer(network), 50)
    crew.close()
    assert not any(p.is_alive() for p in processes)
