from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from configs.load import find, load
from envs.synthesis.scenes import SceneMaker, ScenesConfig, generate, scene_models, scene_stream
from perception import coco
from perception.camera import point_image

CONFIG = load(ScenesConfig, find("protocol", "scenes"))


@pytest.fixture(scope="module")
def scenes():
    return list(scene_stream("train", 4, seed=3, config=CONFIG))


def test_objects_for_training_validation_and_test_are_disjoint():
    names = {}
    for objects in ("train", "validation", "test"):
        models, _ = scene_models(objects)
        names[objects] = {model.name for model in models}
    assert len(names["train"]) + len(names["validation"]) >= 890
    assert len(names["test"]) == 100
    assert not names["train"] & names["validation"]
    assert not (names["train"] | names["validation"]) & names["test"]
    assert all(int(name) % 10 == 0 for name in names["test"])
    seeds = {scene_models(objects)[1] for objects in ("train", "validation", "test")}
    assert len(seeds) == 3


def test_labels_are_the_boxes_of_the_masks(scenes):
    labelled = 0
    for scene in scenes:
        assert [view.frame.camera for view in scene.views] == ["overhead", "wrist"]
        for view in scene.views:
            assert set(np.unique(view.mask)) - {0} == {lb["instance"] for lb in view.labels}
            for label in view.labels:
                rows, columns = np.nonzero(view.mask == label["instance"])
                x, y, w, h = label["bbox"]
                assert (x, y) == (columns.min(), rows.min())
                assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
                assert label["area"] == len(rows)
                enough = len(rows) >= CONFIG.least_visible_px
                enough &= label["visible_share"] >= CONFIG.least_visible_share
                assert label["iscrowd"] == (not enough)
                assert sum(label["segmentation"]["counts"]) == view.mask.size
                labelled += 1
    assert labelled > 5


def test_distractors_are_there_but_not_labelled():
    config = replace(CONFIG, objects=(1, 1), distractors=(3, 3), tray_share=0.0, hard_share=0.0)
    maker = SceneMaker(config, "train", 3)
    try:
        scene = maker.scene(0)
        bodies = list(maker.world.bodies.values())
    finally:
        maker.close()
    assert [b.model.name for b in bodies[:3]] and len(bodies) == 4
    assert {b.model.name for b in bodies[:3]} <= {"card", "crate", "drum"}
    assert [o["object"] for o in scene.objects] == [bodies[3].model.name]
    for view in scene.views:
        assert {label["object"] for label in view.labels} <= {bodies[3].model.name}


def test_the_true_box_holds_the_points_that_were_seen(scenes):
    checked = 0
    for scene in scenes:
        for view in scene.views:
            points, valid = point_image(view.frame)
            for label in view.labels:
                seen = points[(view.mask == label["instance"]) & valid]
                c, s = np.cos(label["yaw_rad"]), np.sin(label["yaw_rad"])
                turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
                local = (seen - label["position_m"]) @ turn.T
                # Depth noise, a pixel, and hard physics' camera error.
                beyond = np.abs(local) - np.array(label["dimensions_m"]) / 2
                assert np.median(beyond.max(axis=1)) < 0.015
                checked += 1
    assert checked > 5


def test_the_same_seed_and_number_give_the_same_scene(scenes):
    maker = SceneMaker(CONFIG, "train", 3)
    try:
        # Out of order: a scene must not depend on what was made before it.
        again = maker.scene(2)
    finally:
        maker.close()
    for a, b in zip(scenes[2].views, again.views, strict=True):
        np.testing.assert_array_equal(a.frame.rgb, b.frame.rgb)
        np.testing.assert_array_equal(a.frame.depth_m, b.frame.depth_m)
        assert a.labels == b.labels
    assert not np.array_equal(scenes[1].views[0].frame.rgb, again.views[0].frame.rgb)


def test_a_set_is_written_resumed_and_checked(tmp_path):
    config = replace(CONFIG, objects=(1, 2))
    steps = []
    generate(tmp_path, "validation", 2, 7, config, progress=lambda n, of: steps.append((n, of)))
    assert steps == [(1, 2), (2, 2)]
    first = coco.read(tmp_path)
    assert len(first) == 4
    assert first.info["objects"] == "validation"
    kept = (tmp_path / "scenes" / "000001.json").stat().st_mtime_ns
    generate(tmp_path, "validation", 3, 7, config)
    assert (tmp_path / "scenes" / "000001.json").stat().st_mtime_ns == kept
    second = coco.read(tmp_path)
    assert len(second) == 6
    assert second.images[:4] == first.images
    frame = second.frame(5)
    assert frame.camera == "wrist"
    assert (frame.depth_m > 0).mean() > 0.5
    with pytest.raises(coco.DatasetError, match="already holds another set"):
        generate(tmp_path, "validation", 3, 8, config)


def test_two_processes_write_what_one_writes(tmp_path):
    config = replace(CONFIG, objects=(1, 1))
    one = json.loads(generate(tmp_path / "a", "train", 2, 5, config).read_text())
    two = json.loads(generate(tmp_path / "b", "train", 2, 5, config, workers=2).read_text())
    assert one["annotations"] == two["annotations"]
