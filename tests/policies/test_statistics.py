"""Intervals against published figures, and properties that any interval must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.evaluation.statistics import (
    bootstrap_difference,
    mcnemar_exact,
    paired_difference,
    wilson_interval,
)
from robot.errors import SteadyhandError


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_figures(
    successes: int, episodes: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 5000), data=st.data())
def test_wilson_holds_the_rate_and_mirrors(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson_interval(k, n)
    assert 0.0 <= low <= k / n <= high <= 1.0
    mirrored = wilson_interval(n - k, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
    wider = wilson_interval(k, n, 0.99)
    assert wider[0] <= low + 1e-12 and wider[1] >= high - 1e-12


def test_wilson_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for rate in (0.5, 0.9, 0.97):
        hits = 0
        for k in rng.binomial(200, rate, size=2000):
            low, high = wilson_interval(int(k), 200)
            hits += low <= rate <= high
        assert 0.92 <= hits / 2000 <= 0.98


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(SteadyhandError):
        wilson_interval(k, n)


def test_mcnemar_is_the_binomial_test() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(1, 0) == 1.0
    assert mcnemar_exact(5, 0) == pytest.approx(2 / 32)
    assert mcnemar_exact(10, 2) == pytest.approx(0.03857421875)
    assert mcnemar_exact(2, 10) == mcnemar_exact(10, 2)
    assert 0.0 <= mcnemar_exact(3000, 1000) < 1e-200


def pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither]).astype(bool)
    b = np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither]).astype(bool)
    return a, b


def test_newcombe_gives_the_published_figures() -> None:
    # Newcombe 1998 (Statistics in Medicine 17, 2635-2650), table II, method 10.
    for counts, expected in (
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((0, 0, 0, 50), (-0.0713, 0.0713)),
    ):
        found = paired_difference(*pairs(*counts))
        assert (found.low, found.high) == pytest.approx(expected, abs=5e-5), counts


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(lambda c: sum(c) > 0))
def test_the_paired_interval_is_consistent(counts: tuple[int, int, int, int]) -> None:
    a, b = pairs(*counts)
    found, swapped = paired_difference(a, b), paired_difference(b, a)
    assert -1.0 <= found.low <= found.difference <= found.high <= 1.0
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
    assert (found.only_first, found.only_second) == (counts[1], counts[2])
    assert found.as_dict()["ci95"] == [found.low, found.high]


def test_the_paired_interval_covers() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1500):
        a = rng.random(150) < 0.92
        b = np.where(rng.random(150) < 0.7, a, rng.random(150) < 0.85)  # correlated
        found = paired_difference(a, b)
        hits += found.low <= 0.92 - (0.7 * 0.92 + 0.3 * 0.85) <= found.high
    assert 0.92 <= hits / 1500 <= 0.99


def test_pairs_must_match() -> None:
    with pytest.raises(SteadyhandError, match="one length"):
        paired_difference([True], [True, False])
    empty = paired_difference([], [])
    assert (empty.low, empty.high, empty.p_value) == (-1.0, 1.0, 1.0)


def test_bootstrap_finds_a_shift() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(size=200)
    mean, low, high = bootstrap_difference(base + 0.5, base + rng.normal(0, 0.1, 200), rng)
    assert low < 0.5 < high and mean == pytest.approx(0.5, abs=0.03)
    assert high - low < 0.06
