"""What a chunking policy remembers: its last observations, and what its chunks said of now.

The network itself has no state. Its window of observations and the blending of its overlapping
chunks stand here, in NumPy, wherever it acts: beside the robot and in worker processes.

Source of the blending: T. Zhao, V. Kumar, S. Levine, C. Finn, "Learning Fine-Grained Bimanual
Manipulation with Low-Cost Hardware", RSS 2023, section IV (temporal ensemble).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.errors import SteadyhandError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Chunking:
    """How a network's chunks become one action a step.

    Attributes:
        history: observations in its window, the newest included.
        horizon: actions in a chunk, the first of them for now.
        decay: a chunk made k steps ago counts exp(-decay k) beside the newest. 0 is the plain mean;
            a large number takes the newest alone, a negative one trusts the oldest most. (Zhao et
            al. weigh by exp(-m i), the oldest first: theirs is -m.)
    """

    history: int = 1
    horizon: int = 1
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.history < 1 or self.horizon < 1 or not -1.0 <= self.decay <= 100.0:
            raise SteadyhandError(
                f"chunking: expected a history and a horizon of at least 1 and a decay in "
                f"[-1, 100], got {self.history}, {self.horizon} and {self.decay}"
            )


class ChunkMemory:
    """The state of a chunking policy within one episode.

    Args:
        chunking: see :class:`Chunking`.
        n_obs: numbers in an observation.
        n_act: numbers in an action.
    """

    def __init__(self, chunking: Chunking, n_obs: int, n_act: int) -> None:
        self._keep = math.exp(-chunking.decay)
        self._window = np.zeros((chunking.history, n_obs), dtype=np.float32)
        # What the chunks so far say of now, the next step, ...: weighted sums, and the weights.
        self._said = np.zeros((chunking.horizon, n_act))
        self._weight = np.zeros((chunking.horizon, 1))
        self._empty = True

    def reset(self) -> None:
        """Forget the previous episode."""
        self._said[:] = 0.0
        self._weight[:] = 0.0
        self._empty = True

    def see(self, observation: Floats) -> Floats:
        """Take in an observation (n_obs,); the window (history, n_obs), the newest last.

        Before the first one there was nothing else: it fills the window. What is returned is this
        object's own memory, overwritten by the next call.
        """
        if self._empty:
            self._window[:] = observation
            self._empty = False
        else:
            self._window[:-1] = self._window[1:]
            self._window[-1] = observation
        return self._window

    def blend(self, chunk: Floats) -> Floats:
        """Take in the newest chunk (horizon, n_act); the action (n_act,) for now."""
        self._said *= self._keep
        self._weight *= self._keep
        self._said += chunk
        self._weight += 1.0
        action = self._said[0] / self._weight[0]
        self._said[:-1] = self._said[1:]
        self._weight[:-1] = self._weight[1:]
        self._said[-1] = 0.0
        self._weight[-1] = 0.0
        # A mean of numbers in [-1, 1] may leave it by the last bit.
        return np.minimum(np.maximum(action, -1.0), 1.0).astype(np.float32)
