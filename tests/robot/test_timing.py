"""Timed curves keep every limit at every sample and end where they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.limits import load_limits
from robot.planning.search import corners_rounded
from robot.planning.timing import Curve, MotionLimits, section, time_curve
from robot.types import Trajectory

JOINTS = load_limits("panda").joints
MOTION = MotionLimits.scaled(JOINTS, 0.6, 0.5, 0.05)
RATE = 240.0


def joint_vectors() -> st.SearchStrategy[np.ndarray]:
    unit = st.lists(st.floats(0, 1), min_size=7, max_size=7)
    span = JOINTS.upper_rad - JOINTS.lower_rad
    return unit.map(lambda u: JOINTS.lower_rad + np.array(u) * span)


def drive(path: list[np.ndarray], blend: float, motion: MotionLimits = MOTION) -> Trajectory | None:
    rounded = corners_rounded(path, lambda q: True, blend, 0.02)
    if rounded is None:
        return None
    curve, spans = rounded
    parts = [section(curve, a, b, motion, cruise) for a, b, cruise in spans]
    return time_curve(curve, parts, motion, RATE)


def check_limits(t: Trajectory, motion: MotionLimits = MOTION) -> None:
    """Stated derivatives, and differences of the samples, against the limits."""
    slack = 1 + 1e-4
    v, a = t.velocity_rad_s, t.acceleration_rad_s2
    assert (np.abs(v) <= motion.velocity * slack).all()
    assert (np.abs(a) <= motion.acceleration * slack).all()
    assert (np.abs(np.diff(a, axis=0)) * RATE <= motion.jerk * slack).all()
    moved = np.diff(t.position_rad, axis=0) * RATE
    assert (np.abs(moved) <= motion.velocity * slack).all()
    if len(moved) > 1:
        assert (np.abs(np.diff(moved, axis=0)) * RATE <= motion.acceleration * slack).all()
    # Stated velocity and acceleration are those of the positions.
    between = 0.5 * (v[1:] + v[:-1])
    assert np.abs(moved - between).max() < motion.jerk.max() / RATE**2
    assert np.allclose(np.diff(t.time_s), 1 / RATE)


def check_ends(t: Trajectory, start: np.ndarray, end: np.ndarray) -> None:
    assert np.array_equal(t.position_rad[0], start)
    assert np.array_equal(t.position_rad[-1], end)
    assert not t.velocity_rad_s[[0, -1]].any()


@given(joint_vectors(), joint_vectors())
@settings(max_examples=60)
def test_lines_are_straight_and_within_limits(a: np.ndarray, b: np.ndarray) -> None:
    t = drive([a, b], 0.5)
    if t is None:
        assert np.linalg.norm(b - a) <= 1e-9
        return
    check_ends(t, a, b)
    check_limits(t)
    way = (b - a) / np.linalg.norm(b - a)
    along = (t.position_rad - a) @ way
    assert np.abs(t.position_rad - a - along[:, None] * way).max() < 1e-9
    assert (np.diff(along) >= -1e-9).all()


@given(st.lists(joint_vectors(), min_size=3, max_size=7), st.floats(0.0, 1.0))
@settings(max_examples=60)
def test_rounded_paths_are_within_limits(path: list[np.ndarray], blend: float) -> None:
    t = drive(path, blend)
    if t is None:
        return
    check_ends(t, path[0], path[-1])
    check_limits(t)


@given(joint_vectors(), st.floats(1e-6, 0.05))
@settings(max_examples=30)
def test_short_moves(a: np.ndarray, size: float) -> None:
    b = a + size * np.array([1.0, -0.5, 0.2, 0.0, 0.0, 1e-3, -1.0])
    c = b + size * np.array([-0.3, 0.5, 0.2, 1.0, 0.0, 1e-3, -1.0])
    t = drive([a, b, c], 0.5)
    assert t is not None
    check_ends(t, a, c)
    check_limits(t)


def test_line_is_about_as_fast_as_the_limits_allow() -> None:
    a, b = np.zeros(7), np.zeros(7)
    a[3] = b[3] = -1.0
    b[0] = 2.0
    t = drive([a, b], 0.5)
    assert t is not None
    v, acc, jerk = MOTION.velocity[0], MOTION.acceleration[0], MOTION.jerk[0]
    ideal = 2.0 / v + v / acc + acc / jerk  # trapezoid with jerk-limited flanks
    assert ideal <= t.duration_s < ideal + 1.5 / RATE


def test_rounding_saves_time_and_stays_close_to_the_corner() -> None:
    path = [np.zeros(7), np.array([1.0, 0, 0, 0, 0, 0, 0]), np.array([1.0, 1.0, 0, 0, 0, 0, 0])]
    stop, round_ = drive(path, 0.0), drive(path, 0.4)
    assert stop is not None and round_ is not None
    assert round_.duration_s < 0.9 * stop.duration_s
    assert np.linalg.norm(stop.position_rad - path[1], axis=1).min() < 5e-3
    assert 0.02 < np.linalg.norm(round_.position_rad - path[1], axis=1).min() < 0.4
    speed = np.linalg.norm(round_.velocity_rad_s, axis=1)
    assert speed[len(speed) // 4 : -len(speed) // 4].min() > 0.1


def test_blocked_corner_is_driven_to_and_stopped_at() -> None:
    path = [np.zeros(7), np.array([1.0, 0, 0, 0, 0, 0, 0]), np.array([1.0, 1.0, 0, 0, 0, 0, 0])]
    on_lines = lambda q: bool(q[0] > 1 - 1e-6 or q[1] < 1e-6)  # noqa: E731
    rounded = corners_rounded(path, on_lines, 0.4, 0.02)
    assert rounded is not None
    curve, spans = rounded
    assert not any(cruise for _, _, cruise in spans)
    t = time_curve(curve, [section(curve, a, b, MOTION) for a, b, _ in spans], MOTION, RATE)
    check_limits(t)
    assert all(on_lines(q) for q in t.position_rad)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_curve_is_smooth_and_passes_its_knots(seed: int) -> None:
    rng = np.random.default_rng(seed)
    s = np.concatenate([[0.0], np.cumsum(rng.uniform(0.2, 1.0, 5))])
    q, dq, ddq = rng.normal(size=(3, 6, 7))
    curve = Curve(s, q, dq, ddq)
    for side in (-1e-9, 1e-9):
        at = curve.evaluate(s[1:-1] + side)
        for want, got in zip((q, dq, ddq), at, strict=False):
            assert np.allclose(want[1:-1], got, atol=1e-4)
    x = rng.uniform(0.01, curve.length - 0.01, 20)
    h = 1e-5
    lo, hi, mid = curve.evaluate(x - h), curve.evaluate(x + h), curve.evaluate(x)
    for order in range(3):
        slope = (hi[order] - lo[order]) / (2 * h)
        inside = (np.abs(x[:, None] - s).min(axis=1) > 2 * h)[:, None] | np.zeros((1, 7), bool)
        assert np.allclose(np.where(inside, slope, 0), np.where(inside, mid[order + 1], 0),
                           rtol=1e-3, atol=1e-2)  # fmt: skip


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0])
def test_full_limits_hold_at_every_speed(scale: float) -> None:
    motion = MotionLimits.scaled(JOINTS, scale, scale, scale)
    rng = np.random.default_rng(3)
    path = [rng.uniform(JOINTS.lower_rad, JOINTS.upper_rad) for _ in range(5)]
    t = drive(path, 0.3, motion)
    assert t is not None
    check_limits(t, motion)
