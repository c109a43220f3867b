"""Measuring perception on labelled scenes: detection, fused objects, tracking, and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from perception.coco import Boxes, boxes_of
from perception.fusion import Fusion
from perception.pose_errors import PoseErrors, PoseEvaluationConfig, inside, paired
from perception.precision import Found, average_precision, precision_intervals
from robot.errors import SteadyhandError
from robot.limits import load_limits
from robot.planning.grasps import GraspPlanner
from robot.types import Detection, Look, ObjectState, RgbdFrame

STAGES = ("detect", "fuse", "propose", "total")
# A true object that moved less between two looks did not move.
_MOVED_M = 0.001


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
    """Detection, fusion and proposals over labelled scenes.

    Args:
        detector: AP uses all that its graph gives; fusion what passes its own threshold.
        fusion: is reset before each scene.
        scenes: each with one image for each camera.
        views: names of the cameras to use.
        config: how objects are matched.
        progress: called with the number of scenes done.

    Returns:
        what ``average_precision`` gives over all images; ``position_error_mm, yaw_error_deg,
        dimension_error_mm``, each ``{median, p95}`` over matched objects (null where there is
        none); ``object_recall`` and ``object_precision`` of fused objects in the workspace;
        ``ci95``: 95 % intervals, scenes resampled, of ``ap, ap50``, the medians and the two rates;
        ``latency_ms`` ``{p50, p99}`` of detecting and fusing one look; ``latency_by_stage_ms``
        likewise for ``detect``, ``fuse``, ``propose`` (grasp candidates) and their ``total``;
        ``images``, ``scenes``.

    Raises:
        SteadyhandError: no scene, or no image of the asked views, is there.
    """
    truth: list[Boxes] = []
    found: list[Found] = []
    scene_of: list[int] = []
    errors = PoseErrors(config or PoseEvaluationConfig())
    planner = GraspPlanner(load_limits("panda").gripper)
    times: list[tuple[float, float, float]] = []
    for number, scene in enumerate(scenes):
        chosen = _chosen(scene, views)
        frames = [view.frame for view in chosen]
        began = time.perf_counter()
        lists = [detector.detect(frame, 0.0) for frame in frames]
        detected = time.perf_counter()
        sure = [_sure(one, detector) for one in lists]
        fusion.reset()
        objects, height_map = fusion.update(frames, sure)
        fused = time.perf_counter()
        seen = Look(tuple(objects), height_map, height_map.stamp_s, "camera")
        planner.propose(seen, np.random.default_rng(number))
        ended = time.perf_counter()
        times.append((detected - began, fused - detected, ended - fused))
        for view, one in zip(chosen, lists, strict=True):
            truth.append(boxes_of(view.labels))
            found.append(_found_arrays(one, detector.classes))
            scene_of.append(number)
        labels = [label for view in chosen for label in view.labels]
        errors.add(objects, labels, fusion.config.height_map)
        if progress:
            progress(number + 1)
    if not times:
        raise SteadyhandError("evaluate: not one scene was given")
    result = average_precision(truth, found, detector.classes) | errors.summary()
    result["ci95"] = precision_intervals(truth, found, scene_of) | errors.intervals()
    ms = np.array(times) * 1e3
    result["latency_ms"] = _p50_p99(ms[:, :2].sum(axis=1))
    columns = [*ms.T, ms.sum(axis=1)]
    result["latency_by_stage_ms"] = {
        stage: _p50_p99(column) for stage, column in zip(STAGES, columns, strict=True)
    }
    result["images"] = len(truth)
    result["scenes"] = len(times)
    return result


def evaluate_tracking(
    detector: ScoredDetector,
    fusion: Fusion,
    sequences: Iterable[Sequence[SceneLike]],
    views: Sequence[str] = ("overhead", "wrist"),
    config: PoseEvaluationConfig | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Whether objects keep their numbers from look to look, and whether motion is noticed.

    Args:
        detector: as for ``evaluate_perception``.
        fusion: is reset before each sequence.
        sequences: each a few looks at the same objects, of which some move in between.
        views: names of the cameras to use.
        config: how objects are matched with the truth.
        progress: called with the number of sequences done.

    Returns:
        Over all objects that were found both in a look and in the one before it: ``pairs`` how
        many, ``identities_kept`` the share with the same number in both, ``moved`` and ``still``
        how many did what in truth, ``moving_right`` and ``still_right`` the shares of these of
        which fusion says so (shares are null where there is none); ``sequences`` and ``looks``.
    """
    config = config or PoseEvaluationConfig()
    kept: list[bool] = []
    moving: list[bool] = []
    still: list[bool] = []
    count, looks = 0, 0
    for sequence in sequences:
        fusion.reset()
        before: dict[int, tuple[ObjectState, Any]] = {}
        for scene in sequence:
            chosen = _chosen(scene, views)
            frames = [view.frame for view in chosen]
            objects, _ = fusion.update(
                frames, [_sure(detector.detect(frame), detector) for frame in frames]
            )
            things = inside(scene.objects, fusion.config.height_map)
            now = {
                things[j]["instance"]: (objects[i], np.asarray(things[j]["position_m"]))
                for i, j in paired(objects, things, config.match_m)
            }
            for instance in now.keys() & before.keys():
                (state, place), (old_state, old_place) = now[instance], before[instance]
                kept.append(state.object_id == old_state.object_id)
                moved = float(np.hypot(*(place - old_place)[:2])) > _MOVED_M
                (moving if moved else still).append(state.moving == moved)
            before = now
            looks += 1
        count += 1
        if progress:
            progress(count)
    return {
        "identities_kept": _share(kept),
        "moving_right": _share(moving),
        "still_right": _share(still),
        "pairs": len(kept),
        "moved": len(moving),
        "still": len(still),
        "sequences": count,
        "looks": looks,
    }


def _chosen(scene: SceneLike, views: Sequence[str]) -> list[ViewLike]:
    chosen = [view for view in scene.views if view.frame.camera in views]
    if not chosen:
        names = sorted(view.frame.camera for view in scene.views)
        raise SteadyhandError(f"evaluate: no view of {list(views)} in a scene of {names}")
    return chosen


def _sure(detections: Sequence[Detection], detector: ScoredDetector) -> list[Detection]:
    return [d for d in detections if d.score >= detector.score_threshold]


def _found_arrays(detections: Sequence[Detection], classes: Sequence[str]) -> Found:
    boxes = np.array([d.box_xywh_px for d in detections], np.float32).reshape(-1, 4)
    scores = np.array([d.score for d in detections], np.float32)
    return boxes, scores, np.array([classes.index(d.class_name) + 1 for d in detections], np.int64)


def _share(verdicts: Sequence[bool]) -> float | None:
    return sum(verdicts) / len(verdicts) if verdicts else None


def _p50_p99(values: Any) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}
