"""Depth fusion: from frames and detections to objects and a height map."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from perception.camera import check_frame
from perception.cloud import Cloud, CloudConfig, clean, middle_of, points_at
from perception.heightmap import HeightMapConfig, build_height_map, cells_of
from perception.segments import Segment, SegmentConfig, associate, segments_of
from perception.shape import Patch, ShapeConfig, box_of
from perception.tracking import Tracker, TrackerConfig
from robot.errors import SensorError
from robot.geometry import quat_from_axis_angle
from robot.types import Detection, HeightMap, ObjectState, Pose, RgbdFrame

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FusionConfig:
    """How views become objects.

    Attributes:
        max_age_s: an older frame is not used.
        max_skew_s: frames of one look may be this far apart.
        margin_m: objects may reach this far out of the height map's region.
        company: a point is an outlier if fewer points are around it than this share of the median.
        least_points: fewer points make no object.
        missed_area_m2: a heap of points that no detection explains counts as an object from this
            area on.
        missed_height_m: and from this height on.
        missed_widest_m: one that is wider both ways is furniture: no gripper of this size takes it.
        missed_noise: a heap must also be this many times as high as the depth noise.
        missed_confidence: the confidence of such an object; its class is ``irregular``.
        cloud, segment, shape, height_map, tracker: the parts.
    """

    max_age_s: float = bounded(1.0, 0.0, 60.0)
    max_skew_s: float = bounded(0.5, 0.0, 60.0)
    margin_m: float = bounded(0.035, 0.0, 0.5)
    company: float = bounded(0.15, 0.0, 1.0)
    least_points: int = bounded(20, 1, 10_000)
    missed_area_m2: float = bounded(3e-4, 0.0, 1.0)
    missed_height_m: float = bounded(0.012, 0.0, 1.0)
    missed_widest_m: float = bounded(0.12, 0.0, 1.0)
    missed_noise: float = bounded(5.0, 0.0, 100.0)
    missed_confidence: float = bounded(0.2, 0.0, 1.0)
    cloud: CloudConfig = CloudConfig()
    segment: SegmentConfig = SegmentConfig()
    shape: ShapeConfig = ShapeConfig()
    height_map: HeightMapConfig = HeightMapConfig()
    tracker: TrackerConfig = TrackerConfig()


@dataclass(frozen=True, slots=True)
class FusionReport:
    """What the last look left out, and why.

    Attributes:
        used: names of the cameras that were used.
        dropped: camera name to the reason why its frame was not used.
        without_geometry: detections with too few points above the table in the workspace.
        missed: objects that depth found and no detection explains.
        level_tilt_rad: camera name to the tilt that was corrected.
    """

    used: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    without_geometry: int = 0
    missed: int = 0
    level_tilt_rad: dict[str, float] = field(default_factory=dict)


class Fusion:
    """Fuses looks over views and follows the objects from look to look."""

    def __init__(self, config: FusionConfig | None = None) -> None:
        self.config = config or FusionConfig()
        self.report = FusionReport()
        self._tracker = Tracker(self.config.tracker)

    def reset(self) -> None:
        """Forget all objects; numbering starts anew."""
        self._tracker.reset()
        self.report = FusionReport()

    def update(
        self,
        frames: Sequence[RgbdFrame],
        detections: Sequence[list[Detection]],
        now_s: float | None = None,
    ) -> tuple[list[ObjectState], HeightMap]:
        """One look.

        Args:
            frames: one or more views of one moment.
            detections: for each frame, in the same order.
            now_s: the time, to refuse stale frames; None takes the newest frame's stamp.

        Returns:
            The objects, surest first, and the height map; both empty-handed on an empty table.

        Raises:
            SensorError: no frame is usable, or the numbers of frames and lists differ. A single bad
                frame among good ones is left out and named in ``report``.
        """
        if len(frames) != len(detections):
            raise SensorError(
                f"fusion: {len(frames)} frames but {len(detections)} lists of detections"
            )
        kept, dropped = self._usable(frames, now_s)
        clouds = [clean(frames[i], self.config.cloud) for i in kept]
        inside = [self._inside(cloud) for cloud in clouds]
        segments: list[Segment] = []
        bare = 0
        for view, i in enumerate(kept):
            part, without = segments_of(
                view, frames[i], clouds[view], inside[view], detections[i], self.config.segment
            )
            segments += part
            bare += len(without)
        stamp = max(frames[i].stamp_s for i in kept)
        everything = [
            points_at(cloud, here & cloud.good) for cloud, here in zip(clouds, inside, strict=True)
        ]
        height_map = build_height_map(everything, self.config.height_map, stamp)
        groups = associate(segments, self.config.segment)
        found = [self._object(group, height_map) for group in groups]
        objects = [state for state in found if state is not None]
        missed = self._missed(height_map, segments, max(cloud.noise_m for cloud in clouds))
        self.report = FusionReport(
            tuple(frames[i].camera for i in kept),
            dropped,
            bare,
            len(missed),
            {frames[i].camera: clouds[view].tilt_rad for view, i in enumerate(kept)},
        )
        return self._tracker.update([*objects, *missed]), height_map

    # Input ----------------------------------------------------------------------------------

    def _usable(
        self, frames: Sequence[RgbdFrame], now_s: float | None
    ) -> tuple[list[int], dict[str, str]]:
        """Indices of frames to use, and why the others are not used."""
        if not frames:
            raise SensorError("fusion: no camera gave a frame; one at least is needed")
        newest = max(frame.stamp_s for frame in frames)
        kept, dropped = [], {}
        for index, frame in enumerate(frames):
            try:
                check_frame(frame, now_s, self.config.max_age_s)
                if newest - frame.stamp_s > self.config.max_skew_s:
                    raise SensorError(
                        f"camera {frame.camera}: image is {newest - frame.stamp_s:.3f} s older "
                        f"than the newest one, at most {self.config.max_skew_s:.3f} s are allowed"
                    )
            except SensorError as error:
                dropped[frame.camera] = str(error)
                continue
            kept.append(index)
        if not kept:
            raise SensorError("; ".join(dropped.values()))
        for reason in dropped.values():
            log.warning("%s", reason)
        return kept, dropped

    def _inside(self, cloud: Cloud) -> NDArray[np.bool_]:
        """(H, W) bool: points below the arm, in and around the region."""
        grid, margin = self.config.height_map, self.config.margin_m
        x, y, z = cloud.points[..., 0], cloud.points[..., 1], cloud.points[..., 2]
        return np.asarray(
            (cloud.good | cloud.filled)
            & (z < grid.top_m)
            & (x > grid.min_m[0] - margin)
            & (x < grid.max_m[0] + margin)
            & (y > grid.min_m[1] - margin)
            & (y < grid.max_m[1] + margin)
        )

    # Objects --------------------------------------------------------------------------------

    def _object(self, group: list[Segment], height_map: HeightMap) -> ObjectState | None:
        group = [_without_outliers(segment, self.config) for segment in group]
        if sum(len(segment.points) for segment in group) < self.config.least_points:
            return None
        votes: dict[str, float] = {}
        doubt = 1.0
        for segment in group:
            detection = segment.detection
            votes[detection.class_name] = votes.get(detection.class_name, 0.0) + detection.score
            doubt *= 1.0 - detection.score
        name = max(votes, key=lambda key: votes[key])
        return self._state(group, name, 1.0 - doubt, height_map)

    def _state(
        self,
        patches: Sequence[Patch],
        class_name: str,
        confidence: float,
        height_map: HeightMap,
    ) -> ObjectState | None:
        grid = self.config.height_map
        centre, yaw, size = box_of(patches, class_name == "ball", self.config.shape)
        if not (
            grid.min_m[0] <= centre[0] <= grid.max_m[0]
            and grid.min_m[1] <= centre[1] <= grid.max_m[1]
        ):
            return None
        turn = quat_from_axis_angle(np.array([0.0, 0.0, 1.0]), yaw)
        pose = Pose("world", "object", centre, turn)
        dims = np.maximum(size, 0.001)
        stamp_s = height_map.stamp_s
        return ObjectState(-1, class_name, pose, dims, min(confidence, 1.0), False, stamp_s)

    def _missed(
        self, height_map: HeightMap, segments: list[Segment], noise_m: float
    ) -> list[ObjectState]:
        """Objects that stand in the height map and belong to no detection."""
        config = self.config
        least_m = max(config.missed_height_m, config.missed_noise * noise_m)
        standing = (height_map.height_m > 0.8 * least_m) & height_map.seen
        if not standing.any():
            return []
        taken = np.zeros(standing.size, np.uint8)
        if segments:
            points = np.concatenate([segment.points for segment in segments])
            cells = cells_of(points, config.height_map)
            taken[cells[cells >= 0]] = 1
        # A detection's box is rarely perfect: what rims its points is its own.
        rim = cv2.dilate(taken.reshape(standing.shape), np.ones((9, 9), np.uint8))
        left = cv2.morphologyEx(
            (standing & (rim == 0)).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
        )
        count, labels, stats, _ = cv2.connectedComponentsWithStats(left, connectivity=8)
        area_cells = config.missed_area_m2 / height_map.resolution_m**2
        found = []
        for number in range(1, count):
            if stats[number, cv2.CC_STAT_AREA] < area_cells:
                continue
            places = np.argwhere(labels == number)
            z = height_map.height_m[places[:, 0], places[:, 1]]
            if np.quantile(z, 0.8) < least_m:
                continue
            first, last = places.min(axis=0), places.max(axis=0)
            if (first == 0).any() or (last == np.array(labels.shape) - 1).any():
                continue  # the map cuts it off: most of it is somewhere else
            xy = height_map.origin_m + height_map.resolution_m * places
            heap = Heap(
                np.column_stack([xy, z]).astype(np.float32), config.cloud.noise_m[0],
                height_map.resolution_m,
            )  # fmt: skip
            state = self._state([heap], "irregular", config.missed_confidence, height_map)
            if state is not None and state.dimensions_m[1] <= config.missed_widest_m:
                found.append(state)
        return found


@dataclass(frozen=True, slots=True)
class Heap:
    """A heap in the height map, as a :class:`perception.shape.Patch`."""

    points: NDArray[np.float32]
    noise_m: float
    pixel_m: float


def _without_outliers(segment: Segment, config: FusionConfig) -> Segment:
    """Points with company: those in xy cells whose 3x3 neighbourhood holds a few others."""
    points = segment.points
    if len(points) < 3 * config.least_points:
        return segment
    cell_m = config.segment.cell_m
    i, j = (np.floor(points[:, axis] / np.float32(cell_m)).astype(np.int32) for axis in (0, 1))
    i -= i.min() - 1
    j -= j.min() - 1
    shape = (int(i.max()) + 2, int(j.max()) + 2)
    flat = i * shape[1] + j
    counts = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)
    around = cv2.boxFilter(counts, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    company = around.ravel()[flat]
    kept = company >= np.float32(config.company * middle_of(company))
    return replace(segment, points=points[kept]) if kept.any() else segment
