"""Labels for frames that nobody labelled: what a detector agrees with itself, and depth, about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from perception.cloud import CloudConfig, clean
from perception.coco import CocoDataset, CocoWriter, DatasetError
from perception.detector import network_input
from perception.precision import Found
from perception.training.agreement import AgreementConfig, Run, agreed
from perception.training.restyle import repaired, restyled
from robot.errors import SensorError
from robot.types import RgbdFrame

Progress = Callable[[int, int], None]

# Scene numbers of replayed images start here.
_REPLAYED = 1_000_000


@dataclass(frozen=True)
class PseudoConfig:
    """Which boxes become labels, and what is left out of the image.

    Attributes:
        sure: a box becomes a label from this score on.
        doubtful: one below counts as nothing; between the two nobody knows, and it is painted over.
        standing_m: what is higher above the table than this stands on it, m;
        standing_noise: and so many times higher than the depth's noise.
        least_standing: share of a label's pixels that must stand on the table.
        widest_m: something unexplained that is wider is furniture or the arm, and stays, m.
        least_px: something unexplained that is smaller is noise, px.
        same_place_m: boxes of two views this close to each other on the table are one object: each
            makes the other likelier.
        restyled: labelled images that are made to look like the frames, for each frame.
        replayed: labelled images that stay as they are, for each frame.
        agreement: how the detector is asked.
    """

    sure: float = bounded(0.7, 0.0, 1.0)
    doubtful: float = bounded(0.15, 0.0, 1.0)
    standing_m: float = bounded(0.010, 0.0, 0.2)
    standing_noise: float = bounded(4.0, 0.0, 100.0)
    least_standing: float = bounded(0.15, 0.0, 1.0)
    widest_m: float = bounded(0.16, 0.0, 2.0)
    least_px: int = bounded(60, 1, 100_000)
    same_place_m: float = bounded(0.025, 0.0, 1.0)
    restyled: float = bounded(2.0, 0.0, 100.0)
    replayed: float = bounded(0.5, 0.0, 100.0)
    agreement: AgreementConfig = AgreementConfig()


@dataclass(slots=True)
class Judged:
    """One frame's boxes.

    Attributes:
        boxes: (N, 4) float32 [x, y, w, h] px of labels.
        labels: (N,) int64 classes, from 1.
        scores: (N,) float32.
        unknown: (M, 4) float32 [x, y, w, h] px where nobody knows.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    unknown: NDArray[np.float32]


def judge(
    run: Run, frames: Sequence[RgbdFrame], config: PseudoConfig, repair: bool = True
) -> list[Judged]:
    """Labels for the views of one scene; a view without any depth gets none.

    Args:
        run: the detector that judges.
        frames: the views.
        config: how.
        repair: whether it sees ``repaired`` frames: a detector that does not know the new look
            does better on them, one that does has learned from frames as they are.
    """
    asked: list[Found] = []
    heights: list[NDArray[np.float32]] = []
    stand: list[NDArray[np.bool_]] = []
    places: list[NDArray[np.float32]] = []
    for frame in frames:
        try:
            shown = repaired(frame) if repair else frame
            found = agreed(run, network_input(shown), config.agreement)
        except SensorError:
            found = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
        cloud = clean(frame, CloudConfig())
        height = cloud.points[..., 2]
        least = max(config.standing_m, config.standing_noise * cloud.noise_m)
        asked.append(found)
        heights.append(np.where(cloud.good, height, np.float32(np.nan)))
        stand.append(cloud.good & (height > least))
        places.append(np.array([_place(box, cloud.points, stand[-1]) for box in found[0]]))
    scores = _confirmed(asked, places, config.same_place_m)
    return [
        _judged(frame, found, score, up, known, config)
        for frame, found, score, up, known in zip(
            frames, asked, scores, stand, heights, strict=True
        )
    ]


