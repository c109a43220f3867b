"""Stable-Baselines3's actor-critic around our network: into it and back, weight for weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from torch import Tensor, nn

from policies.learning.network import ACTIVATIONS, Normalizer, PolicyNetwork
from robot.errors import SteadyhandError


class NormalizedFeatures(BaseFeaturesExtractor):
    """The network's own normalization as Stable-Baselines3's feature extractor; learns nothing.

    What stands behind the network's observation is for the critic alone, and passes as it is.
    """

    def __init__(self, observation_space: spaces.Box, mean: Any, std: Any, limit: float) -> None:
        super().__init__(observation_space, features_dim=int(observation_space.shape[0]))
        self.normalizer = Normalizer(np.asarray(mean), np.asarray(std), limit)

    def forward(self, observations: Tensor) -> Tensor:
        """(batch, n) to (batch, n), n at least the network's number of observations."""
        size = int(self.normalizer.mean.shape[0])
        seen: Tensor = self.normalizer(observations[:, :size])
        if observations.shape[1] == size:
            return seen
        return torch.cat([seen, observations[:, size:]], dim=1)


class ActorCriticLayers(nn.Module):
    """Hidden layers of an actor that sees the first features only, and of a critic that sees all.

    Stands where Stable-Baselines3 has its ``MlpExtractor``.
    """

    def __init__(
        self, actor_size: int, critic_size: int, net_arch: Any, activation: type[nn.Module]
    ) -> None:
        super().__init__()
        actor = MlpExtractor(actor_size, net_arch, activation, "cpu")
        critic = MlpExtractor(critic_size, net_arch, activation, "cpu")
        self.actor_size = actor_size
        self.policy_net, self.value_net = actor.policy_net, critic.value_net
        self.latent_dim_pi, self.latent_dim_vf = actor.latent_dim_pi, critic.latent_dim_vf

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n) to the last hidden layers of both."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """The actor's alone."""
        out: Tensor = self.policy_net(features[:, : self.actor_size])
        return out

    def forward_critic(self, features: Tensor) -> Tensor:
        """The critic's alone."""
        out: Tensor = self.value_net(features)
        return out


class GuardedPolicy(ActorCriticPolicy):
    """An actor-critic whose critic may see more than its actor."""

    def _build_mlp_extractor(self) -> None:
        size = int(_normalizer(self).mean.shape[0])
        self.mlp_extractor = cast(
            Any, ActorCriticLayers(size, self.features_dim, self.net_arch, self.activation_fn)
        )


def policy_kwargs(
    network: PolicyNetwork, critic_hidden: tuple[int, ...], log_std: float
) -> dict[str, Any]:
    """Keyword arguments that make an ``ActorCriticPolicy`` of the network's shape."""
    normalizer = network.normalizer
    return {
        "features_extractor_class": NormalizedFeatures,
        "features_extractor_kwargs": {
            "mean": normalizer.mean.numpy().copy(),
            "std": normalizer.std.numpy().copy(),
            "limit": normalizer.limit,
        },
        "net_arch": {"pi": list(network.config.hidden), "vf": list(critic_hidden)},
        "activation_fn": ACTIVATIONS[network.config.activation],
        "log_std_init": log_std,
        "ortho_init": False,
    }


def _actor_linears(policy: ActorCriticPolicy) -> list[nn.Linear]:
    layers = [*policy.mlp_extractor.policy_net, policy.action_net]
    return [m for m in layers if isinstance(m, nn.Linear)]


def _normalizer(policy: ActorCriticPolicy) -> Normalizer:
    return cast(NormalizedFeatures, policy.features_extractor).normalizer


def load_actor(policy: ActorCriticPolicy, network: PolicyNetwork) -> None:
    """Put the network's weights into the actor; critic and exploration noise stay."""
    ours, theirs = network.linears(), _actor_linears(policy)
    shapes = [tuple(m.weight.shape) for m in ours], [tuple(m.weight.shape) for m in theirs]
    if shapes[0] != shapes[1]:
        raise SteadyhandError(f"actor: layers {shapes[1]} do not fit the network's {shapes[0]}")
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            b.weight.copy_(a.weight)
            b.bias.copy_(a.bias)
        normalizer = _normalizer(policy)
        normalizer.load_state_dict(network.normalizer.state_dict())
        normalizer.limit = network.normalizer.limit


def extract_actor(policy: ActorCriticPolicy, like: PolicyNetwork) -> PolicyNetwork:
    """The actor as a network of its own; its actions equal the policy's deterministic ones."""
    normalizer = _normalizer(policy)
    out = PolicyNetwork(
        like.config, normalizer.mean.numpy(), normalizer.std.numpy(), like.action_size
    )
    with torch.no_grad():
        for a, b in zip(out.linears(), _actor_linears(policy), strict=True):
            a.weight.copy_(b.weight)
            a.bias.copy_(b.bias)
        out.normalizer.load_state_dict(normalizer.state_dict())
    return out


def actor_parameters(policy: ActorCriticPolicy) -> list[nn.Parameter]:
    """What decides the action: the actor's layers and the exploration noise."""
    return [
        *policy.mlp_extractor.policy_net.parameters(),
        *policy.action_net.parameters(),
        policy.log_std,
    ]


def hold(policy: ActorCriticPolicy, learns: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Keep the actor's weights and biases where ``learns``, layer by layer, is 0."""
    for layer, (weight, bias) in zip(_actor_linears(policy), learns, strict=True):
        # A gradient of zero moves nothing, since neither momentum nor decay ever was any.
        layer.weight.register_hook(lambda g, kept=weight: g * kept)
        layer.bias.register_hook(lambda g, kept=bias: g * kept)


def critic_parameters(policy: ActorCriticPolicy) -> list[nn.Parameter]:
    """What estimates the value; shares nothing with the actor."""
    return [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]
