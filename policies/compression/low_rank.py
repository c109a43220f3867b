"""A wide layer becomes two thin ones: what little its rank loses is what the data hardly use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policies.compression.fit import fit, twin
from policies.compression.prune import input_norms, samples
from policies.compression.recipe import LowRankConfig
from policies.demos.dataset import Demonstrations
from policies.learning.network import PolicyNetwork


def low_rank(
    network: PolicyNetwork, teacher: PolicyNetwork, demos: Demonstrations, config: LowRankConfig
) -> PolicyNetwork:
    """A factored copy of ``network`` that learned from ``teacher`` afterwards.

    The layers of its body no longer follow its ``config``: it is exported, not saved.
    """
    out = twin(network)
    norms = iter(input_norms(out, samples(demos)[0]))
    modules: list[nn.Module] = []
    for module in out.body:
        if isinstance(module, nn.Linear):
            modules += factored(module, next(norms), config)
        else:
            modules.append(module)
    out.body = nn.Sequential(*modules)
    fit(out, teacher, demos, config.fit, out.raw)
    return out


@torch.no_grad()
def factored(layer: nn.Linear, norm: Tensor, config: LowRankConfig) -> list[nn.Linear]:
    """Two layers in place of one, or the one where two would be larger.

    Args:
        layer: W (n_out, n_in).
        norm: (n_in,) root mean square of its inputs: errors in what is never there cost nothing.
        config: which rank.
    """
    scale = norm.clamp_min(1e-3 * float(norm.max()))
    u, s, vh = torch.linalg.svd(layer.weight * scale, full_matrices=False)
    share = s.pow(2).cumsum(0) / s.pow(2).sum()
    rank = min(int((share < config.energy).sum()) + 1, len(s))
    if config.rank is not None:
        rank = min(rank, config.rank)
    n_out, n_in = layer.weight.shape
    if rank * (n_out + n_in) >= n_out * n_in:
        return [layer]
    first, second = nn.Linear(n_in, rank, bias=False), nn.Linear(rank, n_out)
    root = s[:rank].sqrt()
    first.weight.copy_(root[:, None] * vh[:rank] / scale)
    second.weight.copy_(u[:, :rank] * root)
    second.bias.copy_(layer.bias)
    return [first, second]
