from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from perception.oriented_box import oriented_box
from robot.geometry import wrap_angle
from tests.perception.blocks import Block


@given(
    st.floats(0.3, 0.7), st.floats(-0.3, 0.3), st.floats(-3.1, 3.1),
    st.floats(0.06, 0.2), st.floats(0.01, 0.05), st.floats(0.01, 0.1),
)  # fmt: skip
def test_the_box_of_a_box_is_the_box(x, y, yaw, length, width, height):
    block = Block((x, y), (length, width, height), yaw, bottom_m=0.02)
    centre, found_yaw, dims = oriented_box(block.corners())
    np.testing.assert_allclose(centre, [x, y, 0.02 + height / 2], atol=1e-4)
    np.testing.assert_allclose(dims, [length, width, height], atol=1e-4)
    assert abs(wrap_angle(found_yaw - yaw, math.pi)) < 2e-3
    assert -math.pi / 2 <= found_yaw < math.pi / 2


def test_a_few_stray_points_do_not_set_the_size():
    rng = np.random.default_rng(0)
    points = rng.uniform([-0.05, -0.02, 0], [0.05, 0.02, 0.04], (4000, 3))
    points[:8, 0] += 0.05
    _, _, loose = oriented_box(points, trim=0.0)
    _, yaw, dims = oriented_box(points, trim=0.01)
    assert loose[0] > 0.13
    assert abs(dims[0] - 0.10) < 0.006
    assert abs(math.degrees(yaw)) < 8


def test_one_point_makes_a_box_of_no_size():
    centre, _, dims = oriented_box(np.array([[0.4, 0.1, 0.02]]))
    np.testing.assert_allclose(centre, [0.4, 0.1, 0.02])
    np.testing.assert_allclose(dims, 0.0, atol=1e-9)
