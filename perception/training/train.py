"""Training of the detector: from a COCO set to weights, in steps that resume."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from configs.load import as_dict, bounded, digest
from perception import coco
from perception.coco import CocoDataset, write_bytes
from perception.precision import average_precision
from perception.session import ModelError
from perception.training.backbone import freeze, hold, load_backbone
from perception.training.board import Board
from perception.training.checkpoint import CHECKPOINT, resume, save, write
from perception.training.data import AugmentConfig, DetectionData
from perception.training.device import Computing, Device, Precision
from perception.training.network import ExportedDetector, NetworkConfig, build_network
from perception.training.parallel import Group, gathered
from robot.errors import ConfigError

log = logging.getLogger(__name__)

WEIGHTS = "weights.pt"
_TOLD = 20  # steps between two points of a curve
Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class DetectorTrainConfig:
    """How the detector is trained.

    Attributes:
        epochs: passes over the data; the learning rate falls along a cosine over all of them.
        batch: images a step; several processes share them equally.
        learning_rate: of AdamW, at its highest.
        warmup_steps: over which the learning rate rises linearly from 0.
        weight_decay: of AdamW, on weights only (neither biases nor batch norms).
        clip_norm: gradients longer than this are shortened to it.
        threads: that torch may use, in each process.
        device: auto takes a GPU where there is one.
        precision: bf16 is up to twice as fast on processors that have it; auto asks the processor.
            On a GPU auto is bf16 or, where it lacks that, fp16.
        backbone_weights: a file to start the backbone from; see
            ``perception.training.backbone.load_backbone``.
        frozen_stages: of the backbone that stay as they are: 1 the stem, 2 one stage more, up to 5.
        validate_every: epochs between measurements on the validation set; the last epoch always is.
        seed: of initialization, order and augmentation.
        network, augment: the parts.
    """

    epochs: int = bounded(12, 1, 1000)
    batch: int = bounded(8, 1, 256)
    learning_rate: float = bounded(3e-4, 1e-7, 1.0)
    warmup_steps: int = bounded(200, 0, 100_000)
    weight_decay: float = bounded(0.01, 0.0, 1.0)
    clip_norm: float = bounded(10.0, 0.01, 1e6)
    threads: int = bounded(2, 1, 256)
    device: Device = "auto"
    precision: Precision = "auto"
    backbone_weights: str = ""
    frozen_stages: int = bounded(0, 0, 5)
    validate_every: int = bounded(3, 1, 1000)
    seed: int = bounded(0, 0, None)
    network: NetworkConfig = NetworkConfig()
    augment: AugmentConfig = AugmentConfig()


def train(
    data: Path | str,
    out: Path | str,
    config: DetectorTrainConfig,
    validation: Path | str | None = None,
    progress: Progress | None = None,
    stop_after_s: float | None = None,
    initial: Path | None = None,
) -> Path | None:
    """Trains the detector and leaves ``weights.pt``, ``config.json``, ``metrics.jsonl`` in ``out``.

    After every epoch a checkpoint is written; a run that finds one of the same config goes on from
    there. A finished run goes on where the config asks for more epochs. In several processes, which
    torchrun starts, all must see ``out``; the leading one writes, measures and tells.

    Args:
        data: COCO set to train on.
        out: folder of the run.
        config: how.
        validation: COCO set to measure on, from objects that are not trained on.
        progress: called with the metrics of each epoch, and every 20 steps with ``loss`` alone.
        stop_after_s: stop at the first epoch's end after this time; a later call resumes.
        initial: weights to start from where there is no checkpoint.

    Returns:
        The path of the weights, or None where ``stop_after_s`` came first.

    Raises:
        DatasetError: a set is missing or inconsistent.
        ModelError: ``out`` holds a run of another config, backbone weights do not fit, the loss is
            not finite, or another process was lost.
        ConfigError: this machine has no such device, or processes cannot share a batch.
    """
    torch.set_num_threads(config.threads)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    training = coco.read(data)
    if training.classes != config.network.classes:
        raise ModelError(
            f"{data}: has the classes {training.classes}, the network is configured for "
            f"{config.network.classes}"
        )
    held_out = coco.read(validation) if validation is not None else None
    computing = Computing.of(config.device, config.precision)
    torch.manual_seed(config.seed)
    network = build_network(config.network).to(memory_format=torch.channels_last)
    network.to(computing.device)
    if not (out / CHECKPOINT).is_file():
        if config.backbone_weights:
            load_backbone(network.backbone, config.backbone_weights)
        if initial is not None:
            state = torch.load(initial, map_location=computing.device, weights_only=True)
            network.load_state_dict(state["network"])
    with gathered(computing.device.type == "cuda") as group, ExitStack() as stack:
        run = _Run(config, computing, group, network, DetectionData(training))
        first = run.resume(out)
        board = None
        if group.leads:
            write_bytes(out / "config.json", json.dumps(as_dict(config), indent=2).encode())
            board = stack.enter_context(Board(out, first * run.steps))
        for epoch in range(first, config.epochs):
            metrics = run.epoch(epoch, board, progress if group.leads else None)
            last = epoch + 1 == config.epochs
            if board is not None:
                due = held_out is not None and (last or (epoch + 1) % config.validate_every == 0)
                run.finish(epoch, out, metrics, board, held_out if due else None)
                if progress:
                    progress(metrics)
            late = stop_after_s is not None and time.monotonic() - began > stop_after_s
            # The others go on when the leader has measured and written.
            if group.told(int(late)) and not last:
                return None
        if group.leads:
            state = {"network": network.state_dict(), "config": as_dict(config)}
            write(out / WEIGHTS, {**state, "digest": digest(config)})
        group.wait()
    return out / WEIGHTS


@torch.no_grad()
def measure(network: FasterRCNN, dataset: CocoDataset, config: NetworkConfig) -> dict[str, Any]:
    """AP of the network on a set, as ``perception.precision.average_precision`` gives it."""
    shipped = ExportedDetector(network)
    device = next(network.parameters()).device
    data = DetectionData(dataset)
    found = []
    for index in range(len(data)):
        given = shipped(data.image(index).to(device))
        boxes, scores, labels = (o.cpu().numpy() for o in given)
        boxes[:, 2:] -= boxes[:, :2]
        found.append((boxes, scores, labels))
    truth = [dataset.boxes(int(entry["id"])) for entry in dataset.images]
    return average_precision(truth, found, dataset.classes)


class _Run:
    """One process's part of a training: the network, and what changes with it as it learns."""

    def __init__(
        self,
        config: DetectorTrainConfig,
        computing: Computing,
        group: Group,
        network: FasterRCNN,
        samples: DetectionData,
    ) -> None:
        if config.batch % group.size:
            raise ConfigError(
                f"batch: {config.batch} images cannot be shared equally by {group.size} processes"
            )
        self.config, self.computing, self.group = config, computing, group
        self.network, self.samples = network, samples
        self.steps = len(samples) // config.batch
        self.frozen = freeze(network.backbone, config.frozen_stages)
        groups = _groups(network, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, config.learning_rate)
        self.scaler = computing.scaler()

    def resume(self, out: Path) -> int:
        """The epoch to go on with; only then can :meth:`epoch` be called."""
        first = resume(out, self.config, self.network, self.optimizer, self.scaler)
        if self.group.told(first) != first:
            raise ModelError(f"{out}: not every process finds the same checkpoint there")
        self.learner = self.group.joined_network(self.network)
        return first

    def epoch(self, epoch: int, board: Board | None, progress: Progress | None) -> dict[str, Any]:
        """Trains for one epoch; its metrics, averaged over the processes."""
        config, group, device = self.config, self.group, self.computing.device
        # Everything random in an epoch follows from its number, so that a resumed run is the same
        # run. Each process samples its own boxes.
        rng = np.random.default_rng([config.seed, epoch])
        torch.manual_seed(config.seed * 100_003 + epoch + group.rank * 2**52)
        self.network.train()
        hold(self.frozen)
        batches = self.samples.batches(config.batch, config.augment, rng, group.rank, group.size)
        began, losses = time.monotonic(), []
        for step, (images, targets) in enumerate(batches):
            rate = config.learning_rate * _schedule(
                epoch * self.steps + step, config.warmup_steps, config.epochs * self.steps
            )
            for parameters in self.optimizer.param_groups:
                parameters["lr"] = rate
            images = [image.to(device) for image in images]
            targets = [{k: v.to(device) for k, v in target.items()} for target in targets]
            with self.computing.autocast():
                parts = self.learner(images, targets)
                loss = torch.stack([part.float() for part in parts.values()])
            told = group.mean(loss)
            value = told.sum().item()
            if not math.isfinite(value):
                raise ModelError(
                    f"epoch {epoch + 1}, step {step}: the loss is {value}; lower learning_rate"
                )
            self._improve(loss.sum())
            losses.append(value)
            if step % _TOLD == 0:
                if progress:
                    progress({"epoch": epoch + 1, "step": step, "steps": self.steps, "loss": value})
                if board:
                    curves = dict(zip(parts, told.tolist(), strict=True))
                    board.curves(
                        epoch * self.steps + step,
                        {f"loss/{name.removeprefix('loss_')}": v for name, v in curves.items()}
                        | {"loss/sum": value, "learning_rate": rate},
                    )
        group.average_statistics(self.network)
        return {
            "epoch": epoch + 1,
            "loss": float(np.mean(losses)) if losses else float("nan"),
            "wall_s": round(time.monotonic() - began, 1),
        }

    def _improve(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def finish(
        self, epoch: int, out: Path, metrics: dict[str, Any], board: Board, on: CocoDataset | None
    ) -> None:
        """Measures on a set, if there is one, and writes what the epoch has brought."""
        if on is not None:
            metrics |= measure(self.network, on, self.config.network)
            step = (epoch + 1) * self.steps - 1
            board.curves(step, {f"validation/{k}": metrics[k] for k in ("ap", "ap50", "map")})
            board.pictures(step, self.network, on)
        with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
        save(out, self.config, epoch + 1, self.network, self.optimizer, self.scaler)
        log.info("epoch %d: %s", epoch + 1, metrics)


def _schedule(step: int, warmup: int, total: int) -> float:
    """Share of the highest learning rate: linear warm-up, then a cosine down to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
