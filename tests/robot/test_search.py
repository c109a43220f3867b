"""Searching ways around things: free, repeatable, the shorter of several where one is crooked."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from robot.planning.search import connect, length, line_contact, shortcut, way

LOW, HIGH = np.full(3, -2.0), np.full(3, 2.0)
START, GOAL = np.array([-0.6, 0.0, 0.0]), np.array([0.6, 0.0, 0.0])
STEP, TRIES = 0.02, 150


def beside_the_wall(q: np.ndarray) -> bool:
    """A thin wall from one end of the space to just past the middle, and a slot far to its side.

    Around its end it is not far; through the slot it is.
    """
    if abs(q[0]) > 0.05:
        return True
    return bool(q[1] > 0.6 or -1.6 < q[1] < -1.2)


def boxed_in(q: np.ndarray) -> bool:
    """No way out of a closed shell around the start."""
    return not 0.3 < np.abs(q - START).max() < 0.4


def one_way(free, seed: int) -> list[np.ndarray]:
    path = connect(START, GOAL, free, LOW, HIGH, 2 * STEP, 5.0, seed, 200)
    assert path is not None
    short = shortcut(path, free, STEP, TRIES, np.random.default_rng(seed))
    assert short is not None
    return short


def found(free, seed: int, time_s: float = 5.0, rounds: float = math.inf):
    return way(START, GOAL, free, (LOW, HIGH), STEP, time_s, seed, TRIES, rounds)


def test_of_several_ways_the_shorter_one_is_taken() -> None:
    singles = [one_way(beside_the_wall, seed) for seed in range(12)]
    several = [found(beside_the_wall, seed) for seed in range(12)]
    lengths = np.array([[length(a), length(b)] for a, b in zip(singles, several, strict=True)])
    assert (lengths[:, 1] <= lengths[:, 0] + 1e-12).all()
    assert lengths[:, 1].mean() < 0.9 * lengths[:, 0].mean()
    for path in several:
        assert np.array_equal(path[0], START) and np.array_equal(path[-1], GOAL)
        assert (np.array(path) >= LOW).all() and (np.array(path) <= HIGH).all()
        for a, b in itertools.pairwise(path):
            assert line_contact(a, b, beside_the_wall, STEP) is None


@pytest.mark.parametrize("seed", [0, 5])
def test_the_same_seed_gives_the_same_way(seed: int) -> None:
    one, other = found(beside_the_wall, seed), found(beside_the_wall, seed)
    assert np.array_equal(one, other)


def test_a_way_that_is_hardly_longer_than_the_line_is_searched_once() -> None:
    beside_a_post = lambda q: bool(np.hypot(q[0], q[1]) > 0.1)  # noqa: E731
    for seed in range(4):
        assert np.array_equal(found(beside_a_post, seed), one_way(beside_a_post, seed))


def test_few_rounds_find_one_way() -> None:
    for seed in range(4):
        got = found(beside_the_wall, seed, rounds=200)
        assert np.array_equal(got, one_way(beside_the_wall, seed))


def test_where_there_is_no_way_none_is_told_in_time() -> None:
    assert found(boxed_in, 0, time_s=0.5) is None
    assert found(boxed_in, 0, rounds=30) is None
