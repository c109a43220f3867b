"""What a detector says about an image when it is asked several times: boxes that it agrees on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from perception.precision import Found

# As ``perception.detector.OnnxDetector.run``: (4, H, W) to boxes xyxy px, scores and labels.
Run = Callable[[NDArray[np.float32]], Found]


@dataclass(frozen=True)
class AgreementConfig:
    """How an image is changed, and when two boxes are one.

    Attributes:
        zoom: scale of the enlarged view, whose rim falls out of the image.
        levels: share of the pixels that the view with stretched colours drives to black and white.
        same_iou: overlap from which boxes of two views are one.
        least: detections of one view with a lower score are left out.
    """

    zoom: float = bounded(1.2, 1.0, 3.0)
    levels: float = bounded(0.01, 0.0, 0.4)
    same_iou: float = bounded(0.55, 0.1, 1.0)
    least: float = bounded(0.05, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Change:
    flip: bool = False
    zoom: float = 1.0
    stretch: bool = False


def agreed(run: Run, image: NDArray[np.float32], config: AgreementConfig | None = None) -> Found:
    """Boxes that a detector finds in an image and in changed copies of it.

    The image is seen as it is, mirrored with its colours stretched, and enlarged.

    Args:
        run: the detector.
        image: (4, H, W) float32, as ``perception.detector.network_input`` gives it.
        config: how.

    Returns:
        Boxes [x, y, w, h] px, best first: each the mean of the views' boxes, weighted by score,
        its score the mean over the views that could see it (0 where one does not), its label that
        of most score.
    """
    config = config or AgreementConfig()
    changes = [_Change(), _Change(flip=True, stretch=True), _Change(zoom=config.zoom)]
    views = []
    for change in changes:
        boxes, scores, labels = run(_changed(image, change, config))
        kept = scores >= config.least
        views.append((_unchanged(boxes[kept], change, image.shape), scores[kept], labels[kept]))
    rows, columns = image.shape[1:]
    frames = [_seen_part(change, columns, rows) for change in changes]
    return merged(views, frames, config.same_iou)


def merged(views: Sequence[Found], frames: Sequence[NDArray[np.float32]], same_iou: float) -> Found:
    """Boxes of several views of one image as one list.

    Args:
        views: of each boxes (N, 4) xyxy px in the image, scores and labels.
        frames: of each (4,) xyxy px: the part of the image that it saw.
        same_iou: overlap from which boxes of two views are one.

    Returns:
        As :func:`agreed`.
    """
    votes = [
        (float(score), view, box, int(label))
        for view, found in enumerate(views)
        for box, score, label in zip(*found, strict=True)
    ]
    groups: list[list[tuple[float, int, NDArray[np.float32], int]]] = []
    means: list[NDArray[np.float32]] = []
    for vote in sorted(votes, key=lambda v: -v[0]):
        best, at = same_iou, -1
        for index, (group, mean) in enumerate(zip(groups, means, strict=True)):
            overlap = _iou(mean, vote[2])
            if overlap >= best and all(other[1] != vote[1] for other in group):
                best, at = overlap, index
        if at < 0:
            groups.append([vote])
            means.append(vote[2])
        else:
            groups[at].append(vote)
            means[at] = _mean(groups[at])
    boxes, scores, labels = [], [], []
    for group, mean in zip(groups, means, strict=True):
        middle = 0.5 * (mean[:2] + mean[2:])
        could = sum(
            bool((part[:2] <= middle).all() and (middle <= part[2:]).all()) for part in frames
        )
        weight: dict[int, float] = {}
        for score, _, _, label in group:
            weight[label] = weight.get(label, 0.0) + score
        boxes.append([*mean[:2], *(mean[2:] - mean[:2])])
        scores.append(sum(v[0] for v in group) / max(could, len(group)))
        labels.append(max(weight, key=lambda key: weight[key]))
    kept: list[int] = []
    for index in sorted(range(len(groups)), key=lambda i: -scores[i]):
        # What no view could tell apart is one object still.
        if all(_iou(means[index], means[other]) < same_iou for other in kept):
            kept.append(index)
    return (
        np.array([boxes[i] for i in kept], np.float32).reshape(-1, 4),
        np.array([scores[i] for i in kept], np.float32),
        np.array([labels[i] for i in kept], np.int64),
    )


def _mean(group: Sequence[tuple[float, int, NDArray[np.float32], int]]) -> NDArray[np.float32]:
    weights = np.array([vote[0] for vote in group])
    return np.average([vote[2] for vote in group], axis=0, weights=weights).astype(np.float32)


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    shared = float(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod())
    return shared / max(float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - shared, 1e-9)


def _changed(
    image: NDArray[np.float32], change: _Change, config: AgreementConfig
) -> NDArray[np.float32]:
    out = image.copy()
    if change.stretch:
        low, high = np.quantile(image[:3], [config.levels, 1.0 - config.levels], axis=(1, 2))
        gain = 1.0 / np.maximum(high - low, 0.05)
        out[:3] = np.clip((image[:3] - low[:, None, None]) * gain[:, None, None], 0.0, 1.0)
    if change.zoom != 1.0:
        _, rows, columns = image.shape
        x0, y0, x1, y1 = _seen_part(change, columns, rows).astype(int)
        part, size = out[:, y0:y1, x0:x1], (columns, rows)
        colour = [cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR) for channel in part[:3]]
        height = cv2.resize(part[3], size, interpolation=cv2.INTER_NEAREST)
        out = np.stack([*colour, height])
    return np.ascontiguousarray(out[..., ::-1]) if change.flip else out


def _unchanged(
    boxes: NDArray[np.float32], change: _Change, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Boxes of a changed image where they are in the image itself."""
    _, rows, columns = shape
    out = boxes.copy()
    if change.flip:
        out[:, [0, 2]] = columns - out[:, [2, 0]]
    if change.zoom != 1.0:
        x0, y0, x1, y1 = _seen_part(change, columns, rows)
        scale = np.array([(x1 - x0) / columns, (y1 - y0) / rows] * 2, np.float32)
        out = out * scale + np.array([x0, y0, x0, y0], np.float32)
    return out


def _seen_part(change: _Change, columns: int, rows: int) -> NDArray[np.float32]:
    """(4,) xyxy, whole px, of what a view shows of the image."""
    w, h = round(columns / change.zoom), round(rows / change.zoom)
    x, y = (columns - w) // 2, (rows - h) // 2
    return np.array([x, y, x + w, y + h], np.float32)
