"""A correction beside a frozen clone: nothing at first, and all that learns afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reach_env import REACH

from policies.demos.dataset import Demonstrations
from policies.evaluation.specs import EnvSpec
from policies.learning.clone import CloneConfig, clone
from policies.learning.guard import MeasureConfig
from policies.learning.guarded import GuardConfig
from policies.learning.network import NetworkConfig, PolicyNetwork
from policies.learning.ppo import PpoConfig, improve
from policies.learning.residual import ResidualConfig, beside, learning
from robot.errors import ConfigError

SLOW = EnvSpec("Test/Reach-v0", {"gain": 0.05, "steps": 30}, imports=("reach_env",))
CORRECTION = ResidualConfig(hidden=(16, 24), sees=("position",))


@pytest.fixture(scope="module")
def cloned(reach_demos: Demonstrations) -> PolicyNetwork:
    config = CloneConfig(
        network=NetworkConfig(hidden=(32, 32), activation="tanh"),
        epochs=2,
        batch_size=128,
        learning_rate=3e-3,
        threads=1,
        ignored=("position", "target"),
    )
    return clone(reach_demos, None, config).network


def test_it_acts_as_the_clone_at_first(cloned: PolicyNetwork, reach_demos: Demonstrations) -> None:
    wide = beside(cloned, CORRECTION, reach_demos)
    assert wide.config.hidden == (48, 56)
    x = torch.from_numpy(reach_demos.observation) * 3.0
    assert torch.allclose(wide.raw(x), cloned.raw(x), atol=1e-6)
    # The correction is shown what it asked for, and nothing else that was hidden.
    with torch.no_grad():
        wide.head.weight[:, 32:] = 1.0
    for row, seen in (("position", True), ("target", False)):
        moved = x.clone()
        moved[:, ("position", "target").index(row)] += 0.3
        assert torch.allclose(wide.raw(moved), wide.raw(x)) is not seen


def test_nothing_but_the_correction_learns(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    config = PpoConfig(
        residual=CORRECTION,
        guards=GuardConfig(
            critic_warmup_steps=500,
            clone_coefficient=0.0,
            clone_coefficient_end=0.0,
            kl_coefficient=0.0,
            log_std_start=-1.0,
            log_std_max=-0.5,
        ),
        steps=6000,
        workers=0,
        rollout_steps=500,
        batch_size=100,
        epochs=8,
        learning_rate=3e-3,
        critic_hidden=(32,),
        gamma=0.9,
        target_kl=0.05,
        measure=MeasureConfig(
            evaluate_every=2500,
            evaluation_episodes=40,
            metric="return",
            rollback_drop=1.0,
            final_episodes=60,
        ),
        threads=1,
    )
    result = improve(cloned, reach_demos, SLOW, tmp_path, config)
    print(
        [(h["steps"], h["score"], h["event"]) for h in result.history], result.before, result.after
    )
    assert result.chosen == "ppo" and result.interval[0] > 0
    wide = beside(cloned, CORRECTION, reach_demos)
    for before, after, (weight, bias) in zip(
        wide.linears(), result.network.linears(), learning(cloned, CORRECTION), strict=True
    ):
        kept = weight == 0.0
        assert torch.equal(before.weight[kept], after.weight[kept])
        assert torch.equal(before.bias[bias == 0.0], after.bias[bias == 0.0])
        assert not torch.equal(before.weight, after.weight)
    x = torch.from_numpy(reach_demos.observation)
    assert not torch.allclose(result.network.raw(x), cloned.raw(x), atol=1e-3)


def test_what_does_not_fit_is_one_clear_error(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    short = PpoConfig(residual=ResidualConfig(hidden=(8,)))
    with pytest.raises(ConfigError, match=r"ppo.residual.hidden: expected 2 widths"):
        improve(cloned, reach_demos, REACH, tmp_path, short)
    blind = replace(short, residual=ResidualConfig(hidden=(8, 8), sees=("smell",)))
    with pytest.raises(Exception, match=r"ppo.residual.sees: there is no observation 'smell'"):
        improve(cloned, reach_demos, REACH, tmp_path, blind)
