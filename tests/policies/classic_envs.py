"""Scripted experts for Gymnasium classics, and small environments that are odd in one way each."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class PendulumExpert:
    """Pumps energy until the pendulum is near the top, then holds it there."""

    def __init__(self, env: Any) -> None:
        self._torque = float(env.unwrapped.max_torque)

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """(cos, sin, rad/s) to a share of the largest torque."""
        cos, sin, speed = (float(v) for v in observation)
        angle = math.atan2(sin, cos)
        if abs(angle) < 0.6:
            torque = -(10.0 * angle + 2.0 * speed)
        else:
            lacking = 5.0 - (speed * speed / 6.0 + 5.0 * cos)
            torque = 2.0 * lacking * (speed if abs(speed) > 0.05 else 0.05)
        return np.array([np.clip(torque / self._torque, -1, 1)], dtype=np.float32)


class MountainCarExpert:
    """Pushes with the motion as hard as it can: it arrives, and wastes fuel."""

    def __init__(self, env: Any) -> None:
        """Needs nothing of the environment."""

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """(position, velocity) to full force."""
        return np.array([1.0 if observation[1] >= 0 else -1.0], dtype=np.float32)


class GoalEnv(gymnasium.Env):
    """A point goes to a goal in the plane; a Dict of observations, actions in m/s within a box.

    The keys are deliberately given in another order than they are flattened.
    """

    metadata = {"render_modes": [], "control_hz": 10.0}

    def __init__(self, steps: int = 20, nan_at: int = -1, flag: str = "is_success") -> None:
        self.steps, self.nan_at, self.flag = steps, nan_at, flag

        def box(n: int, dtype: Any = np.float64) -> spaces.Box:
            return spaces.Box(-2.0, 2.0, (n,), dtype)

        self.observation_space = spaces.Dict(
            {"desired_goal": box(2), "achieved_goal": box(2), "observation": box(3, np.float32)}
        )
        self.action_space = spaces.Box(
            np.array([-1.0, 0.0]), np.array([3.0, 0.5]), dtype=np.float64
        )

    def _observe(self) -> dict[str, np.ndarray]:
        seen = np.array([*self.at, self.tick / self.steps], dtype=np.float32)
        return {
            "observation": seen, "achieved_goal": self.at.copy(), "desired_goal": self.goal.copy(),
        }  # fmt: skip

    def _info(self) -> dict[str, Any]:
        near = bool(np.abs(self.at - self.goal).max() < 0.1)
        return {self.flag: near} if self.flag else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at = np.zeros(2)
        self.goal = self.np_random.uniform([0.0, 0.0], [1.5, 0.5])
        self.tick = 0
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> Any:
        if not self.action_space.contains(action):
            raise ValueError(f"{action} is not in {self.action_space}")
        self.at = np.clip(self.at + 0.1 * action, -2, 2)
        self.tick += 1
        reward = -float(np.linalg.norm(self.at - self.goal))
        if self.tick == self.nan_at:
            reward = float("nan")
        return self._observe(), reward, False, self.tick >= self.steps, self._info()


class GoalExpert:
    """Goes straight to the goal, at 5 times the distance a second."""

    def __init__(self, env: Any, own_units: bool = False) -> None:
        box = env.unwrapped.action_space
        self._low, self._high, self._own = box.low, box.high, own_units

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """(observation, achieved, desired) to shares of the velocity box."""
        velocity = np.clip(5.0 * (observation[5:7] - observation[3:5]), self._low, self._high)
        if self._own:
            return velocity.astype(np.float32)
        share = (velocity - self._low) / (self._high - self._low)
        return (2.0 * share - 1.0).astype(np.float32)


class UnboundedEnv(GoalEnv):
    """Velocities without bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)


class DiscretePartEnv(GoalEnv):
    """One part of its observation is no Box."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Dict(
            {**self.observation_space.spaces, "mode": spaces.Discrete(3)}
        )


gymnasium.register("Test/Goal-v0", GoalEnv)
gymnasium.register("Test/Unbounded-v0", UnboundedEnv)
gymnasium.register("Test/DiscretePart-v0", DiscretePartEnv)
