"""The expert's labels where a clone goes astray: they must lead back, never away."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  (registers the ids)
from envs.expert import ExpertPolicy
from robot import observation
from robot.observation import part

LIFT_M = 0.22
EXPERT = ExpertPolicy(LIFT_M)


def seen(**parts: object) -> np.ndarray:
    """An observation at the grasp, fingers open, with some parts changed."""
    out = np.zeros(observation.SIZE, dtype=np.float32)
    out[part("opening")] = out[part("candidate_opening")] = 0.08
    out[part("width")] = 0.04
    out[part("previous_action")] = [0, 0, 0, 0, 1]
    for name, value in parts.items():
        out[part(name)] = value
    out[part("aim_position")] += out[part("tool_position")]  # the candidate is the best grip
    return out


def test_it_goes_for_the_better_grip_beside_the_candidate():
    action = EXPERT.act(
        seen(tool_position=[0, 0, -0.08], aim_position=[0.02, -0.01, 0.0], aim_yaw=0.3)
    )
    assert action[0] < 0 < action[1] and action[3] < 0


def test_while_it_holds_it_goes_on_lifting_whatever_opening_was_asked_for_before():
    # A clone that asked for -0.97 instead of -1 must not be told to open and go back down.
    for asked in (-1.0, -0.97, -0.9, -0.5):
        action = EXPERT.act(
            seen(
                tool_position=[0, 0, -0.08],
                opening=0.04,
                force=40,
                contact=1,
                previous_action=[0, 0, -0.5, 0, asked],
            )
        )
        assert action[2] < -0.3
        assert action[4] == -1.0


def test_it_does_not_lift_before_the_fingers_hold():
    # The action before may have moved upwards by noise; the fingers are still closing.
    action = EXPERT.act(seen(opening=0.06, previous_action=[0, 0, -0.3, 0, -1]))
    assert abs(action[2]) < 1e-6
    assert action[4] == -1.0


def test_it_keeps_its_place_while_closing():
    action = EXPERT.act(
        seen(tool_position=[0.004, -0.003, 0], opening=0.06, previous_action=[0, 0, 0, 0, -0.98])
    )
    assert action[0] < 0 < action[1]


def test_what_was_lost_on_the_way_up_is_tried_again():
    action = EXPERT.act(
        seen(tool_position=[0, 0, -0.09], opening=0.03, previous_action=[0, 0, -0.8, 0, -1])
    )
    assert action[2] > 0
    assert action[4] == pytest.approx(1.0)


def test_an_empty_hand_opens_above_the_table_and_goes_down_again():
    shut = seen(opening=0.0, force=40, previous_action=[0, 0, 0, 0, -1])
    action = EXPERT.act(shut)
    assert action[2] < 0 and action[4] == pytest.approx(1.0)
    half_open = seen(opening=0.05, tool_position=[0, 0, -0.03])
    action = EXPERT.act(half_open)
    assert action[2] < 0 and action[4] == pytest.approx(1.0)
    high = seen(opening=0.05, tool_position=[0, 0, -0.06])
    assert EXPERT.act(high)[2] == 0.0  # waits there until the fingers are open
    assert EXPERT.act(seen(opening=0.078, tool_position=[0, 0, -0.06]))[2] > 0


def test_it_succeeds_under_noise_on_its_motions():
    env = gymnasium.make(
        "Steadyhand/GraspSingle-v0", bank_size=8, objects="primitives", disable_env_checker=True
    )
    held = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        obs, _ = env.reset(seed=seed)
        over = False
        while not over:
            action = EXPERT.act(obs)
            action[:4] += rng.normal(0, 0.1, 4).astype(np.float32)
            obs, _, done, cut, info = env.step(np.clip(action, -1, 1))
            over = done or cut
        held += info["is_success"]
    env.close()
    assert held >= 21
