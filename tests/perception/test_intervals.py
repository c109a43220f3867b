from __future__ import annotations

import numpy as np
import pytest

from perception.intervals import median_of, scene_interval


def test_the_interval_of_a_mean_is_the_one_that_theory_gives():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = scene_interval(lambda w: float((values * w).sum() / w.sum()), len(values))
    spread = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - spread, abs=0.03)
    assert high == pytest.approx(values.mean() + spread, abs=0.03)


def test_scenes_are_drawn_whole():
    """Ten equal values in a scene tell no more than one does."""
    values = np.random.default_rng(1).normal(size=60)
    one = scene_interval(median_of([[v] for v in values]), 60)
    ten = scene_interval(median_of([[v] * 10 for v in values]), 60)
    assert ten == pytest.approx(one, abs=0.02)


def test_what_is_not_known_has_no_interval():
    assert scene_interval(lambda w: 1.0, 1) is None
    assert scene_interval(median_of([[], [], []]), 3) is None
    # Scenes without a value do not count against the others.
    low, high = scene_interval(median_of([[2.0], [], [2.0]]), 3)
    assert low == high == 2.0
