"""Average precision as COCO defines it, by size, and its interval over scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception.coco import Boxes
from perception.intervals import Weights, scene_interval
from robot.errors import SteadyhandError

# (N, 4) boxes [x, y, w, h] px, (N,) scores and (N,) labels from 1
Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]

#: Box areas, px, that divide small from medium from large. COCO's 32² and 96² are for images of
#: 640x480; on 320x240 next to no object is larger than 96². With these a quarter of the objects is
#: small, nearly a half medium, the rest large.
SIZE_EDGES_PX2 = (32.0**2, 48.0**2)
_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100


def average_precision(
    truth: Sequence[Boxes], found: Sequence[Found], classes: Sequence[str]
) -> dict[str, Any]:
    """COCO's metrics of detections against labels, image by image.

    Returns:
        ``ap, ap50, ap75`` without regard to classes, ``map`` as the mean over the classes that
        occur, ``recall`` at 100 detections (all as COCO defines them, in [0, 1]), and
        ``ap_by_size`` ``{small, medium, large}`` after ``SIZE_EDGES_PX2`` (None where no object of
        that size is labelled).

    Raises:
        SteadyhandError: the two differ in length, or there is not one label.
    """
    if len(truth) != len(found):
        raise SteadyhandError(
            f"average_precision: {len(truth)} labelled images, {len(found)} found"
        )
    if not sum(int((~one.crowd).sum()) for one in truth):
        raise SteadyhandError("average_precision: not one object is labelled in these images")
    one = ["object"]
    ones_truth = [one._replace(labels=np.ones_like(one.labels)) for one in truth]
    ones_found = [(boxes, scores, np.ones_like(labels)) for boxes, scores, labels in found]
    agnostic = _coco_stats(ones_truth, ones_found, one)
    by_class = _coco_stats(truth, found, classes)
    return {
        "ap": agnostic["AP_all"],
        "ap50": agnostic["AP_50"],
        "ap75": agnostic["AP_75"],
        "map": by_class["AP_all"],
        "recall": agnostic["AR_third"],
        "ap_by_size": {
            size: agnostic[f"AP_{size}"] if agnostic[f"AP_{size}"] >= 0.0 else None
            for size in ("small", "medium", "large")
        },
    }


def _coco_stats(
    truth: Sequence[Boxes], found: Sequence[Found], classes: Sequence[str]
) -> dict[str, float]:
    # Only measuring needs it, so only measuring imports it.
    from faster_coco_eval import COCO, COCOeval_faster

    annotations: list[dict[str, Any]] = []
    for image_id, one in enumerate(truth, start=1):
        for box, label, crowd in zip(*(values.tolist() for values in one), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowd),
                }
            )
    results = [
        {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
        for image_id, (boxes, scores, labels) in enumerate(found, start=1)
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
    ]
    if not results:
        names = ("AP_all", "AP_50", "AP_75", "AR_third", "AP_small", "AP_medium", "AP_large")
        return dict.fromkeys(names, 0.0)
    reference = COCO(
        {
            "images": [{"id": i} for i in range(1, len(truth) + 1)],
            "annotations": annotations,
            "categories": [{"id": i, "name": n} for i, n in enumerate(classes, start=1)],
        }
    )
    evaluation = COCOeval_faster(reference, reference.loadRes(results), "bbox")
    small, large = SIZE_EDGES_PX2
    evaluation.params.areaRng = [[0, 1e10], [0, small], [small, large], [large, 1e10]]
    evaluation.params.areaRngLbl = ["all", "small", "medium", "large"]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {key: float(value) for key, value in evaluation.stats_as_dict.items()}


@dataclass(frozen=True, slots=True)
class Matches:
    """Which detections are right, over all images; classes play no part.

    Attributes:
        score: (N,) best first.
        right: (10, N) bool: matched at each IoU from 0.50 to 0.95, best scores first.
        ignored: (10, N) bool: lies on what is marked as a crowd, so it counts for nothing.
        image: (N,) index of the image.
        wanted: (images,) labelled objects.
    """

    score: NDArray[np.float32]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    image: NDArray[np.int64]
    wanted: NDArray[np.int64]

    @classmethod
    def of(cls, truth: Sequence[Boxes], found: Sequence[Found]) -> Matches:
        """COCO's matching, image by image."""
        pairs = [
            _matched(one, boxes, scores)
            for one, (boxes, scores, _) in zip(truth, found, strict=True)
        ]
        scores = np.concatenate([score for score, _, _ in pairs])
        order = np.argsort(-scores, kind="mergesort")
        image = np.repeat(np.arange(len(pairs)), [len(score) for score, _, _ in pairs])
        return cls(
            scores[order],
            np.concatenate([right for _, right, _ in pairs], axis=1)[:, order],
            np.concatenate([ignored for _, _, ignored in pairs], axis=1)[:, order],
            image[order],
            np.array([int((~one.crowd).sum()) for one in truth], np.int64),
        )

    def precision(self, weights: Weights) -> NDArray[np.float64] | None:
        """(10,) average precision at each IoU, each image counted ``weights`` (images,) times."""
        wanted = float((self.wanted * weights).sum())
        if not wanted:
            return None
        weight = weights[self.image].astype(np.float64)
        right = np.cumsum(np.where(self.ignored, 0.0, self.right * weight), axis=1)
        wrong = np.cumsum(np.where(self.ignored, 0.0, ~self.right * weight), axis=1)
        rate = right / np.maximum(right + wrong, 1e-12)
        # The best precision at this recall or a higher one.
        rate = np.maximum.accumulate(rate[:, ::-1], axis=1)[:, ::-1]
        # One more that is never reached: a recall that is not attained has precision 0.
        rate = np.pad(rate, ((0, 0), (0, 1)))
        places = [np.searchsorted(row, _RECALLS - 1e-12) for row in right / wanted]
        return np.array([row[at].mean() for row, at in zip(rate, places, strict=True)])