def _judged(
    frame: RgbdFrame,
    found: Found,
    score: NDArray[np.float32],
    stand: NDArray[np.bool_],
    height_m: NDArray[np.float32],
    config: PseudoConfig,
) -> Judged:
    boxes, _, labels = found
    known = np.isfinite(height_m)
    share = np.array(
        [float(stand[part].sum()) / max(int(known[part].sum()), 1) for part in map(_span, boxes)]
    )
    sure = (score >= config.sure) & (share >= config.least_standing)
    maybe = ~sure & (score >= config.doubtful)
    rest = stand.copy()
    for box in boxes[sure | maybe]:
        rest[_span(box, 3)] = False
    unknown = [*boxes[maybe], *_heaps(rest, frame, config)]
    return Judged(
        boxes[sure], labels[sure], score[sure], np.array(unknown, np.float32).reshape(-1, 4)
    )


def _heaps(
    rest: NDArray[np.bool_], frame: RgbdFrame, config: PseudoConfig
) -> list[NDArray[np.float32]]:
    """Boxes around what stands on the table, belongs to no box, and could be an object."""
    opened = cv2.morphologyEx(rest.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    out = []
    for index in range(1, count):
        x, y, w, h, area = stats[index].tolist()
        distance = float(np.median(frame.depth_m[numbers == index]))
        if (
            area >= config.least_px
            and max(w, h) * distance / frame.intrinsics.fx_px < config.widest_m
        ):
            out.append(np.array([x, y, w, h], np.float32))
    return out


def _confirmed(
    asked: Sequence[Found], places: Sequence[NDArray[np.float32]], same_m: float
) -> list[NDArray[np.float32]]:
    """Scores after the views have heard each other: the chance that not both are wrong."""
    out = [found[1].copy() for found in asked]
    for a, b in ((a, b) for a in range(len(asked)) for b in range(len(asked)) if a != b):
        for index, place in enumerate(places[a]):
            others = np.array(places[b]).reshape(-1, 2)
            if not len(others) or not np.isfinite(place).all():
                continue
            distance = np.hypot(*(others - place).T)
            close = np.flatnonzero(distance < same_m)
            if len(close):
                other = float(asked[b][1][close].max())
                out[a][index] = 1.0 - (1.0 - out[a][index]) * (1.0 - other)
    return out


def _place(
    box: NDArray[np.float32], points: NDArray[np.float32], stand: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(2,) x and y, m, of what stands in the middle of a box; NaN where nothing does."""
    x, y, w, h = box
    part = _span(np.array([x + 0.2 * w, y + 0.2 * h, 0.6 * w, 0.6 * h]))
    inside = points[part][stand[part]]
    if len(inside) < 5:
        return np.full(2, np.nan, np.float32)
    return np.asarray(np.median(inside[:, :2], axis=0), np.float32)


def _span(box: NDArray[Any], grow: int = 0) -> tuple[slice, slice]:
    x, y, w, h = (float(v) for v in box)
    return (
        slice(max(0, int(y) - grow), max(0, int(np.ceil(y + h)) + grow)),
        slice(max(0, int(x) - grow), max(0, int(np.ceil(x + w)) + grow)),
    )


def painted(frame: RgbdFrame, judged: Judged) -> RgbdFrame:
    """A frame without what nobody knows: its surroundings grow over it, and its depth is lost."""
    mask = np.zeros(frame.depth_m.shape, np.uint8)
    for box in judged.unknown:
        mask[_span(box, 2)] = 1
    for box in judged.boxes:
        mask[_span(box, 1)] = 0
    if not mask.any():
        return frame
    rgb = np.asarray(cv2.inpaint(frame.rgb, mask, 3, cv2.INPAINT_TELEA), np.uint8)
    return replace(frame, rgb=rgb, depth_m=np.where(mask > 0, np.float32(0.0), frame.depth_m))


def write_pseudo_set(
    root: Path | str,
    run: Run,
    frames: CocoDataset,
    replay: CocoDataset | None,
    config: PseudoConfig,
    seed: int,
    progress: Progress | None = None,
    repair: bool = True,
) -> dict[str, int]:
    """Writes the COCO set to train on: judged frames, and labelled images to replay.

    Args:
        root: folder of the set.
        run: the detector that judges the frames.
        frames: their labels are not read.
        replay: labelled images. Some are made to look like a frame (``restyled``), so that the new
            look has labels that are certain; some stay, so that the old look is not forgotten.
        config: how frames are judged.
        seed: of the draw.
        progress: called with (images done, images in all).
        repair: as for :func:`judge`.

    Returns:
        Numbers of ``frames``, ``labels``, ``unknown`` places, ``restyled`` and ``replayed`` images.
    """
    if not len(frames):
        raise DatasetError(f"{frames.root}: holds no frame")
    rng = np.random.default_rng(seed)
    writer = CocoWriter(root, frames.classes)
    count = {"frames": 0, "labels": 0, "unknown": 0, "restyled": 0, "replayed": 0}
    total = len(frames) + (sum(_shares(len(frames), len(replay), config)) if replay else 0)
    for scene, indices in enumerate(frames.scenes()):
        views = [frames.frame(index) for index in indices]
        for frame, judged in zip(views, judge(run, views, config, repair), strict=True):
            rows = [
                {"bbox": _inside(box, frame), "category_id": int(label), "iscrowd": 0,
                 "area": float(box[2] * box[3]), "score": float(score)}
                for box, label, score in zip(
                    judged.boxes, judged.labels, judged.scores, strict=True)
            ]  # fmt: skip
            _add(writer, painted(frame, judged), rows, scene)
            count["frames"] += 1
            count["labels"] += len(rows)
            count["unknown"] += len(judged.unknown)
        if progress:
            progress(len(writer.images), total)
    if replay:

        def tell(done: int) -> None:
            if progress:
                progress(done, total)

        _replay(writer, frames, replay, config, rng, count, tell)
    writer.close({"made_by": "self-training", **count})
    return count


def certain_part(data: CocoDataset, most: int) -> CocoDataset | None:
    """Of what ``write_pseudo_set`` wrote, images of the new look whose labels are certain.

    These are the restyled ones, ``most`` of them spread evenly; None where there is none.
    """
    first, count = int(data.info["frames"]), int(data.info["restyled"])
    images = data.images[first : first + count][:: max(1, count // most)]
    return replace(data, images=images) if images else None


def _shares(frames: int, replay: int, config: PseudoConfig) -> tuple[int, int]:
    """How many labelled images are restyled, and how many stay as they are."""
    styled = min(round(config.restyled * frames), replay)
    return styled, min(round(config.replayed * frames), replay - styled)


def _replay(
    writer: CocoWriter,
    frames: CocoDataset,
    replay: CocoDataset,
    config: PseudoConfig,
    rng: np.random.Generator,
    count: dict[str, int],
    tell: Callable[[int], None],
) -> None:
    styled, plain = _shares(len(frames), len(replay), config)
    for number, index in enumerate(rng.permutation(len(replay))[: styled + plain].tolist()):
        frame = replay.frame(index)
        if number < styled:
            frame = restyled(frame, frames.frame(int(rng.integers(len(frames)))), rng)
        labels = replay.annotations.get(int(replay.images[index]["id"]), [])
        _add(writer, frame, labels, _REPLAYED + index)
        count["restyled" if number < styled else "replayed"] += 1
        tell(len(writer.images))


def _add(writer: CocoWriter, frame: RgbdFrame, labels: list[dict[str, Any]], scene: int) -> None:
    writer.add(frame, np.zeros(frame.depth_m.shape, np.uint8), labels, scene)


def _inside(box: NDArray[np.float32], frame: RgbdFrame) -> list[float]:
    """[x, y, w, h] px, cut off at the image's edges."""
    low = np.maximum(box[:2], 0.0)
    size = (frame.intrinsics.width_px, frame.intrinsics.height_px)
    high = np.minimum(box[:2] + box[2:], size)
    x, y, w, h = (float(v) for v in (*low, *np.maximum(high - low, 0.5)))
    return [x, y, w, h]
