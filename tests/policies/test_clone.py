"""Cloning on real, small runs: it learns, it resumes to the bit, and DAgger mends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reach_env import EXPERT, REACH

from policies.demos.dataset import Demonstrations, load_demonstrations
from policies.demos.record import RecordConfig, record
from policies.evaluation.rollouts import Behaviour, Rollouts, episode_seeds
from policies.learning.clone import CHECKPOINT, CloneConfig, clone, normalization
from policies.learning.dagger import DaggerConfig, dagger
from policies.learning.network import NetworkConfig, PolicyNetwork
from robot.errors import SteadyhandError

SMALL = CloneConfig(
    network=NetworkConfig(hidden=(32, 32)), epochs=12, batch_size=128, learning_rate=3e-3, threads=1
)


def success(network: PolicyNetwork, episodes: int = 40) -> float:
    with Rollouts(REACH, workers=0) as rollouts:
        seeds = episode_seeds(99, 0, episodes)
        return float(np.mean([e.success for e in rollouts.run(Behaviour(network.actor()), seeds)]))


def test_cloning_learns_the_expert(reach_demos: Demonstrations, tmp_path: Path) -> None:
    fresh = PolicyNetwork(SMALL.network, np.zeros(4), np.ones(4), 2)
    result = clone(reach_demos, tmp_path, SMALL)
    assert success(fresh) < 0.3
    assert success(result.network) >= 0.9
    assert result.validation_error[1] < 0.05  # the idle action is always 0.25
    saved = PolicyNetwork.load(tmp_path / "network.pt")
    x = torch.from_numpy(reach_demos.observation[:50])
    assert torch.equal(saved(x), result.network(x))


def test_the_same_seed_gives_the_same_bits(reach_demos: Demonstrations) -> None:
    config = replace(SMALL, epochs=2, observation_noise=0.05)
    a, b = (clone(reach_demos, None, config).network.state_dict() for _ in range(2))
    assert all(torch.equal(a[k], b[k]) for k in a)
    other = clone(reach_demos, None, replace(config, seed=1)).network.state_dict()
    assert not torch.equal(a["head.weight"], other["head.weight"])


def test_an_interrupted_run_ends_in_the_same_bits(
    reach_demos: Demonstrations, tmp_path: Path
) -> None:
    config = replace(SMALL, epochs=5)
    whole = clone(reach_demos, tmp_path / "whole", config)

    def interrupt(epoch: int, epochs: int, figures: dict[str, float]) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clone(reach_demos, tmp_path / "cut", config, progress=interrupt)
    resumed = clone(reach_demos, tmp_path / "cut", config)
    assert resumed.history == whole.history
    a, b = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_foreign_or_cut_checkpoint_is_refused(
    reach_demos: Demonstrations, tmp_path: Path
) -> None:
    config = replace(SMALL, epochs=1)
    clone(reach_demos, tmp_path, config)
    with pytest.raises(SteadyhandError, match="belongs to another config"):
        clone(reach_demos, tmp_path, replace(config, learning_rate=1e-4))
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SteadyhandError, match="is not a whole checkpoint"):
        clone(reach_demos, tmp_path, config)


def test_early_stop_keeps_the_best_weights(reach_demos: Demonstrations) -> None:
    config = replace(SMALL, epochs=60, patience=2, learning_rate=0.03)
    result = clone(reach_demos, None, config)
    losses = [h["validation_loss"] for h in result.history]
    assert result.epochs < 60
    assert result.validation_loss == min(losses) == losses[result.best_epoch]


def test_dagger_mends_what_few_demonstrations_left_open(tmp_path: Path) -> None:
    record(tmp_path / "few", REACH, EXPERT, RecordConfig(episodes=4, seed=1, workers=0))
    demos = load_demonstrations(tmp_path / "few")
    fit = replace(SMALL, epochs=30, validation_share=0.3)
    config = DaggerConfig(clone=fit, rounds=2, episodes=25, workers=0)
    result = dagger(demos, REACH, EXPERT, tmp_path / "run", config)
    before = PolicyNetwork.load(tmp_path / "run" / "round-0" / "network.pt")
    assert success(result.network) >= success(before) + 0.1
    again = dagger(demos, REACH, EXPERT, tmp_path / "run", config)
    assert torch.equal(again.network.head.weight, result.network.head.weight)


def test_the_workers_copy_of_the_network_agrees(reach_demos: Demonstrations) -> None:
    for activation in ("relu", "tanh"):
        torch.manual_seed(0)
        shape = NetworkConfig(hidden=(64, 64), activation=activation)  # type: ignore[arg-type]
        network = PolicyNetwork(shape, reach_demos.observation.mean(0), np.full(4, 0.5), 2)
        network.head.weight.data.mul_(150)
        x = reach_demos.observation[:200]
        ours = network.actor().make(None).act(x)
        theirs = network(torch.from_numpy(x)).detach().numpy()
        assert np.abs(ours - theirs).max() < 1e-5
        assert (np.abs(theirs) == 1.0).any()


def test_an_ignored_observation_changes_nothing(reach_demos: Demonstrations) -> None:
    config = replace(SMALL, epochs=1, ignored=("position",))
    network = clone(reach_demos, None, config).network
    x = torch.from_numpy(reach_demos.observation[:20])
    y = x.clone()
    y[:, 0] += 1000.0
    assert torch.equal(network(x), network(y))
    with pytest.raises(SteadyhandError, match="there is no observation 'speed'"):
        clone(reach_demos, None, replace(config, ignored=("speed",)))


def test_small_deviations_are_not_blown_up(reach_demos: Demonstrations) -> None:
    still = replace(reach_demos, observation=reach_demos.observation * np.float32(1e-4))
    _, std = normalization(still, SMALL)
    assert np.allclose(std[:3], 0.003)
    _, std = normalization(reach_demos, SMALL)
    assert np.allclose(std, reach_demos.observation.std(0))


def test_what_is_untaught_has_no_weight_and_can_be_learned_later(
    reach_demos: Demonstrations, tmp_path: Path
) -> None:
    config = CloneConfig(epochs=3, untaught=("goal",))
    names = list(reach_demos.spec.observation_names)
    with pytest.raises(SteadyhandError, match="untaught: there is no observation 'goal'"):
        clone(reach_demos, None, config)
    config = CloneConfig(epochs=3, untaught=(names[1],))
    network = clone(reach_demos, tmp_path / "bc", config).network
    weight = network.linears()[0].weight
    assert not weight[:, 1].any() and all(weight[:, i].any() for i in (0, 2))
    assert float(network.normalizer.std[1]) < 1e6  # it is seen, and counts for nothing so far
    loss = network.raw(torch.from_numpy(reach_demos.observation[:50])).square().mean()
    loss.backward()
    assert weight.grad is not None and weight.grad[:, 1].any()
