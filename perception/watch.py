"""Keeps an eye on one object while the hand comes down on it: where has it gone since the look?

The look tells the object's heights. Each later sight is laid over them: points near the object,
less those of table and arm, are moved over the table until they fit. Only what is seen has to fit,
so a hand in the way does not shift the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from configs.load import bounded
from perception.camera import point_image
from robot.errors import SensorError
from robot.interface import Camera
from robot.types import Look, ObjectState

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WatchConfig:
    """How an object is watched.

    Attributes:
        period_s: from one sight to the next.
        latency_s: from a sight to its state, where computing takes no simulated time.
        lowest_m: what is lower counts as the table.
        reach_m: the object is looked for so far around where it was last seen.
        least_points_n: with fewer points the sight tells nothing.
        cell_m: edge of the cells whose highest points are compared.
        fit_m: if they lie farther than this from the object's surface, on average, the sight tells
            nothing.
        kept: share of the points, the best, that decide where the object is.
    """

    period_s: float = bounded(0.2, 0.01, 10.0)
    latency_s: float = bounded(0.1, 0.0, 10.0)
    lowest_m: float = bounded(0.008, 0.0, 0.1)
    reach_m: float = bounded(0.05, 0.0, 0.5)
    least_points_n: int = bounded(30, 3, 100_000)
    cell_m: float = bounded(0.003, 0.001, 0.05)
    fit_m: float = bounded(0.004, 0.0, 0.1)
    kept: float = bounded(0.95, 0.1, 1.0)


class CameraWatch:
    """A ``Watch`` through RGB-D cameras.

    Args:
        cameras: to look through.
        own: tells which of the points (n, 3) m belong to the arm as it stands now.
        config: see :class:`WatchConfig`.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        own: Callable[[Array], NDArray[np.bool_]],
        config: WatchConfig | None = None,
    ) -> None:
        self.cameras = cameras
        self.own = own
        self.config = config or WatchConfig()

    def begin(self, look: Look, obj: ObjectState, now_s: float) -> None:
        """Watch an object of a look from now on."""
        self._first = obj
        self._surface = surface_of(look, obj, self.config.lowest_m)
        self._tree = cKDTree(self._surface)
        self._shift, self._turn = np.zeros(2), 0.0
        self._next_s = now_s + self.config.period_s
        self._pending: ObjectState | None = None

    def read(self, now_s: float) -> ObjectState | None:
        """Its newest state, once for each sight that told something."""
        config = self.config
        if now_s + 1e-9 >= self._next_s:
            self._next_s += config.period_s
            self._pending = self.sight() or self._pending
        pending = self._pending
        if pending is None or now_s + 1e-9 < pending.stamp_s + config.latency_s:
            return None
        self._pending = None
        return pending

    def sight(self) -> ObjectState | None:
        """What the cameras show now: its state, or None where they tell nothing."""
        if len(self._surface) < self.config.least_points_n:
            return None
        cells, stamp_s = self._cells()
        if len(cells.tops) < self.config.least_points_n:
            return None
        found = self._fitted(cells)
        if found is None:
            return None
        self._shift, self._turn = found
        about = self._first.X_world_obj.position_m
        to = about + np.array([*self._shift, 0.0])
        pose = self._first.X_world_obj.turned(self._turn, about, to)
        moving = bool(np.linalg.norm(self._shift) > 0.01)
        return replace(self._first, X_world_obj=pose, moving=moving, stamp_s=stamp_s)

    def _cells(self) -> tuple[_Cells, float]:
        """What all cameras see around where the object was last seen."""
        config = self.config
        about = self._first.X_world_obj.position_m[:2] + self._shift
        radius = 0.5 * float(np.hypot(*self._first.dimensions_m[:2])) + config.reach_m
        highest = float(self._surface[:, 2].max()) + 0.02
        points, stamp_s = [np.zeros((0, 3))], 0.0
        for camera in self.cameras:
            try:
                frame = camera.read()
            except SensorError:
                continue
            image, valid = point_image(frame)
            near = valid & (np.abs(image[..., :2] - about) < radius).all(axis=-1)
            points.append(image[near & (image[..., 2] < highest)].astype(float))
            stamp_s = max(stamp_s, frame.stamp_s)
        cloud = np.concatenate(points)
        cloud = cloud[~self.own(cloud)]
        return _Cells.of(cloud, about - radius, radius, config), stamp_s

    def _fitted(self, cells: _Cells) -> tuple[Array, float] | None:
        """The shift (2,) m and turn rad since the look that fit best what is seen."""
        about = self._first.X_world_obj.position_m[:2]
        middle = cells.tops[:, :2].mean(axis=0) - self._surface[:, :2].mean(axis=0)
        starts = [(self._shift, 0.0), (middle, 0.0)] + [(middle, t) for t in (-0.5, 0.5)]
        fits = [self._icp(cells, about, shift, self._turn + turn, 8) for shift, turn in starts]
        _, shift, turn = min(fits, key=lambda fit: fit[0])
        cost, shift, turn = self._icp(cells, about, shift, turn, 60)
        return (shift, turn) if cost < self.config.fit_m else None

    def _icp(
        self, cells: _Cells, about: Array, shift: Array, turn: float, rounds: int
    ) -> tuple[float, Array, float]:
        """Iterated closest points, both ways; the mean distance, m, and where it ended.

        What is seen has to lie on the surface, and the surface must not lie where the table is
        seen. Where something hides it, nothing is asked.
        """
        surface, tops, kept = self._surface, cells.tops, self.config.kept
        tree = cKDTree(tops)
        cost = math.inf
        for _ in range(rounds):
            apart, near = self._tree.query(_back(tops, about, shift, turn))
            seen = np.argsort(apart)[: max(3, int(kept * len(apart)))]
            there = _forth(surface, about, shift, turn)
            open_ = np.flatnonzero(cells.told(there[:, :2]))
            back, far = tree.query(there[open_])
            told = np.argsort(back)[: int(kept * len(back))]
            cost = float(np.concatenate([apart[seen], back[told]]).mean())
            a = np.concatenate([surface[near[seen], :2], surface[open_[told], :2]]) - about
            b = np.concatenate([tops[seen, :2], tops[far[told], :2]]) - about
            mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
            a, b = a - mean_a, b - mean_b
            fresh = math.atan2(
                float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()), float((a * b).sum())
            )
            moved = mean_b - _rotated(mean_a, fresh)
            step = float(np.linalg.norm(moved - shift)) + 0.03 * abs(fresh - turn)
            shift, turn = moved, fresh
            if step < 5e-5:
                break
        return cost, shift, turn


