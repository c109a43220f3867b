from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception.shape import ShapeConfig, box_of, top_of
from robot.geometry import wrap_angle

CONFIG = ShapeConfig()


@dataclass(frozen=True)
class View:
    points: np.ndarray
    noise_m: float = 0.0005
    pixel_m: float = 0.002


def _block(size, yaw=0.0, xy=(0.5, 0.0), step_m=0.002):
    """Points on top of a box, one for each pixel: the middles of cells of ``step_m``."""
    u, v = (np.arange(-s / 2 + step_m / 2, s / 2, step_m) for s in size[:2])
    u, v = (g.ravel() for g in np.meshgrid(u, v))
    c, s = math.cos(yaw), math.sin(yaw)
    return np.column_stack([xy[0] + c * u - s * v, xy[1] + s * u + c * v, np.full(u.size, size[2])])


@given(
    st.floats(0.3, 0.7), st.floats(-0.3, 0.3), st.floats(-3.1, 3.1),
    st.floats(0.08, 0.2), st.floats(0.02, 0.05), st.floats(0.02, 0.1),
)  # fmt: skip
def test_a_box_comes_back_with_place_yaw_and_size(x, y, yaw, length, width, height):
    view = View(_block((length, width, height), yaw, (x, y)))
    centre, found_yaw, size = box_of([view], False, CONFIG)
    np.testing.assert_allclose(centre, [x, y, height / 2], atol=0.0015)
    np.testing.assert_allclose(size, [length, width, height], atol=0.004)
    assert abs(wrap_angle(found_yaw - yaw, math.pi)) < math.radians(2)
    assert -math.pi / 2 <= found_yaw < math.pi / 2


def test_a_view_of_half_an_object_does_not_shrink_it():
    whole = View(_block((0.12, 0.05, 0.04)))
    half = View(whole.points[whole.points[:, 0] > 0.5])
    both = box_of([whole, half], False, CONFIG)
    alone = box_of([whole], False, CONFIG)
    for a, b in zip(both, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_views_that_disagree_a_little_meet_in_the_middle_and_sharper_ones_weigh_more():
    points = _block((0.12, 0.05, 0.04))
    shifted = points + np.array([0.003, 0.0, 0.0])

    def x(first_m, second_m):
        views = [View(points, first_m), View(shifted, second_m)]
        return box_of(views, False, CONFIG)[0][0]

    assert x(0.002, 0.002) == pytest.approx(0.5015, abs=2e-4)
    assert x(0.001, 0.005) < 0.5008
    assert x(0.005, 0.001) > 0.5022


def test_a_ball_is_completed_from_the_half_that_is_seen():
    rng = np.random.default_rng(0)
    way = rng.normal(size=(4000, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    seen = way[(way[:, 2] > -0.2) & (way[:, 0] > 0.1)]
    points = np.array([0.5, 0.1, 0.03]) + 0.03 * seen + rng.normal(0, 0.001, seen.shape)
    centre, _, size = box_of([View(points, 0.001)], True, CONFIG)
    np.testing.assert_allclose(centre, [0.5, 0.1, 0.03], atol=0.0015)
    np.testing.assert_allclose(size, 0.06, atol=0.003)
    plain, _, _ = box_of([View(points, 0.001)], False, CONFIG)
    assert plain[0] > 0.51


def test_what_is_called_a_ball_and_is_none_gets_a_box():
    _, _, size = box_of([View(_block((0.12, 0.05, 0.04)))], True, CONFIG)
    np.testing.assert_allclose(size, [0.12, 0.05, 0.04], atol=0.004)


def _correlated(shape, sigma_m, rng):
    noise = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), 3)
    return noise * sigma_m / noise.std()


def test_noise_neither_lifts_a_flat_top_nor_does_a_peak_lose_its_tip():
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:60, :60]
    flat, peak, raw = [], [], []
    for _ in range(30):
        noise = _correlated((60, 60), 0.003, rng)
        raw.append(0.05 + noise.max())
        for found, height in (
            (flat, np.full((60, 60), 0.05)),
            (peak, 0.05 * np.clip(1 - np.hypot(rows - 30, columns - 30) / 30, 0, 1)),
        ):
            points = np.column_stack([rows.ravel(), columns.ravel(), (height + noise).ravel()])
            found.append(top_of([View(points * [0.002, 0.002, 1.0], 0.003)], CONFIG))
    assert np.mean(raw) > 0.0585
    assert abs(np.mean(flat) - 0.05) < 0.003
    assert abs(np.mean(peak) - 0.05) < 0.003


def test_where_two_rectangles_are_about_as_small_noise_does_not_move_the_middle():
    """A triangle's least rectangle can lie along any of its sides: the area is the same."""
    rng = np.random.default_rng(2)
    u, v = np.meshgrid(np.arange(-0.06, 0.06, 0.002), np.arange(0, 0.1, 0.002))
    inside = np.abs(u) < 0.058 * (1 - v / 0.1)
    points = np.column_stack([u[inside], v[inside], np.full(inside.sum(), 0.03)])

    def spread(tie):
        config = ShapeConfig(tie=tie)
        middles = []
        for _ in range(30):
            noisy = points + np.append(
                rng.normal(0, 0.0007, (len(points), 2)), 0 * points[:, 2:], 1
            )
            middles.append(box_of([View(noisy)], False, config)[0][:2])
        return np.linalg.norm(np.std(middles, axis=0))

    assert spread(0.01) < 0.6 * spread(0.0001)


def _sides(size, base_m, step_m=0.002):
    """Points on top of a box and on the side that faces -x, from ``base_m`` up."""
    top = _block((size[0], size[1], base_m + size[2]))
    y, z = np.meshgrid(
        np.arange(-size[1] / 2, size[1] / 2, step_m), np.arange(base_m, base_m + size[2], step_m)
    )
    side = np.column_stack([np.full(y.size, 0.5 - size[0] / 2), y.ravel(), z.ravel()])
    return np.concatenate([top, side])


def test_a_box_on_another_object_does_not_reach_down_to_the_table():
    size = (0.06, 0.04, 0.05)
    centre, _, found = box_of([View(_sides(size, 0.07)[:, :3])], False, CONFIG)
    assert centre[2] == pytest.approx(0.07 + 0.025, abs=0.008)
    assert found[2] == pytest.approx(0.05, abs=0.016)
    centre, _, found = box_of([View(_sides((*size[:2], 0.12), 0.0))], False, CONFIG)
    assert centre[2] == pytest.approx(0.06, abs=0.002)
    assert found[2] == pytest.approx(0.12, abs=0.004)


def test_a_ball_on_another_object_is_as_large_as_it_is():
    rng = np.random.default_rng(1)
    way = rng.normal(size=(4000, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    seen = way[(way[:, 2] > -0.4) & (way[:, 0] > -0.5)]
    points = np.array([0.5, 0.1, 0.085]) + 0.025 * seen + rng.normal(0, 0.001, seen.shape)
    centre, _, size = box_of([View(points, 0.001)], True, CONFIG)
    np.testing.assert_allclose(centre, [0.5, 0.1, 0.085], atol=0.002)
    np.testing.assert_allclose(size, 0.05, atol=0.004)
