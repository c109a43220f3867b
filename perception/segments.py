"""Which points belong to which detection: segmentation in one view, association across views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from perception.cloud import Cloud, middle_of
from perception.ownership import OwnershipConfig, owners
from robot.types import Detection, RgbdFrame

# Cells of one row of the (unbounded) grid in which overlap is counted.
_CELL_ROW = 20_000


@dataclass(frozen=True)
class SegmentConfig:
    """How detections become points.

    Attributes:
        table_m: points lower than this are the table's, m.
        edge_m: neighbouring pixels whose depths differ by more are on different surfaces, m.
        part: an object's pixels may fall into surfaces; one counts from this share of the largest.
        least_px: a detection with fewer pixels above the table has no geometry.
        overlap: two views' segments are one object where this share of the smaller one's cells is
            also the other's.
        cell_m: edge of the cells in which overlap is counted, m.
        ownership: which detection a pixel belongs to.
    """

    table_m: float = bounded(0.006, 0.0, 0.1)
    edge_m: float = bounded(0.015, 0.001, 0.2)
    part: float = bounded(0.25, 0.0, 1.0)
    least_px: int = bounded(15, 1, 10_000)
    overlap: float = bounded(0.30, 0.01, 1.0)
    cell_m: float = bounded(0.005, 0.001, 0.1)
    ownership: OwnershipConfig = OwnershipConfig()


@dataclass(frozen=True, slots=True)
class Segment:
    """The points of one detection in one view.

    Attributes:
        view: index of the view.
        detection: whose points they are.
        points: (N, 3) float32 world points, m.
        cells: sorted numbers of the cells (xy) that they touch.
        noise_m: standard deviation of the view's heights, m.
        pixel_m: edge of a pixel on the object, m.
    """

    view: int
    detection: Detection
    points: NDArray[np.float32]
    cells: NDArray[np.int64]
    noise_m: float
    pixel_m: float


def segments_of(
    view: int,
    frame: RgbdFrame,
    cloud: Cloud,
    inside: NDArray[np.bool_],
    detections: Sequence[Detection],
    config: SegmentConfig,
) -> tuple[list[Segment], list[Detection]]:
    """The points of each detection in one view.

    Args:
        view: index of the view.
        frame: the view.
        cloud: its points.
        inside: (H, W) bool: points, measured or filled, within the workspace.
        detections: of the view.
        config: how.

    Returns:
        The segments, and the detections that have no geometry.
    """
    height = cloud.points[..., 2]
    above = inside & cloud.good & (height > config.table_m)
    jump = _jumps(cloud.depth_m, config)
    owner, spans = owners(
        frame.rgb,
        np.where(cloud.good, height, np.float32(np.nan)),
        above,
        inside,
        detections,
        cloud.noise_m,
        config.ownership,
    )
    segments, bare = [], []
    for index, (detection, part) in enumerate(zip(detections, spans, strict=True)):
        mask = _largest(owner[part] == index, jump[part], config)
        points = np.stack([cloud.points[part][..., axis][mask] for axis in range(3)]).T
        if len(points) < config.least_px:
            bare.append(detection)
            continue
        across = np.linalg.norm(points[:: 1 + len(points) // 50] - cloud.eye_m, axis=1)
        pixel_m = middle_of(across) / frame.intrinsics.fx_px
        cells = cells_xy(points, config.cell_m)
        segments.append(Segment(view, detection, points, cells, cloud.noise_m, pixel_m))
    return segments, bare


def cells_xy(points_m: NDArray[np.float32], cell_m: float) -> NDArray[np.int64]:
    """Sorted numbers of the xy cells that (N, 3) points touch."""
    return np.unique(_cell_numbers(points_m, cell_m))


def _jumps(depth_m: NDArray[np.float32], config: SegmentConfig) -> NDArray[np.bool_]:
    """(H, W) bool: pixels beside something nearer, across a jump in depth."""
    known = np.where(depth_m > 0.0, depth_m, np.float32(1e6))
    nearest = cv2.erode(known, np.ones((3, 3), np.uint8))
    return np.asarray(depth_m - nearest > config.edge_m)


def _largest(
    own: NDArray[np.bool_], jump: NDArray[np.bool_], config: SegmentConfig
) -> NDArray[np.bool_]:
    """The largest surface among a detection's pixels, and what is nearly as large.

    An object that another one lies across falls into parts; specks of neighbours are smaller, and a
    neighbour's rim in front or behind is no part of the surface.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (own & ~jump).astype(np.uint8), connectivity=4
    )
    if count < 2:
        return own
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.concatenate([[False], areas >= config.part * areas.max()])[labels]
    # A pixel at a jump is on the far side of it, so it goes with what it touches there.
    touching = cv2.dilate(kept.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return np.asarray(kept | (own & jump & touching))


def associate(segments: Sequence[Segment], config: SegmentConfig) -> list[list[Segment]]:
    """Groups segments of several views that are one object, at most one from each view.

    Pairs are joined from the largest overlap of their xy cells downwards.
    """
    shared = _shared_cells(segments)
    pairs = []
    for (a, b), count in shared.items():
        sizes = segments[a].cells.size, segments[b].cells.size
        if count >= config.overlap * min(sizes):
            pairs.append((count / (sum(sizes) - count), a, b))
    group = list(range(len(segments)))
    for _, a, b in sorted(pairs, reverse=True):
        merged = [i for i in range(len(segments)) if group[i] in (group[a], group[b])]
        views = [segments[i].view for i in merged]
        if group[a] != group[b] and len(set(views)) == len(views):
            old, new = group[b], group[a]
            group = [new if g == old else g for g in group]
    kept = [
        _without_rivals(index, segments, group, shared, config) for index in range(len(segments))
    ]
    out: dict[int, list[Segment]] = {}
    for index, segment in enumerate(kept):
        if segment is not None:
            out.setdefault(group[index], []).append(segment)
    return list(out.values())


def _shared_cells(segments: Sequence[Segment]) -> dict[tuple[int, int], int]:
    """How many xy cells each pair of segments of different views shares, where it is not 0."""
    places = [_cell_places(segment.cells) for segment in segments]
    boxes = [(ij.min(axis=0), ij.max(axis=0)) for ij in places]
    out: dict[tuple[int, int], int] = {}
    for a, first in enumerate(segments):
        for b in range(a + 1, len(segments)):
            second = segments[b]
            if first.view == second.view:
                continue
            if (boxes[a][0] > boxes[b][1]).any() or (boxes[b][0] > boxes[a][1]).any():
                continue
            nearest = np.searchsorted(second.cells, first.cells)
            if count := int((second.cells.take(nearest, mode="clip") == first.cells).sum()):
                out[a, b] = count
    return out


def _without_rivals(
    index: int,
    segments: Sequence[Segment],
    group: Sequence[int],
    shared: dict[tuple[int, int], int],
    config: SegmentConfig,
) -> Segment | None:
    """A segment without the points that another view gives to another object.

    Views can disagree on how many objects there are: where one view's single segment covers two of
    another's, it keeps what lies on its partner and gives up what lies on the other.
    """
    segment = segments[index]
    partners = {
        s.view: s for i, s in enumerate(segments) if group[i] == group[index] and i != index
    }
    rivals = []
    for (a, b), count in shared.items():
        if index not in (a, b) or group[a] == group[b]:
            continue
        rival = segments[b if a == index else a]
        if rival.view in partners and count >= config.overlap * rival.cells.size:
            rivals.append(rival)
    if not rivals:
        return segment
    # Each cell goes to whichever of them is nearest: also where the other view sees neither.
    places = _cell_places(segment.cells)
    own = np.min([_distance(places, partners[r.view].cells) for r in rivals], axis=0)
    other = np.min([_distance(places, r.cells) for r in rivals], axis=0)
    kept = segment.cells[own <= other]
    points = segment.points[np.isin(_cell_numbers(segment.points, config.cell_m), kept)]
    if len(points) < config.least_px:
        return None
    return replace(segment, points=points, cells=kept)


def _distance(places: NDArray[np.int64], cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Squared distance, in cells, of each place (N, 2) to the nearest of the numbered cells."""
    # |a - b|^2 = |a|^2 - 2 a b + |b|^2, in one product of matrices; exact for whole numbers.
    middle = places[0]
    a, b = (places - middle).astype(np.float64), (_cell_places(cells) - middle).astype(np.float64)
    squares = (b**2).sum(axis=1) - 2.0 * a @ b.T
    return np.asarray((squares.min(axis=1) + (a**2).sum(axis=1)).astype(np.int64))


def _cell_places(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack(np.divmod(cells, _CELL_ROW), axis=1)


def _cell_numbers(points_m: NDArray[np.float32], cell_m: float) -> NDArray[np.int64]:
    i, j = (np.floor(points_m[:, axis] / cell_m).astype(np.int64) for axis in (0, 1))
    return np.asarray((i + _CELL_ROW // 2) * _CELL_ROW + (j + _CELL_ROW // 2))
