"""Lessons: which hold when, and an environment that changes at its next reset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reach_env import REACH

from configs.load import load
from policies.demos.dataset import Demonstrations
from policies.learning.clone import CloneConfig, clone
from policies.learning.curriculum import Changeable, Lesson, changes_at
from policies.learning.guard import MeasureConfig
from policies.learning.guarded import GuardConfig
from policies.learning.ppo import PpoConfig, improve
from robot.errors import ConfigError

LESSONS = (Lesson(0.25, {"gain": 0.2}), Lesson(0.5, {"gain": 0.1, "steps": 30}))


def test_each_lesson_has_its_time_and_the_task_itself_comes_last() -> None:
    assert changes_at(LESSONS, 0.0) == {"gain": 0.2}
    assert changes_at(LESSONS, 0.25) == {"gain": 0.1, "steps": 30}
    assert changes_at(LESSONS, 0.5) == changes_at(LESSONS, 1.0) == {}


def test_lessons_come_from_a_file_and_must_follow_each_other(tmp_path: Path) -> None:
    file = tmp_path / "ppo.yaml"
    file.write_text(
        "curriculum:\n"
        "  - {until: 0.25, changes: {gain: 0.2}}\n"
        "  - {until: 0.5, changes: {gain: 0.1, steps: 30}}\n"
    )
    assert load(PpoConfig, file).curriculum == LESSONS
    with pytest.raises(ConfigError, match=r"ppo.curriculum\[1\].until: 0.25 must be larger"):
        PpoConfig(curriculum=LESSONS[::-1])


def test_the_environment_changes_at_its_next_reset_and_not_before() -> None:
    env = Changeable(REACH)

    def pace() -> float:
        before = env.unwrapped.position
        env.step(np.array([1.0, 0.0], dtype=np.float32))
        return env.unwrapped.position - before

    env.reset(seed=1)
    env.change({"gain": 0.01})
    assert pace() == pytest.approx(0.1)
    env.reset()
    assert pace() == pytest.approx(0.01)
    env.change({})
    first, _ = env.reset(seed=5)
    assert pace() == pytest.approx(0.1)
    again, _ = Changeable(REACH).reset(seed=5)
    assert np.array_equal(first, again)


def test_ppo_goes_through_its_lessons(reach_demos: Demonstrations, tmp_path: Path) -> None:
    network = clone(reach_demos, None, CloneConfig(epochs=8, learning_rate=3e-3)).network
    config = PpoConfig(
        steps=512,
        workers=0,
        rollout_steps=128,
        batch_size=64,
        epochs=1,
        guards=GuardConfig(critic_warmup_steps=10**6),
        measure=MeasureConfig(evaluate_every=128, evaluation_episodes=2, final_episodes=4),
        threads=1,
    )
    told = [Lesson(0.5, {"gain": 0.0})]  # nothing moves, so nothing succeeds
    result = improve(network, reach_demos, REACH, tmp_path, replace(config, curriculum=tuple(told)))
    by_steps = {h["steps"]: h["training_success"] for h in result.history if h["steps"] > 0}
    assert by_steps[256] < 0.2 < 0.5 < by_steps[512]
