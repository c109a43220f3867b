"""Which detection a pixel belongs to: by the boxes, the heights and the colours together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.types import Detection

# Colours are counted in Lab: 8 steps of lightness, 16 each of a and b within 64 of grey.
_BINS = (8, 16, 16)
_COLOURS = 8 * 16 * 16
# Heights are counted in steps; number 0 is "not known".
_LEVEL_M, _LEVELS = 0.005, 62
_ALL = (slice(None), slice(None))


@dataclass(frozen=True)
class OwnershipConfig:
    """How a pixel inside a box is judged: a naive Bayes choice among boxes, table and the rest.

    Attributes:
        grow: share by which a detection's box is widened on each side before it claims pixels.
        colour_weight: of the logarithm of a colour's probability.
        place_weight: of the squared distance from a box's middle, measured in box sizes.
        rest_log_odds: how much less likely a pixel in a box is something undetected.
        height_weight: of the logarithm of a height's density among the heights of what owns it.
        thing_m: before that is known, heights are spread evenly up to this.
        rounds: how often colours are learned and pixels judged.
    """

    grow: float = bounded(0.04, 0.0, 0.5)
    colour_weight: float = bounded(0.7, 0.0, 10.0)
    place_weight: float = bounded(4.0, 0.0, 100.0)
    rest_log_odds: float = bounded(-2.0, -20.0, 20.0)
    height_weight: float = bounded(0.3, 0.0, 10.0)
    thing_m: float = bounded(0.08, 0.01, 1.0)
    rounds: int = bounded(2, 0, 10)


def owners(
    rgb: NDArray[np.uint8],
    height_m: NDArray[np.float32],
    above: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    detections: Sequence[Detection],
    sigma_m: float,
    config: OwnershipConfig,
) -> tuple[NDArray[np.int32], list[tuple[slice, slice]]]:
    """Judges every pixel of a view.

    Args:
        rgb: (H, W, 3) uint8.
        height_m: (H, W) float32 over the table, m; NaN where it is not known.
        above: (H, W) bool: what is higher than the table's noise.
        usable: (H, W) bool: pixels that may belong to an object.
        detections: of the view.
        sigma_m: standard deviation of the table's heights, m.
        config: how.

    Returns:
        (H, W) int32 index of the detection that owns a pixel, -1 for none; and each detection's
        widened box as (rows, columns): what it owns lies there.
    """
    owner, spans = _nearest(above, detections, config)
    if not config.rounds or not detections:
        return owner, spans
    colour = _colour_numbers(rgb)
    covered = np.zeros(above.shape, bool)
    for part in spans:
        covered[part] = True
    table_log, thing_log = _log_heights(height_m, sigma_m, config)
    level = np.where(np.isfinite(height_m), height_m, np.float32(0.0)) / np.float32(_LEVEL_M)
    level = np.clip(level, 0, _LEVELS - 2).astype(np.int32) + 1
    level[~np.isfinite(height_m)] = 0
    rest = usable & above & ~covered
    low = usable & ~above & np.isfinite(height_m)
    rest_log = np.float32(config.rest_log_odds - np.log(config.thing_m))
    for _ in range(config.rounds):
        low &= owner < 0
        owned = [(part, owner[part] == index) for index, part in enumerate(spans)]
        owned += [(_ALL, low), (_ALL, rest)]
        counts = [np.bincount(colour[part][mask], minlength=_COLOURS) for part, mask in owned]
        logs = _log_colours(np.stack(counts)) * np.float32(config.colour_weight)
        counts = [np.bincount(level[part][mask], minlength=_LEVELS) for part, mask in owned]
        tall = _log_levels(np.stack(counts), config)
        best = np.full(above.shape, -np.inf, np.float32)
        owner = np.full(above.shape, -1, np.int32)
        for index, (detection, part) in enumerate(zip(detections, spans, strict=True)):
            seen = colour[part]
            if not seen.size:
                continue
            # What is no object: the table, or a thing that was not detected.
            none = np.maximum(
                cv2.blur(logs[-2][seen], (3, 3)) + table_log[part],
                cv2.blur(logs[-1][seen], (3, 3)) + tall[-1][level[part]] + rest_log,
            )
            score = cv2.blur(logs[index][seen], (3, 3)) + thing_log[part] + tall[index][level[part]]
            score -= np.float32(config.place_weight) * _distance(detection, part)
            better = usable[part] & (score > np.maximum(none, best[part]))
            best[part][better] = score[better]
            owner[part][better] = index
    return owner, spans


def _log_heights(
    height_m: NDArray[np.float32], sigma_m: float, config: OwnershipConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(H, W) float32 log density of each height on the table, and on a thing that stands there.

    Equal where the height is not known.
    """
    even = np.float32(-np.log(config.thing_m))
    z = np.where(np.isfinite(height_m), height_m, np.float32(0.0))
    peak = np.float32(-np.log(sigma_m * np.sqrt(2.0 * np.pi)))
    table = peak - np.float32(0.5) * np.square(np.maximum(z, 0.0) / np.float32(sigma_m))
    thing = np.where(z > -2.0 * sigma_m, even, np.float32(-30.0))
    unknown = ~np.isfinite(height_m)
    table[unknown] = even
    return table.astype(np.float32), thing.astype(np.float32)


