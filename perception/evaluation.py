"""Measuring perception: COCO's average precision, and errors of fused objects against the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from perception.coco import Boxes, boxes_of
from perception.fusion import Fusion, FusionConfig
from robot.errors import SteadyhandError
from robot.geometry import wrap_angle
from robot.types import Detection, ObjectState, RgbdFrame

# (N, 4) boxes [x, y, w, h] px, (N,) scores and (N,) labels from 1
Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def average_precision(
    truth: Sequence[Boxes], found: Sequence[Found], classes: Sequence[str]
) -> dict[str, float]:
    """COCO's metrics of detections against labels, image by image.

    Returns:
        ``ap, ap50, ap75`` without regard to classes, ``map`` as the mean over the classes that
        occur, and ``recall`` at 100 detections (all as COCO defines them, in [0, 1]).

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
        return {"AP_all": 0.0, "AP_50": 0.0, "AP_75": 0.0, "AR_third": 0.0}
    reference = COCO(
        {
            "images": [{"id": i} for i in range(1, len(truth) + 1)],
            "annotations": annotations,
            "categories": [{"id": i, "name": n} for i, n in enumerate(classes, start=1)],
        }
    )
    evaluation = COCOeval_faster(reference, reference.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {key: float(value) for key, value in evaluation.stats_as_dict.items()}


class ViewLike(Protocol):
    """One labelled image, as ``envs.synthesis`` makes it."""

    @property
    def frame(self) -> RgbdFrame: ...

    @property
    def labels(self) -> Sequence[dict[str, Any]]: ...


class SceneLike(Protocol):
    """The labelled images of one moment, and the truth of its objects."""

    @property
    def views(self) -> Sequence[ViewLike]: ...

    @property
    def objects(self) -> Sequence[dict[str, Any]]: ...


@dataclass(frozen=True)
class PoseEvaluationConfig:
    """How fused objects are compared with the truth.

    Attributes:
        match_m: a fused object is a true one's if their centres are this close, nearest first.
        elongated: yaw is measured on objects whose longer edge is this many times the shorter.
    """

    match_m: float = bounded(0.04, 0.001, 1.0)
    elongated: float = bounded(1.5, 1.0, 10.0)


class ScoredDetector(Protocol):
    """A detector that can also report what is below its own threshold."""

    classes: tuple[str, ...]
    score_threshold: float

    def detect(self, frame: RgbdFrame, score_threshold: float | None = None) -> list[Detection]:
        """Detections of one frame with at least the given score."""


def evaluate_perception(
    detector: ScoredDetector,
    fusion: Fusion,
    scenes: Iterable[SceneLike],
    views: Sequence[str] = ("overhead", "wrist"),
    config: PoseEvaluationConfig | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Detection and fusion over labelled scenes.

    Args:
        detector: AP uses all that its graph gives; fusion what passes its own threshold.
        fusion: is reset before each scene.
        scenes: each with one image for each camera.
        views: names of the cameras to use.
        config: how objects are matched.
        progress: called with the number of scenes done.

    Returns:
        ``ap, ap50, ap75, map, recall`` over all images; ``position_error_mm, yaw_error_deg,
        dimension_error_mm``, each ``{median, p95}`` over matched objects (null where there is
        none); ``object_recall`` and ``object_precision`` of fused objects in the workspace;
        ``latency_ms`` ``{p50, p99}`` of detecting and fusing one look, and ``latency_by_stage_ms``;
        ``images``, ``scenes``.

    Raises:
        SteadyhandError: no scene, or no image of the asked views, is there.
    """
    config = config or PoseEvaluationConfig()
    truth: list[Boxes] = []
    found: list[Found] = []
    errors = _PoseErrors(config)
    detect_ms: list[float] = []
    fuse_ms: list[float] = []
    count = 0
    for scene in scenes:
        chosen = [view for view in scene.views if view.frame.camera in views]
        if not chosen:
            names = sorted(view.frame.camera for view in scene.views)
            raise SteadyhandError(f"evaluate: no view of {list(views)} in a scene of {names}")
        lists, began = [], time.perf_counter()
        for view in chosen:
            lists.append(detector.detect(view.frame, 0.0))
        middle = time.perf_counter()
        sure = [[d for d in one if d.score >= detector.score_threshold] for one in lists]
        fusion.reset()
        objects, _ = fusion.update([view.frame for view in chosen], sure)
        ended = time.perf_counter()
        detect_ms.append((middle - began) * 1e3)
        fuse_ms.append((ended - middle) * 1e3)
        for view, one in zip(chosen, lists, strict=True):
            truth.append(boxes_of(view.labels))
            found.append(_found_arrays(one, detector.classes))
        errors.add(objects, [label for view in chosen for label in view.labels], fusion.config)
        count += 1
        if progress:
            progress(count)
    if not count:
        raise SteadyhandError("evaluate: not one scene was given")
    total = np.array(detect_ms) + np.array(fuse_ms)
    result: dict[str, Any] = average_precision(truth, found, detector.classes)
    result |= errors.summary()
    result["latency_ms"] = _p50_p99(total)
    result["latency_by_stage_ms"] = {
        "detect": _p50_p99(np.array(detect_ms)),
        "fuse": _p50_p99(np.array(fuse_ms)),
    }
    result["images"] = len(truth)
    result["scenes"] = count
    return result


class _PoseErrors:
    """Collects errors of fused objects over scenes."""

    def __init__(self, config: PoseEvaluationConfig) -> None:
        self.config = config
        self.position_mm: list[float] = []
        self.yaw_deg: list[float] = []
        self.dimension_mm: list[float] = []
        self.true, self.fused, self.matched = 0, 0, 0

    def add(
        self, objects: Sequence[ObjectState], labels: Sequence[dict[str, Any]], fusion: FusionConfig
    ) -> None:
        # An object counts where one view shows enough of it; what hardly shows in any may be found.
        things = {label["instance"]: label for label in labels}
        seen = {label["instance"] for label in labels if not label.get("iscrowd")}
        grid = fusion.height_map
        inside = [
            label
            for label in things.values()
            if all(grid.min_m[k] <= label["position_m"][k] <= grid.max_m[k] for k in (0, 1))
        ]
        pairs = sorted(
            (float(np.hypot(*(state.X_world_obj.position_m - label["position_m"])[:2])), i, j)
            for i, state in enumerate(objects)
            for j, label in enumerate(inside)
        )
        used_i: set[int] = set()
        used_j: set[int] = set()
        for distance, i, j in pairs:
            if distance > self.config.match_m or i in used_i or j in used_j:
                continue
            used_i.add(i)
            used_j.add(j)
            if inside[j]["instance"] in seen:
                self._pair(objects[i], inside[j])
                self.matched += 1
            else:
                self.fused -= 1
        self.true += sum(label["instance"] in seen for label in inside)
        self.fused += len(objects)

    def _pair(self, state: ObjectState, label: dict[str, Any]) -> None:
        position = state.X_world_obj.position_m - np.asarray(label["position_m"])
        self.position_mm.append(float(np.linalg.norm(position)) * 1e3)
        size = np.asarray(label["dimensions_m"])
        self.dimension_mm.append(float(np.abs(state.dimensions_m - size).mean()) * 1e3)
        if size[0] >= self.config.elongated * size[1]:
            rotation = state.X_world_obj.rotation
            yaw = math.atan2(rotation[1, 0], rotation[0, 0])
            self.yaw_deg.append(abs(math.degrees(wrap_angle(yaw - label["yaw_rad"], math.pi))))

    def summary(self) -> dict[str, Any]:
        return {
            "position_error_mm": _median_p95(self.position_mm),
            "yaw_error_deg": _median_p95(self.yaw_deg),
            "dimension_error_mm": _median_p95(self.dimension_mm),
            "object_recall": self.matched / self.true if self.true else None,
            "object_precision": self.matched / self.fused if self.fused else None,
        }


def _found_arrays(detections: Sequence[Detection], classes: Sequence[str]) -> Found:
    boxes = np.array([d.box_xywh_px for d in detections], np.float32).reshape(-1, 4)
    scores = np.array([d.score for d in detections], np.float32)
    return boxes, scores, np.array([classes.index(d.class_name) + 1 for d in detections], np.int64)


def _median_p95(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    median, p95 = np.percentile(values, [50, 95])
    return {"median": float(median), "p95": float(p95)}


def _p50_p99(values: NDArray[np.float64]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}
