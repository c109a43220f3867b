"""Any environment as policies see it: one flat float32 vector in, actions in [-1, 1] out.

Demonstrations, networks and bundles know no other form. The bounds of the environment's own actions
travel beside it, in the demonstrations and in the policy's metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from robot.errors import ConfigError

#: The parts of a goal environment's observation come in this order; any others follow by name.
GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")

Names = tuple[str, ...]


class FlatEnv(gymnasium.Wrapper[NDArray[np.float32], NDArray[np.float32], Any, Any]):
    """An environment with a flat float32 observation and actions in [-1, 1].

    A Dict of Boxes is laid end to end: ``observation``, ``achieved_goal``, ``desired_goal``, then
    whatever else there is in the order of its names; a Dict within a Dict likewise. An action of -1
    is the lower bound of the environment's own action box, 1 the upper one, linear between.

    Args:
        env: any environment with a bounded Box action space, and Box or Dict observations.
        name: for messages.

    Raises:
        ConfigError: its spaces are of another kind, or its actions have no bounds.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        box = env.action_space
        if not isinstance(box, spaces.Box):
            raise ConfigError(
                f"environment {name}: the action space must be a Box, it is {box}; discrete "
                "actions cannot be learned here"
            )
        low, high = (np.asarray(b, dtype=np.float64).ravel() for b in (box.low, box.high))
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise ConfigError(
                f"environment {name}: the action box must have finite bounds with low < high, it "
                f"is {box}; wrap it in gymnasium.wrappers.RescaleAction or clip it"
            )
        #: (n_act,) bounds of the environment's own actions, in its own units.
        self.low, self.high = low, high
        self._shape = box.shape
        self._dtype: Any = box.dtype
        self.names = tuple(_labels(env.observation_space, name))
        floor, ceiling = (_flat(env.observation_space, end) for end in ("low", "high"))
        self.observation_space = spaces.Box(floor, ceiling, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, low.shape, np.float32)

    def reset(self, **kwargs: Any) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """As of the environment, with the flat observation."""
        observation, info = self.env.reset(**kwargs)
        return self.flatten(observation), info

    def step(self, action: NDArray[np.float32]) -> Any:
        """(n_act,) in [-1, 1], brought to the environment's own bounds."""
        share = 0.5 * (np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0) + 1.0)
        own = (self.low + share * (self.high - self.low)).astype(self._dtype).reshape(self._shape)
        observation, *rest = self.env.step(own)
        return self.flatten(observation), *rest

    def flatten(self, observation: Any) -> NDArray[np.float32]:
        """The environment's own observation as one vector (n_obs,)."""
        parts = [np.asarray(p, dtype=np.float32).ravel() for p in _leaves(observation)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def flattened(env: gymnasium.Env[Any, Any], name: str) -> gymnasium.Env[Any, Any]:
    """``env`` as :class:`FlatEnv`, or as it stands where it has that form already."""
    flat = FlatEnv(env, name)
    ours = env.action_space == flat.action_space and env.observation_space.shape == (
        flat.observation_space.shape
    )
    return env if ours and env.observation_space.dtype == np.float32 else flat


def _ordered(keys: Any) -> list[str]:
    return sorted(keys, key=lambda k: (GOAL_KEYS.index(k) if k in GOAL_KEYS else len(GOAL_KEYS), k))


def _leaves(observation: Any) -> Iterator[Any]:
    if isinstance(observation, dict):
        for key in _ordered(observation):
            yield from _leaves(observation[key])
    else:
        yield observation


def _labels(space: spaces.Space[Any], name: str, prefix: str = "") -> Iterator[str]:
    """One name for each number: its key and its place in it."""
    if isinstance(space, spaces.Dict):
        for key in _ordered(space.spaces):
            yield from _labels(space.spaces[key], name, f"{prefix}{key}.")
    elif isinstance(space, spaces.Box):
        start = prefix or "observation_"
        yield from (f"{start}{i}" for i in range(int(np.prod(space.shape))))
    else:
        raise ConfigError(
            f"environment {name}: observations must be a Box or a Dict of Boxes; "
            f"{prefix.rstrip('.') or 'the observation space'} is {space}"
        )


def _flat(space: spaces.Space[Any], end: str) -> NDArray[np.float32]:
    """The lower or upper bounds of every number."""
    if isinstance(space, spaces.Dict):
        return np.concatenate([_flat(space.spaces[k], end) for k in _ordered(space.spaces)])
    return np.asarray(getattr(space, end), dtype=np.float32).ravel()
