"""Residual PPO: the clone stays as it is, and a correction learns beside it.

Source: T. Silver et al., "Residual Policy Learning", 2018; T. Johannink et al., "Residual
Reinforcement Learning for Robot Control", ICRA 2019. There two networks run; here the correction's
neurons stand beside the clone's in the same layers, so that what ships is one ordinary network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from configs.load import bounded
from policies.demos.dataset import Demonstrations
from policies.learning.clone import CloneConfig, normalization, rows_of
from policies.learning.network import PolicyNetwork
from robot.errors import ConfigError


@dataclass(frozen=True)
class ResidualConfig:
    """A correction that PPO learns while the clone's own weights stay.

    Attributes:
        hidden: neurons of the correction beside each hidden layer of the clone; empty for none:
            then the clone's weights learn themselves.
        sees: observations that the clone ignores and the correction may use, by name.
    """

    hidden: tuple[int, ...] = bounded((), 1, 4096)
    sees: tuple[str, ...] = ()


def beside(network: PolicyNetwork, config: ResidualConfig, demos: Demonstrations) -> PolicyNetwork:
    """The clone with a correction's neurons beside its own; it still acts as the clone does.

    Args:
        network: the clone; it is copied.
        config: the correction.
        demos: tell the scale of what only the correction sees.
    """
    n = len(network.config.hidden)
    if len(config.hidden) != n:
        raise ConfigError(
            f"ppo.residual.hidden: expected {n} widths, one for each hidden layer of the clone, "
            f"got {len(config.hidden)}"
        )
    widths = tuple(a + b for a, b in zip(network.config.hidden, config.hidden, strict=True))
    mean, std = network.normalizer.mean.numpy().copy(), network.normalizer.std.numpy().copy()
    shown = rows_of("ppo.residual.sees", config.sees, demos.spec)
    true_mean, true_std = normalization(demos, CloneConfig())
    mean[shown], std[shown] = true_mean[shown], true_std[shown]
    out = PolicyNetwork(
        replace(network.config, hidden=widths), mean, std, network.action_size
    ).requires_grad_(True)
    with torch.no_grad():
        for old, new, (learns, _) in zip(
            network.linears(), out.linears(), learning(network, config), strict=True
        ):
            rows, columns = old.weight.shape
            new.weight.mul_(learns)
            new.weight[:rows, :columns] = old.weight
            new.bias[:rows] = old.bias
        out.linears()[0].weight[: network.config.hidden[0], shown] = 0.0
        out.head.weight[:, network.config.hidden[-1] :] = 0.0
    return out


def learning(network: PolicyNetwork, config: ResidualConfig) -> list[tuple[Tensor, Tensor]]:
    """Which weights and biases of :func:`beside`'s layers are the correction's: 1 or 0 each."""
    found = []
    own_in, more_in = network.observation_size, 0
    for own, more in zip(
        (*network.config.hidden, network.action_size), (*config.hidden, 0), strict=True
    ):
        weight = torch.zeros(own + more, own_in + more_in)
        bias = torch.zeros(own + more)
        if more:
            # The first layer of the correction sees the observation, the others its own neurons.
            weight[own:, own_in if more_in else 0 :] = 1.0
            bias[own:] = 1.0
        else:
            weight[:, own_in:] = 1.0
            bias[:] = 1.0
        found.append((weight, bias))
        own_in, more_in = own, more
    return found
