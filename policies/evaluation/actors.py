"""Actors for rollouts: a small network on plain NumPy, a constant, chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class MlpActor:
    """A multilayer perceptron with its normalization and clipping, without torch.

    Worker processes use it, so that they need not load torch; it follows the same operations in
    the same order as ``policies.learning.network.PolicyNetwork`` (equal within 1e-5).
    """

    def __init__(
        self,
        env: Any,
        *,
        mean: Floats,
        std: Floats,
        input_limit: float,
        activation: str,
        layers: Sequence[tuple[Floats, Floats]],
    ) -> None:
        self._mean, self._std, self._limit = mean, std, np.float32(input_limit)
        self._tanh = activation == "tanh"
        self._layers = [(np.ascontiguousarray(w), b) for w, b in layers]

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, observation: Floats) -> Floats:
        """(n_obs,) or (batch, n_obs) float32 to actions in [-1, 1]."""
        x = (np.asarray(observation, dtype=np.float32) - self._mean) / self._std
        x = np.clip(x, -self._limit, self._limit)
        last = len(self._layers) - 1
        for i, (weight, bias) in enumerate(self._layers):
            x = x @ weight.T + bias
            if i < last:
                x = np.tanh(x) if self._tanh else np.maximum(x, 0.0)
        return np.clip(x, -1.0, 1.0).astype(np.float32)


class EdgeActor:
    """The bundle's policy as it runs on the robot, for evaluation in a worker process."""

    def __init__(self, env: Any, *, source: str, precision: str = "int8") -> None:
        from policies.edge.runtime import EdgePolicy

        self._policy = EdgePolicy(source, precision=precision)

    def reset(self) -> None:
        """Forget the previous episode."""
        self._policy.reset()

    def act(self, observation: Floats) -> Floats:
        """(n_obs,) float32 to (n_act,) float32."""
        return self._policy.act(observation)


class RandomActor:
    """Uniform actions: the floor under any comparison."""

    def __init__(self, env: Any, *, seed: int = 0) -> None:
        self._shape = env.action_space.shape
        self._rng = np.random.default_rng(seed)

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, observation: Floats) -> Floats:
        """(n_act,) float32, uniform in [-1, 1]."""
        return self._rng.uniform(-1.0, 1.0, self._shape).astype(np.float32)
