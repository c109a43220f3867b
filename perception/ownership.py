"""Which detection a pixel belongs to: by the boxes, the heights and the colours together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
# What each value of L, a and b adds to the number of a colour.
_GREY = np.clip(np.arange(256, dtype=np.int32) - 64, 0, 127) // 8
_COLOUR_STEPS = (np.arange(256, dtype=np.int32) // 32 * 256, _GREY * 16, _GREY)


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
    rest_log_odds: float = bounded(-1.0, -20.0, 20.0)
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
    known = np.isfinite(height_m)
    level = np.where(known, height_m, np.float32(0.0)) / np.float32(_LEVEL_M)
    level = np.clip(level, 0, _LEVELS - 2).astype(np.int32) + 1
    level[~known] = 0
    away = [
        np.float32(config.place_weight) * _distance(detection, part)
        for detection, part in zip(detections, spans, strict=True)
    ]
    # A box holds its own object in the middle; at its rim there may be much of another one. So a
    # pixel's colour counts by the odds that its place gives it.
    near = [np.exp(-one) for one in away]
    trust = np.ones(above.shape, np.float32)
    for index, part in enumerate(spans):
        np.copyto(trust[part], near[index], where=owner[part] == index)
    rest = usable & above & ~covered
    low = usable & ~above & known
    rest_log = np.float32(config.rest_log_odds - np.log(config.thing_m))
    things = len(detections)
    # Whose a pixel's colour and height are: a detection's, the table's, the rest's or nobody's. In
    # boxes that is judged anew each round; the other pixels are counted once.
    whose = np.full(above.shape, things + 2, np.int32)
    whose[low & ~covered] = things
    whose[rest] = things + 1
    colours = _counts(whose[~covered], colour[~covered], things + 2, _COLOURS)
    levels = _counts(whose[~covered], level[~covered], things + 2, _LEVELS)
    low, colour_in, level_in = low[covered], colour[covered], level[covered]
    for _ in range(config.rounds):
        mine = owner[covered]
        low &= mine < 0
        mine = np.where(low, np.int32(things), np.where(mine < 0, np.int32(things + 2), mine))
        logs = _log_colours(
            colours + _counts(mine, colour_in, things + 2, _COLOURS, trust[covered])
        )
        logs *= np.float32(config.colour_weight)
        tall = _log_levels(levels + _counts(mine, level_in, things + 2, _LEVELS), config)
        best = np.full(above.shape, -np.inf, np.float32)
        owner = np.full(above.shape, -1, np.int32)
        for index, part in enumerate(spans):
            seen = colour[part]
            if not seen.size:
                continue
            # What is no object: the table, or a thing that was not detected.
            none = np.maximum(
                cv2.blur(logs[-2].take(seen), (3, 3)) + table_log[part],
                cv2.blur(logs[-1].take(seen), (3, 3)) + tall[-1].take(level[part]) + rest_log,
            )
            score = cv2.blur(logs[index].take(seen), (3, 3))
            score += thing_log[part]
            score += tall[index].take(level[part])
            score -= away[index]
            better = usable[part] & (score > np.maximum(none, best[part]))
            np.copyto(best[part], score, where=better)
            np.copyto(trust[part], near[index], where=better)
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
    lightness, a, b = (_COLOUR_STEPS[k].take(np.ascontiguousarray(lab[..., k])) for k in range(3))
    return np.asarray(lightness + a + b)


def _counts(
    whose: NDArray[np.int32], what: NDArray[np.int32], owners_n: int, kinds_n: int,
    weight: NDArray[np.float32] | None = None,
) -> NDArray[Any]:  # fmt: skip
    """(owners, kinds) how often each owner's pixels are of each kind; further owners do not count.

    ``whose, what`` are (N,), and so is what a pixel counts for, 1 if ``weight`` is None.
    """
    counts = np.bincount(
        whose * np.int32(kinds_n) + what, weight, minlength=(owners_n + 1) * kinds_n
    )
    return counts.reshape(-1, kinds_n)[:owners_n]


def _log_colours(counts: NDArray[Any]) -> NDArray[np.float32]:
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


def _log_levels(counts: NDArray[Any], config: OwnershipConfig) -> NDArray[np.float32]:
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