@dataclass(frozen=True)
class _Cells:
    """What is seen around an object, from above.

    Attributes:
        tops: (n, 3) m, the highest point of each cell in which something stands.
        seen: (N, N) whether a cell was seen at all, the table included.
        origin_m: (2,) of the first cell's middle.
        edge_m: of a cell.
    """

    tops: Array
    seen: NDArray[np.bool_]
    origin_m: Array
    edge_m: float

    @classmethod
    def of(cls, cloud: Array, origin_m: Array, radius_m: float, config: WatchConfig) -> _Cells:
        """From points (n, 3) m in a square."""
        n = math.ceil(2 * radius_m / config.cell_m) + 1
        index = np.rint((cloud[:, :2] - origin_m) / config.cell_m).astype(int)
        top = np.full((n, n), -np.inf)
        np.maximum.at(top, (index[:, 0], index[:, 1]), cloud[:, 2])
        rows, columns = np.nonzero(top > config.lowest_m)
        xy = origin_m + config.cell_m * np.column_stack([rows, columns])
        tops = np.column_stack([xy, top[rows, columns]])
        return cls(tops, np.isfinite(top), origin_m, config.cell_m)

    def told(self, xy_m: Array) -> NDArray[np.bool_]:
        """(n,) whether something was seen at (n, 2) m."""
        index = np.rint((xy_m - self.origin_m) / self.edge_m).astype(int)
        inside = ((index >= 0) & (index < len(self.seen))).all(axis=1)
        out = np.zeros(len(xy_m), dtype=bool)
        out[inside] = self.seen[index[inside, 0], index[inside, 1]]
        return out


def surface_of(look: Look, obj: ObjectState, lowest_m: float) -> Array:
    """(n, 3) m: what a look saw of an object's surface, from above."""
    grid = look.height_map
    rows, columns = np.nonzero(grid.seen & (grid.height_m > lowest_m))
    xy = grid.origin_m + grid.resolution_m * np.column_stack([rows, columns])
    local = (xy - obj.X_world_obj.position_m[:2]) @ obj.X_world_obj.rotation[:2, :2]
    inside = (np.abs(local) <= 0.5 * obj.dimensions_m[:2] + 0.004).all(axis=1)
    heights = grid.height_m[rows[inside], columns[inside]].astype(float)
    return np.column_stack([xy[inside], heights])


def _rotated(points: Array, turn: float) -> Array:
    c, s = math.cos(turn), math.sin(turn)
    return points @ np.array([[c, s], [-s, c]])


def _back(cloud: Array, about: Array, shift: Array, turn: float) -> Array:
    """Points (n, 3) m moved to where they would have been at the look."""
    out = cloud.copy()
    out[:, :2] = _rotated(cloud[:, :2] - about - shift, -turn) + about
    return out


def _forth(surface: Array, about: Array, shift: Array, turn: float) -> Array:
    """Points (n, 3) m of the look moved to where they are now."""
    out = surface.copy()
    out[:, :2] = _rotated(surface[:, :2] - about, turn) + about + shift
    return out
