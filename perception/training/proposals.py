"""Where in an image there may be an object at all: the detector's first guess."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes


class CoarseProposals(RegionProposalNetwork):
    """A proposal network that leaves out the pyramid's finest level.

    Anchors on stride 4 would be three quarters of all and cost more than the rest, and proposals
    need not be exact: the box heads, which do see stride 4, make them so.
    """

    detect_iou = 0.7

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """As torchvision's, but when detecting only the best anchors are turned into boxes.

        Most of torchvision's time goes into boxes that are then dropped; and overlaps are looked
        for on all levels together here.
        """
        coarse = {name: level for name, level in features.items() if name != "4"}
        if self.training:
            proposals: tuple[list[Tensor], dict[str, Tensor]] = super().forward(
                images, coarse, targets
            )
            return proposals
        levels = list(coarse.values())
        scores, moves = self.head(levels)
        counts = [s[0].numel() for s in scores]
        found = []
        for i, anchors in enumerate(self.anchor_generator(images, levels)):
            boxes, values = [], []
            for score, move, anchor in zip(scores, moves, anchors.split(counts), strict=True):
                flat = score[i].permute(1, 2, 0).reshape(-1)
                value, best = flat.topk(min(self.pre_nms_top_n(), flat.shape[0]))
                move = move[i].reshape(score.shape[1], 4, *score.shape[2:])
                chosen = move.permute(2, 3, 0, 1).reshape(-1, 4)[best]
                boxes.append(self.box_coder.decode(chosen, [anchor[best]]).reshape(-1, 4))
                values.append(value)
            box = clip_boxes_to_image(torch.cat(boxes), images.image_sizes[i])
            value = torch.cat(values)
            kept = remove_small_boxes(box, self.min_size)
            box, value = box[kept], value[kept]
            found.append(box[nms(box, value, self.detect_iou)[: self.post_nms_top_n()]])
        return found, {}
