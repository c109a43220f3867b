"""torchvision's small Faster R-CNN, to compare the detector with: its latency and its accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.ops import nms

from perception.detector import CHANNEL_MEAN, CHANNEL_STD

if TYPE_CHECKING:
    from perception.training.network import NetworkConfig

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


def build_reference(config: NetworkConfig) -> FasterRCNN:
    """The untrained network, made to learn from the detector's data and be measured like it.

    It takes images in their own size, as the detector does, and as many channels: the first
    convolution has a fourth one for the heights unless ``config.channels`` is ``rgb``. Anchors,
    pyramid and box head are torchvision's.
    """
    network = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=len(config.classes) + 1,
        min_size=config.height_px,
        max_size=config.width_px,
        image_mean=list(CHANNEL_MEAN),
        image_std=list(CHANNEL_STD),
        box_score_thresh=config.score_threshold,
        box_nms_thresh=config.nms_iou,
        # As many examples as the detector gets: torchvision's 2000 and 512 take far longer.
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=200,
        rpn_batch_size_per_image=128,
        box_batch_size_per_image=64,
        # Every image already has the network's size.
        _skip_resize=True,
    )
    if config.channels == "rgbd":
        first = network.backbone.body["0"]
        widened = nn.Conv2d(4, first[0].out_channels, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(widened.weight, mode="fan_out")
        first[0] = widened

    def distinct(_: nn.Module, __: Any, found: Any) -> Any:
        if isinstance(found, dict):  # losses
            return None
        return [_distinct(one, config) for one in found]

    network.register_forward_hook(distinct)
    return network


def _distinct(found: dict[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """One detection an object, as the detector gives it: torchvision gives one for each class."""
    kept = nms(found["boxes"], found["scores"], config.nms_iou)[: config.max_detections]
    return {name: values[kept] for name, values in found.items()}
