"""The height map: what the cameras saw, as heights over the table on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.types import HeightMap


@dataclass(frozen=True)
class HeightMapConfig:
    """The grid and how cells are filled.

    Attributes:
        min_m, max_m: corners (x, y) of the grid, m.
        resolution_m: edge of a cell, m.
        top_m: higher points are the arm's, m.
        agree_m: points of a cell within this of its highest are averaged, the rest is below an
            edge.
        hole_cells: gaps of up to this many cells inside what was seen are closed and count as seen.
    """

    min_m: tuple[float, float] = bounded((0.25, -0.30), -5.0, 5.0)
    max_m: tuple[float, float] = bounded((0.75, 0.30), -5.0, 5.0)
    resolution_m: float = bounded(0.0025, 0.0005, 0.05)
    top_m: float = bounded(0.30, 0.01, 3.0)
    agree_m: float = bounded(0.010, 0.0, 0.1)
    hole_cells: int = bounded(2, 0, 20)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along x and y."""
        (x0, y0), (x1, y1) = self.min_m, self.max_m
        return (
            round((x1 - x0) / self.resolution_m) + 1,
            round((y1 - y0) / self.resolution_m) + 1,
        )


def cells_of(points_m: NDArray[np.float32], config: HeightMapConfig) -> NDArray[np.int32]:
    """(N,) flat cell numbers of (N, 3) world points, m; -1 outside the grid."""
    nx, ny = config.shape
    scale = np.float32(1.0 / config.resolution_m)
    i = np.floor((points_m[:, 0] - np.float32(config.min_m[0])) * scale + 0.5).astype(np.int32)
    j = np.floor((points_m[:, 1] - np.float32(config.min_m[1])) * scale + 0.5).astype(np.int32)
    inside = (i >= 0) & (i < nx) & (j >= 0) & (j < ny)
    return np.where(inside, i * ny + j, -1).astype(np.int32)


def build_height_map(
    points_m: Sequence[NDArray[np.float32]], config: HeightMapConfig, stamp_s: float
) -> HeightMap:
    """Heights from the points of all views.

    A cell's height is the mean of its points near the highest one, over all views; then a 3x3
    median. Cells that nobody saw get the smooth continuation of what surrounds them, and 0 where
    there is nothing near.

    Args:
        points_m: for each view (N, 3) world points, m, already cleaned.
        config: the grid.
        stamp_s: of the newest view, s.
    """
    nx, ny = config.shape
    cells, heights = [], []
    for points in points_m:
        cell = cells_of(points, config)
        kept = (cell >= 0) & (points[:, 2] < config.top_m)
        cells.append(cell[kept])
        heights.append(points[kept, 2])
    cell = np.concatenate(cells) if cells else np.zeros(0, np.int32)
    z = np.concatenate(heights) if heights else np.zeros(0, np.float32)
    highest = np.full(nx * ny, -np.inf, np.float32)
    np.maximum.at(highest, cell, z)
    near = z >= highest[cell] - np.float32(config.agree_m)
    cell, z = cell[near], z[near]
    count = np.bincount(cell, minlength=nx * ny)
    total = np.bincount(cell, weights=z, minlength=nx * ny)
    seen = (count > 0).reshape(nx, ny)
    height = (total / np.maximum(count, 1)).reshape(nx, ny).astype(np.float32)
    height = _filled(height, seen)
    height = np.asarray(cv2.medianBlur(height, 3), np.float32)
    if config.hole_cells:
        size = 2 * config.hole_cells + 1
        closed = cv2.morphologyEx(
            seen.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((size, size), np.uint8)
        )
        seen = closed.astype(bool)
    height = np.clip(height, 0.0, config.top_m)
    return HeightMap(
        np.array(config.min_m), config.resolution_m, height.astype(np.float32), seen, stamp_s
    )


def _filled(height: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Unseen cells by normalized convolution with wider and wider kernels, then 0."""
    out = np.where(seen, height, np.float32(0.0))
    missing = ~seen
    weight = seen.astype(np.float32)
    known = out * weight
    for size in (3, 7, 21):
        if not missing.any():
            break
        mass = cv2.boxFilter(
            weight, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        value = cv2.boxFilter(
            known, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        # A single cell at the rim of the kernel says little.
        enough = missing & (mass > 0.1 * size * size)
        out[enough] = value[enough] / mass[enough]
        missing &= ~enough
    return out
