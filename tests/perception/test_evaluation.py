from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from perception.coco import Boxes
from perception.evaluation import average_precision, evaluate_perception
from perception.fusion import Fusion
from perception.oriented_box import oriented_box
from robot.errors import SteadyhandError
from tests.perception.blocks import Block, look

CLASSES = ("box", "cylinder", "ball", "irregular")


def _image(boxes, labels, scores=None, crowd=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.array(labels, np.int64)
    if scores is not None:
        return boxes, np.array(scores, np.float32), labels
    return Boxes(boxes, labels, np.isin(np.arange(len(boxes)), crowd))


BOXES = [[10, 10, 40, 40], [100, 80, 30, 60]]


def test_perfect_detections_have_ap_one():
    truth = [_image(BOXES, [1, 4]), _image([], [])]
    found = [_image(BOXES, [1, 4], [0.9, 0.8]), _image([], [], [])]
    result = average_precision(truth, found, CLASSES)
    for key in ("ap", "ap50", "ap75", "map", "recall"):
        assert result[key] == pytest.approx(1.0)


def test_wrong_classes_count_for_map_alone():
    truth = [_image(BOXES, [1, 4])]
    found = [_image(BOXES, [4, 1], [0.9, 0.8])]
    result = average_precision(truth, found, CLASSES)
    assert result["ap"] == pytest.approx(1.0)
    assert result["map"] == pytest.approx(0.0)


def test_a_loose_box_counts_at_low_overlap_only():
    # IoU 40 * 26 / 1600 = 0.65
    truth, found = [_image([BOXES[0]], [1])], [_image([[10, 10, 40, 26]], [1], [0.9])]
    result = average_precision(truth, found, CLASSES)
    assert result["ap50"] == pytest.approx(1.0)
    assert result["ap75"] == pytest.approx(0.0)
    assert result["ap"] == pytest.approx(0.4)  # 0.50, 0.55, 0.60, 0.65 of ten thresholds


def test_half_of_the_objects_found():
    truth, found = [_image(BOXES, [1, 1])], [_image(BOXES[:1], [1], [0.9])]
    result = average_precision(truth, found, CLASSES)
    assert result["ap50"] == pytest.approx(0.5, abs=0.01)
    assert result["recall"] == pytest.approx(0.5)


def test_what_hardly_shows_is_neither_asked_for_nor_wrong():
    truth = [_image(BOXES, [1, 4], crowd=[1])]
    for found in ([_image(BOXES[:1], [1], [0.9])], [_image(BOXES, [1, 4], [0.8, 0.9])]):
        result = average_precision(truth, found, CLASSES)
        assert result["ap"] == result["recall"] == pytest.approx(1.0)
    with pytest.raises(SteadyhandError, match="not one object is labelled"):
        average_precision([_image(BOXES, [1, 4], crowd=[0, 1])], found, CLASSES)


def test_nothing_found_is_zero_and_nothing_labelled_is_an_error():
    assert average_precision([_image(BOXES, [1, 2])], [_image([], [], [])], CLASSES)["ap"] == 0.0
    with pytest.raises(SteadyhandError, match="not one object is labelled"):
        average_precision([_image([], [])], [_image([], [], [])], CLASSES)
    with pytest.raises(SteadyhandError, match="1 labelled images, 0 found"):
        average_precision([_image(BOXES, [1, 2])], [], CLASSES)


@dataclass
class _View:
    frame: object
    labels: list


@dataclass
class _Scene:
    views: list
    objects: list


class _Recorded:
    """Gives for each frame what was put down for it."""

    classes = CLASSES
    score_threshold = 0.5

    def __init__(self):
        self.known = {}

    def detect(self, frame, score_threshold=None):
        least = self.score_threshold if score_threshold is None else score_threshold
        return [d for d in self.known[id(frame)] if d.score >= least]


def _scene(blocks, detector, rng):
    views = []
    for camera in ("overhead", "wrist"):
        frame, found = look(blocks, camera, rng=rng, sigma_m=0.002)
        detector.known[id(frame)] = found
        labels = []
        for number, (block, detection) in enumerate(zip(blocks, found, strict=True), start=1):
            centre, yaw, dims = oriented_box(block.corners())
            labels.append(
                {
                    "instance": number,
                    "bbox": list(detection.box_xywh_px),
                    "category_id": CLASSES.index(block.class_name) + 1,
                    "position_m": centre.tolist(),
                    "yaw_rad": yaw,
                    "dimensions_m": dims.tolist(),
                }
            )
        views.append(_View(frame, labels))
    return _Scene(views, views[0].labels)


def test_a_whole_evaluation_names_what_it_measured():
    rng, detector = np.random.default_rng(0), _Recorded()
    blocks = [
        Block((0.45, 0.10), (0.12, 0.05, 0.04), yaw=0.5),
        Block((0.55, -0.08), (0.08, 0.04, 0.07), yaw=-1.1, class_name="irregular"),
    ]
    scenes = [_scene(blocks, detector, rng) for _ in range(2)]
    steps = []
    result = evaluate_perception(detector, Fusion(), scenes, progress=steps.append)
    assert steps == [1, 2]
    assert result["images"] == 4
    assert result["ap"] == pytest.approx(1.0)
    assert result["object_recall"] == result["object_precision"] == 1.0
    assert result["position_error_mm"]["median"] < 5
    assert result["yaw_error_deg"]["p95"] < 6
    assert result["dimension_error_mm"]["median"] < 8
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    one = evaluate_perception(detector, Fusion(), scenes, views=("wrist",))
    assert one["images"] == 2


def test_a_detector_that_sees_nothing_scores_zero_but_depth_still_finds_objects():
    rng, detector = np.random.default_rng(0), _Recorded()
    scene = _scene([Block((0.45, 0.10), (0.12, 0.05, 0.04), yaw=0.5)], detector, rng)
    detector.known = {key: [] for key in detector.known}
    result = evaluate_perception(detector, Fusion(), [scene])
    assert result["ap"] == 0.0
    assert result["object_recall"] == 1.0


def test_an_object_that_hardly_shows_in_any_view_is_not_counted():
    rng, detector = np.random.default_rng(0), _Recorded()
    blocks = [
        Block((0.45, 0.10), (0.12, 0.05, 0.04), yaw=0.5),
        Block((0.55, -0.08), (0.08, 0.04, 0.07), yaw=-1.1),
    ]
    scene = _scene(blocks, detector, rng)
    scene.views[0].labels[1]["iscrowd"] = 1
    both = evaluate_perception(detector, Fusion(), [scene])
    assert both["object_recall"] == both["object_precision"] == 1.0
    scene.views[1].labels[1]["iscrowd"] = 1
    detector.known = {key: found[1:] for key, found in detector.known.items()}
    one = evaluate_perception(detector, Fusion(), [scene])
    assert one["object_recall"] == one["object_precision"] == 1.0


def test_an_evaluation_without_images_is_an_error():
    detector = _Recorded()
    with pytest.raises(SteadyhandError, match="not one scene"):
        evaluate_perception(detector, Fusion(), [])
    scene = _scene([Block((0.45, 0.1), (0.1, 0.05, 0.04))], detector, np.random.default_rng(0))
    with pytest.raises(SteadyhandError, match="no view of"):
        evaluate_perception(detector, Fusion(), [scene], views=("side",))
