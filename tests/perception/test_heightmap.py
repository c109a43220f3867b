from __future__ import annotations

import numpy as np

from perception.camera import back_project
from perception.heightmap import HeightMapConfig, build_height_map, cells_of
from tests.perception.blocks import Block, look

BLOCK = Block((0.5, 0.05), (0.10, 0.06, 0.06))
CONFIG = HeightMapConfig()


def _at(grid, x, y):
    i, j = np.round((np.array([x, y]) - grid.origin_m) / grid.resolution_m).astype(int)
    return grid.height_m[i, j], grid.seen[i, j]


def test_heights_of_a_noisy_box_from_two_views():
    rng = np.random.default_rng(1)
    views = [
        back_project(look([BLOCK], camera, rng=rng, sigma_m=0.003)[0])
        for camera in ("overhead", "wrist")
    ]
    grid = build_height_map(views, CONFIG, 1.5)
    assert grid.stamp_s == 1.5
    assert grid.height_m.shape == CONFIG.shape == (201, 241)
    x, y = np.meshgrid(
        grid.origin_m[0] + grid.resolution_m * np.arange(201),
        grid.origin_m[1] + grid.resolution_m * np.arange(241),
        indexing="ij",
    )
    from_edge = np.maximum(np.abs(x - 0.5) - 0.05, np.abs(y - 0.05) - 0.03)
    top, table = from_edge < -0.005, from_edge > 0.02
    assert abs(grid.height_m[top].mean() - 0.06) < 0.002
    assert grid.height_m[table & grid.seen].mean() < 0.003
    assert np.percentile(grid.height_m[table & grid.seen], 99) < 0.012
    assert grid.seen[top].all()


def test_what_nobody_saw_is_marked_and_continues_its_surroundings():
    frame, _ = look([BLOCK], "overhead")
    points = back_project(frame)
    hidden = (np.hypot(points[:, 0] - 0.40, points[:, 1] + 0.1) < 0.015) | (points[:, 0] < 0.33)
    grid = build_height_map([points[~hidden]], CONFIG, 0.0)
    assert _at(grid, 0.40, -0.1)[0] < 1e-3
    assert not _at(grid, 0.40, -0.1)[1]
    assert _at(grid, 0.28, 0.0) == (0.0, False)
    assert np.isfinite(grid.height_m).all()


def test_the_arm_above_is_ignored():
    arm = np.array([[0.5, 0.0, 0.35]], np.float32)
    grid = build_height_map([arm], CONFIG, 0.0)
    assert grid.height_m.max() == 0.0
    assert not grid.seen.any()


def test_cells_are_numbered_as_documented():
    points = np.array([[0.25, -0.30, 0], [0.2526, -0.2976, 0], [0.24, 0, 0]], np.float32)
    assert cells_of(points, CONFIG).tolist() == [0, 241 + 1, -1]


def test_no_point_at_all_gives_an_unseen_table():
    grid = build_height_map([], CONFIG, 0.0)
    assert not grid.seen.any()
    assert (grid.height_m == 0).all()
