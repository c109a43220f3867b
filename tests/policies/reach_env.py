"""A one-dimensional reach: small enough to learn in seconds, and it can be failed."""

from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium
import numpy as np

from policies.evaluation.specs import ActorSpec, EnvSpec


class ReachEnv(gymnasium.Env):
    """Move a point at 0.1 m a step to a target; success within 0.05 at the end.

    Observation: position, target, (target - position) in metres, and one constant.
    Action: velocity, and one action that does nothing.
    """

    metadata = {"render_modes": [], "control_hz": 20.0}
    observation_names = ("position", "target", "error", "constant")
    observation_units = ("m", "m", "m", "")
    action_names = ("velocity", "idle")

    def __init__(
        self,
        gain: float = 0.1,
        steps: int = 25,
        die_at_seed: int = -1,
        die_at_step: int = -1,
        nan_at_step: int = -1,
    ) -> None:
        self.gain, self.steps, self.die_at = gain, steps, die_at_seed
        self.die_at_step, self.nan_at_step, self.lived = die_at_step, nan_at_step, 0
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def _observe(self) -> tuple[np.ndarray, dict[str, Any]]:
        error = self.target - self.position
        observation = np.array([self.position, self.target, error, 1.0], dtype=np.float32)
        info = {
            "is_success": bool(abs(error) < 0.05),
            "object": f"target{round(self.target * 5)}",
            "privileged": np.array([self.target], dtype=np.float32),
        }
        return observation, info

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if seed is not None and seed == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.position, self.target = (float(v) for v in self.np_random.uniform(-1, 1, 2))
        self.tick = 0
        return self._observe()

    def step(self, action: np.ndarray) -> Any:
        self.position += self.gain * float(np.clip(action[0], -1, 1))
        self.tick += 1
        self.lived += 1
        if self.lived == self.die_at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        observation, info = self._observe()
        reward = -abs(self.target - self.position)
        if self.lived == self.nan_at_step:
            reward = float("nan")
        return observation, reward, False, self.tick >= self.steps, info


class PrivilegedReachEnv(ReachEnv):
    """The same, and it names what only a simulator knows."""

    privileged_names = ("true_target",)


class ReachExpert:
    """Goes to the target as fast as it may."""

    def __init__(self, env: Any, *, wrong_share: float = 0.0) -> None:
        self._env, self._wrong = env, wrong_share
        self._fail = False

    def reset(self) -> None:
        self._fail = abs(self._env.unwrapped.target) < self._wrong

    def act(self, observation: np.ndarray) -> np.ndarray:
        error = 10.0 * float(observation[2]) * (-1.0 if self._fail else 1.0)
        return np.array([np.clip(error, -1, 1), 0.25], dtype=np.float32)


gymnasium.register("Test/Reach-v0", ReachEnv)
gymnasium.register("Test/PrivilegedReach-v0", PrivilegedReachEnv)

REACH = EnvSpec("Test/Reach-v0", imports=("reach_env",))
EXPERT = ActorSpec("reach_env:ReachExpert")
