"""Keeps an eye on one object while the hand comes down on it: where has it gone since the look?

The look tells the object's heights. At each later sight they are moved and turned over the table
until they agree with the heights that are seen now. Only what is seen has to agree, so a hand in
the way does not shift the result; and a height that disagrees costs the same however wrong it is,
so that what else is seen there does not either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from perception.camera import point_image
from perception.heightmap import HeightMapConfig, build_height_map
from robot.errors import SensorError
from robot.interface import Camera
from robot.types import HeightMap, Look, ObjectState

Array = NDArray[np.float64]

_LEVELS = (
    # step m, steps each way; turn deg, turns each way; places kept
    (0.010, 6, 15.0, 3, 4),
    (0.004, 2, 5.0, 2, 3),
    (0.0015, 2, 2.0, 2, 2),
    (0.0005, 2, 0.7, 2, 1),
)
"""How the place is searched: over all that is near, then finer and finer around the best."""


@dataclass(frozen=True)
class WatchConfig:
    """How an object is watched.

    Attributes:
        period_s: from one sight to the next.
        latency_s: from a sight to its state, where computing takes no simulated time.
        lowest_m: what is lower counts as the table.
        reach_m: the object is looked for so far around where it was last seen.
        least_cells_n: with fewer cells in which something stands the sight tells nothing.
        spot_cells_n: heaps of fewer cells are the cameras' noise.
        cell_m: edge of the cells whose heights are compared.
        fit_m: if the heights disagree by more than this, on average, the sight tells nothing.
        most_m: the most by which a cell can disagree.
        compared_n: about so many cells are compared while the place is searched.
    """

    period_s: float = bounded(0.2, 0.01, 10.0)
    latency_s: float = bounded(0.1, 0.0, 10.0)
    lowest_m: float = bounded(0.008, 0.0, 0.1)
    reach_m: float = bounded(0.05, 0.0, 0.5)
    least_cells_n: int = bounded(30, 3, 100_000)
    spot_cells_n: int = bounded(12, 1, 1000)
    cell_m: float = bounded(0.003, 0.001, 0.05)
    fit_m: float = bounded(0.007, 0.0, 0.1)
    most_m: float = bounded(0.015, 0.001, 0.1)
    compared_n: int = bounded(100, 10, 100_000)


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

    def begin(self, look: Look | None, obj: ObjectState, now_s: float) -> None:
        """Watch an object of a look from now on.

        Raises:
            SensorError: there is no look; this watch takes none itself.
        """
        if look is None:
            raise SensorError("watch: needs the look that showed the object")
        self._first = obj
        self._surface = surface_of(look, obj, self.config.lowest_m)
        own = np.zeros(look.height_map.height_m.shape, dtype=bool)
        own[tuple(look.height_map.cells_at(self._surface[:, :2]).T)] = True
        heights = look.height_map.height_m
        #: The object alone on the table, and everything but it.
        self._alone = replace(look.height_map, height_m=np.where(own, heights, np.float32(0.0)))
        self._others = replace(look.height_map, height_m=np.where(own, np.float32(0.0), heights))
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
        if len(self._surface) < self.config.least_cells_n:
            return None
        seen = self._seen()
        standing = seen.seen & (seen.height_m > 0)
        if standing.sum() < self.config.least_cells_n:
            return None
        found = self._fitted(seen, standing)
        if found is None:
            return None
        self._shift, self._turn = found
        about = self._first.X_world_obj.position_m
        to = about + np.array([*self._shift, 0.0])
        pose = self._first.X_world_obj.turned(self._turn, about, to)
        moving = bool(np.linalg.norm(self._shift) > 0.01)
        return replace(self._first, X_world_obj=pose, moving=moving, stamp_s=seen.stamp_s)

    def _seen(self) -> HeightMap:
        """Heights around where the object was last seen; 0 where nothing stands.

        What stood there at the look and is not the object counts as not seen.
        """
        config = self.config
        about = self._first.X_world_obj.position_m[:2] + self._shift
        radius = 0.5 * float(np.hypot(*self._first.dimensions_m[:2])) + config.reach_m
        highest = float(self._surface[:, 2].max()) + 0.02
        clouds, stamp_s = self._clouds(about, radius, highest)
        low, high = about - radius, about + radius
        grid = HeightMapConfig(
            (low[0], low[1]), (high[0], high[1]), config.cell_m, highest, hole_cells=1
        )
        heights = build_height_map(clouds, grid, stamp_s)
        standing = _heaps(heights.seen & (heights.height_m > config.lowest_m), config.spot_cells_n)
        xy = _middles(heights)
        others = _at(self._others, xy)
        other = (others > config.lowest_m) & (np.abs(others - heights.height_m) < config.most_m)
        return replace(
            heights,
            height_m=np.where(standing, heights.height_m, np.float32(0.0)),
            seen=heights.seen & ~other,
        )

    def _clouds(
        self, about: Array, radius: float, highest: float
    ) -> tuple[list[NDArray[np.float32]], float]:
        """(n, 3) m of each camera around a place, less the arm's; and when the newest was taken."""
        clouds, stamp_s = [], 0.0
        for camera in self.cameras:
            try:
                frame = camera.read()
            except SensorError:
                continue
            image, valid = point_image(frame)
            near = valid & (np.abs(image[..., :2] - about) < radius).all(axis=-1)
            cloud = image[near & (image[..., 2] < highest)]
            clouds.append(cloud[~self.own(cloud.astype(float))])
            stamp_s = max(stamp_s, frame.stamp_s)
        return clouds, stamp_s

    def _fitted(self, seen: HeightMap, standing: NDArray[np.bool_]) -> tuple[Array, float] | None:
        """The shift (2,) m and turn rad since the look that agree best with what is seen."""
        about = self._first.X_world_obj.position_m[:2]
        there = np.column_stack([_middles(seen)[standing] - about, seen.height_m[standing]])
        here = self._surface - [*about, 0.0]
        few = self.config.compared_n
        some = there[:: 1 + len(there) // few], here[:: 1 + len(here) // few]
        places = [(0.0, self._shift, self._turn)]
        for step_m, steps_n, turn_deg, turns_n, kept in _LEVELS:
            ways = step_m * np.arange(-steps_n, steps_n + 1)
            shifts = np.stack(np.meshgrid(ways, ways), axis=-1).reshape(-1, 2)
            turns = np.radians(turn_deg) * np.arange(-turns_n, turns_n + 1)
            found = []
            for _, shift, turn in places:
                for way in turns:
                    costs = self._disagreement(seen, *some, shift + shifts, turn + way)
                    best = np.argsort(costs)[:2]
                    found += [(float(costs[k]), shift + shifts[k], turn + way) for k in best]
            places = sorted(found, key=lambda place: place[0])[:kept]
        _, shift, turn = places[0]
        cost = float(self._disagreement(seen, there, here, shift[None], turn)[0])
        return (shift, turn) if cost < self.config.fit_m else None

    def _disagreement(
        self, seen: HeightMap, there: Array, here: Array, shifts: Array, turn: float
    ) -> Array:
        """(k,) m: by how much heights disagree, on average, if the object went there.

        What is seen to stand has to be the object, and where it would be nothing else may be seen;
        where nothing is seen, nothing is asked.

        Args:
            seen: the heights that are seen now.
            there: (n, 3) m, what stands there, from where the object was at the look.
            here: (m, 3) m, the object's surface, from where it was.
            shifts: (k, 2) m.
            turn: rad.
        """
        about, most = self._first.X_world_obj.position_m[:2], self.config.most_m
        back = _rotated(there[:, :2], -turn) - _rotated(shifts, -turn)[:, None] + about
        stands = np.minimum(np.abs(np.nan_to_num(_at(self._alone, back)) - there[:, 2]), most)
        forth = _rotated(here[:, :2], turn) + shifts[:, None] + about
        now = _at(seen, forth)
        told = np.isfinite(now)
        fits = np.where(told, np.minimum(np.abs(np.nan_to_num(now) - here[:, 2]), most), 0.0)
        total = stands.sum(axis=1) + fits.sum(axis=1)
        return np.asarray(total / (stands.shape[1] + told.sum(axis=1)))


def surface_of(look: Look, obj: ObjectState, lowest_m: float) -> Array:
    """(n, 3) m: what a look saw of an object's surface, from above."""
    grid = look.height_map
    rows, columns = np.nonzero(grid.seen & (grid.height_m > lowest_m))
    xy = grid.origin_m + grid.resolution_m * np.column_stack([rows, columns])
    local = (xy - obj.X_world_obj.position_m[:2]) @ obj.X_world_obj.rotation[:2, :2]
    inside = (np.abs(local) <= 0.5 * obj.dimensions_m[:2] + 0.004).all(axis=1)
    heights = grid.height_m[rows[inside], columns[inside]].astype(float)
    return np.column_stack([xy[inside], heights])


def _middles(grid: HeightMap) -> Array:
    """(H, W, 2) m: where a grid's cells are."""
    index = np.moveaxis(np.indices(grid.height_m.shape), 0, -1)
    return np.asarray(grid.origin_m + grid.resolution_m * index)


def _at(grid: HeightMap, xy_m: Array) -> Array:
    """(...) m: heights at places (..., 2) m; NaN where nothing was seen."""
    cells = grid.cells_at(xy_m)
    shape = np.array(grid.height_m.shape)
    inside = ((cells >= 0) & (cells < shape)).all(axis=-1)
    rows, columns = np.moveaxis(np.clip(cells, 0, shape - 1), -1, 0)
    return np.where(inside & grid.seen[rows, columns], grid.height_m[rows, columns], np.nan)


def _heaps(standing: NDArray[np.bool_], least_n: int) -> NDArray[np.bool_]:
    """Without the heaps of fewer than ``least_n`` cells."""
    _, label, stats, _ = cv2.connectedComponentsWithStats(standing.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= least_n
    large[0] = False  # what does not stand
    return np.asarray(large[label])


def _rotated(points: Array, turn: float) -> Array:
    c, s = math.cos(turn), math.sin(turn)
    return points @ np.array([[c, s], [-s, c]])
