"""The detector's network: torchvision's Faster R-CNN on a slim backbone with two slim box heads."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss, softmax
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.resnet import BasicBlock
from torchvision.ops import (
    FeaturePyramidNetwork,
    MultiScaleRoIAlign,
    box_iou,
    clip_boxes_to_image,
    nms,
    remove_small_boxes,
)

from configs.load import bounded
from perception.detector import CHANNEL_MEAN, CHANNEL_STD
from perception.training.proposals import CoarseProposals
from perception.training.reference import build_reference


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the detector.

    Attributes:
        architecture: ``slim`` is the detector that is shipped; the other is torchvision's, to
            compare with, and takes only classes, channels, sizes and the last three of these.
        channels: ``rgb`` never sees heights; its input keeps all four channels.
        classes: names of the object classes; label 0 is the background, ``classes[0]`` is 1.
        width_px, height_px: size of the images; the exported graph takes this size only.
        stage_channels: channels of the four residual stages (strides 4, 8, 16, 32).
        pyramid_channels: channels of every level of the feature pyramid.
        head_channels: width of each box head's two hidden layers.
        anchor_px: square root of an anchor's area on the levels of stride 8, 16 and 32, px.
        proposals: region proposals that reach the box heads when detecting.
        proposal_iou: overlap above which the weaker of two proposals is dropped when detecting.
        doubtful: below this likelihood by the first head a box does not reach the second.
        refine_iou: overlap with an object from which a box is the second head's positive example.
        max_detections: detections that an image can give.
        score_threshold: detections below it never leave the graph.
        nms_iou: overlap above which the weaker of two detections is dropped.
    """

    architecture: Literal["slim", "mobilenet_v3_large_320_fpn"] = "slim"
    channels: Literal["rgbd", "rgb"] = "rgbd"
    classes: tuple[str, ...] = ("box", "cylinder", "ball", "irregular")
    width_px: int = bounded(320, 64, 2048)
    height_px: int = bounded(240, 64, 2048)
    stage_channels: tuple[int, ...] = (64, 128, 256, 512)
    pyramid_channels: int = bounded(64, 16, 512)
    head_channels: int = bounded(256, 32, 2048)
    anchor_px: tuple[int, int, int] = (16, 32, 64)
    proposals: int = bounded(48, 10, 1000)
    proposal_iou: float = bounded(0.6, 0.1, 0.9)
    doubtful: float = bounded(0.01, 0.0, 0.5)
    refine_iou: float = bounded(0.65, 0.3, 0.95)
    max_detections: int = bounded(32, 1, 300)
    score_threshold: float = bounded(0.01, 0.0, 1.0)
    nms_iou: float = bounded(0.65, 0.1, 0.9)


