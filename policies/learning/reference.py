"""One 32-256-256-5 network in our runtime and in Stable-Baselines3, to compare their latency."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from policies.edge.metadata import PolicyMetadata
from policies.edge.runtime import EdgePolicy
from policies.learning.actor_critic import load_actor, policy_kwargs
from policies.learning.export import export_onnx
from policies.learning.network import NetworkConfig, PolicyNetwork

N_OBS, N_ACT = 32, 5


def reference_callables(seed: int = 0) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Two calls that map one observation through the same weights on one thread.

    Returns:
        ``EdgePolicy.act`` on the exported network, and Stable-Baselines3's ``predict``.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = PolicyNetwork(
        NetworkConfig(hidden=(256, 256)), np.zeros(N_OBS), np.ones(N_OBS), N_ACT
    )
    names = tuple(f"observation_{i}" for i in range(N_OBS))
    metadata = PolicyMetadata(names, tuple(f"action_{i}" for i in range(N_ACT)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reference.onnx"
        file.write_bytes(export_onnx(network, metadata))
        edge = EdgePolicy(file, "fp32", names=names)
    theirs = ActorCriticPolicy(
        gymnasium.spaces.Box(-10.0, 10.0, (N_OBS,), np.float32),
        gymnasium.spaces.Box(-1.0, 1.0, (N_ACT,), np.float32),
        lambda _: 1e-4,
        **policy_kwargs(network, (256, 256), -2.0),
    )
    load_actor(theirs, network)
    theirs.set_training_mode(False)
    observation = np.random.default_rng(seed).normal(size=N_OBS).astype(np.float32)
    return lambda: edge.act(observation), lambda: theirs.predict(observation, deterministic=True)
