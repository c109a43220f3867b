"""Checkpoints of the detector's training: written whole, and read by runs of the same config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from configs.load import as_dict, completed, digest
from perception.session import ModelError

if TYPE_CHECKING:
    from perception.training.train import DetectorTrainConfig

CHECKPOINT = "checkpoint.pt"


def resume(
    out: Path,
    config: DetectorTrainConfig,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> int:
    """Loads the checkpoint, if there is one; returns the epoch to go on with.

    Raises:
        ModelError: it belongs to a run of another config.
    """
    path = out / CHECKPOINT
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    # A run may be made longer, and go on elsewhere; nothing else may change. What the config did
    # not have yet when the run began is at its default.
    known = completed(state["config"], type(config)())
    free = {"epochs": config.epochs, "device": config.device, "precision": config.precision}
    if {**known, **free} != as_dict(config):
        raise ModelError(
            f"{path}: belongs to a run of config {state['digest']}, this one is {digest(config)}; "
            "choose another folder"
        )
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    if scaler.is_enabled() and state.get("scaler"):
        scaler.load_state_dict(state["scaler"])
    return int(state["epoch"])


def save(
    out: Path,
    config: DetectorTrainConfig,
    epoch: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Writes the checkpoint of so many finished epochs."""
    write(
        out / CHECKPOINT,
        {
            "digest": digest(config),
            "config": as_dict(config),
            "epoch": epoch,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
        },
    )


def write(path: Path, state: dict[str, Any]) -> None:
    """Writes a torch file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    torch.save(state, temporary)
    temporary.replace(path)
