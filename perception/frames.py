"""Frames from files: a colour image, a depth image and a camera's YAML, checked against each other.

A camera's file holds

    width_px: 320
    height_px: 240
    fx_px: 400.0
    fy_px: 400.0
    cx_px: 159.5
    cy_px: 119.5
    X_world_cam:
      position_m: [0.95, 0.0, 0.90]
      quat_xyzw: [0.6882, -0.6882, -0.1625, 0.1625]

with the optical frame's pose in the world (z forward, x right, y down; the table's top is z = 0),
and may hold ``name``, ``stamp_s`` and ``depth_stamp_s`` (the depth's own, where it differs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from configs.load import bounded, load
from perception.coco import write_bytes, write_png
from robot.errors import SensorError, SteadyhandError
from robot.types import CameraIntrinsics, Pose, RgbdFrame

# Wider than 150 degrees no pinhole camera is, narrower than 3 none looks at a table.
_VIEW_DEG = (3.0, 150.0)


class FrameError(SteadyhandError):
    """A frame's file is missing or damaged, or the files of one frame do not fit each other."""


@dataclass(frozen=True)
class PlaceConfig:
    """Where the optical frame stands in the world."""

    position_m: tuple[float, float, float]
    quat_xyzw: tuple[float, float, float, float]


@dataclass(frozen=True)
class CameraConfig:
    """One camera's file.

    Attributes:
        width_px, height_px: of the image.
        fx_px, fy_px, cx_px, cy_px: pinhole intrinsics for that size, without distortion.
        X_world_cam: pose of the optical frame.
        name: of the camera; empty takes the file's name.
        stamp_s: time of exposure, s; the same clock for all views of a look.
        depth_stamp_s: of the depth image, where it was taken at another time.
    """

    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    X_world_cam: PlaceConfig
    name: str = ""
    stamp_s: float = bounded(0.0, -1e12, 1e12)
    depth_stamp_s: float | None = None

    def __post_init__(self) -> None:
        intrinsics = self.intrinsics
        for size, axis, focal, centre in (
            (intrinsics.width_px, "x", intrinsics.fx_px, intrinsics.cx_px),
            (intrinsics.height_px, "y", intrinsics.fy_px, intrinsics.cy_px),
        ):
            if not 0.0 <= centre <= size - 1:
                raise FrameError(
                    f"c{axis}_px: {centre:g} lies outside an image of {size} px; the intrinsics "
                    "must be those of this image's size"
                )
            view = math.degrees(2.0 * math.atan(size / (2.0 * focal)))
            if not _VIEW_DEG[0] <= view <= _VIEW_DEG[1]:
                raise FrameError(
                    f"f{axis}_px: {focal:g} sees {view:.1f} degrees of an image of {size} px, "
                    f"expected {_VIEW_DEG[0]:g} to {_VIEW_DEG[1]:g}; the intrinsics must be those "
                    "of this image's size"
                )
        if self.pose("camera").position_m[2] <= 0.0:
            raise FrameError("X_world_cam.position_m: z must be above the table's top, z = 0")

    @property
    def intrinsics(self) -> CameraIntrinsics:
        """As the runtime knows them."""
        return CameraIntrinsics(
            self.width_px, self.height_px, self.fx_px, self.fy_px, self.cx_px, self.cy_px
        )

    def pose(self, name: str) -> Pose:
        """``X_world_<name>``."""
        return Pose(
            "world",
            name,
            np.array(self.X_world_cam.position_m),
            np.array(self.X_world_cam.quat_xyzw),
        )


