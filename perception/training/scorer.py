"""Training of the grasp scorer: from trials on disk to weights, in steps that resume."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.load import as_dict, bounded, digest
from perception.coco import DatasetError, write_bytes
from perception.scorer import NUMBERS, PATCH_CELLS, PATCH_RANGE_M, numbers, patches
from perception.session import ModelError
from perception.training.calibration import Figures, figures
from perception.trials import BEST, PLANNED, SceneTrials

log = logging.getLogger(__name__)

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"


@dataclass(frozen=True)
class ScorerTrainConfig:
    """How the scorer is built and trained.

    Attributes:
        channels: of the three convolutions, each of which halves the patch.
        hidden: width of the layer in which patch and numbers meet.
        dropout: share of that layer's inputs that is dropped.
        epochs: passes over the trials; the learning rate falls along a cosine over all of them.
        batch: trials a step.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        height_noise_m: standard deviation of a constant error of a patch's heights, m.
        number_noise: standard deviation of an error of the numbers, in their own deviations: what
            the planner measures is as uncertain as what it measures it from.
        threads: that torch may use.
        seed: of initialization, order and augmentation.
    """

    channels: tuple[int, int, int] = bounded((16, 32, 48), 1, 256)
    hidden: int = bounded(96, 1, 1024)
    dropout: float = bounded(0.3, 0.0, 0.9)
    epochs: int = bounded(60, 1, 10_000)
    batch: int = bounded(64, 2, 65_536)
    learning_rate: float = bounded(1.5e-3, 1e-7, 1.0)
    weight_decay: float = bounded(0.02, 0.0, 1.0)
    height_noise_m: float = bounded(0.001, 0.0, 0.1)
    number_noise: float = bounded(0.05, 0.0, 10.0)
    threads: int = bounded(1, 1, 256)
    seed: int = bounded(0, 0, None)


class ScorerNetwork(nn.Module):
    """Patch and numbers to a logit; fewer than 150,000 parameters as configured by default.

    Args:
        config: its sizes.
        mean, std: (4,) of the numbers in training; they become part of the network.
    """

    def __init__(
        self, config: ScorerTrainConfig, mean: Tensor | None = None, std: Tensor | None = None
    ) -> None:
        super().__init__()
        a, b, c = config.channels
        self.patch = nn.Sequential(
            nn.Conv2d(2, a, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(b, c, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip
        cells = math.prod(math.ceil(n / 8) for n in PATCH_CELLS)
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(c * cells + len(NUMBERS), config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, 1),
        )
        zeros, ones = torch.zeros(len(NUMBERS)), torch.ones(len(NUMBERS))
        self.mean: Tensor
        self.std: Tensor
        self.scale: Tensor
        self.register_buffer("mean", zeros if mean is None else mean)
        self.register_buffer("std", ones if std is None else std)
        scale = torch.tensor([1.0 / PATCH_RANGE_M[1], 1.0]).reshape(1, 2, 1, 1)
        self.register_buffer("scale", scale)

    def forward(self, patch: Tensor, number: Tensor) -> Tensor:
        """(n, 2, 24, 40) and (n, 4) to (n,) logits."""
        seen = self.patch(patch * self.scale)
        told = (number - self.mean) / self.std
        logit: Tensor = self.head(torch.cat([seen, told], dim=1))[:, 0]
        return logit


@dataclass(frozen=True, slots=True)
class Samples:
    """Trials as the network takes them: n patches and numbers, and what became of them.

    Attributes:
        patch: (n, 2, 24, 40) float32.
        number: (n, 4) float32.
        held: (n,) bool.
        planned: (n,) bool, the candidate is one that the planner would offer.
        scene: (n,) which table.
    """

    patch: NDArray[np.float32]
    number: NDArray[np.float32]
    held: NDArray[np.bool_]
    planned: NDArray[np.bool_]
    scene: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.held)


def samples_of(scenes: Sequence[SceneTrials]) -> Samples:
    """All trials of all scenes.

    Raises:
        DatasetError: there is none.
    """
    used = [(k, s) for k, s in enumerate(scenes) if s.candidates]
    if not used:
        raise DatasetError("grasp trials: not one scene holds a trial; make more scenes")
    sources = [source for _, s in used for source in s.sources]
    return Samples(
        np.concatenate([patches(s.height_map, s.candidates) for _, s in used]),
        np.concatenate([numbers(s.candidates) for _, s in used]),
        np.concatenate([s.held for _, s in used]),
        np.array([source in (BEST, PLANNED) for source in sources]),
        np.concatenate([np.full(len(s.candidates), k) for k, s in used]),
    )


def train_scorer(
    data: Samples,
    out: Path | str,
    config: ScorerTrainConfig,
    validation: Samples | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    stop_after_epochs: int | None = None,
) -> Path | None:
    """Trains the scorer and leaves ``weights.pt``, ``config.json``, ``metrics.jsonl`` in ``out``.

    After every epoch a checkpoint is written; a run of the same config goes on from there.

    Args:
        data: trials to learn from.
        out: folder of the run.
        config: how.
        validation: trials on objects that are not trained on, to be measured on after each epoch;
            nothing is chosen by them.
        progress: called with the metrics of each epoch.
        stop_after_epochs: stop after so many epochs of this call; a later one resumes.

    Returns:
        The path of the weights, or None where ``stop_after_epochs`` came first.

    Raises:
        ModelError: ``out`` holds a run of another config, or the loss is not finite.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    number = torch.from_numpy(data.number)
    std = number.std(dim=0, unbiased=False).clamp_min(1e-4)
    network = ScorerNetwork(config, number.mean(dim=0), std)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    first = _resume(out, config, network, optimizer)
    write_bytes(out / "config.json", json.dumps(as_dict(config), indent=2).encode())
    for epoch in range(first, config.epochs):
        metrics = _epoch(epoch, data, network, optimizer, config)
        if validation is not None:
            found = measure(network, validation)
            metrics |= {f"validation_{k}": v for k, v in as_dict(found).items()}
        with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
        state = {
            "network": network.state_dict(),
            "config": as_dict(config),
            "digest": digest(config),
            "epoch": epoch + 1,
        }
        _write(out / CHECKPOINT, {**state, "optimizer": optimizer.state_dict()})
        if progress:
            progress(metrics)
        if stop_after_epochs is not None and epoch + 1 - first >= stop_after_epochs:
            if epoch + 1 < config.epochs:
                return None
            break
    state = {"network": network.state_dict(), "config": as_dict(config), "digest": digest(config)}
    _write(out / WEIGHTS, state)
    return out / WEIGHTS


