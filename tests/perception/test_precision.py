from __future__ import annotations

import numpy as np
import pytest

from perception.coco import Boxes
from perception.precision import (
    Matches,
    average_precision,
    best_threshold,
    precision_intervals,
)
from robot.errors import SteadyhandError

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


def test_sizes_are_told_apart_by_area():
    boxes = [[0, 0, 20, 20], [50, 50, 40, 40], [120, 100, 90, 60]]
    truth = [_image(boxes, [1, 1, 1])]
    found = [_image(boxes[1:], [1, 1], [0.9, 0.8])]
    by_size = average_precision(truth, found, CLASSES)["ap_by_size"]
    assert by_size["small"] == 0.0
    assert by_size["medium"] == by_size["large"] == pytest.approx(1.0)
    none = average_precision([_image(boxes[1:2], [1])], [_image(boxes[1:2], [1], [0.9])], CLASSES)
    assert none["ap_by_size"] == {"small": None, "medium": pytest.approx(1.0), "large": None}


def random_images(rng, count):
    """Labels (some of them crowds), and detections: shifted ones, doubles, and inventions."""
    truth, found = [], []
    for _ in range(count):
        n = int(rng.integers(0, 7))
        boxes = np.column_stack([rng.uniform(0, 200, (n, 2)), rng.uniform(15, 90, (n, 2))])
        crowd = np.flatnonzero(rng.random(n) < 0.25)
        truth.append(_image(boxes, rng.integers(1, 5, n), crowd=crowd))
        shifted = np.concatenate([boxes, boxes[: n // 2]])
        shifted = shifted + rng.normal(0, 4, shifted.shape)
        more = np.column_stack([rng.uniform(0, 200, (3, 2)), rng.uniform(15, 90, (3, 2))])
        every = np.clip(np.concatenate([shifted, more]), 1, None)
        # Coarse scores, so that some are equal.
        scores = rng.integers(1, 20, len(every)) / 20
        found.append(_image(every, rng.integers(1, 5, len(every)), scores))
    return truth, found


@pytest.mark.parametrize("seed", range(4))
def test_the_matching_behind_the_intervals_gives_cocos_own_figures(seed):
    truth, found = random_images(np.random.default_rng(seed), 40)
    reference = average_precision(truth, found, CLASSES)
    ours = Matches.of(truth, found).precision(np.ones(40, np.int64))
    assert ours.mean() == pytest.approx(reference["ap"], abs=1e-6)
    assert ours[0] == pytest.approx(reference["ap50"], abs=1e-6)
    assert ours[5] == pytest.approx(reference["ap75"], abs=1e-6)


def test_a_weight_counts_an_image_that_often():
    truth, found = random_images(np.random.default_rng(7), 12)
    # Distinct scores: which of two equal ones stands first is not part of the definition.
    found = [(b, s + 1e-4 * k + 1e-6 * np.arange(len(s)), lb) for k, (b, s, lb) in enumerate(found)]
    weights = np.array([0, 1, 2] * 4)
    drawn = np.repeat(np.arange(12), weights)
    copies = Matches.of([truth[i] for i in drawn], [found[i] for i in drawn])
    np.testing.assert_allclose(
        Matches.of(truth, found).precision(weights),
        copies.precision(np.ones(len(drawn), np.int64)),
        atol=0.01,
    )


def test_intervals_hold_the_figure_and_narrow_with_more_scenes():
    truth, found = random_images(np.random.default_rng(1), 120)
    result = average_precision(truth, found, CLASSES)
    many = precision_intervals(truth, found, [i // 2 for i in range(120)])
    few = precision_intervals(truth[:20], found[:20], [i // 2 for i in range(20)])
    for key in ("ap", "ap50"):
        low, high = many[key]
        assert low < result[key] < high
        assert high - low < few[key][1] - few[key][0]
    assert precision_intervals(truth[:2], found[:2], [0, 0]) == {"ap": None, "ap50": None}


def test_without_any_detection_the_precision_is_zero():
    truth, _ = random_images(np.random.default_rng(2), 5)
    nothing = [_image([], [], [])] * 5
    assert (Matches.of(truth, nothing).precision(np.ones(5, np.int64)) == 0.0).all()


def test_the_best_threshold_parts_right_from_wrong():
    truth = [_image(BOXES, [1, 4]), _image(BOXES, [1, 4], crowd=[1])]
    wrong = [200, 10, 20, 20]
    found = [
        _image([*BOXES, wrong], [1, 4, 1], [0.9, 0.7, 0.4]),
        # On a crowd a detection counts for nothing, whatever its score.
        _image([*BOXES, wrong], [1, 4, 1], [0.8, 0.65, 0.5]),
    ]
    assert 0.65 <= best_threshold(truth, found) <= 0.7
    assert best_threshold(truth, [_image([], [], []), _image([], [], [])]) == 0.5
