from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from perception.evaluation import evaluate_perception, evaluate_tracking
from perception.fusion import Fusion, FusionConfig
from perception.oriented_box import oriented_box
from perception.tracking import TrackerConfig
from robot.errors import SteadyhandError
from tests.perception.blocks import Block, look

CLASSES = ("box", "cylinder", "ball", "irregular")


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
    stages = result["latency_by_stage_ms"]
    assert set(stages) == {"detect", "fuse", "propose", "total"}
    assert all(0 < stages[name]["p50"] < stages["total"]["p50"] for name in ("fuse", "propose"))
    assert result["latency_ms"]["p50"] < stages["total"]["p50"]  # which also proposes grasps
    low, high = result["ci95"]["position_error_mm"]
    assert low <= result["position_error_mm"]["median"] <= high
    assert result["ci95"]["ap"] == pytest.approx([1.0, 1.0])
    one = evaluate_perception(detector, Fusion(), scenes[:1], views=("wrist",))
    assert one["images"] == 1
    assert set(one["ci95"].values()) == {None}  # one scene says nothing of others


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


def _looks(detector, rng, *tables):
    """A scene for each table of blocks; instance i is the i-th block of each."""
    return [_scene(blocks, detector, rng) for blocks in tables]


A, B = Block((0.42, 0.12), (0.09, 0.05, 0.05)), Block((0.55, -0.10), (0.08, 0.04, 0.06), yaw=0.6)


def test_tracking_counts_numbers_kept_and_motion_noticed():
    rng, detector = np.random.default_rng(0), _Recorded()
    slid = replace(B, xy=(0.575, -0.08))
    sequences = [_looks(detector, rng, [A, B], [A, slid], [A, slid]), _looks(detector, rng, [A, B])]
    steps = []
    result = evaluate_tracking(detector, Fusion(), sequences, progress=steps.append)
    assert steps == [1, 2]
    assert (result["sequences"], result["looks"], result["pairs"]) == (2, 4, 4)
    assert (result["moved"], result["still"]) == (1, 3)
    assert result["identities_kept"] == result["moving_right"] == result["still_right"] == 1.0


def test_tracking_notices_what_is_lost_and_what_is_wrong():
    rng, detector = np.random.default_rng(0), _Recorded()
    # Too far to be followed: it gets a new number and counts as still, both of which are wrong.
    far = replace(B, xy=(0.40, -0.14))
    lost = evaluate_tracking(detector, Fusion(), [_looks(detector, rng, [A, B], [A, far])])
    assert (lost["identities_kept"], lost["moving_right"], lost["still_right"]) == (0.5, 0.0, 1.0)
    # A tracker that calls all motion rest.
    slid = replace(B, xy=(0.575, -0.08))
    deaf = Fusion(FusionConfig(tracker=TrackerConfig(moving_m=0.5)))
    result = evaluate_tracking(detector, deaf, [_looks(detector, rng, [A, B], [A, slid])])
    assert (result["moving_right"], result["still_right"]) == (0.0, 1.0)
    nothing = evaluate_tracking(detector, Fusion(), [_looks(detector, rng, [A])])
    assert (nothing["pairs"], nothing["identities_kept"]) == (0, None)