def load_network(path: Path | str) -> tuple[ScorerNetwork, ScorerTrainConfig]:
    """The network of a finished run, ready to use.

    Raises:
        ModelError: the file is missing or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected the weights of a scorer run")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        raw: dict[str, Any] = state["config"]
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        config = ScorerTrainConfig(**values)
        network = ScorerNetwork(config)
        network.load_state_dict(state["network"])
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        raise ModelError(f"{path}: not a scorer's weights: {error!s:.200}") from error
    return network.eval(), config


@torch.no_grad()
def logits(network: ScorerNetwork, data: Samples) -> NDArray[np.float64]:
    """(n,) logits, not calibrated."""
    network.eval()
    parts = [
        network(
            torch.from_numpy(data.patch[i : i + 512]), torch.from_numpy(data.number[i : i + 512])
        )
        for i in range(0, len(data), 512)
    ]
    return torch.cat(parts).double().numpy()


def measure(network: ScorerNetwork, data: Samples) -> Figures:
    """Figures of the network, not yet calibrated, on what the planner would offer."""
    probability = 1.0 / (1.0 + np.exp(-logits(network, data)))
    return figures(probability[data.planned], data.held[data.planned])


def _epoch(
    epoch: int,
    data: Samples,
    network: ScorerNetwork,
    optimizer: torch.optim.Optimizer,
    config: ScorerTrainConfig,
) -> dict[str, Any]:
    # Everything random in an epoch follows from its number, so that a resumed run is the same run.
    rng = np.random.default_rng([config.seed, epoch])
    torch.manual_seed(config.seed * 100_003 + epoch)
    network.train()
    order = rng.permutation(len(data))
    starts = range(0, len(order), config.batch)
    began, losses = time.monotonic(), []
    for step, start in enumerate(starts):
        done = (epoch * len(starts) + step) / (config.epochs * len(starts))
        warm = min(1.0, (epoch * len(starts) + step + 1) / 50)
        rate = config.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        pick = order[start : start + config.batch]
        patch, number = _augmented(data.patch[pick], data.number[pick], network, config, rng)
        target = torch.from_numpy(data.held[pick].astype(np.float32))
        loss = nn.functional.binary_cross_entropy_with_logits(network(patch, number), target)
        value = loss.item()
        if not math.isfinite(value):
            raise ModelError(f"scorer, epoch {epoch + 1}: the loss is {value}; lower learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        losses.append(value)
    return {
        "epoch": epoch + 1,
        "loss": float(np.mean(losses)),
        "wall_s": round(time.monotonic() - began, 1),
    }


def _augmented(
    patch: NDArray[np.float32],
    number: NDArray[np.float32],
    network: ScorerNetwork,
    config: ScorerTrainConfig,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """A batch, mirrored along and across at random (the hand is symmetric), with some noise."""
    x = patch.copy()
    for axis in (2, 3):
        turned = rng.random(len(x)) < 0.5
        x[turned] = np.flip(x[turned], axis)
    offset = rng.normal(0.0, config.height_noise_m, (len(x), 1, 1)).astype(np.float32)
    x[:, 0] = np.clip(x[:, 0] + offset, *PATCH_RANGE_M)
    told = torch.from_numpy(number.copy())
    noise = rng.normal(0.0, config.number_noise, number.shape).astype(np.float32)
    return torch.from_numpy(x), told + torch.from_numpy(noise) * network.std


def _resume(
    out: Path, config: ScorerTrainConfig, network: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    path = out / CHECKPOINT
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["digest"] != digest(config):
        raise ModelError(
            f"{path}: belongs to a run of config {state['digest']}, this one is {digest(config)}; "
            "choose another folder"
        )
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"])


def _write(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".part")
    torch.save(state, temporary)
    temporary.replace(path)