def _distance(detection: Detection, part: tuple[slice, slice]) -> NDArray[np.float32]:
    """Squared distance of a region's pixels from a box's middle, in box sizes."""
    x, y, w, h = detection.box_xywh_px
    v, u = (np.arange(s.start, s.stop, dtype=np.float32) + np.float32(0.5) for s in part)
    u = (u - (x + w / 2)) / max(w, 1.0)
    v = (v - (y + h / 2)) / max(h, 1.0)
    return np.asarray(u[None, :] ** 2 + v[:, None] ** 2, np.float32)


def _colour_numbers(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(H, W) number of each pixel's colour."""
    lab = cv2.cvtColor(cv2.medianBlur(rgb, 3), cv2.COLOR_RGB2Lab)
    lightness, a, b = (lab[..., k].astype(np.int32) for k in range(3))
    a, b = (np.clip(c - 64, 0, 127) // 8 for c in (a, b))
    return np.asarray(lightness // 32 * 256 + a * 16 + b, np.int32)


def _log_colours(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """(N, colours) float32 log probability of each colour from counts, blurred over neighbours."""
    grid = counts.reshape(-1, *_BINS).astype(np.float32)
    for axis in (1, 2, 3):
        sharp = np.moveaxis(grid, axis, 0)
        soft = 0.5 * sharp
        soft[1:] += 0.25 * sharp[:-1]
        soft[:-1] += 0.25 * sharp[1:]
        grid = np.moveaxis(soft, 0, axis)
    flat = grid.reshape(len(counts), -1)
    share = flat / np.maximum(flat.sum(axis=1, keepdims=True), 1.0)
    return np.log(0.97 * share + 0.03 / _COLOURS).astype(np.float32)


def _log_levels(counts: NDArray[np.int64], config: OwnershipConfig) -> NDArray[np.float32]:
    """(N, levels) float32: how much likelier than evenly spread each height is, weighted."""
    soft = np.asarray(cv2.blur(counts[:, 1:].astype(np.float32), (5, 1)))
    share = soft / np.maximum(soft.sum(axis=1, keepdims=True), 1.0)
    density = (0.9 * share + 0.1 / _LEVELS) / _LEVEL_M
    out = np.zeros(counts.shape, np.float32)
    out[:, 1:] = config.height_weight * np.log(density * config.thing_m)
    return out


def _nearest(
    above: NDArray[np.bool_], detections: Sequence[Detection], config: OwnershipConfig
) -> tuple[NDArray[np.int32], list[tuple[slice, slice]]]:
    """Owners (H, W) int32 by boxes alone, and each detection's widened box.

    Where boxes overlap a pixel goes to the box whose middle is nearest, measured in box sizes.
    """
    rows, columns = above.shape
    owner = np.full((rows, columns), -1, np.int32)
    nearest = np.full((rows, columns), np.inf, np.float32)
    spans = []
    for index, detection in enumerate(detections):
        x, y, w, h = detection.box_xywh_px
        gx, gy = config.grow * w + 1.0, config.grow * h + 1.0
        x0, x1 = max(0, int(x - gx)), min(columns, int(np.ceil(x + w + gx)))
        y0, y1 = max(0, int(y - gy)), min(rows, int(np.ceil(y + h + gy)))
        part = (slice(y0, max(y1, y0)), slice(x0, max(x1, x0)))
        spans.append(part)
        distance = _distance(detection, part)
        closer = above[part] & (distance < nearest[part])
        nearest[part][closer] = distance[closer]
        owner[part][closer] = index
    return owner, spans
