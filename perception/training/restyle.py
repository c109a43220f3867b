"""Labelled images of one look made to look like another: colours, grain, depth errors and holes.

The new look is taken from its own frames alone; nothing about it needs to be known or labelled.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from perception.camera import rays, valid_depth
from robot.types import RgbdFrame

# Depths further than this share from the table's are no table.
_TABLE_BAND = 0.04
_LEAST_TABLE_PX = 2000
# A channel's contrast may grow so much more than its brightness.
_MOST_GAIN = 1.5
# An example with more of its depth missing gives no holes.
_MOST_HOLES = 0.5
_JUMP_M = 0.02


def restyled(source: RgbdFrame, example: RgbdFrame, rng: np.random.Generator) -> RgbdFrame:
    """A frame as the camera of ``example`` might have taken it, in its light.

    Colours get the example's brightness and contrast, channel by channel; blur and noise follow
    its fine detail; depth gets its factor of error, its holes and, where it has many, losses at
    edges. What is where stays, so labels do.
    """
    have, want = source.rgb.reshape(-1, 3), example.rgb.reshape(-1, 3)
    mean, wanted = have.mean(axis=0), want.mean(axis=0)
    # A plain table's contrast is noise, which must not be made into a pattern.
    most = _MOST_GAIN * wanted / np.maximum(mean, 1.0)
    gain = np.minimum(want.std(axis=0) / np.maximum(have.std(axis=0), 1.0), most)
    rgb = ((source.rgb - mean) * gain + wanted).astype(np.float32)
    rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), float(rng.uniform(0.3, 1.2))))
    missing = np.sqrt(max(grain(example.rgb) ** 2 - grain(rgb) ** 2, 0.0))
    rgb += rng.standard_normal(rgb.shape).astype(np.float32) * np.float32(missing)
    hole, known = ~valid_depth(example.depth_m), valid_depth(source.depth_m)
    lost = ~known
    if hole.shape == lost.shape and hole.mean() < _MOST_HOLES:
        if hole.mean() > 1.5 * lost.mean():
            lost = lost | _edges(source.depth_m)
        lost = lost | (hole[:, ::-1] if rng.random() < 0.5 else hole)
    depth = source.depth_m * np.float32(depth_gain(example) / depth_gain(source))
    return replace(
        source,
        rgb=np.clip(rgb, 0, 255).astype(np.uint8),
        depth_m=np.where(lost, np.float32(0.0), depth).astype(np.float32),
    )


def repaired(frame: RgbdFrame) -> RgbdFrame:
    """A frame with its depth as a better camera would give it.

    The table is where it is known to be, and a pixel without depth has that of the nearest one with
    depth: what is lost on either side of an edge comes back there.
    """
    known = valid_depth(frame.depth_m)
    if not known.any():
        return frame
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value = np.zeros(int(nearest.max()) + 1, np.float32)
    value[nearest[known]] = frame.depth_m[known]
    return replace(frame, depth_m=value[nearest] / np.float32(depth_gain(frame)))


def depth_gain(frame: RgbdFrame) -> float:
    """Measured over true depth, read off the table, whose place is known; 1 where none is seen."""
    ray = rays(frame.intrinsics) @ frame.X_world_cam.rotation[2].astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = frame.depth_m / (-np.float32(frame.X_world_cam.position_m[2]) / ray)
    near = valid_depth(frame.depth_m) & (np.abs(ratio - 1.0) < _TABLE_BAND)
    return float(np.median(ratio[near])) if int(near.sum()) >= _LEAST_TABLE_PX else 1.0


def grain(rgb: NDArray[np.generic]) -> float:
    """Standard deviation of an image's noise, in its own unit, from its finest detail.

    J. Immerkaer, "Fast noise variance estimation", 1996: a mask that sees neither slopes nor
    straight edges; here by the median, so that corners do not count.
    """
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(rgb.astype(np.float32), cv2.CV_32F, mask)[1:-1, 1:-1]
    return float(1.4826 * np.median(np.abs(response)) / 6.0)


def _edges(depth_m: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W) bool: pixels beside a jump in depth."""
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(depth_m, kernel) - cv2.erode(depth_m, kernel) > _JUMP_M)
