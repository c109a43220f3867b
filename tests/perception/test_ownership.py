from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from perception.ownership import OwnershipConfig, owners
from robot.types import Detection

ROWS, COLUMNS = 120, 160
CONFIG = OwnershipConfig()
GREY, RED, BLUE = (120, 120, 115), (200, 40, 30), (30, 50, 190)


def _owners(regions, boxes, sigma_m=0.003, config=CONFIG, unknown=None, seed=0):
    """Regions are (mask, height m, colour) on a grey table."""
    rng = np.random.default_rng(seed)
    height = np.zeros((ROWS, COLUMNS), np.float32)
    rgb = np.empty((ROWS, COLUMNS, 3), np.uint8)
    rgb[:] = GREY
    for mask, z, colour in regions:
        height[mask], rgb[mask] = z, colour
    noise = cv2.GaussianBlur(rng.standard_normal(height.shape).astype(np.float32), (0, 0), 3)
    height = height + noise * np.float32(sigma_m / noise.std())
    if unknown is not None:
        height[unknown] = np.nan
    with np.errstate(invalid="ignore"):
        above = np.nan_to_num(height, nan=-1.0) > 0.006
    usable = np.ones_like(above)
    detections = [Detection(box, 0.9, "box") for box in boxes]
    return owners(rgb, height, above, usable, detections, sigma_m, config)


def _disc(x, y, radius):
    v, u = np.mgrid[:ROWS, :COLUMNS]
    return np.hypot(u - x, v - y) < radius


def _accuracy(owner, masks):
    truth = np.full(owner.shape, -1)
    for index, mask in enumerate(masks):
        truth[mask] = index
    near = np.any(masks, axis=0) | (owner >= 0)
    return (owner == truth)[near].mean()


def test_colour_tells_touching_things_in_overlapping_boxes_apart():
    # A bar that leads into the other thing's box.
    v, u = np.mgrid[:ROWS, :COLUMNS]
    bar = np.abs((v - 60) - 0.6 * (u - 60)) < 8
    bar &= (u > 20) & (u < 100)
    block = (u > 62) & (u < 95) & (v > 30) & (v < 60) & ~bar
    boxes = [(20.0, 26.0, 81.0, 68.0), (62.0, 30.0, 34.0, 31.0)]
    regions = [(bar, 0.03, RED), (block, 0.032, BLUE)]
    owner, _ = _owners(regions, boxes)
    first, _ = _owners(regions, boxes, config=replace(CONFIG, rounds=0))
    assert _accuracy(owner, [bar, block]) > 0.95
    assert _accuracy(owner, [bar, block]) > _accuracy(first, [bar, block]) + 0.05


def test_height_tells_things_of_one_colour_apart():
    v, u = np.mgrid[:ROWS, :COLUMNS]
    low = (u > 30) & (u < 90) & (v > 40) & (v < 60)
    tall = (u > 70) & (u < 110) & (v > 60) & (v < 100)
    boxes = [(30.0, 40.0, 60.0, 30.0), (70.0, 50.0, 40.0, 50.0)]
    owner, _ = _owners([(low, 0.03, RED), (tall, 0.09, RED)], boxes)
    assert _accuracy(owner, [low, tall]) > 0.95


@pytest.mark.parametrize("sigma_m", [0.003, 0.005])
def test_noise_on_the_table_is_no_part_of_an_object(sigma_m):
    disc = _disc(80, 60, 20)
    owner, _ = _owners([(disc, 0.04, RED)], [(60.0, 40.0, 40.0, 40.0)], sigma_m)
    assert ((owner == 0) & ~disc).sum() < 0.04 * disc.sum()
    assert ((owner == 0) & disc).sum() > 0.96 * disc.sum()


def test_a_tall_thing_that_was_not_detected_stays_out_of_a_box_that_it_reaches_into():
    u = np.arange(COLUMNS)[None, :] + np.zeros((ROWS, 1))
    crate, disc = u > 92, _disc(80, 60, 13)
    disc &= ~crate
    owner, _ = _owners([(disc, 0.04, RED), (crate, 0.1, BLUE)], [(67.0, 47.0, 32.0, 26.0)])
    assert ((owner == 0) & crate).sum() < 0.05 * disc.sum()
    assert ((owner == 0) & disc).sum() > 0.9 * disc.sum()


def test_colour_decides_where_there_is_no_depth():
    disc = _disc(80, 60, 20)
    rim = disc & ~_disc(80, 60, 18) | _disc(80, 60, 22) & ~disc
    owner, _ = _owners([(disc, 0.04, RED)], [(60.0, 40.0, 40.0, 40.0)], unknown=rim)
    assert ((owner == 0) & disc & rim).sum() > 0.85 * (disc & rim).sum()
    assert ((owner == 0) & ~disc & rim).sum() < 0.15 * (~disc & rim).sum()


def test_nothing_is_owned_without_detections_or_outside_the_image():
    disc = _disc(80, 60, 20)
    owner, spans = _owners([(disc, 0.04, RED)], [])
    assert (owner == -1).all()
    assert spans == []
    owner, spans = _owners([(disc, 0.04, RED)], [(400.0, 400.0, 10.0, 10.0)])
    assert (owner == -1).all()
    assert owner[spans[0]].size == 0


def test_an_undetected_thing_that_fills_a_corner_of_a_box_is_not_part_of_it():
    # A bar across its box, and a crate, mostly outside, that reaches far into the box's corner.
    v, u = np.mgrid[:ROWS, :COLUMNS]
    bar = (np.abs((v - 60) - (u - 80)) < 7) & (u > 55) & (u < 105)
    crate = (u - v > 31) & (u > 83) & (v < 77) & (u < 125) & (v > 5)
    box = [(55.0, 35.0, 50.0, 50.0)]
    owner, _ = _owners([(bar, 0.033, RED), (crate, 0.09, BLUE)], box)
    mine = owner == 0
    assert (mine & bar).sum() > 0.95 * bar.sum()
    assert (mine & crate).sum() < 0.03 * bar.sum()
