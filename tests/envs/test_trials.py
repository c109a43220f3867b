"""Grasp trials in the simulator: real ones, few of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from configs.load import digest
from envs.synthesis.trials import TrialMaker, TrialsConfig, generate_trials
from perception.coco import DatasetError
from perception.trials import SCENES, SceneTrials, read_info, read_trials

CONFIG = TrialsConfig(objects=(0.5, 0.5), best_n=1, wide_n=1, poor_n=0, shifted_n=2)
# Shifted so far that the fingers close beside whatever lies there.
FAR = TrialsConfig(objects=(1.0,), best_n=2, wide_n=0, poor_n=0, shifted_n=3, shift_m=0.1)


def same(a: SceneTrials, b: SceneTrials) -> bool:
    return (
        np.array_equal(a.height_map.height_m, b.height_map.height_m)
        and a.outcomes == b.outcomes
        and a.object_names == b.object_names
        and all(
            np.array_equal(x.X_world_grasp.matrix, y.X_world_grasp.matrix)
            for x, y in zip(a.candidates, b.candidates, strict=True)
        )
    )


@pytest.fixture(scope="module")
def scenes() -> list[SceneTrials]:
    maker = TrialMaker(FAR, "primitives", 4)
    try:
        return [maker.scene(number) for number in range(3)]
    finally:
        maker.close()


def test_planned_grips_hold_more_often_than_those_moved_far_away(scenes):
    held = {"best": [], "shifted": []}
    for scene in scenes:
        assert 1 <= len(scene.candidates) <= 5
        assert len(scene.object_names) == 1
        for source, outcome in zip(scene.sources, scene.outcomes, strict=True):
            held[source].append(outcome == "held")
    assert np.mean(held["best"]) > 0.6 > 0.5 > np.mean(held["shifted"])


def test_the_look_is_a_cameras_not_the_truth(scenes):
    for scene in scenes:
        bare = scene.height_map.height_m[scene.height_map.seen]
        assert 0 < np.median(bare[bare < 0.01]) < 0.005  # noise over the table
        assert scene.height_map.height_m.max() > 0.015


def test_a_scene_depends_on_seed_and_number_alone(scenes):
    maker = TrialMaker(FAR, "primitives", 4)
    try:
        assert same(maker.scene(2), scenes[2])  # out of order
        assert not same(maker.scene(1), scenes[2])
    finally:
        maker.close()


def test_a_set_is_written_resumed_and_claimed(tmp_path):
    steps = []
    tell = lambda done, of: steps.append((done, of))  # noqa: E731
    generate_trials(tmp_path, "validation", 2, 7, CONFIG, progress=tell)
    assert steps == [(1, 2), (2, 2)]
    first = tmp_path / SCENES / "000000.npz"
    before = first.stat().st_mtime_ns
    (tmp_path / SCENES / "000001.npz").unlink()
    kept = read_trials(tmp_path)[0]
    generate_trials(tmp_path, "validation", 2, 7, CONFIG)
    assert first.stat().st_mtime_ns == before
    again = read_trials(tmp_path)
    assert len(again) == 2 and same(again[0], kept)
    assert all(int(n) % 10 == 5 for s in again for n in s.object_names if n.isdigit())
    assert read_info(tmp_path)["trials_hash"] == digest(CONFIG)
    json.dumps(read_info(tmp_path))
    with pytest.raises(DatasetError, match="already holds another set"):
        generate_trials(tmp_path, "validation", 2, 8, CONFIG)
    with pytest.raises(DatasetError, match="test objects"):
        generate_trials(tmp_path / "t", "test", 2, 8, CONFIG)


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path):
    one = read_trials(generate_trials(tmp_path / "a", "train", 2, 5, CONFIG))
    two = read_trials(generate_trials(tmp_path / "b", "train", 2, 5, CONFIG, workers=2))
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
