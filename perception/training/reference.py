"""torchvision's small Faster R-CNN, untrained, to compare the detector's latency with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"


def reference_detector(seed: int = 0) -> Callable[[NDArray[np.float32]], Any]:
    """A call of the network on one thread, in torch.

    Its weights are random: the time hardly depends on them, and none need be fetched.

    Returns:
        takes the detector's own (4, H, W) input, of which it uses the colours.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).eval()

    def call(image: NDArray[np.float32]) -> Any:
        with torch.inference_mode():
            return network([torch.from_numpy(image[:3])])

    return call
