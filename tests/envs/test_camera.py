"""The simulated cameras: geometry against the truth, noise as configured."""

from __future__ import annotations

import numpy as np
import pytest

from envs.arm import SimArm
from envs.camera import (
    OVERHEAD,
    X_WORLD_OVERHEAD,
    Light,
    SimCamera,
    look_at,
    noisy_depth,
    render,
)
from envs.objects import ObjectModel
from envs.physics import DepthNoiseConfig, physics
from envs.world import World
from robot.errors import SensorError
from robot.limits import load_limits


@pytest.fixture(scope="module")
def world():
    made = World()
    SimArm(made, load_limits())
    made.add(
        ObjectModel("box", "box", dimensions_m=(0.1, 0.06, 0.05)), (0.5, 0.05, 0.025), (0, 0, 0, 1)
    )
    yield made
    made.close()


def camera(world: World) -> SimCamera:
    return SimCamera(
        world, "overhead", OVERHEAD, lambda: X_WORLD_OVERHEAD, np.random.default_rng(0)
    )


def points(frame):
    k = frame.intrinsics
    v, u = np.mgrid[: k.height_px, : k.width_px]
    z = frame.depth_m.astype(float)
    xyz = np.stack([(u - k.cx_px) / k.fx_px * z, (v - k.cy_px) / k.fy_px * z, z], axis=-1)
    return frame.X_world_cam.transform(xyz)


def test_depth_back_projects_onto_the_table_and_the_box(world):
    eye = camera(world)
    eye.noise = DepthNoiseConfig(sigma_m=0.0)
    frame, bodies = eye.capture()
    xyz = points(frame)
    on_table = bodies == world.table_id
    assert on_table.sum() > 30_000
    assert np.abs(xyz[on_table][:, 2]).max() < 0.003
    (box,) = world.bodies
    top = xyz[(bodies == box) & (xyz[..., 2] > 0.048)]
    assert abs(np.median(top[:, 2]) - 0.05) < 0.002
    assert abs(top[:, 0].mean() - 0.5) < 0.004
    assert abs(top[:, 1].mean() - 0.05) < 0.004


def test_noise_has_the_deviation_and_is_correlated(world):
    depth = np.full((240, 320), 1.0, dtype=np.float32)
    config = DepthNoiseConfig(sigma_m=0.003, correlation_px=6.0)
    noise = noisy_depth(depth, OVERHEAD, config, np.random.default_rng(1)) - 1.0
    assert abs(noise.std() - 0.003) < 3e-4
    near = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    far = np.corrcoef(noise[:, :-40].ravel(), noise[:, 40:].ravel())[0, 1]
    assert near > 0.8
    assert abs(far) < 0.2


def test_noise_grows_with_distance_and_grazing_surfaces_drop_out():
    config = physics("hard").depth_noise
    near = np.full((240, 320), 0.5, dtype=np.float32)
    rng = np.random.default_rng(2)
    a = noisy_depth(near, OVERHEAD, config, rng) - near
    b = noisy_depth(4 * near, OVERHEAD, config, rng) - 4 * near
    assert b.std() > 3.5 * a.std()
    slope = np.tile(np.linspace(0.5, 2.9, 320, dtype=np.float32), (240, 1))
    assert (noisy_depth(slope, OVERHEAD, config, rng) == 0).mean() > 0.05


def test_a_calibration_error_shows_in_the_image_but_not_in_the_reported_pose(world):
    eye = camera(world)
    eye.begin_episode(physics("hard"), np.random.default_rng(3))
    eye.noise = DepthNoiseConfig(sigma_m=0.0)
    frame, bodies = eye.capture()
    assert frame.X_world_cam is X_WORLD_OVERHEAD
    error = np.abs(points(frame)[bodies == world.table_id][:, 2])
    assert 0.0005 < error.max() < 0.02


def test_a_dead_camera_says_so(world):
    eye = camera(world)
    eye.working = False
    with pytest.raises(SensorError, match="overhead.*no frame"):
        eye.read()


def test_looking_straight_down_keeps_the_robot_at_the_lower_edge():
    pose = look_at("c", np.array([0.5, 0.0, 1.0]), np.array([0.5, 0.0, 0.0]))
    np.testing.assert_allclose(pose.rotation[:, 2], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(pose.rotation[:, 1], [-1, 0, 0], atol=1e-12)


def test_an_image_is_not_shifted_by_half_a_pixel():
    # The software renderer samples at whole pixels; a shift would bias every fused position.
    made = World()
    eye = np.array([0.5, 0.0, 1.0])
    pose = look_at("c", eye, np.array([0.5, 0.0, 0.0]))
    made.add(
        ObjectModel("box", "box", dimensions_m=(0.2, 0.2, 0.002)), (0.5, 0.0, 0.001), (0, 0, 0, 1)
    )
    _, _, bodies = render(made, OVERHEAD, pose.rotation, eye, Light())
    (box,) = made.bodies
    rows, columns = np.nonzero(bodies == box)
    made.close()
    assert abs(columns.mean() - OVERHEAD.cx_px) < 0.3
    assert abs(rows.mean() - OVERHEAD.cy_px) < 0.3
