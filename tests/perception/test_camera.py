from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception.camera import back_project, check_frame, height_image, project
from robot.errors import SensorError
from robot.types import RgbdFrame
from tests.perception.blocks import OVERHEAD, X_OVERHEAD, X_WRIST, Block, look


def test_back_projected_points_lie_on_what_was_rendered():
    frame, _ = look([Block((0.5, 0.0), (0.1, 0.06, 0.05), yaw=0.4)])
    points = back_project(frame)
    assert points.shape == (320 * 240, 3)
    assert points.dtype == np.float32
    on_table = np.abs(points[:, 2]) < 1e-4
    on_top = np.abs(points[:, 2] - 0.05) < 1e-4
    assert on_table.sum() > 50_000
    assert on_top.sum() > 500
    assert points[:, 2].min() > -1e-4
    assert points[:, 2].max() < 0.0501


@given(
    st.floats(0.3, 0.7), st.floats(-0.25, 0.25), st.floats(0.0, 0.2),
    st.sampled_from([X_OVERHEAD, X_WRIST]),
)  # fmt: skip
def test_projecting_a_back_projected_pixel_returns_it(x, y, z, pose):
    pixels, depth = project(np.array([[x, y, z]]), OVERHEAD, pose)
    u, v = pixels[0]
    ray = np.array(
        [(u - OVERHEAD.cx_px) / OVERHEAD.fx_px, (v - OVERHEAD.cy_px) / OVERHEAD.fy_px, 1]
    )
    np.testing.assert_allclose(pose.transform(ray * depth[0]), [x, y, z], atol=1e-9)


def test_heights_agree_with_points_and_are_zero_without_depth():
    frame, _ = look([Block((0.5, 0.0), (0.1, 0.06, 0.05))], "wrist")
    depth = frame.depth_m.copy()
    depth[:50] = 0.0
    depth[60] = np.nan
    holed = RgbdFrame("wrist", 0.0, frame.rgb, depth, frame.intrinsics, frame.X_world_cam)
    height, valid = height_image(holed)
    assert not valid[:50].any()
    assert not valid[60].any()
    assert (height[:50] == 0).all()
    assert np.isfinite(height).all()
    np.testing.assert_allclose(height[valid], back_project(holed)[:, 2], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "now_s", "message"),
    [
        ({"depth": 0.0}, 0.0, "no pixel has a valid depth"),
        ({"depth": np.nan}, 0.0, "no pixel has a valid depth"),
        ({"rgb": 0}, 0.0, "all black"),
        ({}, 2.0, "2.000 s old"),
        ({}, -2.0, "in the future"),
    ],
)
def test_an_unusable_frame_is_refused_with_its_camera_and_reason(change, now_s, message):
    frame, _ = look([])
    depth = np.full_like(frame.depth_m, change["depth"]) if "depth" in change else frame.depth_m
    rgb = np.full_like(frame.rgb, change["rgb"]) if "rgb" in change else frame.rgb
    bad = RgbdFrame("overhead", 0.0, rgb, depth, frame.intrinsics, frame.X_world_cam)
    with pytest.raises(SensorError, match=message) as error:
        check_frame(bad, now_s, 1.0)
    assert "overhead" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_good_frame_passes():
    frame, _ = look([])
    check_frame(frame, 0.5, 1.0)
    check_frame(frame, None, 0.0)