class SlimBackbone(nn.Module):
    """A ResNet of one basic block a stage with a feature pyramid on strides 4, 8, 16 and 32.

    ``forward`` takes (B, C, H, W) and gives an ordered dict of (B, pyramid_channels, H/s, W/s),
    named by s: "4", "8", "16", "32".
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c1, c2, c3, c4 = config.stage_channels
        self.stem = nn.Sequential(
            nn.Conv2d(len(config.channels), c1 // 2, 3, stride=2, padding=1, bias=False),
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
        self.pyramid = FeaturePyramidNetwork([c1, c2, c3, c4], config.pyramid_channels)
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
        """Pyramid levels of (B, C, H, W) images."""
        s4 = self.stage1(self.stem(images))
        s8 = self.stage2(s4)
        s16 = self.stage3(s8)
        s32 = self.stage4(s16)
        levels: dict[str, Tensor] = self.pyramid(
            OrderedDict([("4", s4), ("8", s8), ("16", s16), ("32", s32)])
        )
        return levels


class CascadeHeads(RoIHeads):
    """Two box heads in a row: the second refines the boxes of the first.

    The second is trained at a higher overlap (Cai and Vasconcelos 2018, Cascade R-CNN). Boxes are
    regressed without regard to classes; an object's class is the mean of both heads' opinions.
    """

    def __init__(self, config: NetworkConfig, **options: Any) -> None:
        classes, width = len(config.classes) + 1, config.head_channels
        pooled = config.pyramid_channels * 49

        def predictor() -> FastRCNNPredictor:
            made = FastRCNNPredictor(width, classes)
            made.bbox_pred = nn.Linear(width, 4)
            return made

        super().__init__(
            # All objects are of a size that suits the finest level.
            box_roi_pool=MultiScaleRoIAlign(["4"], output_size=7, sampling_ratio=1),
            box_head=TwoMLPHead(pooled, width),
            box_predictor=predictor(),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
            **options,
        )
        self.refine_head = TwoMLPHead(pooled, width)
        self.refine_predictor = predictor()
        self.refine_coder = BoxCoder((20.0, 20.0, 10.0, 10.0))
        self.refine_iou = config.refine_iou
        self.doubtful = config.doubtful

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """As torchvision's; the losses are those of both heads."""
        losses: dict[str, Tensor] = {}
        wanted: Any = None
        if self.training:
            proposals, _, labels, wanted = self.select_training_samples(proposals, targets)
        logits, moves = self.box_predictor(
            self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        )
        if self.training:
            losses |= _losses("", logits, moves, labels, wanted)
        if not self.training:
            # Two of three proposals are no objects, and the first head knows. One stays in any
            # case: exported graphs cannot reshape nothing.
            chance = 1.0 - softmax(logits, -1)[:, 0]
            likely = chance >= chance.max().clamp(max=self.doubtful)
            each = likely.split([one.shape[0] for one in proposals])
            logits, moves = logits[likely], moves[likely]
            proposals = [one[kept] for one, kept in zip(proposals, each, strict=True)]
        counts = [one.shape[0] for one in proposals]
        moved = self.box_coder.decode(moves.detach().float(), proposals).reshape(-1, 4)
        refined = [
            clip_boxes_to_image(boxes, shape)
            for boxes, shape in zip(moved.split(counts), image_shapes, strict=True)
        ]
        second_logits, second_moves = self.refine_predictor(
            self.refine_head(self.box_roi_pool(features, refined, image_shapes))
        )
        if self.training and targets is not None:
            labels, wanted = self._refined_targets(refined, targets)
            losses |= _losses("_refined", second_logits, second_moves, labels, wanted)
            return [], losses
        mean = 0.5 * (softmax(logits, -1) + softmax(second_logits, -1))
        boxes = self.refine_coder.decode(second_moves, refined).reshape(-1, 4)
        found = self._distinct(mean, boxes, counts, image_shapes)
        return found, losses

    def _refined_targets(
        self, boxes: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, matched = [], []
        for mine, target in zip(boxes, targets, strict=True):
            truth = target["boxes"].to(mine.dtype)
            if not len(truth):
                labels.append(torch.zeros(len(mine), dtype=torch.int64, device=mine.device))
                matched.append(mine)
                continue
            overlap, index = box_iou(mine, truth).max(dim=1)
            labels.append(target["labels"][index] * (overlap >= self.refine_iou))
            matched.append(truth[index])
        return labels, list(self.refine_coder.encode(matched, boxes))

    def _distinct(
        self,
        chances: Tensor,
        boxes: Tensor,
        counts: list[int],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Each box with its likeliest class, scored by how likely it is any object at all.

        A box that may be one class or another is an object all the same: scored by its best class
        alone it would come behind worse boxes.
        """
        out = []
        for chance, box, shape in zip(
            chances.split(counts), boxes.split(counts), image_shapes, strict=True
        ):
            score, label = 1.0 - chance[:, 0], chance[:, 1:].argmax(dim=1) + 1
            box = clip_boxes_to_image(box, shape)
            kept = torch.where(score > self.score_thresh)[0]
            box, score, label = box[kept], score[kept], label[kept]
            kept = remove_small_boxes(box, 0.01)
            box, score, label = box[kept], score[kept], label[kept]
            kept = nms(box, score, self.nms_thresh)[: self.detections_per_img]
            out.append({"boxes": box[kept], "scores": score[kept], "labels": label[kept]})
        return out


def _losses(
    suffix: str, logits: Tensor, moves: Tensor, labels: list[Tensor], wanted: list[Tensor]
) -> dict[str, Tensor]:
    label, target = torch.cat(labels), torch.cat(wanted)
    positive = torch.where(label > 0)[0]
    box = smooth_l1_loss(
        moves[positive].float(), target[positive], beta=1 / 9, reduction="sum"
    ) / max(1, label.numel())
    return {
        f"loss_class{suffix}": cross_entropy(logits.float(), label),
        f"loss_box{suffix}": box,
    }


def build_network(config: NetworkConfig) -> FasterRCNN:
    """The untrained detector; its input is a list of (4, H, W) float32 images.

    The channels are red, green, blue in [0, 1] and the height above the table in m: see
    ``perception.detector.network_input``. Normalization with fixed constants is inside.
    """
    network = _build_slim(config) if config.architecture == "slim" else build_reference(config)
    if config.channels == "rgb":
        # Here rather than before the network, so that whoever calls it need not know.
        network.backbone.register_forward_pre_hook(lambda _, images: (images[0][:, :3],))
    return network


def _build_slim(config: NetworkConfig) -> FasterRCNN:
    # Two sizes an octave on each level.
    anchors = AnchorGenerator(
        tuple((size, round(size * 2**0.5)) for size in config.anchor_px),
        ((0.5, 1.0, 2.0),) * len(config.anchor_px),
    )
    backbone = SlimBackbone(config)
    head = RPNHead(config.pyramid_channels, anchors.num_anchors_per_location()[0])
    network = FasterRCNN(
        backbone,
        num_classes=len(config.classes) + 1,
        rpn_anchor_generator=anchors,
        rpn_head=head,
        min_size=config.height_px,
        max_size=config.width_px,
        image_mean=list(CHANNEL_MEAN),
        image_std=list(CHANNEL_STD),
        # Every image already has the network's size.
        _skip_resize=True,
    )
    network.rpn = CoarseProposals(
        anchors,
        head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=128,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 400, "testing": 128},
        post_nms_top_n={"training": 200, "testing": config.proposals},
        nms_thresh=0.7,
    )
    network.rpn.detect_iou = config.proposal_iou
    network.roi_heads = CascadeHeads(
        config,
        batch_size_per_image=64,
        positive_fraction=0.25,
        score_thresh=config.score_threshold,
        nms_thresh=config.nms_iou,
        detections_per_img=config.max_detections,
    )
    return network


class ExportedDetector(nn.Module):
    """The detector as the graph that is shipped: one image in, three arrays out.

    ``forward`` takes (4, H, W) float32 and gives boxes (N, 4) xyxy px, scores (N,) and labels
    (N,) int64, best first; N may be 0.
    """

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels of one image."""
        found = self.network([image])[0]
        return found["boxes"], found["scores"], found["labels"]


def parameter_count(network: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in network.parameters())
