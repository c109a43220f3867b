from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from perception.cloud import CloudConfig, clean, flying
from robot import geometry
from robot.types import Pose, RgbdFrame
from tests.perception.blocks import X_OVERHEAD, Block, look

BLOCK = Block((0.5, 0.05), (0.10, 0.06, 0.06), yaw=0.3)


def test_points_between_an_edge_and_its_background_are_removed():
    frame, _ = look([BLOCK], "wrist")
    depth = frame.depth_m.copy()
    mixed = [(20, 30), (100, 200), (150, 80), (200, 250)]
    for row, column in mixed:
        depth[row, column] -= 0.03
    marked = flying(depth, CloudConfig())
    assert all(marked[row, column] for row, column in mixed)
    # The surfaces themselves stay, up to their very edges.
    assert marked.mean() < 0.003


def test_pixels_without_depth_are_not_good():
    frame, _ = look([BLOCK])
    depth = frame.depth_m.copy()
    depth[:100] = 0.0
    depth[100, :10] = np.nan
    cloud = clean(RgbdFrame("overhead", 0, frame.rgb, depth, frame.intrinsics, X_OVERHEAD),
                  CloudConfig())  # fmt: skip
    assert not cloud.good[:100].any()
    assert not cloud.good[100, :10].any()
    assert np.isfinite(cloud.points).all()
    assert cloud.good[110:].mean() > 0.99


def test_an_object_keeps_the_rim_that_lost_its_depth():
    frame, _ = look([BLOCK])
    exact = clean(frame, CloudConfig())
    depth = frame.depth_m.copy()
    steep = np.abs(np.diff(depth, axis=1, prepend=depth[:, :1])) > 0.02
    depth[steep] = 0.0
    cloud = clean(replace(frame, depth_m=depth), CloudConfig())
    rim = steep & cloud.filled
    assert rim.sum() > 20
    assert not (cloud.filled & cloud.good).any()
    # A filled pixel takes the nearer side's depth.
    assert (cloud.depth_m[rim] <= exact.depth_m[rim] + 1e-3).all()
    deep = clean(replace(frame, depth_m=np.where(steep, 0, depth)), CloudConfig(fill_px=0))
    assert not deep.filled.any()


@pytest.mark.parametrize("sigma_m", [0.001, 0.003, 0.005])
def test_the_table_tells_how_noisy_depth_is(sigma_m):
    rng = np.random.default_rng(1)
    for camera in ("overhead", "wrist"):
        frame, _ = look([BLOCK], camera, rng=rng, sigma_m=sigma_m)
        assert clean(frame, CloudConfig()).noise_m == pytest.approx(sigma_m, rel=0.25)


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0.7, -0.7, 0]])
def test_the_table_corrects_a_wrong_camera_pose(axis):
    turn = geometry.matrix_from_quat(
        geometry.quat_from_axis_angle(np.array(axis, float), math.radians(0.7))
    )
    actual = Pose.from_matrix(
        "world",
        "overhead",
        X_OVERHEAD.rotation @ turn,
        X_OVERHEAD.position_m + np.array([0, 0, 0.003]),
    )
    frame, _ = look([BLOCK], actual=actual)
    config = CloudConfig()
    raw = clean(frame, replace(config, level=False))
    level = clean(frame, config)
    assert level.tilt_rad == pytest.approx(math.radians(0.7), abs=0.002)

    def error(cloud):
        top = cloud.points[cloud.good & (cloud.points[..., 2] > 0.045)]
        middle = 0.5 * (top.min(axis=0) + top.max(axis=0))[:2]
        return np.hypot(*(middle - BLOCK.xy)), abs(np.median(top[:, 2]) - BLOCK.size[2])

    assert error(raw)[0] > 0.008
    assert error(level)[0] < 0.0045  # a pixel is 2.5 mm wide
    assert error(level)[1] < 0.001


def test_a_steep_table_is_no_calibration_error():
    turn = geometry.matrix_from_quat(geometry.quat_from_axis_angle(np.array([1.0, 0, 0]), 0.06))
    actual = Pose.from_matrix("world", "o", X_OVERHEAD.rotation @ turn, X_OVERHEAD.position_m)
    frame, _ = look([], actual=actual)
    assert clean(frame, CloudConfig()).tilt_rad == 0.0


def test_noise_alone_does_not_tilt_the_table():
    rng = np.random.default_rng(0)
    tilts = [
        clean(look([BLOCK], rng=rng, sigma_m=0.003)[0], CloudConfig()).tilt_rad for _ in range(5)
    ]
    assert max(tilts) == 0.0
