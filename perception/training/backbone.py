"""Weights for the backbone from elsewhere, and stages of it that stay as they are."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perception.session import ModelError
from perception.training.network import SlimBackbone
from robot.errors import ConfigError

log = logging.getLogger(__name__)

# What torchvision calls a layer, and what it is called here: the first block of each stage of a
# ResNet-18, and MobileNetV3's layers.
_NAMES = ((r"^layer([1-4])\.0\.", r"stage\1."), (r"^features\.", "body."))


def load_backbone(backbone: nn.Module, path: Path | str) -> int:
    """Copies the weights of a file into a backbone, as far as names and shapes agree.

    Args:
        backbone: of a detector's network.
        path: a torch file with a state dict: of a backbone, of a whole detector (``weights.pt`` of
            a run is one), or of torchvision's ``resnet18`` or ``mobilenet_v3_large``.

    Returns:
        the number of tensors taken.

    Raises:
        ModelError: the file is missing or damaged, or nothing in it fits.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"backbone_weights: {path}: no such file; expected torch weights")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        reason = " ".join(str(error).split())
        raise ModelError(
            f"backbone_weights: {path}: not a torch state dict: {reason:.150}"
        ) from error
    offered = _offered(content)
    own = backbone.state_dict()
    taken = {
        name: value
        for name, value in offered.items()
        if name in own and own[name].shape == value.shape
    }
    weights = [name for name in taken if own[name].ndim > 0]  # a counter alone is no weight
    if not weights:
        example = next(iter(offered), "nothing")
        raise ModelError(
            f"backbone_weights: {path}: no tensor has a name and shape of this backbone; it has "
            f"{next(iter(own))}, the file {example}"
        )
    backbone.load_state_dict(taken, strict=False)
    share = sum(own[n].numel() for n in weights) / sum(v.numel() for v in own.values())
    log.info(
        "backbone: %d of %d tensors (%.0f %% of the numbers) from %s",
        len(taken), len(own), 100 * share, path,
    )  # fmt: skip
    return len(taken)


def _offered(content: Any) -> dict[str, Tensor]:
    """The file's tensors under the names that they have in this project."""
    for key in ("network", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        return {}
    whole = any(str(name).startswith("backbone.") for name in content)
    offered = {}
    for name, value in content.items():
        if not isinstance(value, Tensor):
            continue
        short = str(name).removeprefix("backbone.") if whole else str(name)
        for theirs, ours in _NAMES:
            short = re.sub(theirs, ours, short)
        offered[short] = value
    return offered


def freeze(backbone: nn.Module, stages: int) -> list[nn.Module]:
    """Excludes the first stages from training.

    Args:
        backbone: of a detector's network.
        stages: 0 for none, 1 for the stem, one more for each stage after it, 5 for all.

    Returns:
        the frozen parts, which :func:`hold` must be given after each ``network.train()``.

    Raises:
        ConfigError: there are no so many stages, or the network is not the slim one.
    """
    if not 0 <= stages <= 5:
        raise ConfigError(f"frozen_stages: {stages} is out of range: 0 to 5")
    if not stages:
        return []
    if not isinstance(backbone, SlimBackbone):
        raise ConfigError("frozen_stages: only the slim network has them; choose 0")
    parts: list[nn.Module] = [
        backbone.stem, backbone.stage1, backbone.stage2, backbone.stage3, backbone.stage4,
    ][:stages]  # fmt: skip
    for part in parts:
        part.requires_grad_(False)
    return parts


def hold(parts: list[nn.Module]) -> None:
    """Keeps the batch norms of frozen parts at the statistics that they have."""
    for part in parts:
        part.eval()