def best_threshold(truth: Sequence[Boxes], found: Sequence[Found]) -> float:
    """The score down to which detections have the best F1 at an IoU of 0.5; 0.5 without any."""
    matches = Matches.of(truth, found)
    counted = ~matches.ignored[0]
    right = np.cumsum(matches.right[0] & counted)
    said = np.cumsum(counted)
    f1 = 2 * right / np.maximum(said + int(matches.wanted.sum()), 1)
    return float(matches.score[int(np.argmax(f1))]) if len(f1) and right[-1] else 0.5


def precision_intervals(
    truth: Sequence[Boxes], found: Sequence[Found], scene: Sequence[int]
) -> dict[str, list[float] | None]:
    """95 % intervals of ``ap`` and ``ap50``.

    Args:
        truth: labels, image by image.
        found: detections, image by image.
        scene: (images,) index from 0 of each image's scene; whole scenes are resampled.
    """
    matches = Matches.of(truth, found)
    of_image = np.asarray(scene, np.int64)
    count = int(of_image.max()) + 1 if len(of_image) else 0
    known: dict[bytes, NDArray[np.float64] | None] = {}

    def at(weights: Weights) -> NDArray[np.float64] | None:
        key = weights.tobytes()  # both figures see the same draws
        if key not in known:
            known[key] = matches.precision(weights[of_image])
        return known[key]

    def ap(weights: Weights) -> float | None:
        values = at(weights)
        return None if values is None else float(values.mean())

    def ap50(weights: Weights) -> float | None:
        values = at(weights)
        return None if values is None else float(values[0])

    return {"ap": scene_interval(ap, count), "ap50": scene_interval(ap50, count)}


def precision_difference(
    truth: Sequence[Boxes], before: Sequence[Found], after: Sequence[Found], scene: Sequence[int]
) -> list[float] | None:
    """95 % interval of how much better ``ap`` is after than before, on the same images.

    Args:
        truth: labels, image by image.
        before, after: detections of two detectors, image by image.
        scene: as for :func:`precision_intervals`.
    """
    matches = Matches.of(truth, before), Matches.of(truth, after)
    of_image = np.asarray(scene, np.int64)
    count = int(of_image.max()) + 1 if len(of_image) else 0

    def gain(weights: Weights) -> float | None:
        first, second = (one.precision(weights[of_image]) for one in matches)
        return None if first is None or second is None else float((second - first).mean())

    return scene_interval(gain, count)


def _matched(
    truth: Boxes, boxes: NDArray[np.float32], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Scores (n,), and matched and ignored (10, n), of one image, best first.

    Greedy as in pycocotools' ``evaluateImg``: each detection takes the free label that it overlaps
    most; a crowd takes any number, and only what overlaps no other label enough.
    """
    order = np.argsort(-scores, kind="mergesort")[:_MOST]
    labels = np.argsort(truth.crowd, kind="mergesort")
    crowd = truth.crowd[labels]
    overlap = _overlaps(boxes[order], truth.xywh_px[labels], crowd)
    right = np.zeros((len(_IOUS), len(order)), bool)
    ignored = np.zeros_like(right)
    for k, least in enumerate(_IOUS):
        free = np.ones(len(labels), bool)
        for d in range(len(order)):
            choice = np.where((overlap[d] >= least) & (free | crowd), overlap[d], -1.0)
            for part in (~crowd, crowd):
                best = int(np.argmax(np.where(part, choice, -1.0))) if part.any() else -1
                if best >= 0 and part[best] and choice[best] >= 0.0:
                    free[best] = False
                    right[k, d], ignored[k, d] = True, bool(crowd[best])
                    break
    return scores[order], right, ignored


def _overlaps(
    boxes: NDArray[np.float32], labels: NDArray[np.float32], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(n, m) intersection over union; over the detection's own area where the label is a crowd."""
    a, b = boxes.astype(np.float64)[:, None], labels.astype(np.float64)[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=-1)
    own, other = a[..., 2:].prod(axis=-1), b[..., 2:].prod(axis=-1)
    return np.asarray(shared / np.maximum(np.where(crowd, own, own + other - shared), 1e-12))
