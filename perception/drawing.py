"""Drawing what was perceived over the image it came from: boxes, oriented boxes, candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from perception.camera import project
from robot.types import (
    CameraIntrinsics,
    Detection,
    GraspCandidate,
    ObjectState,
    Pose,
    RgbdFrame,
)

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

#: RGB of each class; other names take one of these by their order in the alphabet.
CLASS_COLOURS: dict[str, Colour] = {
    "box": (77, 171, 247),
    "cylinder": (255, 146, 43),
    "ball": (218, 119, 242),
    "irregular": (59, 201, 219),
}
CROWD: Colour = (255, 212, 59)
_BEST: Colour = (64, 255, 96)
_OTHER: Colour = (255, 92, 92)
_INK: Colour = (20, 22, 26)
_PAPER: Colour = (248, 249, 250)
_LEGEND = (("object", _PAPER), ("best grasp", _BEST), ("other grasps", _OTHER))
_FONT = cv2.FONT_HERSHEY_DUPLEX
# The twelve edges between the corners that _corners gives.
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1]
# Breadth of the Franka Hand's finger pads, m: as robot.planning.grips takes it.
_PAD_M = 0.020


@dataclass(frozen=True, slots=True)
class Drawn:
    """One view and what is to be drawn over it.

    Attributes:
        rgb: (H, W, 3) uint8.
        title: stands above the image.
        detections: boxes in the image, with class and score.
        objects: fused objects, drawn as oriented boxes with their numbers.
        candidates: best first; each is drawn as the two finger pads and the line between them.
        camera: intrinsics and pose; objects and candidates need it.
    """

    rgb: Image
    title: str
    detections: Sequence[Detection] = ()
    objects: Sequence[ObjectState] = ()
    candidates: Sequence[GraspCandidate] = ()
    camera: tuple[CameraIntrinsics, Pose] | None = None

    @classmethod
    def of(
        cls,
        frame: RgbdFrame,
        title: str,
        detections: Sequence[Detection],
        objects: Sequence[ObjectState],
        candidates: Sequence[GraspCandidate],
    ) -> Drawn:
        """Of a frame."""
        camera = (frame.intrinsics, frame.X_world_cam)
        return cls(frame.rgb, title, detections, objects, candidates, camera)


def class_colour(name: str) -> Colour:
    """RGB of a class."""
    known = list(CLASS_COLOURS.values())
    return CLASS_COLOURS.get(name, known[sum(name.encode()) % len(known)])


def draw_view(view: Drawn, scale: int = 3) -> Image:
    """The image ``scale`` times as large with everything drawn over it, and its title above.

    Returns:
        (scale * H + bar, scale * W, 3) uint8 RGB.
    """
    image = enlarged(view.rgb, scale)
    for detection in sorted(view.detections, key=lambda d: d.score):
        text = f"{detection.class_name} {detection.score:.2f}"
        draw_box(image, detection.box_xywh_px, class_colour(detection.class_name), scale, text)
    if view.camera is not None:
        for state in view.objects:
            _draw_object(image, state, view.camera, scale)
        # The best last, over all others.
        for rank in range(len(view.candidates) - 1, -1, -1):
            _draw_candidate(image, view.candidates[rank], rank, view.camera, scale)
    drawn = len(view.objects) > 0 or len(view.candidates) > 0
    return titled(image, view.title, _LEGEND if drawn else ())


def side_by_side(images: Sequence[Image], gap_px: int = 8, columns: int = 2) -> Image:
    """Images of any sizes in rows, on paper."""
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    widths = [sum(i.shape[1] for i in row) + gap_px * (len(row) - 1) for row in rows]
    heights = [max(i.shape[0] for i in row) for row in rows]
    out = np.full(
        (sum(heights) + gap_px * (len(rows) - 1), max(widths), 3), _PAPER, np.uint8
    )  # fmt: skip
    y = 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for image in row:
            out[y : y + image.shape[0], x : x + image.shape[1]] = image
            x += image.shape[1] + gap_px
        y += height + gap_px
    return out


def titled(image: Image, title: str, legend: Sequence[tuple[str, Colour]] = ()) -> Image:
    """The image under a bar with a title, and what the colours mean at its right end."""
    size = 0.45 if image.shape[1] < 500 else 0.6
    bar = np.full((round(48 * size), image.shape[1], 3), _INK, np.uint8)
    base = round(33 * size)
    cv2.putText(bar, title, (8, base), _FONT, size, _PAPER, 1, cv2.LINE_AA)
    x = image.shape[1] - 8
    for text, colour in reversed(legend):
        x -= cv2.getTextSize(text, _FONT, 0.8 * size, 1)[0][0]
        cv2.putText(bar, text, (x, base), _FONT, 0.8 * size, colour, 1, cv2.LINE_AA)
        x -= 14
    return np.concatenate([bar, image])


def enlarged(rgb: Image, scale: int) -> Image:
    """``scale`` times as large."""
    size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
    return np.ascontiguousarray(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def draw_box(
    image: Image,
    box_xywh_px: Sequence[float],
    colour: Colour,
    scale: int,
    text: str = "",
) -> None:
    """A rectangle, given in px of the image before it was enlarged, with a tag."""
    x, y, w, h = (round(v * scale) for v in box_xywh_px)
    cv2.rectangle(image, (x, y), (x + w, y + h), colour, 1 if scale < 3 else 2, cv2.LINE_AA)
    if text:
        _tag(image, text, (x, y), colour, 0.32 if scale < 3 else 0.42)


def _tag(image: Image, text: str, at: tuple[int, int], colour: Colour, size: float) -> None:
    """Text on a patch of ``colour``, above the point where there is room."""
    (wide, tall), below = cv2.getTextSize(text, _FONT, size, 1)
    height = tall + below + 2
    x = min(max(at[0], 0), max(image.shape[1] - wide - 6, 0))
    y = at[1] - height if at[1] >= height else at[1]
    cv2.rectangle(image, (x, y), (x + wide + 5, y + height), colour, -1)
    cv2.putText(image, text, (x + 3, y + tall + 1), _FONT, size, _INK, 1, cv2.LINE_AA)


def _pixels(
    points_m: NDArray[np.float64], camera: tuple[CameraIntrinsics, Pose], scale: int
) -> NDArray[np.int64] | None:
    """(N, 2) px in the enlarged image; None where a point is behind the camera."""
    pixels, depth = project(points_m, *camera)
    if (depth <= 0.01).any():
        return None
    # Pixel 0 has its middle at 0, and covers scale pixels of the enlarged image.
    placed = np.rint((pixels + 0.5) * scale - 0.5)
    return np.asarray(np.clip(placed, -10_000, 10_000), np.int64)


def _corners(state: ObjectState) -> NDArray[np.float64]:
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return state.X_world_obj.transform(signs * state.dimensions_m)


def _draw_object(
    image: Image, state: ObjectState, camera: tuple[CameraIntrinsics, Pose], scale: int
) -> None:
    corners = _pixels(_corners(state), camera, scale)
    if corners is None:
        return
    shade = image.copy()
    for a, b in _EDGES:
        cv2.line(shade, corners[a].tolist(), corners[b].tolist(), _INK, 3, cv2.LINE_AA)
    # A faint dark rim keeps the white line visible on a white object.
    cv2.addWeighted(shade, 0.45, image, 0.55, 0.0, dst=image)
    for a, b in _EDGES:
        cv2.line(image, corners[a].tolist(), corners[b].tolist(), _PAPER, 1, cv2.LINE_AA)
    x, y = corners[int(corners[:, 1].argmax())].tolist()
    if 0 <= x < image.shape[1] and 0 <= y < image.shape[0]:
        _tag(image, f"#{state.object_id}", (x - 10, y + 19), _PAPER, 0.42)


def _draw_candidate(
    image: Image,
    candidate: GraspCandidate,
    rank: int,
    camera: tuple[CameraIntrinsics, Pose],
    scale: int,
) -> None:
    half, pad = 0.5 * candidate.opening_m, 0.5 * _PAD_M
    local = np.array(
        [[-pad, -half, 0], [pad, -half, 0], [-pad, half, 0], [pad, half, 0], [0, -half, 0],
         [0, half, 0]]
    )  # fmt: skip
    points = _pixels(candidate.X_world_grasp.transform(local), camera, scale)
    if points is None:
        return
    best = rank == 0
    colour = _BEST if best else _OTHER
    for a, b, thick in ((0, 1, 3), (2, 3, 3), (4, 5, 1)):
        thick = thick + 1 if best else max(thick - 1, 1)
        for ink, more in ((_INK, 2), (colour, 0)):
            ends = points[a].tolist(), points[b].tolist()
            cv2.line(image, *ends, ink, thick + more, cv2.LINE_AA)
    if best:
        x, y = points[5].tolist()
        _tag(image, f"{candidate.score:.2f}", (x + 6, y), _BEST, 0.42)
