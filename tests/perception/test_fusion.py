from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from perception.fusion import Fusion, FusionConfig
from robot.errors import SensorError
from robot.geometry import wrap_angle
from robot.types import Detection, RgbdFrame
from tests.perception.blocks import Block, look

VIEWS = ("overhead", "wrist")


def _two(blocks, rng=None, sigma_m=0.0, stamp_s=0.0):
    looks = [look(blocks, view, stamp_s, rng, sigma_m) for view in VIEWS]
    return [frame for frame, _ in looks], [found for _, found in looks]


def _yaw(state):
    rotation = state.X_world_obj.rotation
    return math.atan2(rotation[1, 0], rotation[0, 0])


def test_objects_come_back_with_place_size_and_yaw():
    rng = np.random.default_rng(0)
    blocks = [
        Block((0.45, 0.10), (0.12, 0.05, 0.04), yaw=0.5, class_name="box"),
        Block((0.55, -0.08), (0.08, 0.04, 0.07), yaw=-1.1, class_name="irregular"),
        Block((0.40, -0.12), (0.05, 0.05, 0.05), yaw=0.2, class_name="ball"),
    ]
    frames, found = _two(blocks, rng, 0.003)
    objects, grid = Fusion().update(frames, found)
    assert len(objects) == 3
    assert sorted(o.object_id for o in objects) == [0, 1, 2]
    for block in blocks:
        state = min(objects, key=lambda o: np.hypot(*(o.X_world_obj.position_m[:2] - block.xy)))
        middle = [*block.xy, block.size[2] / 2]
        assert np.linalg.norm(state.X_world_obj.position_m - middle) < 0.005
        assert np.abs(state.dimensions_m - block.size).max() < 0.012
        assert state.class_name == block.class_name
        assert state.confidence > 0.95
        assert not state.moving
        if block.size[0] > 1.5 * block.size[1]:
            assert abs(wrap_angle(_yaw(state) - block.yaw, math.pi)) < math.radians(6)
    assert grid.height_m.max() > 0.05


def test_two_touching_boxes_stay_two():
    blocks = [
        Block((0.45, 0.0), (0.06, 0.05, 0.05)),
        Block((0.45, 0.052), (0.06, 0.05, 0.05), class_name="irregular"),
    ]
    objects, _ = Fusion().update(*_two(blocks, np.random.default_rng(2), 0.002))
    assert len(objects) == 2
    ys = sorted(o.X_world_obj.position_m[1] for o in objects)
    np.testing.assert_allclose(ys, [0.0, 0.052], atol=0.008)


def test_a_view_that_takes_two_objects_for_one_does_not_merge_them():
    blocks = [
        Block((0.45, -0.03), (0.05, 0.05, 0.05)),
        Block((0.45, 0.04), (0.05, 0.05, 0.05)),
    ]
    frames, (overhead, wrist) = _two(blocks)
    x0, y0, _, _ = np.min([d.box_xywh_px for d in overhead], axis=0)
    x1 = max(d.box_xywh_px[0] + d.box_xywh_px[2] for d in overhead)
    y1 = max(d.box_xywh_px[1] + d.box_xywh_px[3] for d in overhead)
    both = Detection((float(x0), float(y0), float(x1 - x0), float(y1 - y0)), 0.8, "box")
    objects, _ = Fusion().update(frames, [[both], wrist])
    assert len(objects) == 2
    for state in objects:
        assert state.dimensions_m[0] < 0.07


def test_an_object_that_no_detection_explains_is_kept_with_low_confidence():
    blocks = [Block((0.45, 0.1), (0.06, 0.05, 0.05)), Block((0.5, -0.1), (0.09, 0.04, 0.06))]
    frames, found = _two(blocks, np.random.default_rng(4), 0.003)
    known = [[d for d in one if d is one[0]] for one in found]
    fusion = Fusion()
    objects, _ = fusion.update(frames, known)
    assert len(objects) == 2
    extra = objects[1]
    assert extra.class_name == "irregular"
    assert extra.confidence == FusionConfig().missed_confidence
    assert np.hypot(*(extra.X_world_obj.position_m[:2] - blocks[1].xy)) < 0.01
    assert fusion.report.missed == 1


def test_an_empty_noisy_table_has_no_objects():
    rng = np.random.default_rng(5)
    fusion = Fusion()
    for _ in range(5):
        objects, grid = fusion.update(*_two([], rng, 0.003))
        assert objects == []
        assert np.percentile(grid.height_m[grid.seen], 99.9) < 0.012


def test_a_detection_of_nothing_makes_no_object():
    frames, _ = _two([])
    ghost = Detection((100.0, 100.0, 40.0, 40.0), 0.99, "box")
    fusion = Fusion()
    objects, _ = fusion.update(frames, [[ghost], []])
    assert objects == []
    assert fusion.report.without_geometry == 1


def test_what_is_outside_the_region_is_no_object():
    outside = Block((0.20, -0.40), (0.06, 0.05, 0.05))
    objects, _ = Fusion().update(*_two([outside]))
    assert objects == []


def test_numbers_stay_with_their_objects_and_motion_is_noticed():
    fusion = Fusion()
    a, b = Block((0.45, 0.1), (0.06, 0.05, 0.05)), Block((0.5, -0.1), (0.09, 0.04, 0.06))
    first, _ = fusion.update(*_two([a, b]))
    moved = replace(b, xy=(0.52, -0.08))
    second, _ = fusion.update(*_two([moved, a], stamp_s=0.2))

    def at(objects, block):
        return min(objects, key=lambda o: np.hypot(*(o.X_world_obj.position_m[:2] - block.xy)))

    assert at(second, a).object_id == at(first, a).object_id
    assert at(second, moved).object_id == at(first, b).object_id
    assert not at(second, a).moving
    assert at(second, moved).moving
    third, _ = fusion.update(*_two([a, Block((0.35, -0.2), (0.05, 0.04, 0.04))], stamp_s=0.4))
    assert {o.object_id for o in third} == {at(first, a).object_id, 2}
    fusion.reset()
    fourth, _ = fusion.update(*_two([a]))
    assert fourth[0].object_id == 0


