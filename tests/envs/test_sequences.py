from __future__ import annotations

import numpy as np
import pytest

from configs.load import find, load
from envs.synthesis.maker import SceneMaker, ScenesConfig
from envs.synthesis.sequences import SLIDE_M, sequence, slide

CONFIG = load(ScenesConfig, find("protocol", "scenes"))


@pytest.fixture(scope="module")
def maker():
    made = SceneMaker(CONFIG, "validation", 3)
    yield made
    made.close()


def test_a_sequence_shows_one_table_from_shifting_places_with_one_object_sliding(maker):
    looks = sequence(maker, 1, 4)
    assert len(looks) == 4
    names = [[o["object"] for o in scene.objects] for scene in looks]
    assert names[0] and names.count(names[0]) == 4
    places = np.array([[o["position_m"][:2] for o in scene.objects] for scene in looks])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    assert (steps[1] < 1e-9).all()  # before the third look everything rests
    for step in (steps[0], steps[2]):
        moved = step > 1e-9
        assert moved.sum() <= 1
        assert ((step[moved] >= SLIDE_M[0]) & (step[moved] <= SLIDE_M[1])).all()
    assert (steps > 1e-9).any()
    for camera in range(2):
        eyes = [scene.views[camera].frame.X_world_cam.position_m for scene in looks]
        shifts = np.linalg.norm(np.diff(eyes, axis=0), axis=1)
        assert (shifts > 1e-5).all() and (shifts < 0.15).all()


def test_a_sequence_is_the_same_whatever_came_before(maker):
    first = sequence(maker, 2, 2)
    sequence(maker, 0, 1)
    again = sequence(maker, 2, 2)
    for one, other in zip(first, again, strict=True):
        assert one.objects == other.objects
        for a, b in zip(one.views, other.views, strict=True):
            np.testing.assert_array_equal(a.frame.depth_m, b.frame.depth_m)
            np.testing.assert_array_equal(a.frame.rgb, b.frame.rgb)


def test_nothing_is_slid_into_another_thing(maker):
    rng = np.random.default_rng(0)
    for number in range(3):
        setting = maker.lay(np.random.default_rng([5, number]))
        body = slide(maker.world, list(setting.instances), rng)
        if body is None:
            continue
        low, high = maker.world.aabb(body)
        for other in maker.world.bodies:
            if other != body:
                lower, upper = maker.world.aabb(other)
                assert (low[:2] > upper[:2]).any() or (high[:2] < lower[:2]).any()
    assert slide(maker.world, [], rng) is None
