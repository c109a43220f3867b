"""The sides of the speed comparison do the same work; no figure is asked for here."""

from __future__ import annotations

import numpy as np
import pytest

from envs.speed import CubePick, PandaGymPick, rates, workers_ratio


@pytest.fixture(scope="module")
def pick():
    made = CubePick()
    yield made
    made.close()


def where(pick: CubePick) -> list[float]:
    (body,) = pick._base.world.bodies
    return pick._base.world.pose(body).position_m.tolist()


def test_environment_and_bare_loop_move_the_cube_alike(pick):
    ours, _ = pick.play(1)
    moved = where(pick)
    bare, _ = pick.play_bare(1)
    assert ours == bare > 1.0
    assert where(pick) == moved
    assert moved[2] > 0.15


def test_one_tick_at_a_time_under_the_supervisor_it_is_lifted_as_well(pick):
    ours, _ = pick.play(1)
    supervised, _ = pick.play_supervised(1)
    assert supervised == pytest.approx(ours)
    assert where(pick)[2] > 0.15


def test_at_another_rate_the_cube_is_lifted_too():
    fast = CubePick(tick_hz=500.0, ticks=20)
    fast.play(0)
    assert where(fast)[2] > 0.15
    assert fast._base.world.config.tick_s == 1 / 500
    fast.close()


def test_panda_gym_lifts_its_cube():
    pytest.importorskip("panda_gym")
    theirs = PandaGymPick()
    simulated_s, spent_s = theirs.play(0)
    assert 0.2 < simulated_s < 2.0
    assert spent_s > 0
    theirs.close()


def test_sides_take_turns_at_the_same_picks():
    seen = []

    def side(name, spent_s):
        def play(number):
            seen.append((name, number))
            return 1.0, spent_s

        return play

    found = rates({"a": side("a", 0.5), "b": side("b", 0.25)}, 1.0)
    np.testing.assert_array_equal(found["a"], [2.0] * 4)
    np.testing.assert_array_equal(found["b"], [4.0] * 4)
    assert seen[:4] == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]


def test_two_workers_are_measured_by_the_clock_and_by_the_core():
    found = workers_ratio(1, 0.2)
    assert found.shape == (1, 2)
    assert (found > 0.0).all()
    assert (found < 4.0).all()  # two cannot do the work of four