def test_a_bad_frame_is_left_out_and_named():
    frames, found = _two([Block((0.45, 0.1), (0.06, 0.05, 0.05))])
    blind = RgbdFrame(
        "wrist", 0.0, frames[1].rgb, np.zeros_like(frames[1].depth_m), frames[1].intrinsics,
        frames[1].X_world_cam,
    )  # fmt: skip
    fusion = Fusion()
    objects, _ = fusion.update([frames[0], blind], found)
    assert len(objects) == 1
    assert fusion.report.used == ("overhead",)
    assert "no pixel has a valid depth" in fusion.report.dropped["wrist"]


def test_out_of_step_frames_are_not_mixed():
    (overhead, found_a), (wrist, found_b) = look([], "overhead", 0.0), look([], "wrist", 3.0)
    fusion = Fusion()
    fusion.update([overhead, wrist], [found_a, found_b])
    assert fusion.report.used == ("wrist",)
    assert "older than the newest" in fusion.report.dropped["overhead"]


def test_no_usable_frame_is_an_error():
    frame, found = look([])
    with pytest.raises(SensorError, match="no camera gave a frame"):
        Fusion().update([], [])
    with pytest.raises(SensorError, match=r"5\.000 s old"):
        Fusion().update([frame], [found], now_s=5.0)
    with pytest.raises(SensorError, match="1 frames but 2 lists"):
        Fusion().update([frame], [found, found])


def test_the_order_of_views_does_not_matter():
    blocks = [Block((0.45, 0.1), (0.06, 0.05, 0.05)), Block((0.5, -0.1), (0.09, 0.04, 0.06))]
    frames, found = _two(blocks)
    one, grid_one = Fusion().update(frames, found)
    two, grid_two = Fusion().update(frames[::-1], found[::-1])
    np.testing.assert_allclose(grid_one.height_m, grid_two.height_m, atol=1e-6)
    a = sorted(o.X_world_obj.position_m.tolist() for o in one)
    b = sorted(o.X_world_obj.position_m.tolist() for o in two)
    np.testing.assert_allclose(a, b, atol=1e-6)


def _errors(seeds, sigma_m, views=VIEWS):
    """Position (mm), yaw (deg, elongated ones) and dimension (mm) errors over random tables."""
    position, yaws, dims, blocks_n = [], [], [], 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        blocks: list[Block] = []
        while len(blocks) < 6:
            xy = tuple(rng.uniform([0.36, -0.14], [0.62, 0.14]))
            size = (rng.uniform(0.05, 0.12), rng.uniform(0.025, 0.05), rng.uniform(0.025, 0.08))
            if all(np.hypot(*np.subtract(xy, b.xy)) > 0.085 for b in blocks):
                blocks.append(Block(xy, size, rng.uniform(-1.5, 1.5)))
        looks = [look(blocks, view, 0.0, rng, sigma_m) for view in views]
        objects, _ = Fusion().update([f for f, _ in looks], [d for _, d in looks])
        blocks_n += len(blocks)
        for block in blocks:
            state = min(objects, key=lambda o: np.hypot(*(o.X_world_obj.position_m[:2] - block.xy)))
            middle = [*block.xy, block.size[2] / 2]
            position.append(np.linalg.norm(state.X_world_obj.position_m - middle) * 1e3)
            dims.append(np.abs(state.dimensions_m - block.size).mean() * 1e3)
            if block.size[0] > 1.5 * block.size[1]:
                yaws.append(abs(math.degrees(wrap_angle(_yaw(state) - block.yaw, math.pi))))
    return position, yaws, dims


def test_accuracy_through_nominal_noise():
    position, yaws, dims = _errors(range(8), 0.003)
    assert np.median(position) < 2.0
    assert np.percentile(position, 95) < 6.0
    assert np.median(yaws) < 1.5
    assert np.median(dims) < 3.0


def test_accuracy_through_twice_the_noise():
    position, yaws, dims = _errors(range(8), 0.006)
    assert np.median(position) < 4.0
    assert np.percentile(position, 95) < 12.0
    assert np.median(yaws) < 3.0
    assert np.median(dims) < 5.0


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_one_to_four_cameras(n):
    rng = np.random.default_rng(n)
    blocks = [
        Block((0.45, 0.10), (0.10, 0.04, 0.04), yaw=0.5),
        Block((0.5, -0.1), (0.06, 0.05, 0.06)),
    ]
    looks = [look(blocks, VIEWS[i % 2], 0.0, rng, 0.003) for i in range(n)]
    frames = [replace(frame, camera=f"camera{i}") for i, (frame, _) in enumerate(looks)]
    fusion = Fusion()
    objects, grid = fusion.update(frames, [found for _, found in looks])
    assert len(objects) == 2
    assert fusion.report.used == tuple(f"camera{i}" for i in range(n))
    for block in blocks:
        middle = [*block.xy, block.size[2] / 2]
        distance = [np.linalg.norm(o.X_world_obj.position_m - middle) for o in objects]
        assert min(distance) < 0.008
    assert grid.seen.mean() > 0.5


def test_furniture_and_rough_noise_are_no_missed_objects():
    rng = np.random.default_rng(8)
    crate = Block((0.5, 0.05), (0.20, 0.16, 0.06), yaw=0.3)
    frames, _ = _two([crate], rng, 0.005)
    objects, _ = Fusion().update(frames, [[], []])
    assert objects == []
