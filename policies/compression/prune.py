"""Weights that count for little are taken out: one by one, or channel by channel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from policies.compression.fit import fit, twin
from policies.compression.recipe import PruneConfig
from policies.demos.dataset import Demonstrations
from policies.learning.network import PolicyNetwork

_SAMPLES = 4096


def prune(
    network: PolicyNetwork, teacher: PolicyNetwork, demos: Demonstrations, config: PruneConfig
) -> PolicyNetwork:
    """A pruned copy of ``network`` that learned from ``teacher`` between the rounds."""
    out = twin(network)
    for number in range(1, config.rounds + 1):
        share = config.share * number / config.rounds
        if config.structure == "channel":
            out = _without_channels(out, network, demos, config, share)
            fit(out, teacher, demos, config.fit, out.raw)
        else:
            masks = _masks(out, demos, config, share)

            def keep(network: PolicyNetwork = out, masks: list[Tensor] = masks) -> None:
                with torch.no_grad():
                    for layer, mask in zip(network.linears(), masks, strict=True):
                        layer.weight.mul_(mask)

            keep()
            fit(out, teacher, demos, config.fit, out.raw, keep)
    return out


def sparsity(network: PolicyNetwork) -> float:
    """Share of the weights that are zero."""
    weights = [layer.weight for layer in network.linears()]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def importance(network: PolicyNetwork, demos: Demonstrations, by: str) -> list[Tensor]:
    """(n_out, n_in) for each linear layer: how much each weight counts."""
    weights = [layer.weight for layer in network.linears()]
    if by == "weight":
        return [w.detach().abs() for w in weights]
    x = samples(demos)
    if by == "gradient":
        # The network agrees with itself, so a loss against its own answer has no gradient; against
        # the recorded actions it has one.
        loss = nn.functional.huber_loss(network.raw(x[0]), x[1], delta=0.2)
        gradients = torch.autograd.grad(loss, weights)
        return [(w * g).detach().abs() for w, g in zip(weights, gradients, strict=True)]
    norms = input_norms(network, x[0])
    return [w.detach().abs() * norm for w, norm in zip(weights, norms, strict=True)]


def samples(demos: Demonstrations) -> tuple[Tensor, Tensor]:
    """Observations and actions spread over the recorded frames."""
    rows = np.linspace(0, len(demos.observation) - 1, _SAMPLES).astype(int)
    rows = np.unique(rows)
    return torch.from_numpy(demos.observation[rows]), torch.from_numpy(demos.action[rows])


@torch.no_grad()
def input_norms(network: PolicyNetwork, x: Tensor) -> list[Tensor]:
    """(n_in,) root mean square of each linear layer's inputs."""
    norms: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        norms.append(given[0].pow(2).mean(dim=0).sqrt())

    handles = [layer.register_forward_pre_hook(note) for layer in network.linears()]
    try:
        network.raw(x)
    finally:
        for handle in handles:
            handle.remove()
    return norms


def _masks(
    network: PolicyNetwork, demos: Demonstrations, config: PruneConfig, share: float
) -> list[Tensor]:
    """1 where a weight stays; all layers compete. Torch's own pruning draws the line."""
    layers = network.linears()
    scores = importance(network, demos, config.by)
    named = {(layer, "weight"): s for layer, s in zip(layers, scores, strict=True)}
    # By torch's rule a weight that is gone already counts as the least there is.
    for layer in layers:
        named[(layer, "weight")] = named[(layer, "weight")] * (layer.weight != 0)
    pairs = [(layer, "weight") for layer in layers]
    torch_prune.global_unstructured(
        pairs, torch_prune.L1Unstructured, importance_scores=named, amount=share
    )
    masks = [dict(layer.named_buffers())["weight_mask"].clone() for layer in layers]
    for layer in layers:
        torch_prune.remove(layer, "weight")
    return masks


def _without_channels(
    network: PolicyNetwork,
    whole: PolicyNetwork,
    demos: Demonstrations,
    config: PruneConfig,
    share: float,
) -> PolicyNetwork:
    """A network whose hidden layers have only their most important channels left."""
    scores = importance(network, demos, config.by)
    layers = network.linears()
    kept = []
    for i, full in enumerate(whole.config.hidden):
        # A channel counts by what comes in and by what goes out.
        score = scores[i].pow(2).sum(dim=1).sqrt() * scores[i + 1].pow(2).sum(dim=0).sqrt()
        count = max(1, round(full * (1 - share)))
        kept.append(score.topk(min(count, len(score))).indices.sort().values)
    hidden = tuple(len(k) for k in kept)
    out = PolicyNetwork(
        replace(network.config, hidden=hidden),
        network.normalizer.mean.numpy(),
        network.normalizer.std.numpy(),
        network.action_size,
    )
    out.normalizer.load_state_dict(network.normalizer.state_dict())
    columns: list[Tensor | None] = [None, *kept]
    rows: list[Tensor | None] = [*kept, None]
    with torch.no_grad():
        for new, old, row, column in zip(out.linears(), layers, rows, columns, strict=True):
            weight = old.weight if row is None else old.weight[row]
            new.weight.copy_(weight if column is None else weight[:, column])
            new.bias.copy_(old.bias if row is None else old.bias[row])
    return out
