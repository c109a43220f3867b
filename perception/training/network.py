"""The detector's network: torchvision's Faster R-CNN on a slim backbone and a slim box head."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, nms
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from configs.load import bounded
from perception.detector import CHANNEL_MEAN, CHANNEL_STD


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the detector.

    Attributes:
        classes: names of the object classes; label 0 is the background, ``classes[0]`` is 1.
        width_px, height_px: size of the images; the exported graph takes this size only.
        stage_channels: channels of the four residual stages (strides 4, 8, 16, 32).
        pyramid_channels: channels of every level of the feature pyramid.
        head_channels: width of the box head's two hidden layers.
        anchor_px: edge of the square root of an anchor's area on each level, px.
        proposals: region proposals that reach the box head when detecting.
        max_detections: detections that an image can give.
        score_threshold: detections below it never leave the graph.
        nms_iou: overlap above which the weaker of two detections of one class is dropped.
        distinct_iou: the same for two detections of different classes.
    """

    classes: tuple[str, ...] = ("box", "cylinder", "ball", "irregular")
    width_px: int = bounded(320, 64, 2048)
    height_px: int = bounded(240, 64, 2048)
    stage_channels: tuple[int, ...] = (64, 128, 256, 512)
    pyramid_channels: int = bounded(64, 16, 512)
    head_channels: int = bounded(256, 32, 2048)
    anchor_px: tuple[int, ...] = (16, 32, 64, 128)
    proposals: int = bounded(100, 10, 1000)
    max_detections: int = bounded(32, 1, 300)
    score_threshold: float = bounded(0.05, 0.0, 1.0)
    nms_iou: float = bounded(0.5, 0.1, 0.9)
    distinct_iou: float = bounded(0.7, 0.1, 1.0)


class SlimBackbone(nn.Module):
    """A ResNet of one basic block a stage with a feature pyramid on strides 8, 16 and 32.

    A fourth level is pooled from the coarsest. ``forward`` takes (B, 4, H, W) and gives an ordered
    dict of (B, pyramid_channels, H/s, W/s) for s in 8, 16, 32, 64.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c1, c2, c3, c4 = config.stage_channels
        self.stem = nn.Sequential(
            nn.Conv2d(4, c1 // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(c1 // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(c1 // 2, c1, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(c1),
            nn.ReLU(inplace=True),
        )
        self.stage1 = BasicBlock(c1, c1)
        self.stage2 = self._stage(c1, c2)
        self.stage3 = self._stage(c2, c3)
        self.stage4 = self._stage(c3, c4)
        self.out_channels = config.pyramid_channels
        self.pyramid = FeaturePyramidNetwork(
            [c2, c3, c4], config.pyramid_channels, extra_blocks=LastLevelMaxPool()
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(inplanes: int, planes: int) -> BasicBlock:
        shortcut = nn.Sequential(
            nn.Conv2d(inplanes, planes, 1, stride=2, bias=False), nn.BatchNorm2d(planes)
        )
        return BasicBlock(inplanes, planes, stride=2, downsample=shortcut)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Pyramid levels "0", "1", "2" and "pool" of (B, 4, H, W) images."""
        s8 = self.stage2(self.stage1(self.stem(images)))
        s16 = self.stage3(s8)
        s32 = self.stage4(s16)
        levels: dict[str, Tensor] = self.pyramid(OrderedDict([("0", s8), ("1", s16), ("2", s32)]))
        return levels


def build_network(config: NetworkConfig) -> FasterRCNN:
    """The untrained detector; its input is a list of (4, H, W) float32 images.

    The channels are red, green, blue in [0, 1] and the height above the table in m: see
    ``perception.detector.network_input``. Normalization with fixed constants is inside.
    """
    classes = len(config.classes) + 1
    anchors = AnchorGenerator(
        tuple((size,) for size in config.anchor_px), ((0.5, 1.0, 2.0),) * len(config.anchor_px)
    )
    pool = MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2)
    return FasterRCNN(
        SlimBackbone(config),
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(config.pyramid_channels, anchors.num_anchors_per_location()[0]),
        rpn_pre_nms_top_n_train=400,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_train=200,
        rpn_post_nms_top_n_test=config.proposals,
        rpn_batch_size_per_image=128,
        box_roi_pool=pool,
        box_head=TwoMLPHead(config.pyramid_channels * 49, config.head_channels),
        box_predictor=FastRCNNPredictor(config.head_channels, classes),
        box_score_thresh=config.score_threshold,
        box_nms_thresh=config.nms_iou,
        box_detections_per_img=config.max_detections,
        box_batch_size_per_image=48,
        min_size=config.height_px,
        max_size=config.width_px,
        image_mean=list(CHANNEL_MEAN),
        image_std=list(CHANNEL_STD),
        # Every image already has the network's size.
        _skip_resize=True,
    )


class ExportedDetector(nn.Module):
    """The detector as the graph that is shipped: one image in, three arrays out.

    ``forward`` takes (4, H, W) float32 and gives boxes (N, 4) xyxy px, scores (N,) and labels
    (N,) int64, best first; N may be 0. Overlapping detections of different classes are reduced to
    the best one as well.
    """

    def __init__(self, network: FasterRCNN, distinct_iou: float) -> None:
        super().__init__()
        self.network = network.eval()
        self.distinct_iou = distinct_iou

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels of one image."""
        found = self.network([image])[0]
        kept = nms(found["boxes"], found["scores"], self.distinct_iou)
        return found["boxes"][kept], found["scores"][kept], found["labels"][kept]


def parameter_count(network: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in network.parameters())
