"""Perception from cameras: frames -> detections -> fused objects and heights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from perception.camera import rays, valid_depth
from perception.fusion import Fusion
from perception.heightmap import HeightMapConfig
from robot.errors import SensorError
from robot.interface import Camera, Detector
from robot.types import HeightMap, Look, ObjectState, RgbdFrame

# More than any calibration error; fusion's own levelling corrects up to 2 cm.
_DEEPEST_M = 0.05

_log = logging.getLogger(__name__)


class CameraPerception:
    """Looks through all cameras; implements the ``Perception`` protocol.

    A camera that returns nothing, a frame without depth, a black one, or one that is too old or out
    of step with the others (``FusionConfig.max_age_s``, ``max_skew_s``) is left out and named in
    the log and in ``left_out``; with none left the look fails.

    Args:
        cameras: to look through.
        detector: finds objects in each frame.
        fusion: joins what the cameras saw.
        now_s: gives the time by the cameras' clock, s, so that a camera that hangs is noticed even
            when all of them do; None judges frames by the newest one alone.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        detector: Detector,
        fusion: Fusion,
        now_s: Callable[[], float] | None = None,
    ) -> None:
        self.cameras = cameras
        self.detector = detector
        self.fusion = fusion
        self.now_s = now_s
        self.left_out: dict[str, str] = {}

    def look(self) -> Look:
        """One frame from each camera, fused.

        Raises:
            SensorError: no camera returned a usable frame, or none of them sees the table.
        """
        frames, detections = [], []
        self.left_out = {}
        for camera in self.cameras:
            try:
                frame = camera.read()
                _check_place(frame, self.fusion.config.height_map)
                detections.append(self.detector.detect(frame))
                frames.append(frame)
            except SensorError as error:
                self.left_out[camera.name] = str(error)
        if not frames:
            raise SensorError(
                "no camera returned a usable frame: " + "; ".join(self.left_out.values())
            )
        now_s = None if self.now_s is None else self.now_s()
        objects, height_map = self.fusion.update(frames, detections, now_s)
        self.left_out |= self.fusion.report.dropped
        if not height_map.seen.any():
            # Without this a camera that looks elsewhere would report an empty table.
            grid = self.fusion.config.height_map
            raise SensorError(
                f"camera {', '.join(self.fusion.report.used)}: sees nothing of the table from "
                f"(x, y) = {grid.min_m} to {grid.max_m} m; check the camera's pose X_world_cam"
            )
        return Look(
            tuple(objects),
            height_map,
            max(frame.stamp_s for frame in frames),
            "camera",
            tuple(frames),
            tuple(tuple(found) for found in detections),
        )


def _check_place(frame: RgbdFrame, grid: HeightMapConfig) -> None:
    """Refuse a frame that puts the table far below where it is.

    It would look like an empty table: whatever lies below z = 0 counts as the table.
    """
    depth = frame.depth_m[::8, ::8]
    ray = rays(frame.intrinsics)[::8, ::8][valid_depth(depth)]
    points = (ray * depth[valid_depth(depth)][:, None]) @ frame.X_world_cam.rotation.T
    points += frame.X_world_cam.position_m
    over = ((points[:, :2] >= grid.min_m) & (points[:, :2] <= grid.max_m)).all(axis=1)
    if over.any() and (height := float(np.median(points[over, 2]))) < -_DEEPEST_M:
        raise SensorError(
            f"camera {frame.camera}: the table would lie {-height:.2f} m below z = 0; check the "
            "depth's unit and the camera's pose X_world_cam"
        )


def seen_share(height_map: HeightMap, state: ObjectState, rim_m: float = 0.01) -> float:
    """Share of the rim around an object's footprint, ``rim_m`` broad, that some camera saw.

    Where the rim was seen the object ends there. Where it was not, because something hides it or
    the images end, the object may go on. What lies outside the map counts as unseen.
    """
    step = height_map.resolution_m
    half = 0.5 * state.dimensions_m[:2]
    u, v = (np.arange(-reach, reach + 0.5 * step, step) for reach in (half + rim_m).tolist())
    local = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1).reshape(-1, 2)
    local = local[(np.abs(local) > half).any(axis=1)]
    xy = local @ state.X_world_obj.rotation[:2, :2].T + state.X_world_obj.position_m[:2]
    cells = np.rint((xy - height_map.origin_m) / step).astype(int)
    inside = ((cells >= 0) & (cells < height_map.seen.shape)).all(axis=1)
    kept = cells[inside]
    return float(height_map.seen[kept[:, 0], kept[:, 1]].sum() / max(len(cells), 1))
