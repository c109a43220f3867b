"""A cloning run: epoch after epoch, from a checkpoint to the same bits as without a stop."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from configs.load import digest
from policies.learning.chunking import Network
from policies.learning.frames import Batch, Frames
from policies.learning.network import torch_load
from robot.errors import SteadyhandError

if TYPE_CHECKING:
    from policies.learning.clone import CloneConfig

log = logging.getLogger(__name__)

_AT_ONCE = 4096  # windows in a batch that is only looked at


class Fitter:
    """The state of a cloning run between two epochs.

    Args:
        network: what learns.
        train: frames to learn from.
        held: frames to judge by.
        config: how.
        untaught: observations whose weights stay zero.
    """

    def __init__(
        self,
        network: Network,
        train: Frames,
        held: Frames,
        config: CloneConfig,
        untaught: Sequence[int] = (),
    ) -> None:
        self.network, self.train, self.held, self.config = network, train, held, config
        self._untaught = list(untaught)
        self._forget()
        self.done = 0
        self.best_epoch = -1
        self.best_loss = math.inf
        self.best = {k: v.clone() for k, v in network.state_dict().items()}
        self.history: list[dict[str, float]] = []
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.steps = math.ceil(len(train) / config.batch_size)
        delta = config.huber_delta
        self._mean: nn.Module = nn.HuberLoss(delta=delta)
        self._each: nn.Module = nn.HuberLoss(delta=delta, reduction="none")
        if config.loss == "mse":
            self._mean, self._each = nn.MSELoss(), nn.MSELoss(reduction="none")

    @property
    def over(self) -> bool:
        """Whether every epoch was run, or the validation loss has stopped falling."""
        waited = self.done - 1 - self.best_epoch
        return self.done >= self.config.epochs or waited >= self.config.patience

    def epoch(self) -> dict[str, float]:
        """One pass over the training frames, then the validation loss."""
        config, network = self.config, self.network
        # Seeded by the epoch: a resumed run draws what an uninterrupted one would.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.done)
        order = torch.randperm(len(self.train), generator=generator)
        total = 0.0
        for i in range(self.steps):
            step = self.done * self.steps + i
            share = step / (config.epochs * self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
            rows = order[i * config.batch_size : (i + 1) * config.batch_size]
            x, y, counts = self.train.batch(rows)
            if config.observation_noise > 0:
                noise = torch.randn(x.shape, generator=generator) * config.observation_noise
                x = x + noise * network.normalizer.std
            loss = self._loss((x, y, counts))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.max_gradient_norm)
            self.optimizer.step()
            self._forget()
            total += float(loss.detach()) * len(rows)
        held = self._held_loss()
        if not math.isfinite(total) or not math.isfinite(held):
            raise SteadyhandError(
                f"cloning: the loss became NaN in epoch {self.done}; lower the learning rate "
                f"({config.learning_rate:g})"
            )
        figures = {"train_loss": total / len(self.train), "validation_loss": held}
        if held < self.best_loss:
            self.best_loss, self.best_epoch = held, self.done
            self.best = {k: v.clone() for k, v in network.state_dict().items()}
        self.history.append(figures)
        self.done += 1
        return figures

    def _forget(self) -> None:
        with torch.no_grad():
            self.network.first.weight[:, self._untaught] = 0.0

    def _loss(self, batch: Batch) -> Tensor:
        x, y, counts = batch
        if counts is None:
            mean: Tensor = self._mean(self.network.raw(x), y)
            return mean
        each: Tensor = self._each(self.network.raw(x), y) * counts[:, :, None]
        return each.sum() / (counts.sum() * y.shape[-1])

    def _held_loss(self) -> float:
        with torch.no_grad():
            if self.held.counts is None:
                return float(self._loss(self.held.batch(torch.arange(len(self.held)))))
            total = weight = 0.0
            for rows in torch.arange(len(self.held)).split(_AT_ONCE):
                batch = self.held.batch(rows)
                told = float(self.held.counts[rows].sum())
                total += float(self._loss(batch)) * told
                weight += told
            return total / weight

    def _fingerprint(self) -> str:
        sizes = f"{len(self.train)}+{len(self.held)}"
        total = float(self.train.observation.double().sum())
        return f"{digest(self.config)}:{sizes}:{total:.9g}"

    def state(self) -> dict[str, Any]:
        """Everything that ``restore`` needs."""
        return {
            "fingerprint": self._fingerprint(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "done": self.done,
            "history": json.dumps(self.history),
        }

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            SteadyhandError: it is damaged, or of another config or other demonstrations.
        """
        state = torch_load(path)
        if state.get("fingerprint") != self._fingerprint():
            raise SteadyhandError(
                f"{path}: belongs to another config or other demonstrations; "
                "choose another folder or remove it"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.best_loss, self.done = state["best_loss"], state["done"]
        self.history = json.loads(state["history"])
        log.info("%s: cloning goes on after epoch %d", path, self.done)

    def judge(self) -> tuple[float, ...]:
        """Take the best weights; the mean absolute error of each number of an action.

        Of the action for now: what a chunk says of later has its own error in the loss.
        """
        self.network.load_state_dict(self.best)
        errors = []
        with torch.no_grad():
            for rows in torch.arange(len(self.held)).split(_AT_ONCE):
                x, y, counts = self.held.batch(rows)
                out = self.network(x)
                if counts is not None:
                    out, y = out[:, 0], y[:, 0]
                errors.append((out - y).abs())
        return tuple(float(e) for e in torch.cat(errors).mean(dim=0))
