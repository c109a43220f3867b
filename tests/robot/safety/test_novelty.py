"""What is new to a policy: told by what it sees alone, and as rarely wrong as was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot import observation
from robot.errors import SafetyError
from robot.execution.acting import AtOnce, Watched
from robot.safety.config import SafetyConfig
from robot.safety.novelty import Novelty, NoveltyMonitor, fit
from robot.safety.signals import Signals
from robot.types import GripperState, JointState, RobotState, VerdictLevel

SEEN = ("tool_position.0", "tool_position.2", "opening")
ROWS = [observation.names().index(name) for name in SEEN]
STATE = RobotState(0.0, JointState(np.zeros(7), np.zeros(7), np.zeros(7)), GripperState(0.08, 0.0))


def picks(n: int, seed: int) -> list[np.ndarray]:
    """Of forty steps each; the numbers that the policy sees hang together."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        made = rng.normal(size=(40, observation.SIZE)).astype(np.float32)
        made[:, ROWS[1]] = 0.02 * made[:, ROWS[1]] + made[:, ROWS[0]]
        out.append(made)
    return out


@pytest.fixture(scope="module")
def novelty() -> Novelty:
    return Novelty(fit(picks(50, 0), picks(200, 1), 0.05, b"model", SEEN))


def test_as_many_further_picks_as_stated_count_as_new(novelty: Novelty) -> None:
    fresh = picks(1000, 2)
    above = np.mean([max(novelty.score(row) for row in p) > novelty.threshold for p in fresh])
    assert 0.01 < above < 0.10


def test_only_what_the_policy_sees_counts(novelty: Novelty) -> None:
    made = picks(1, 3)[0][0]
    other = made + 100.0
    other[ROWS] = made[ROWS]
    assert novelty.score(other) == novelty.score(made)
    apart = made.copy()
    apart[ROWS[1]] += 1.0  # each for itself is usual, both together are not
    assert novelty.score(apart) > 5 * novelty.threshold


def test_it_slows_and_asks_for_a_look_and_does_not_halt(novelty: Novelty) -> None:
    class Still:
        def reset(self) -> None: ...

        def act(self, made: np.ndarray) -> np.ndarray:
            return np.zeros(5, dtype=np.float32)

    signals = Signals(policy_stamp_s=0.0)
    policy, monitor = (
        Watched(AtOnce(Still()), novelty, signals),
        NoveltyMonitor(SafetyConfig(), signals),
    )
    made = picks(1, 4)[0][0]
    policy.ask(made)
    assert monitor.check(STATE, np.zeros((1, 7)), 0.0).level is VerdictLevel.OK
    made[ROWS[1]] += 50.0
    policy.ask(made)
    assert monitor.check(STATE, np.zeros((1, 7)), 0.0).level is VerdictLevel.SCALE
    signals.novelty = float("nan")
    assert monitor.check(STATE, np.zeros((1, 7)), 0.0).level is VerdictLevel.SCALE
    policy.reset()
    assert monitor.check(STATE, np.zeros((1, 7)), 0.0).level is VerdictLevel.OK


def test_what_does_not_fit_is_one_clear_error(novelty: Novelty) -> None:
    with pytest.raises(SafetyError, match="needs at least 999 held-out picks, got 5"):
        fit(picks(2, 0), picks(5, 1), 0.001, b"", SEEN)
    with pytest.raises(SafetyError, match="makes no observation 'smell'"):
        Novelty(replace(novelty.file, observed=("smell", *SEEN[1:])))
    with pytest.raises(SafetyError, match="3 means of 2 observations"):
        Novelty(replace(novelty.file, observed=SEEN[1:]))