class FileCamera:
    """A camera whose one frame lies in files; implements the ``Camera`` protocol.

    The files are read and checked at once, so that nothing is drawn or planned from half a look.

    Args:
        colour: PNG or JPEG.
        depth: PNG of 16 bits in units of ``depth_unit_m``, or NPY in m; along the optical axis,
            0 or NaN where nothing was measured.
        camera: the camera's YAML.
        depth_unit_m: of a PNG.
        max_skew_s: colour and depth may be this far apart.

    Raises:
        FrameError: a file is missing or damaged, or colour, depth and camera differ in size.
        ConfigError: the camera's file is wrong.
    """

    def __init__(
        self,
        colour: Path,
        depth: Path,
        camera: Path,
        depth_unit_m: float = 0.001,
        max_skew_s: float = 0.5,
    ) -> None:
        self.config = load(CameraConfig, camera)
        self.max_skew_s = max_skew_s
        self._name = self.config.name or camera.stem
        size = (self.config.width_px, self.config.height_px)
        self.rgb = read_colour(colour)
        self.depth_m = read_depth(depth, depth_unit_m)
        for path, image in ((colour, self.rgb), (depth, self.depth_m)):
            found = (image.shape[1], image.shape[0])
            if found != size:
                raise FrameError(
                    f"{path}: is {found[0]}x{found[1]} px, but {camera} is for {size[0]}x{size[1]}"
                )

    @property
    def name(self) -> str:
        """The camera's name."""
        return self._name

    def read(self) -> RgbdFrame:
        """The frame.

        Raises:
            SensorError: colour and depth are too far apart in time.
        """
        config = self.config
        depth_stamp_s = config.stamp_s if config.depth_stamp_s is None else config.depth_stamp_s
        apart = abs(depth_stamp_s - config.stamp_s)
        if apart > self.max_skew_s:
            raise SensorError(
                f"camera {self._name}: colour and depth are {apart:.3f} s apart, at most "
                f"{self.max_skew_s:.3f} s are allowed"
            )
        return RgbdFrame(
            self._name,
            config.stamp_s,
            self.rgb,
            self.depth_m,
            config.intrinsics,
            config.pose(self._name),
        )


def read_colour(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a PNG or JPEG file.

    Raises:
        FrameError: it is missing or no image.
    """
    # A flag of orientation must not turn the image: depth and intrinsics are for its rows.
    image = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def read_depth(path: Path, unit_m: float) -> NDArray[np.float32]:
    """(H, W) float32, m along the optical axis, of a 16-bit PNG in ``unit_m`` or of an NPY in m.

    Raises:
        FrameError: it is missing, damaged, or of another kind.
    """
    if not 0.0 < unit_m <= 1.0:
        raise FrameError(f"depth unit: must lie in (0, 1] m, got {unit_m:g}")
    if path.suffix.lower() == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except FileNotFoundError as error:
            raise FrameError(f"{path}: no such file") from error
        except (ValueError, OSError, EOFError) as error:
            raise FrameError(f"{path}: not an NPY file: {error}") from error
        if array.ndim != 2 or array.dtype.kind != "f":
            raise FrameError(
                f"{path}: expected a depth image (H, W) of floats in m, got {array.shape} "
                f"{array.dtype}"
            )
        return array.astype(np.float32)
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    if image.ndim != 2 or image.dtype != np.uint16:
        channels = 1 if image.ndim == 2 else image.shape[2]
        raise FrameError(
            f"{path}: expected a depth image of 16 bits and one channel, got {image.dtype} with "
            f"{channels}"
        )
    return (image * np.float32(unit_m)).astype(np.float32)


def _decode(path: Path, flags: int) -> NDArray[Any]:
    if not path.is_file():
        raise FrameError(f"{path}: no such file")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # the error below says it in one line
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        image = None
    finally:
        logging.setLogLevel(level)
    if image is None:
        raise FrameError(f"{path}: not a readable image; expected PNG or JPEG")
    return np.asarray(image)


def write_frame(frame: RgbdFrame, folder: Path) -> dict[str, str]:
    """Writes ``<camera>.png``, ``<camera>_depth.npy`` and ``<camera>.yaml``, as read here.

    Returns:
        paths: ``image``, ``depth``, ``camera``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "image": folder / f"{frame.camera}.png",
        "depth": folder / f"{frame.camera}_depth.npy",
        "camera": folder / f"{frame.camera}.yaml",
    }
    write_png(paths["image"], frame.rgb[..., ::-1])
    part = folder / f"{frame.camera}_depth.part.npy"
    np.save(part, frame.depth_m)
    part.replace(paths["depth"])
    k, pose = frame.intrinsics, frame.X_world_cam
    content = {
        "name": frame.camera,
        "stamp_s": frame.stamp_s,
        "width_px": k.width_px,
        "height_px": k.height_px,
        "fx_px": k.fx_px,
        "fy_px": k.fy_px,
        "cx_px": k.cx_px,
        "cy_px": k.cy_px,
        "X_world_cam": {
            "position_m": pose.position_m.tolist(),
            "quat_xyzw": pose.quat_xyzw.tolist(),
        },
    }
    text = yaml.safe_dump(content, sort_keys=False)
    write_bytes(paths["camera"], text.encode())
    return {key: str(path) for key, path in paths.items()}
