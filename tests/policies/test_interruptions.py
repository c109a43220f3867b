"""Ctrl-C, a full disk and a dead worker, in every stage: the last checkpoint holds, and it goes on.

The stages run on the command line's own entry, in this process, so that the signal hits whatever
Python happens to do there.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reach_env import REACH

from policies.demos.dataset import Demonstrations, load_demonstrations
from policies.evaluation.specs import EnvSpec
from policies.learning.clone import CHECKPOINT, CloneConfig, clone
from policies.learning.guard import MeasureConfig
from policies.learning.guarded import GuardConfig
from policies.learning.network import NetworkConfig, PolicyNetwork, torch_load
from policies.learning.ppo import PpoConfig, improve
from policies.storage import read_json
from robot.errors import SteadyhandError
from steadyhand import cli

FIT = CloneConfig(network=NetworkConfig((32, 32), "tanh"), epochs=4, batch_size=128, threads=1)
BRIEF = PpoConfig(
    steps=256,
    workers=0,
    rollout_steps=64,
    batch_size=32,
    epochs=1,
    critic_hidden=(16,),
    guards=GuardConfig(critic_warmup_steps=0),
    measure=MeasureConfig(evaluate_every=64, evaluation_episodes=4, final_episodes=4,
                          rollback_drop=1.0),
    threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def cloned(reach_demos: Demonstrations) -> PolicyNetwork:
    network = clone(reach_demos, None, FIT).network
    assert isinstance(network, PolicyNetwork)
    return network


# Ctrl-C -----------------------------------------------------------------------------------------

STAGES = [
    "demos/staging/episode-*.parquet",
    "bc/folds/fold-0/checkpoint.pt",
    "bc/round-0/checkpoint.pt",
    "bc/round-1/demos/staging/episode-*.parquet",
    "bc/round-1/checkpoint.pt",
    "ppo/checkpoint.pt",
]
SETTINGS = [
    "demos.episodes=40", "bc.folds=2", "bc.rounds=1", "bc.episodes=40",
    "bc.clone.epochs=30", "bc.clone.patience=30",
    "bc.clone.batch_size=64", "bc.clone.network.hidden=[32,32]", "ppo.steps=1024",
    "ppo.rollout_steps=128", "ppo.batch_size=64", "ppo.guards.critic_warmup_steps=0",
    "ppo.measure.evaluate_every=128", "ppo.measure.evaluation_episodes=4",
    "ppo.measure.rollback_drop=1000.0", "ppo.measure.final_episodes=4",
]  # fmt: skip


def train(out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """``steadyhand train ppo`` in the small environment: exit code and standard error."""
    call = ["train", "ppo", "--env", "Test/Reach-v0", "--import", "reach_env", "--workers", "0"]
    call += ["--actor", "reach_env:ReachExpert", "--tracking", "none", "--out", str(out)]
    call += [part for setting in SETTINGS for part in ("--set", setting)]
    with pytest.raises(SystemExit) as ended:
        cli.main(call)
    return int(ended.value.code or 0), capsys.readouterr().err


@contextlib.contextmanager
def control_c_when(folder: Path, pattern: str) -> Iterator[None]:
    """Interrupt this process, as a terminal does, as soon as such a file appears."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if next(folder.glob(pattern), None) is not None:
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_control_c_in_each_stage_and_on_from_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    for pattern in STAGES:
        with control_c_when(cut, pattern):
            code, err = train(cut, capsys)
        assert code == 130, (pattern, err)
        assert err.splitlines()[-1] == "steadyhand: interrupted; finished work is kept"
        assert "Traceback" not in err
        assert not (cut / "ppo" / "network.pt").exists(), pattern
        for file in cut.rglob("*.pt"):
            torch_load(file)  # whole, all of them
    assert train(cut, capsys)[0] == 0
    assert train(whole, capsys)[0] == 0
    ours, theirs = (load_demonstrations(run / "demos") for run in (cut, whole))
    assert np.array_equal(ours.observation, theirs.observation)
    a, b = (PolicyNetwork.load(run / "bc" / "network.pt").state_dict() for run in (cut, whole))
    assert all(torch.equal(a[k], b[k]) for k in a)
    steps = [[row["steps"] for row in read_json(run / "ppo" / "result.json")["history"]]
             for run in (cut, whole)]  # fmt: skip
    assert steps[0] == steps[1] == list(range(0, 1025, 128))


# A full disk ------------------------------------------------------------------------------------


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses every byte beyond, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_while_cloning_keeps_the_last_checkpoint(
    reach_demos: Demonstrations, tmp_path: Path
) -> None:
    whole = clone(reach_demos, None, FIT).network.state_dict()

    with contextlib.ExitStack() as disk:

        def fill(epoch: int, epochs: int, figures: dict[str, float]) -> None:
            if epoch == 2:
                disk.enter_context(files_of_at_most(1000))

        with pytest.raises(SteadyhandError, match=r"checkpoint\.pt: cannot be written: "):
            clone(reach_demos, tmp_path, FIT, progress=fill)
    assert torch_load(tmp_path / CHECKPOINT)["done"] == 2
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]
    resumed = clone(reach_demos, tmp_path, FIT).network.state_dict()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_disk_that_fills_while_ppo_learns_keeps_the_last_checkpoint(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as disk:

        def fill(figures: dict[str, Any]) -> None:
            if figures["steps"] == 128:
                disk.enter_context(files_of_at_most(1000))

        with pytest.raises(SteadyhandError, match=r"checkpoint\.pt: cannot be written: "):
            improve(cloned, reach_demos, REACH, tmp_path, BRIEF, progress=fill)
    assert torch_load(tmp_path / CHECKPOINT)["steps"] == 64
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]
    result = improve(cloned, reach_demos, REACH, tmp_path, BRIEF)
    assert result.steps == 256
    assert [row["steps"] for row in result.history] == [0, 64, 128, 192, 256]


# A dead worker and a bad reward ------------------------------------------------------------------


def test_a_worker_killed_while_ppo_learns_leaves_the_last_checkpoint(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    dying = EnvSpec("Test/Reach-v0", {"die_at_step": 150}, imports=("reach_env",))
    config = replace(BRIEF, workers=1)
    with pytest.raises(SteadyhandError, match="a training worker died; the last checkpoint is"):
        improve(cloned, reach_demos, dying, tmp_path, config, evaluation_env=REACH)
    assert torch_load(tmp_path / CHECKPOINT)["steps"] == 128
    result = improve(cloned, reach_demos, REACH, tmp_path, config)
    assert [row["steps"] for row in result.history] == [0, 64, 128, 192, 256]


def test_a_nan_reward_while_ppo_learns_leaves_the_last_checkpoint(
    cloned: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    broken = EnvSpec("Test/Reach-v0", {"nan_at_step": 150}, imports=("reach_env",))
    with pytest.raises(SteadyhandError, match="gave a reward of nan at step 150"):
        improve(cloned, reach_demos, broken, tmp_path, BRIEF, evaluation_env=REACH)
    assert torch_load(tmp_path / CHECKPOINT)["steps"] == 128
    result = improve(cloned, reach_demos, REACH, tmp_path, BRIEF)
    assert result.steps == 256
