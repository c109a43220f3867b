"""Trained policies in a worker process: a network in plain NumPy, or a bundle's; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.edge.chunks import ChunkMemory
from policies.edge.metadata import PolicyMetadata
from robot.errors import SteadyhandError

Floats = NDArray[np.float32]


def edge_actor(
    env: Any, *, folder: str, precision: str, names: Sequence[str], units: Sequence[str]
) -> Any:
    """A bundle's policy, with the environment's observation names and units checked."""
    from policies.edge.runtime import EdgePolicy

    return EdgePolicy(folder, precision, names=names, units=units)


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
        return np.clip(self.raw(observation), -1.0, 1.0).astype(np.float32)

    def raw(self, observation: Floats) -> Floats:
        """The same before it is clipped."""
        x = (np.asarray(observation, dtype=np.float32) - self._mean) / self._std
        x = np.clip(x, -self._limit, self._limit)
        last = len(self._layers) - 1
        for i, (weight, bias) in enumerate(self._layers):
            x = x @ weight.T + bias
            if i < last:
                x = np.tanh(x) if self._tanh else np.maximum(x, 0.0)
        return x


class ChunkingActor:
    """A chunking network as an ONNX model, with its window and its blending; without torch."""

    def __init__(self, env: Any, *, model: bytes) -> None:
        from policies.edge.runtime import open_session

        self._session = open_session(model, "chunking actor")
        props = self._session.get_modelmeta().custom_metadata_map
        metadata = PolicyMetadata.from_props(props, "chunking actor")
        chunking = metadata.chunking
        if chunking is None:
            raise SteadyhandError("chunking actor: its model gives one action at a time")
        sizes = len(metadata.observation_names), len(metadata.action_names)
        self._memory = ChunkMemory(chunking, *sizes)

    def reset(self) -> None:
        """Forget the previous episode."""
        self._memory.reset()

    def act(self, observation: Floats) -> Floats:
        """(n_obs,) float32 to an action in [-1, 1]."""
        window = self._memory.see(np.asarray(observation, dtype=np.float32))
        (chunk,) = self._session.run(None, {"observation": window[None]})
        return self._memory.blend(chunk[0])
