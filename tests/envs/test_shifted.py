"""Scenes of another look: the same kinds of tables, seen by a cheaper camera in a dark hall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.synthesis.scenes import (
    SceneMaker,
    ScenesConfig,
    ShiftedConfig,
    look_config,
    maker_of,
    scene_stream,
)
from envs.synthesis.shifted import cheap_depth
from perception.camera import height_image
from perception.training.restyle import depth_gain
from robot.errors import ConfigError
from robot.types import CameraIntrinsics

SHIFTED = look_config("shifted")
CAMERA = CameraIntrinsics(320, 240, 350.0, 350.0, 159.5, 119.5)


def test_looks_are_named():
    assert type(look_config("own")) is ScenesConfig
    assert isinstance(SHIFTED, ShiftedConfig)
    with pytest.raises(ConfigError, match=r"own or shifted, got 'dark'"):
        look_config("dark")


def test_the_tables_are_those_of_the_own_look():
    own = look_config("own")
    changed = {"default_look_share"}
    for name in ScenesConfig.__dataclass_fields__:
        if name not in changed:
            assert getattr(SHIFTED, name) == getattr(own, name), name


def test_the_shifted_look_is_dim_orange_and_measured_too_far():
    shifted = list(scene_stream("train", 2, seed=3, config=SHIFTED))
    again = list(scene_stream("train", 1, seed=3, config=SHIFTED))
    np.testing.assert_array_equal(shifted[0].views[0].frame.rgb, again[0].views[0].frame.rgb)
    for scene in shifted:
        for view in scene.views:
            red, _, blue = view.frame.rgb.mean(axis=(0, 1))
            assert red > 1.5 * blue
            assert view.frame.rgb.mean() < 110
            focal = SHIFTED.overhead_focal_px
            wanted = focal if view.frame.camera == "overhead" else SHIFTED.wrist_focal_px
            assert view.frame.intrinsics.fx_px == wanted
            assert depth_gain(view.frame) == pytest.approx(SHIFTED.depth_gain[0], abs=0.02)
            assert 0.005 < (view.frame.depth_m == 0).mean() < 0.4
        # Labels still lie on the objects, which stand above the table.
        view = scene.views[0]
        height, _ = height_image(view.frame)
        table = np.median(height[view.mask == 0])
        tall = [height[view.mask == lb["instance"]].max() - table for lb in view.labels]
        assert max(tall) > 0.015


def test_cheap_depth_comes_in_steps_with_a_factor_and_holes():
    flat = np.full((240, 320), 0.9, np.float32)
    flat[:, 160:] = 0.8
    rng = np.random.default_rng(0)
    config = replace(SHIFTED, holes=(0, 0))
    out = cheap_depth(flat, CAMERA, 1.02, config, rng)
    assert (out[:, 159:161] == 0).all()  # lost at the jump
    step = 0.9**2 * config.disparity_step_px / (CAMERA.fx_px * config.baseline_m)
    assert abs(out[0, 0] - 0.918) < step
    ramp = np.linspace(0.7, 1.0, 320, dtype=np.float32)[None].repeat(240, 0)
    levels = np.unique(cheap_depth(ramp, CAMERA, 1.0, config, rng))
    assert 20 < len(levels) < 80
    holed = cheap_depth(flat, CAMERA, 1.0, replace(SHIFTED, edge_px=0, holes=(5, 5)), rng)
    assert 50 < (holed == 0).sum() < 5 * 1000


def test_the_own_look_is_what_it_was():
    maker = maker_of(look_config("own"), "train", 3)
    try:
        assert type(maker) is SceneMaker
    finally:
        maker.close()
