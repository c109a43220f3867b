"""The open-loop baseline: what it does follows from its first observation and the clock alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.execution.action import DEFAULT_SCALE, to_twist
from robot.execution.scripted import CLOSE_STEPS, ScriptedPolicy
from robot.observation import SIZE, part

LIFT_M = 0.22
RATE_HZ = 20.0


def start(position=(0.004, -0.006, -0.1), yaw=0.15, opening_m=0.06) -> np.ndarray:
    o = np.zeros(SIZE, dtype=np.float32)
    o[part("tool_position")] = position
    o[part("tool_yaw")] = yaw
    o[part("candidate_opening")] = opening_m
    return o


def play(first: np.ndarray, later: np.ndarray | None = None, steps: int = 240) -> np.ndarray:
    """(steps, 5) actions; ``later`` are the observations after the first, one each."""
    policy = ScriptedPolicy(LIFT_M)
    out = [policy.act(first)]
    for k in range(steps - 1):
        out.append(policy.act(first if later is None else later[k]))
    return np.array(out)


def travelled(actions: np.ndarray) -> np.ndarray:
    """(n, 4) where the tool is after each action: x, y, z, yaw in the grasp's axes."""
    twists = np.array([to_twist(a, np.eye(3), DEFAULT_SCALE)[0] for a in actions])
    return np.cumsum(twists[:, [0, 1, 2, 5]] / RATE_HZ, axis=0)


def opening(actions: np.ndarray) -> np.ndarray:
    return 0.5 * (actions[:, 4] + 1) * DEFAULT_SCALE.opening_m


def test_it_descends_waits_closes_lifts_and_stands_still():
    actions = play(start())
    moving = np.abs(actions[:, :4]).max(axis=1) > 0
    closed = opening(actions) < 1e-6
    first_closed = int(np.argmax(closed))
    assert closed[first_closed:].all()  # never opens again
    descent = int(np.argmin(moving))
    assert 0 < descent < first_closed
    assert not moving[descent : first_closed + CLOSE_STEPS].any()
    lift = slice(first_closed + CLOSE_STEPS, None)
    assert (actions[:descent, 2] > 0).all()  # the approach is the grasp's z
    lifting = actions[lift, 2] < 0
    assert lifting[0]
    assert not moving[lift][~lifting].any()
    assert not moving[-1]
    # Open as the candidate asks on the way down, and closed for as long as the fingers need.
    np.testing.assert_allclose(opening(actions)[:first_closed], 0.06, atol=1e-6)
    assert CLOSE_STEPS / RATE_HZ * 0.1 > 0.08  # 0.1 m/s over the whole travel


starts = st.builds(
    lambda x, y, z, yaw, opening_m: start((x, y, z), yaw, opening_m),
    st.floats(-0.03, 0.03),
    st.floats(-0.03, 0.03),
    st.floats(-0.14, -0.05),
    st.floats(-0.6, 0.6),
    st.floats(0.02, 0.08),
)


@given(starts)
def test_it_comes_down_just_where_the_candidate_is_and_goes_up_far_enough(first):
    actions = play(first)
    way = travelled(actions)
    closing = int(np.argmax(opening(actions) < 1e-6))
    at_close = way[closing - 1]
    np.testing.assert_allclose(at_close[:3], -first[part("tool_position")], atol=1e-4)
    assert at_close[3] == pytest.approx(-first[part("tool_yaw")][0], abs=1e-4)
    risen = at_close[2] - way[-1][2]
    assert LIFT_M <= risen < LIFT_M + 0.04
    np.testing.assert_allclose(way[-1][[0, 1, 3]], at_close[[0, 1, 3]], atol=1e-6)


@given(starts)
def test_no_action_is_cut(first):
    """What would be clipped would not arrive."""
    actions = play(first)
    assert actions.dtype == np.float32
    assert np.abs(actions[:, :4]).max() < 1.0
    assert np.abs(actions).max() <= 1.0


@settings(max_examples=25)
@given(starts, st.integers(0, 2**31))
def test_whatever_happens_after_the_first_look_it_does_the_same(first, seed):
    noise = np.random.default_rng(seed).normal(0, 10, (239, SIZE)).astype(np.float32)
    np.testing.assert_array_equal(play(first, noise), play(first))


def test_a_reset_starts_again_from_what_is_seen_then():
    policy = ScriptedPolicy(LIFT_M)
    for _ in range(30):
        policy.act(start())
    policy.reset()
    other = start((0.0, 0.0, -0.05), 0.0, 0.04)
    again = np.array([policy.act(other) for _ in range(240)])
    np.testing.assert_array_equal(again, play(other))
    assert not np.array_equal(again, play(start()))


def test_a_higher_lift_takes_longer():
    def steps(lift_m: float) -> int:
        policy = ScriptedPolicy(lift_m)
        return sum(policy.act(start())[2] < 0 for _ in range(150))

    assert steps(0.4) - steps(0.2) == 20  # 0.2 m more at 0.2 m/s and 20 Hz
