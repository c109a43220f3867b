"""What a network is shown while it is cloned: an observation, its past, and what followed it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.demos.dataset import Demonstrations
from policies.edge.chunks import Chunking
from robot.errors import SteadyhandError

#: Observations, actions, and which numbers of the actions count (None: all).
Batch = tuple[Tensor, Tensor, Tensor | None]


@dataclass(frozen=True)
class Frames:
    """Frames of whole episodes, one after the other.

    Attributes:
        observation: (N, n_obs).
        action: (N, n_act).
        past: (N, history) int64, the frames of each one's window, the newest last. Before an
            episode's first frame stands the first again. None where each frame stands alone.
        future: (N, horizon) int64, the frames of the actions from each one on.
        counts: (N, horizon) bool, which of them are to be learned.
    """

    observation: Tensor
    action: Tensor
    past: Tensor | None = None
    future: Tensor | None = None
    counts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.observation)

    def batch(self, rows: Tensor) -> Batch:
        """(b, n_obs) and (b, n_act); with a past (b, history, n_obs) and (b, horizon, n_act)."""
        if self.past is None or self.future is None or self.counts is None:
            return self.observation[rows], self.action[rows], None
        return self.observation[self.past[rows]], self.action[self.future[rows]], self.counts[rows]


def windows(starts: NDArray[np.int64], history: int) -> NDArray[np.int64]:
    """(N, history) frames up to each of the N frames of the episodes that begin at ``starts``.

    Args:
        starts: (E + 1,), as in :class:`Demonstrations`.
        history: frames in a window, the newest last.
    """
    first = np.repeat(starts[:-1], np.diff(starts))
    back = np.arange(history - 1, -1, -1)
    return np.maximum(np.arange(len(first))[:, None] - back, first[:, None])


def _chunks(
    starts: NDArray[np.int64], horizon: int, own: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(N, horizon) frames from each frame on, and which of them count."""
    last = np.repeat(starts[1:] - 1, np.diff(starts))[:, None]
    ahead = np.arange(len(last))[:, None] + np.arange(horizon)
    counts = ahead <= last
    if not own:
        counts[:, 1:] = False
    return np.minimum(ahead, last), counts


def split_frames(
    sets: Sequence[Demonstrations], held: Collection[str], chunking: Chunking | None
) -> tuple[Frames, Frames]:
    """Frames for training and for validation, over all sets.

    Args:
        sets: the first shows what is to be done. In the others somebody else drove and the expert
            only labelled; of a chunk from there the first action alone is learned, for the later
            ones answer to states to which the expert's own actions would not have led.
        held: groups of objects that are held out; each is on one side only.
        chunking: windows and chunks, or None where each frame stands alone.
    """
    spec = sets[0].spec
    for other in sets[1:]:
        if (other.spec.observation_names, other.spec.action_names, other.spec.rate_hz) != (
            spec.observation_names,
            spec.action_names,
            spec.rate_hz,
        ):
            raise SteadyhandError("demonstrations: sets differ in names or rate, cannot be joined")
    return _side(sets, held, False, chunking), _side(sets, held, True, chunking)


def _side(
    sets: Sequence[Demonstrations],
    held: Collection[str],
    validation: bool,
    chunking: Chunking | None,
) -> Frames:
    observation, action, past, future, counts = [], [], [], [], []
    before = 0
    for number, demos in enumerate(sets):
        mask = np.array([g in held for g in demos.groups])
        episodes = np.flatnonzero(mask == validation)
        rows = demos.frames_of(episodes)
        observation.append(demos.observation[rows])
        action.append(demos.action[rows])
        if chunking is not None:
            lengths = np.diff(demos.starts)[episodes]
            starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            past.append(windows(starts, chunking.history) + before)
            ahead, told = _chunks(starts, chunking.horizon, own=number == 0)
            future.append(ahead + before)
            counts.append(told)
        before += len(rows)
    pair = (
        torch.from_numpy(np.concatenate(observation)),
        torch.from_numpy(np.concatenate(action)),
    )
    if chunking is None:
        return Frames(*pair)
    parts = (torch.from_numpy(np.concatenate(part)) for part in (past, future, counts))
    return Frames(*pair, *parts)
