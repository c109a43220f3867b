"""The detector at run time: ONNX Runtime and NumPy, no torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception.camera import height_image
from perception.session import ModelError, SessionConfig, open_model
from robot.errors import SensorError
from robot.types import Detection, RgbdFrame

# The fourth channel is the height above the table, clipped to this range (m): above it there is
# only the arm, below it nothing but noise.
HEIGHT_RANGE_M = (-0.05, 0.40)
# Fixed normalization of (red, green, blue in [0, 1]; height in m), inside the graph.
CHANNEL_MEAN = (0.45, 0.45, 0.45, 0.02)
CHANNEL_STD = (0.25, 0.25, 0.25, 0.05)

KIND = "steadyhand-detector"
# Metadata: the score from which a detection counts.
THRESHOLD = "best_threshold"
INPUT = {
    "name": "image",
    "channels": ["red [0, 1]", "green [0, 1]", "blue [0, 1]", "height above table, m"],
    "dtype": "float32",
    "height_range_m": list(HEIGHT_RANGE_M),
}
OUTPUTS = ["boxes_xyxy_px", "scores", "labels"]


def network_input(frame: RgbdFrame) -> NDArray[np.float32]:
    """The detector's (4, H, W) float32 input: colour in [0, 1] and height above the table in m.

    Pixels without depth get height 0, as the bare table has. The height rather than the depth
    makes the channel mean the same from every camera pose.

    Raises:
        SensorError: not one pixel of the frame has a valid depth.
    """
    height, valid = height_image(frame)
    if not valid.any():
        raise SensorError(f"camera {frame.camera}: no pixel has a valid depth (0 < depth, finite)")
    return pack_channels(frame.rgb, height)


def pack_channels(rgb: NDArray[np.uint8], height_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 and (H, W) m to the network's (4, H, W) float32."""
    image = np.empty((4, *height_m.shape), np.float32)
    np.multiply(rgb.transpose(2, 0, 1), np.float32(1.0 / 255.0), out=image[:3])
    np.clip(height_m, *HEIGHT_RANGE_M, out=image[3])
    return image


def detector_metadata(classes: tuple[str, ...], **extra: str) -> dict[str, str]:
    """The ``metadata_props`` that a detector's file must carry."""
    return {
        "kind": KIND,
        "input": json.dumps(INPUT, sort_keys=True),
        "outputs": json.dumps(OUTPUTS),
        "classes": json.dumps(list(classes)),
        **extra,
    }


class OnnxDetector:
    """Runs an exported detector; implements ``robot.interface.Detector``.

    Args:
        model: path of the ``.onnx`` file, or its bytes.
        session: on what it runs; one thread of the processor if left out.
        score_threshold: detections with a lower score are dropped; by default the one in the
            model's metadata, which has the best F1 on held-out train objects, or 0.4.

    Raises:
        ModelError: the file is missing or damaged, or its metadata names other inputs, outputs or
            channels than this runtime feeds.
    """

    def __init__(
        self,
        model: Path | str | bytes,
        session: SessionConfig | None = None,
        score_threshold: float | None = None,
    ) -> None:
        self._name = "detector" if isinstance(model, bytes) else str(model)
        self._session = open_model(model, "detector", session)
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self._check()
        self.classes: tuple[str, ...] = tuple(json.loads(self.metadata["classes"]))
        self.score_threshold = self._threshold(score_threshold)
        _, self.height_px, self.width_px = self._session.get_inputs()[0].shape

    def _check(self) -> None:
        inputs = self._session.get_inputs()
        outputs = [o.name for o in self._session.get_outputs()]
        expected = detector_metadata(())
        for key in ("kind", "input", "outputs"):
            found = self.metadata.get(key)
            if found != expected[key]:
                raise ModelError(
                    f"{self._name}: metadata {key!r} is {found!r}, this runtime needs "
                    f"{expected[key]!r}"
                )
        shape = inputs[0].shape if len(inputs) == 1 else None
        if (
            shape is None
            or inputs[0].name != INPUT["name"]
            or outputs != OUTPUTS
            or len(shape) != 3
            or shape[0] != 4
            or not all(isinstance(n, int) for n in shape)
        ):
            raise ModelError(
                f"{self._name}: graph takes {[(i.name, i.shape) for i in inputs]} and gives "
                f"{outputs}, expected image (4, H, W) and {OUTPUTS}"
            )
        try:
            classes = json.loads(self.metadata.get("classes", ""))
        except ValueError:
            classes = None
        if not isinstance(classes, list) or not classes:
            raise ModelError(f"{self._name}: metadata 'classes' must be a JSON list of names")

    def _threshold(self, wanted: float | None) -> float:
        name = "score_threshold"
        if wanted is None:
            name = f"{self._name}: metadata {THRESHOLD!r}"
            try:
                wanted = float(self.metadata.get(THRESHOLD, 0.4))
            except ValueError:
                wanted = float("nan")
        if not 0.0 <= wanted <= 1.0:
            raise ModelError(f"{name}: must be in [0, 1], got {wanted}")
        return wanted

    def detect(self, frame: RgbdFrame, score_threshold: float | None = None) -> list[Detection]:
        """Detections of one frame, best first; empty where there is nothing.

        Args:
            frame: to look at.
            score_threshold: instead of the detector's own.

        Raises:
            SensorError: the frame has another size than the model takes, or no valid depth.
        """
        self._check_size(frame.camera, frame.rgb)
        least = self.score_threshold if score_threshold is None else score_threshold
        return self._detections(network_input(frame), least)

    def detect_colour(self, rgb: NDArray[np.uint8], camera: str) -> list[Detection]:
        """Detections of an image without depth: every pixel is given the height of the bare table.

        The detector relies on heights: it finds about a tenth of the objects this way, those whose
        colours stand out most.

        Args:
            rgb: (H, W, 3) uint8.
            camera: its name, for messages.

        Raises:
            SensorError: the image has another size than the model takes, or is all black.
        """
        self._check_size(camera, rgb)
        if not rgb.any():
            raise SensorError(f"camera {camera}: the colour image is all black")
        flat = np.zeros(rgb.shape[:2], np.float32)
        return self._detections(pack_channels(rgb, flat), self.score_threshold)

    def _check_size(self, camera: str, rgb: NDArray[np.uint8]) -> None:
        if rgb.shape[:2] != (self.height_px, self.width_px):
            raise SensorError(
                f"camera {camera}: image is {rgb.shape[1]}x{rgb.shape[0]} px, the detector takes "
                f"{self.width_px}x{self.height_px}"
            )

    def _detections(self, image: NDArray[np.float32], least: float) -> list[Detection]:
        boxes, scores, labels = self.run(image)
        return [
            Detection(
                (float(x1), float(y1), float(x2 - x1), float(y2 - y1)),
                float(score),
                self.classes[int(label) - 1],
            )
            for (x1, y1, x2, y2), score, label in zip(boxes, scores, labels, strict=True)
            if score >= least
        ]

    def run(
        self, image: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """The bare graph: (4, H, W) to boxes (N, 4) xyxy px, scores (N,) and labels (N,) from 1."""
        boxes, scores, labels = self._session.run(OUTPUTS, {"image": image})
        return boxes, scores, labels
