from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from perception.fusion import Fusion
from perception.watch import CameraWatch
from robot.errors import SensorError
from robot.geometry import yaw_between
from robot.types import Look
from tests.perception.blocks import Block, look

BLOCK = Block((0.45, 0.02), (0.09, 0.04, 0.05), yaw=0.3)
CAMERAS = ("overhead", "wrist")


class Shows:
    """A camera whose table can be changed."""

    def __init__(self, name, blocks):
        self.name, self.blocks, self.stamp_s, self.broken = name, blocks, 0.0, False

    def read(self):
        if self.broken:
            raise SensorError(f"camera {self.name}: returned no frame")
        return look(self.blocks, self.name, self.stamp_s)[0]


def nothing(points):
    return np.zeros(len(points), dtype=bool)


def watching(blocks=(BLOCK,), own=nothing, watched=0):
    cameras = [Shows(name, blocks) for name in CAMERAS]
    frames, found = zip(*(look(blocks, name) for name in CAMERAS), strict=True)
    objects, grid = Fusion().update(list(frames), [list(f) for f in found], None)
    at = np.array(blocks[watched].xy)
    obj = min(objects, key=lambda o: np.hypot(*(o.X_world_obj.position_m[:2] - at)))
    watch = CameraWatch(cameras, own)
    watch.begin(Look(tuple(objects), grid, 0.0, "camera"), obj, 0.0)
    return watch, cameras, obj


def show(cameras, blocks, stamp_s):
    for camera in cameras:
        camera.blocks, camera.stamp_s = blocks, stamp_s


def moved(block, shift, turn=0.0):
    return replace(block, xy=tuple(np.add(block.xy, shift)), yaw=block.yaw + turn)


def seen_after(watch, cameras, blocks):
    show(cameras, blocks, 0.2)
    assert watch.read(0.2) is None  # not yet computed
    return watch.read(0.3)


@pytest.mark.parametrize(
    ("shift", "turn"),
    [((0.0, 0.0), 0.0), ((0.04, -0.03), 0.0), ((0.0, 0.0), 0.6), ((-0.03, 0.02), -0.4)],
)
def test_it_tells_where_the_object_went_and_how_far_it_turned(shift, turn):
    watch, cameras, first = watching()
    state = seen_after(watch, cameras, (moved(BLOCK, shift, turn),))
    way = (state.X_world_obj.position_m - first.X_world_obj.position_m)[:2]
    np.testing.assert_allclose(way, shift, atol=0.003)
    assert yaw_between(first.X_world_obj.rotation, state.X_world_obj.rotation) == pytest.approx(
        turn, abs=0.06
    )
    assert state.stamp_s == 0.2
    assert state.moving == (math.hypot(*shift) > 0.01)
    assert (state.object_id, state.class_name) == (first.object_id, first.class_name)


def test_a_hand_over_it_that_the_robot_knows_of_changes_nothing():
    shift = (0.03, 0.0)
    there = moved(BLOCK, shift)
    hand = Block((there.xy[0] + 0.04, there.xy[1]), (0.05, 0.12, 0.05), bottom_m=0.06)

    def own(points):
        apart = np.abs(points - [*hand.xy, hand.bottom_m + 0.025])
        return (apart < [0.04, 0.075, 0.04]).all(axis=1)

    watch, cameras, first = watching(own=own)
    state = seen_after(watch, cameras, (there, hand))
    way = (state.X_world_obj.position_m - first.X_world_obj.position_m)[:2]
    np.testing.assert_allclose(way, shift, atol=0.006)


def test_what_was_taken_away_is_not_guessed():
    watch, cameras, _ = watching()
    assert seen_after(watch, cameras, ()) is None


def test_another_shape_in_its_place_is_not_taken_for_it():
    watch, cameras, _ = watching((Block((0.45, 0.02), (0.11, 0.02, 0.03)),))
    tall = Block((0.47, 0.03), (0.05, 0.05, 0.048))
    assert seen_after(watch, cameras, (tall,)) is None


def test_spots_of_noise_around_it_do_not_hide_it():
    rng = np.random.default_rng(0)
    watch, cameras, first = watching()
    shift = (0.03, -0.02)
    places = [(x, y) for x in (0.38, 0.55) for y in (-0.06, -0.02, 0.06, 0.10)]
    spots = [Block(xy, (0.006, 0.006, rng.uniform(0.009, 0.014))) for xy in places]
    state = seen_after(watch, cameras, (moved(BLOCK, shift), *spots))
    way = (state.X_world_obj.position_m - first.X_world_obj.position_m)[:2]
    np.testing.assert_allclose(way, shift, atol=0.003)


def test_what_stood_beside_it_and_still_stands_is_not_taken_for_a_part_of_it():
    beside = Block((0.45, 0.10), (0.05, 0.05, 0.045))
    watch, cameras, first = watching((BLOCK, beside))
    shift = (0.035, -0.02)
    state = seen_after(watch, cameras, (moved(BLOCK, shift), beside))
    way = (state.X_world_obj.position_m - first.X_world_obj.position_m)[:2]
    np.testing.assert_allclose(way, shift, atol=0.003)


def test_of_an_object_that_the_hand_hides_an_end_is_enough():
    long = Block((0.45, 0.02), (0.14, 0.03, 0.04), yaw=0.4)
    shift = (0.02, 0.03)
    there = moved(long, shift)
    end = np.add(there.xy, 0.05 * np.array([np.cos(0.4), np.sin(0.4)]))

    def own(points):  # all but 4 cm of it
        return np.hypot(*(points[:, :2] - end).T) > 0.03

    watch, cameras, first = watching((long,), own)
    state = seen_after(watch, cameras, (there,))
    way = (state.X_world_obj.position_m - first.X_world_obj.position_m)[:2]
    np.testing.assert_allclose(way, shift, atol=0.006)


def test_one_camera_is_enough_and_none_tells_nothing():
    watch, cameras, first = watching()
    cameras[1].broken = True
    state = seen_after(watch, cameras, (moved(BLOCK, (0.02, 0.01)),))
    way = (state.X_world_obj.position_m - first.X_world_obj.position_m)[:2]
    np.testing.assert_allclose(way, (0.02, 0.01), atol=0.003)
    cameras[0].broken = True
    assert watch.read(0.4) is None
    assert watch.read(0.6) is None


def test_it_looks_at_its_own_rate_and_tells_each_sight_once():
    watch, cameras, _ = watching()
    told = []
    for t in np.arange(0.0, 1.0, 0.05):
        show(cameras, (BLOCK,), float(t))
        if watch.read(float(t)) is not None:
            told.append(t)
    np.testing.assert_allclose(told, [0.3, 0.5, 0.7, 0.9])
