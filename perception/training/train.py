"""Training of the detector: from a COCO set to weights, in steps that resume."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from configs.load import as_dict, bounded, digest
from perception import coco
from perception.coco import CocoDataset, write_bytes
from perception.precision import average_precision
from perception.session import ModelError
from perception.training.data import AugmentConfig, DetectionData
from perception.training.network import ExportedDetector, NetworkConfig, build_network

log = logging.getLogger(__name__)

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"


@dataclass(frozen=True)
class DetectorTrainConfig:
    """How the detector is trained.

    Attributes:
        epochs: passes over the data; the learning rate falls along a cosine over all of them.
        batch: images a step.
        learning_rate: of AdamW, at its highest.
        warmup_steps: over which the learning rate rises linearly from 0.
        weight_decay: of AdamW, on weights only (neither biases nor batch norms).
        clip_norm: gradients longer than this are shortened to it.
        threads: that torch may use.
        precision: bf16 is up to twice as fast on processors that have it; auto asks the processor.
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
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    validate_every: int = bounded(3, 1, 1000)
    seed: int = bounded(0, 0, None)
    network: NetworkConfig = NetworkConfig()
    augment: AugmentConfig = AugmentConfig()


def train(
    data: Path | str,
    out: Path | str,
    config: DetectorTrainConfig,
    validation: Path | str | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    stop_after_s: float | None = None,
    initial: Path | None = None,
) -> Path | None:
    """Trains the detector and leaves ``weights.pt``, ``config.json``, ``metrics.jsonl`` in ``out``.

    After every epoch a checkpoint is written; a run that finds one of the same config goes on from
    there. A finished run goes on where the config asks for more epochs.

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
        ModelError: ``out`` holds a run of another config.
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
    torch.manual_seed(config.seed)
    network = build_network(config.network).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(_groups(network, config.weight_decay), config.learning_rate)
    first = _resume(out, config, network, optimizer)
    if initial is not None and not (out / CHECKPOINT).is_file():
        state = torch.load(initial, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
    write_bytes(out / "config.json", json.dumps(as_dict(config), indent=2).encode())
    samples = DetectionData(training)
    for epoch in range(first, config.epochs):
        metrics = _epoch(epoch, samples, network, optimizer, config, progress)
        last = epoch + 1 == config.epochs
        if held_out is not None and (last or (epoch + 1) % config.validate_every == 0):
            metrics |= measure(network, held_out, config.network)
        with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
        _save(out / CHECKPOINT, config, epoch + 1, network, optimizer)
        log.info("epoch %d: %s", epoch + 1, metrics)
        if progress:
            progress(metrics)
        if not last and stop_after_s is not None and time.monotonic() - began > stop_after_s:
            return None
    state = {"network": network.state_dict(), "config": as_dict(config), "digest": digest(config)}
    _write(out / WEIGHTS, state)
    return out / WEIGHTS


@torch.no_grad()
def measure(network: FasterRCNN, dataset: CocoDataset, config: NetworkConfig) -> dict[str, Any]:
    """AP of the network on a set, as ``perception.precision.average_precision`` gives it."""
    shipped = ExportedDetector(network)
    data = DetectionData(dataset)
    found = []
    for index in range(len(data)):
        boxes, scores, labels = (o.numpy() for o in shipped(data.image(index)))
        boxes[:, 2:] -= boxes[:, :2]
        found.append((boxes, scores, labels))
    truth = [dataset.boxes(int(entry["id"])) for entry in dataset.images]
    return average_precision(truth, found, dataset.classes)


def _epoch(
    epoch: int,
    samples: DetectionData,
    network: FasterRCNN,
    optimizer: torch.optim.Optimizer,
    config: DetectorTrainConfig,
    progress: Callable[[dict[str, Any]], None] | None,
) -> dict[str, Any]:
    # Everything random in an epoch follows from its number, so that a resumed run is the same run.
    rng = np.random.default_rng([config.seed, epoch])
    torch.manual_seed(config.seed * 100_003 + epoch)
    network.train()
    steps = len(samples) // config.batch
    bf16 = config.precision == "bf16" or (config.precision == "auto" and bf16_is_fast())
    began, losses = time.monotonic(), []
    for step, (images, targets) in enumerate(samples.batches(config.batch, config.augment, rng)):
        rate = config.learning_rate * _schedule(
            epoch * steps + step, config.warmup_steps, config.epochs * steps
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            parts = network(images, targets)
            loss = torch.stack([part.float() for part in parts.values()]).sum()
        value = loss.item()
        if not math.isfinite(value):
            raise ModelError(
                f"epoch {epoch + 1}, step {step}: the loss is {value}; lower learning_rate"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimizer.step()
        losses.append(value)
        if progress and step % 20 == 0:
            progress({"epoch": epoch + 1, "step": step, "steps": steps, "loss": value})
    return {
        "epoch": epoch + 1,
        "loss": float(np.mean(losses)) if losses else float("nan"),
        "wall_s": round(time.monotonic() - began, 1),
    }


def bf16_is_fast() -> bool:
    """Whether the processor computes in bfloat16 itself."""
    flags = torch.backends.cpu.get_cpu_capability()
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return flags.startswith("AVX512") and native is not None and bool(native())


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


def _resume(
    out: Path, config: DetectorTrainConfig, network: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Loads the checkpoint, if there is one; returns the epoch to go on with."""
    path = out / CHECKPOINT
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    # A run may be made longer; nothing else may change.
    if {**state["config"], "epochs": config.epochs} != as_dict(config):
        raise ModelError(
            f"{path}: belongs to a run of config {state['digest']}, this one is {digest(config)}; "
            "choose another folder"
        )
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"])


def _save(
    path: Path,
    config: DetectorTrainConfig,
    epoch: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    _write(
        path,
        {
            "digest": digest(config),
            "config": as_dict(config),
            "epoch": epoch,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
    )


def _write(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".part")
    torch.save(state, temporary)
    temporary.replace(path)
