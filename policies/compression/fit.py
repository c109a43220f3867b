"""A network learns from a teacher: after pruning, while rounding, or as a small student."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from policies.compression.recipe import FitConfig
from policies.demos.dataset import Demonstrations
from policies.learning.network import PolicyNetwork

#: Beyond the clip a target says no more than "as far as it goes".
_FAR = 1.2


def fit(
    student: nn.Module,
    teacher: PolicyNetwork,
    demos: Demonstrations,
    config: FitConfig,
    raw: Callable[[Tensor], Tensor],
    after_step: Callable[[], None] = lambda: None,
) -> float:
    """Train ``student`` in place on what ``teacher`` does.

    The targets are the teacher's actions before the clip, drawn in to 1.2, so that the student
    learns how far beyond the teacher wanted to go and keeps a gradient there.

    Args:
        student: its parameters are trained.
        teacher: is not changed.
        demos: observations to learn on, and recorded actions.
        config: how.
        raw: the student's action before the clip.
        after_step: called after each update, to keep a mask in force.

    Returns:
        The mean absolute error on the recorded observations at the end, action units.
    """
    torch.set_num_threads(config.threads)
    generator = torch.Generator().manual_seed(config.seed)
    observation = torch.from_numpy(demos.observation)
    recorded = torch.from_numpy(demos.action)
    std = teacher.normalizer.std
    count = len(observation)
    steps = config.epochs * math.ceil(count / config.batch_size)
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    student.train()
    for _ in range(config.epochs):
        order = torch.randperm(count, generator=generator)
        for batch in order.split(config.batch_size):
            x = observation[batch]
            if config.noise:
                # Half of them as they are, half around them, by differing amounts.
                amount = torch.rand((len(x), 1), generator=generator) * 2 * config.noise
                amount[::2] = 0.0
                x = x + amount * std * torch.randn(x.shape, generator=generator)
            target = targets(teacher, x)
            found = raw(x)
            loss = nn.functional.huber_loss(found, target, delta=0.2)
            if config.label_weight:
                label = nn.functional.huber_loss(found, recorded[batch], delta=0.2)
                loss = (1 - config.label_weight) * loss + config.label_weight * label
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            after_step()
    student.eval()
    return error(teacher, demos, raw)


@torch.no_grad()
def targets(teacher: PolicyNetwork, observation: Tensor) -> Tensor:
    """(n, n_act) the teacher's actions before the clip, drawn in."""
    return teacher.raw(observation).clamp(-_FAR, _FAR)


@torch.no_grad()
def error(teacher: PolicyNetwork, demos: Demonstrations, raw: Callable[[Tensor], Tensor]) -> float:
    """Mean absolute difference of the clipped actions on recorded observations."""
    x = torch.from_numpy(demos.observation)
    a, b = raw(x).clamp(-1, 1), teacher.raw(x).clamp(-1, 1)
    return float((a - b).abs().mean())


def twin(network: PolicyNetwork) -> PolicyNetwork:
    """A copy whose parameters are its own."""
    return copy.deepcopy(network)
