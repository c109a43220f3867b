"""Following objects from look to look: stable numbers, moving or still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.types import ObjectState


@dataclass(frozen=True)
class TrackerConfig:
    """How objects are recognized again.

    Attributes:
        match_m: an object may have moved this far between two looks, m.
        moving_m: from this far on it counts as moving, front and back alike, m.
        class_bonus_m: an equal class makes two objects this much nearer, m.
    """

    match_m: float = bounded(0.06, 0.0, 1.0)
    moving_m: float = bounded(0.010, 0.0, 1.0)
    class_bonus_m: float = bounded(0.01, 0.0, 1.0)


class Tracker:
    """Gives each object the number it had in the look before, nearest pairs first."""

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config
        self._known: list[ObjectState] = []
        self._next = 0

    def reset(self) -> None:
        """Forget all objects and start numbering anew."""
        self._known = []
        self._next = 0

    def update(self, objects: Sequence[ObjectState]) -> list[ObjectState]:
        """The objects of a new look with numbers and motion, surest first."""
        pairs = []
        for i, new in enumerate(objects):
            for j, old in enumerate(self._known):
                distance = _distance(new, old)
                if distance <= self.config.match_m:
                    same = new.class_name == old.class_name
                    pairs.append((distance - same * self.config.class_bonus_m, i, j))
        matched: dict[int, int] = {}
        for _, i, j in sorted(pairs):
            if i not in matched and j not in matched.values():
                matched[i] = j
        out = []
        for i, new in enumerate(objects):
            if i in matched:
                old = self._known[matched[i]]
                moving = _motion(new, old) > self.config.moving_m
                out.append(replace(new, object_id=old.object_id, moving=moving))
            else:
                out.append(replace(new, object_id=self._next, moving=False))
                self._next += 1
        self._known = out
        return sorted(out, key=lambda state: -state.confidence)


def _distance(a: ObjectState, b: ObjectState) -> float:
    """Horizontal distance of two centres, m; heights depend on what was visible."""
    return float(np.hypot(*(a.X_world_obj.position_m - b.X_world_obj.position_m)[:2]))


def _motion(new: ObjectState, old: ObjectState) -> float:
    """How far an object as a whole moved, m: the lesser of its front's and its back's way.

    Where more or less of a still object is seen than before, its middle moves too, but only one
    side of it does.
    """
    way = (new.X_world_obj.position_m - old.X_world_obj.position_m)[:2]
    length = float(np.linalg.norm(way))
    if length == 0.0:
        return 0.0
    grown = _half_span(new, way / length) - _half_span(old, way / length)
    return max(length - abs(grown), 0.0)


def _half_span(state: ObjectState, direction: NDArray[np.float64]) -> float:
    """Half the footprint's extent along a horizontal direction, m."""
    sides = np.abs(direction @ state.X_world_obj.rotation[:2, :2])
    return float(0.5 * sides @ state.dimensions_m[:2])
