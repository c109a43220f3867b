"""Training images for the detector: a COCO set held in memory, and its augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.load import bounded
from perception.camera import height_image
from perception.coco import CocoDataset
from perception.detector import HEIGHT_RANGE_M, pack_channels

# Heights are kept as int16 in this unit: 0.1 mm, finer than any depth camera.
_HEIGHT_UNIT_M = 1e-4
_SMALLEST_BOX_PX = 4.0


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training image.

    Attributes:
        flip_x, flip_y: probability of a left-right and of an up-down flip.
        zoom: probability of a random zoom and shift, within ``zoom_range``.
        zoom_range: smallest and largest scale.
        least_kept: an object of which less remains in the image after a zoom is no label.
        shuffle_colours: probability that the colour channels change places.
        colour: strength of gain, offset and gamma changes; 0 leaves colours alone.
        height_offset_m: standard deviation of a constant error of the height channel, m.
        height_noise_m: standard deviation of further smooth noise on the height, m.
        dropout: probability that a rectangle of the height channel reads as no depth.
    """

    flip_x: float = bounded(0.5, 0.0, 1.0)
    flip_y: float = bounded(0.2, 0.0, 1.0)
    zoom: float = bounded(0.5, 0.0, 1.0)
    zoom_range: tuple[float, float] = bounded((0.8, 1.3), 0.2, 5.0)
    least_kept: float = bounded(0.4, 0.0, 1.0)
    shuffle_colours: float = bounded(0.3, 0.0, 1.0)
    colour: float = bounded(0.25, 0.0, 1.0)
    height_offset_m: float = bounded(0.003, 0.0, 0.1)
    height_noise_m: float = bounded(0.001, 0.0, 0.1)
    dropout: float = bounded(0.1, 0.0, 1.0)


@dataclass(slots=True)
class Sample:
    """One image in memory: (H, W, 3), heights (H, W) in 0.1 mm, boxes (N, 4) xyxy px, labels."""

    rgb: NDArray[np.uint8]
    height: NDArray[np.int16]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


class DetectionData:
    """All images of a COCO set in memory (0.4 MB each at 320x240)."""

    def __init__(self, dataset: CocoDataset) -> None:
        self.classes = dataset.classes
        self.samples = [self._sample(dataset, index) for index in range(len(dataset))]

    @staticmethod
    def _sample(dataset: CocoDataset, index: int) -> Sample:
        frame = dataset.frame(index)
        height, _ = height_image(frame)
        boxes, labels, crowd = dataset.boxes(int(dataset.images[index]["id"]))
        boxes[:, 2:] += boxes[:, :2]
        stored = np.clip(height, *HEIGHT_RANGE_M) / _HEIGHT_UNIT_M
        return Sample(frame.rgb, np.rint(stored).astype(np.int16), boxes[~crowd], labels[~crowd])

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Tensor:
        """The network's (4, H, W) float32 input of one image, unchanged."""
        sample = self.samples[index]
        return torch.from_numpy(pack_channels(sample.rgb, sample.height * np.float32(1e-4)))

    def batches(
        self,
        batch: int,
        augment: AugmentConfig,
        rng: np.random.Generator,
        rank: int = 0,
        size: int = 1,
    ) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
        """One epoch of augmented batches in random order; the last incomplete batch is left out.

        Args:
            batch: images a step, over all processes.
            augment: how images are changed.
            rng: the same in every process.
            rank: of this process: it gets every ``size``-th image of each batch.
            size: number of processes.
        """
        order = rng.permutation(len(self))
        mine = rng if size == 1 else rng.spawn(size)[rank]
        for start in range(0, len(order) - batch + 1, batch):
            chosen = [
                augmented(self.samples[i], augment, mine)
                for i in order[start + rank : start + batch : size]
            ]
            yield [c[0] for c in chosen], [c[1] for c in chosen]


