"""Objects by height alone: whatever stands on the table, without any learning.

The baseline that a learned detector has to beat: it cannot tell objects that touch from one
another, nor what is to be grasped from what is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from configs.load import bounded
from perception.camera import height_image
from robot.types import Detection, RgbdFrame


@dataclass(frozen=True)
class SegmenterConfig:
    """What counts as standing on the table.

    Attributes:
        least_height_m: lower is table and noise.
        most_height_m: what rises higher is the arm, and whatever it touches in the image.
        least_px: smaller regions are noise.
    """

    least_height_m: float = bounded(0.01, 0.0, 0.2)
    most_height_m: float = bounded(0.25, 0.01, 2.0)
    least_px: int = bounded(60, 1, 100_000)


class DepthSegmenter:
    """Connected regions of height; implements ``robot.interface.Detector``."""

    classes: tuple[str, ...] = ("box", "cylinder", "ball", "irregular")
    score_threshold = 0.5

    def __init__(self, config: SegmenterConfig | None = None) -> None:
        self.config = config or SegmenterConfig()

    def detect(self, frame: RgbdFrame, score_threshold: float | None = None) -> list[Detection]:
        """One detection for each region, all with score 1, largest first.

        Args:
            frame: to look at; pixels without depth count as table.
            score_threshold: above 1 nothing is left.
        """
        if score_threshold is not None and score_threshold > 1.0:
            return []
        config = self.config
        height, valid = height_image(frame)
        stands = (valid & (height > config.least_height_m)).astype(np.uint8)
        # A pixel or two of mixed depth joins neighbours that do not touch.
        stands = np.asarray(cv2.morphologyEx(stands, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
        count, regions, stats, _ = cv2.connectedComponentsWithStats(stands, connectivity=4)
        arm = np.zeros(count, bool)
        arm[np.unique(regions[valid & (height > config.most_height_m)])] = True
        found = [
            (int(area), (float(x), float(y), float(w), float(h)))
            for (x, y, w, h, area), of_arm in zip(stats[1:].tolist(), arm[1:], strict=True)
            if area >= config.least_px and not of_arm
        ]
        found.sort(reverse=True)
        return [Detection(box, 1.0, self.classes[-1]) for _, box in found]
