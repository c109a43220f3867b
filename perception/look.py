"""Perception from cameras: frames -> detections -> fused objects and heights."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from perception.fusion import Fusion
from robot.errors import SensorError
from robot.interface import Camera, Detector
from robot.types import Look

_log = logging.getLogger(__name__)


class CameraPerception:
    """Looks through all cameras; implements the ``Perception`` protocol.

    A camera that returns nothing, or a frame without depth, is left out and named in the log; with
    none left the look fails.

    Args:
        cameras: to look through.
        detector: finds objects in each frame.
        fusion: joins what the cameras saw.
    """

    def __init__(self, cameras: Sequence[Camera], detector: Detector, fusion: Fusion) -> None:
        self.cameras = cameras
        self.detector = detector
        self.fusion = fusion

    def look(self) -> Look:
        """One frame from each camera, fused.

        Raises:
            SensorError: no camera returned a frame.
        """
        frames, detections, problems = [], [], []
        for camera in self.cameras:
            try:
                frame = camera.read()
                detections.append(self.detector.detect(frame))
                frames.append(frame)
            except SensorError as error:
                problems.append(str(error))
                _log.warning("%s", error)
        if not frames:
            raise SensorError("no camera returned a usable frame: " + "; ".join(problems))
        objects, height_map = self.fusion.update(frames, detections)
        return Look(
            tuple(objects),
            height_map,
            max(frame.stamp_s for frame in frames),
            "camera",
            tuple(frames),
            tuple(tuple(found) for found in detections),
        )
