"""The same seed on the same machine gives the same weights, bit for bit, in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policies.demos.dataset import load_demonstrations
from steadyhand import train

ROOT = Path(__file__).parents[2]
TINY = [
    "task.bank_size=4",
    "task.objects=primitives",
    "task.physics=mixed",
    "demos.episodes=4",
    "bc.clone.epochs=2",
    "bc.clone.observation_noise=0.02",
    "bc.rounds=1",
    "bc.episodes=2",
    "ppo.steps=64",
    "ppo.rollout_steps=32",
    "ppo.batch_size=32",
    "ppo.guards.critic_warmup_steps=0",
    "ppo.measure.evaluate_every=32",
    "ppo.measure.evaluation_episodes=2",
    "ppo.measure.rollback_drop=1.0",
    "ppo.measure.final_episodes=2",
]


def tensors(content: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in a file, however deep, by its place."""
    if isinstance(content, torch.Tensor):
        return {name: content}
    if not isinstance(content, dict):
        return {}
    return {k: v for key in content for k, v in tensors(content[key], f"{name}/{key}").items()}


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of every network and checkpoint of a run, optimizers included."""
    out = {}
    for file in sorted(run.rglob("*.pt")):
        content = torch.load(file, weights_only=True)
        out |= tensors(content, str(file.relative_to(run)))
    return out


def test_demonstrations_cloning_and_ppo_repeat_to_the_bit(tmp_path: Path) -> None:
    """Twice in this process, where the second finds what the first left behind, and afresh."""
    first, second, afresh, other = (tmp_path / name for name in ("a", "b", "c", "d"))
    for run, seed in ((first, 5), (second, 5), (other, 6)):
        train.ppo(run, set_=TINY, seed=seed, workers=0, tracking="none")
    call = ["train", "ppo", "--out", str(afresh), "--seed", "5", "--workers", "0"]
    call += [part for setting in TINY for part in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "steadyhand.cli", *call],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    a = weights(first)
    places = {name.split(".pt")[0] for name in a}
    assert {"bc/round-0/network", "bc/round-1/network", "ppo/checkpoint"} <= places
    assert any("now/policy" in name for name in a)  # PPO's own, whatever it ships
    for run in (second, afresh):
        b = weights(run)
        assert a.keys() == b.keys()
        assert [name for name in a if not torch.equal(a[name], b[name])] == []
        ours, theirs = (load_demonstrations(r / "demos") for r in (first, run))
        assert np.array_equal(ours.observation, theirs.observation)
        assert np.array_equal(ours.action, theirs.action)
    c = weights(other)
    changed = "ppo/checkpoint.pt/now/policy/action_net.weight"
    assert not torch.equal(a[changed], c[changed])
