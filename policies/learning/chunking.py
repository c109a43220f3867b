"""A small transformer that sees a short history and plans a chunk of actions at once.

After ACT, without its style variable (which models the spread of human demonstrations; a scripted
expert's have next to none): T. Zhao, V. Kumar, S. Levine, C. Finn, "Learning Fine-Grained Bimanual
Manipulation with Low-Cost Hardware", RSS 2023. An encoder attends over the window of observations;
one learned query for each action of the chunk attends to what it made of them.

History and blending stand outside the network, in ``policies.edge.chunks``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.load import as_dict, bounded
from policies.demos.dataset import Demonstrations
from policies.edge.chunks import Chunking
from policies.edge.metadata import PolicyMetadata
from policies.evaluation.specs import ActorSpec
from policies.learning.frames import windows
from policies.learning.network import Normalizer, PolicyNetwork, torch_bytes, torch_load
from policies.storage import replace_file
from robot.errors import ConfigError, SteadyhandError

KIND = "chunking"


@dataclass(frozen=True)
class ChunkingConfig:
    """The shape of an action-chunking transformer, and how its chunks are blended.

    Attributes:
        history: observations that it sees, the newest included.
        horizon: actions that it plans, the first of them for now.
        decay: a chunk made k steps ago counts exp(-decay k) beside the newest; see
            ``policies.edge.chunks.Chunking``.
        width: of every token.
        heads: of the attention; they share the width.
        encoder_layers: over the observations.
        decoder_layers: from the observations to the actions.
        feedforward: width within a layer.
        input_limit: normalized observations are clipped to this many standard deviations.
    """

    history: int = bounded(4, 1, 64)
    horizon: int = bounded(8, 1, 100)
    decay: float = bounded(0.0, -1.0, 100.0)
    width: int = bounded(64, 4, 1024)
    heads: int = bounded(4, 1, 64)
    encoder_layers: int = bounded(2, 1, 12)
    decoder_layers: int = bounded(1, 1, 12)
    feedforward: int = bounded(128, 4, 8192)
    input_limit: float = bounded(5.0, 1.0, 1e6)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(
                f"chunking.heads: {self.heads} must divide chunking.width ({self.width})"
            )

    @property
    def chunking(self) -> Chunking:
        """What stands outside the network."""
        return Chunking(self.history, self.horizon, self.decay)


class _Attention(nn.Module):
    """Multi-head attention; written out, so that it exports and trains to the same bits."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Tokens (b, n, width) attend to ``seen`` (b, m, width)."""

        def split(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(seen)), split(self.value(seen))
        share = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        out: Tensor = self.out((share @ v).transpose(1, 2).flatten(-2))
        return out


class _Layer(nn.Module):
    """Attention and a perceptron, each normalized before and added after."""

    def __init__(self, config: ChunkingConfig) -> None:
        super().__init__()
        self.attention = _Attention(config.width, config.heads)
        self.first, self.second = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.perceptron = nn.Sequential(
            nn.Linear(config.width, config.feedforward),
            nn.ReLU(),
            nn.Linear(config.feedforward, config.width),
        )

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Tokens (b, n, width) attend to each other, or to ``seen`` (b, m, width)."""
        normal = self.first(x)
        x = x + self.attention(normal, normal if seen is None else seen)
        out: Tensor = x + self.perceptron(self.second(x))
        return out


class ChunkingNetwork(nn.Module):
    """A window of observations to a chunk of actions; clipped to [-1, 1], the only output.

    Args:
        config: the shape.
        mean: (n_obs,) mean of the demonstrations' observations.
        std: (n_obs,) their standard deviation.
        action_size: numbers in an action.
    """

    def __init__(
        self, config: ChunkingConfig, mean: NDArray[Any], std: NDArray[Any], action_size: int
    ) -> None:
        super().__init__()
        self.config = config
        self.normalizer = Normalizer(mean, std, config.input_limit)
        self.embed = nn.Linear(len(mean), config.width)
        self.places = nn.Parameter(0.02 * torch.randn(config.history, config.width))
        self.queries = nn.Parameter(torch.randn(config.horizon, config.width))
        self.encoder = nn.ModuleList(_Layer(config) for _ in range(config.encoder_layers))
        self.seen = nn.LayerNorm(config.width)
        self.decoder = nn.ModuleList(_Layer(config) for _ in range(config.decoder_layers))
        self.told = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, action_size)
        with torch.no_grad():  # a timid start: the first rollouts of a fresh network stay small
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return int(self.normalizer.mean.shape[0])

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return int(self.head.out_features)

    @property
    def first(self) -> nn.Linear:
        """The layer that the normalized observation enters."""
        return self.embed

    def raw(self, window: Tensor) -> Tensor:
        """The chunk before it is clipped: what the losses see, so that gradients stay alive."""
        x = self.embed(self.normalizer(window)) + self.places
        for layer in self.encoder:
            x = layer(x)
        x = self.seen(x)
        y = self.queries.expand(x.shape[0], -1, -1)
        for layer in self.decoder:
            y = layer(y, x)
        out: Tensor = self.head(self.told(y))
        return out

    def forward(self, window: Tensor) -> Tensor:
        """(batch, history, n_obs) float32 to (batch, horizon, n_act) float32 in [-1, 1]."""
        return torch.clamp(self.raw(window), -1.0, 1.0)

    def actor(self) -> ActorSpec:
        """This network as an actor for worker processes, which run it without torch."""
        from policies.learning.export import export_onnx

        metadata = PolicyMetadata(
            tuple(f"observation_{i}" for i in range(self.observation_size)),
            tuple(f"action_{i}" for i in range(self.action_size)),
        )
        model = export_onnx(self, metadata)
        return ActorSpec("policies.evaluation.actors:ChunkingActor", {"model": model})

    def save(self, path: Path | str) -> None:
        """Write shape and weights to one file."""
        content = {
            "kind": KIND,
            "config": as_dict(self.config),
            "action_size": self.action_size,
            "weights": self.state_dict(),
        }
        replace_file(Path(path), torch_bytes(content))

    @classmethod
    def load(cls, path: Path | str) -> ChunkingNetwork:
        """Read what ``save`` wrote; no code of the file is run."""
        content = torch_load(Path(path))
        try:
            weights = content["weights"]
            zeros = np.zeros(len(weights["normalizer.mean"]))
            network = cls(ChunkingConfig(**content["config"]), zeros, zeros, content["action_size"])
            network.load_state_dict(weights)
        except (KeyError, TypeError, RuntimeError) as error:
            raise SteadyhandError(f"{path}: is not a chunking network ({error})") from error
        return network


#: What can be cloned, exported and rolled out; PPO begins from a ``PolicyNetwork`` alone.
Network = PolicyNetwork | ChunkingNetwork


def load_network(path: Path | str) -> Network:
    """Whichever network a file holds."""
    content = torch_load(Path(path))
    kind = content.get("kind") if isinstance(content, dict) else None
    return ChunkingNetwork.load(path) if kind == KIND else PolicyNetwork.load(path)


def recorded_inputs(network: Network, demos: Demonstrations) -> NDArray[np.float32]:
    """What the network is given at each of N recorded frames.

    Returns:
        (N, n_obs), or (N, history, n_obs) for a chunking network.
    """
    if isinstance(network, PolicyNetwork):
        return demos.observation
    return demos.observation[windows(demos.starts, network.config.history)]
