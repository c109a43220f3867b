"""TensorBoard: the curves of a training, and pictures of what the detector sees meanwhile."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from perception.coco import CocoDataset
from perception.detector import network_input
from perception.drawing import Drawn, draw_view
from robot.types import Detection

log = logging.getLogger(__name__)

FOLDER = "tensorboard"
_PICTURES, _LEAST_SCORE = 4, 0.3


class Board:
    """Writes ``tensorboard/`` of a run; a context manager. Without TensorBoard it does nothing.

    Args:
        out: folder of the run.
        first: step from which this call trains; what an interrupted run wrote beyond is dropped.
    """

    def __init__(self, out: Path, first: int) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.info("tensorboard is not installed: no curves are written")
            return
        self._writer = SummaryWriter(str(out / FOLDER), purge_step=first)

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def curves(self, step: int, values: dict[str, float]) -> None:
        """One point on each curve, at the end of a step."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, network: nn.Module, dataset: CocoDataset) -> None:
        """A few images of a set, always the same ones, with what the network finds in them."""
        if self._writer is None:
            return
        chosen = np.unique(np.linspace(0, len(dataset) - 1, _PICTURES).round().astype(int))
        for index in chosen.tolist():
            frame = dataset.frame(index)
            found = _detections(network, network_input(frame), dataset.classes)
            image = draw_view(Drawn(frame.rgb, f"image {index}, step {step}", found), scale=2)
            self._writer.add_image(f"validation/{index}", image, step, dataformats="HWC")
        self._writer.flush()


@torch.no_grad()
def _detections(network: nn.Module, image: Any, classes: tuple[str, ...]) -> list[Detection]:
    device = next(network.parameters()).device
    found = network.eval()([torch.from_numpy(image).to(device)])[0]
    boxes, scores, labels = (found[k].cpu().tolist() for k in ("boxes", "scores", "labels"))
    return [
        Detection((x1, y1, x2 - x1, y2 - y1), score, classes[label - 1])
        for (x1, y1, x2, y2), score, label in zip(boxes, scores, labels, strict=True)
        if score >= _LEAST_SCORE
    ]