def augmented(
    sample: Sample, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """A randomly changed copy of a sample as the network's input and torchvision's target."""
    rgb = sample.rgb
    height = sample.height.astype(np.float32) * np.float32(_HEIGHT_UNIT_M)
    boxes, labels = sample.boxes.copy(), sample.labels
    rows, columns = height.shape
    if rng.random() < config.flip_x:
        rgb, height = rgb[:, ::-1], height[:, ::-1]
        boxes[:, [0, 2]] = columns - boxes[:, [2, 0]]
    if rng.random() < config.flip_y:
        rgb, height = rgb[::-1], height[::-1]
        boxes[:, [1, 3]] = rows - boxes[:, [3, 1]]
    if rng.random() < config.zoom:
        rgb, height, boxes, labels = _zoomed(rgb, height, boxes, labels, config, rng)
    height = _worse_height(height, config, rng)
    image = pack_channels(_recoloured(rgb, config, rng), height)
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels)}
    return torch.from_numpy(image), target


def _zoomed(
    rgb: NDArray[np.uint8],
    height: NDArray[np.float32],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    rows, columns = height.shape
    scale = float(np.exp(rng.uniform(*np.log(config.zoom_range))))
    # The centre may move by what the zoom gained or lost, and a little more.
    span = abs(scale - 1.0) * 0.5 + 0.05
    shift_x, shift_y = rng.uniform(-span, span, 2) * (columns, rows)
    move_x = (1 - scale) * columns / 2 + shift_x
    move_y = (1 - scale) * rows / 2 + shift_y
    # cv2 counts from pixel centres, boxes from pixel edges.
    half = 0.5 * (scale - 1.0)
    matrix = np.array([[scale, 0, move_x + half], [0, scale, move_y + half]])
    size = (columns, rows)
    border = tuple(int(v) for v in rng.integers(0, 255, 3))
    colours = cv2.warpAffine(
        np.ascontiguousarray(rgb), matrix, size, flags=cv2.INTER_LINEAR, borderValue=border
    )
    heights = cv2.warpAffine(np.ascontiguousarray(height), matrix, size, flags=cv2.INTER_NEAREST)
    moved = boxes * scale + np.array([move_x, move_y, move_x, move_y], np.float32)
    clipped = np.clip(moved, 0, np.array([columns, rows, columns, rows], np.float32))
    sides, before = clipped[:, 2:] - clipped[:, :2], moved[:, 2:] - moved[:, :2]
    kept = (sides > _SMALLEST_BOX_PX).all(axis=1)
    kept &= sides.prod(axis=1) > config.least_kept * before.prod(axis=1)
    return (
        np.asarray(colours, np.uint8),
        np.asarray(heights, np.float32),
        clipped[kept].astype(np.float32),
        labels[kept],
    )


def _worse_height(
    height: NDArray[np.float32], config: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    rows, columns = height.shape
    coarse = rng.normal(0.0, config.height_noise_m, (rows // 16, columns // 16))
    smooth = cv2.resize(coarse.astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
    out = height + smooth
    out += np.float32(rng.normal(0.0, config.height_offset_m))
    if rng.random() < config.dropout:
        w, h = rng.integers(8, columns // 4), rng.integers(8, rows // 4)
        x, y = rng.integers(0, columns - w), rng.integers(0, rows - h)
        out[y : y + h, x : x + w] = 0.0
    return out


def _recoloured(
    rgb: NDArray[np.uint8], config: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Gain, offset and gamma for each channel by a look-up table, and perhaps other places."""
    s = config.colour
    common, offset = rng.uniform(1 - s, 1 + s), rng.uniform(-0.4 * s, 0.4 * s)
    gain = common * rng.uniform(1 - 0.5 * s, 1 + 0.5 * s, 3)
    gamma = np.exp(rng.uniform(-s, s))
    ramp = np.linspace(0.0, 1.0, 256)[:, None] ** gamma * gain + offset
    table = (np.clip(ramp, 0.0, 1.0) * 255).astype(np.uint8)
    order = rng.permutation(3) if rng.random() < config.shuffle_colours else np.arange(3)
    return np.stack([table[rgb[..., c], c] for c in order], axis=-1)
