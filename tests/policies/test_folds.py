"""Cross-validation by object: every object is held out once, and the figures are those of clone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reach_env import EXPERT, REACH

from policies.demos.dataset import Demonstrations
from policies.learning.clone import CloneConfig, clone
from policies.learning.dagger import DaggerConfig, dagger
from policies.learning.folds import cross_validate, object_folds
from policies.learning.network import NetworkConfig
from policies.storage import read_json
from robot.errors import ConfigError, SteadyhandError

SMALL = CloneConfig(
    network=NetworkConfig(hidden=(16,)), epochs=3, batch_size=256, learning_rate=3e-3, threads=1
)


@given(count=st.integers(2, 9), seed=st.integers(0, 1000))
def test_every_object_is_held_out_once_and_parts_are_alike(
    reach_demos: Demonstrations, count: int, seed: int
) -> None:
    parts = object_folds(reach_demos, count, np.random.default_rng(seed))
    assert sorted(name for part in parts for name in part) == sorted(set(reach_demos.groups))
    sizes = [sum(g in part for g in reach_demos.groups) for part in parts]
    largest = max(reach_demos.groups.count(g) for g in set(reach_demos.groups))
    assert max(sizes) - min(sizes) <= largest


def test_the_figures_are_those_of_cloning_with_these_objects_held_out(
    reach_demos: Demonstrations, tmp_path: Path
) -> None:
    told: list[str] = []
    result = cross_validate(reach_demos, tmp_path, SMALL, 3, progress=told.append)
    parts = object_folds(reach_demos, 3, np.random.default_rng([SMALL.seed, 11]))
    losses = [clone(reach_demos, None, SMALL, held=part).validation_loss for part in parts]
    assert [fold.loss for fold in result.folds] == losses
    assert len(set(losses)) == 3
    assert result.loss_mean == pytest.approx(sum(losses) / 3)
    spread = (sum((x - result.loss_mean) ** 2 for x in losses) / 2) ** 0.5
    assert result.loss_std == pytest.approx(spread)
    assert sum(fold.episodes for fold in result.folds) == reach_demos.episodes
    written = read_json(tmp_path / "result.json")
    assert written["loss_mean"] == result.loss_mean and len(written["single"]) == 3
    assert len(told) == 3 and "fold 3 of 3" in told[2]


def test_folds_resume_and_do_not_change_the_final_weights(
    reach_demos: Demonstrations, tmp_path: Path
) -> None:
    config = DaggerConfig(clone=SMALL, folds=2, workers=0)

    def interrupt(line: str) -> None:
        if line.startswith("fold 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dagger(reach_demos, REACH, EXPERT, tmp_path, config, progress=interrupt)
    first = tmp_path / "folds" / "fold-0" / "checkpoint.pt"
    before = first.stat().st_mtime_ns
    told: list[str] = []
    result = dagger(reach_demos, REACH, EXPERT, tmp_path, config, progress=told.append)
    assert first.stat().st_mtime_ns == before
    assert any("2 folds by object: validation loss" in line for line in told)
    alone = clone(reach_demos, None, SMALL).network.state_dict()
    ours = result.network.state_dict()
    assert all(torch.equal(alone[k], ours[k]) for k in alone)


def test_too_many_or_too_few_parts_are_one_clear_line(reach_demos: Demonstrations) -> None:
    objects = len(set(reach_demos.groups))
    with pytest.raises(SteadyhandError, match=f"need as many objects.* hold {objects}"):
        cross_validate(reach_demos, None, SMALL, objects + 1)
    with pytest.raises(SteadyhandError, match="folds: expected at least 2, got 1"):
        cross_validate(reach_demos, None, SMALL, 1)
    with pytest.raises(ConfigError, match="bc.folds: expected 2 or more"):
        DaggerConfig(folds=1)
