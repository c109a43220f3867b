"""Camera frames as ROS 2 image messages, compact or exact, and back."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robot.errors import RecordingError
from robot.loop.messages import header
from robot.loop.typestore import message_class
from robot.types import CameraIntrinsics, RgbdFrame

# image_transport's compressedDepth puts these 12 bytes before the PNG: an enum (0: as it is) and
# two coefficients that only its inverse-depth coding of floats uses.
_DEPTH_HEADER = struct.pack("<iff", 0, 0.0, 0.0)
_DEPTH_FORMAT = "16UC1; compressedDepth png"
DEPTH_UNIT_M = 0.001  # REP-118: 16-bit depth is in millimetres


def optical_frame(frame: RgbdFrame) -> str:
    """The frame id that images of ``frame`` carry: the child of its pose."""
    return frame.X_world_cam.child


def compressed_rgb(frame: RgbdFrame, quality: int = 90) -> Any:
    """``sensor_msgs/CompressedImage``, JPEG; quality 1 to 100."""
    bgr = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RecordingError(f"camera {frame.camera}: the image could not be coded as JPEG")
    return message_class("sensor_msgs/msg/CompressedImage")(
        header(frame.stamp_s, optical_frame(frame)), "rgb8; jpeg compressed bgr8", data.ravel()
    )


def compressed_depth(frame: RgbdFrame) -> Any:
    """``sensor_msgs/CompressedImage``, 16-bit PNG in millimetres as ``compressedDepth`` has it.

    Depth beyond 65.535 m and invalid depth become 0; the rounding is at most 0.5 mm.
    """
    steps = np.rint(frame.depth_m / np.float32(DEPTH_UNIT_M))
    inside = np.isfinite(steps) & (steps > 0) & (steps <= 65535)
    data = np.where(inside, steps, 0).astype(np.uint16)
    done, png = cv2.imencode(".png", data, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise RecordingError(f"camera {frame.camera}: the depth could not be coded as PNG")
    return message_class("sensor_msgs/msg/CompressedImage")(
        header(frame.stamp_s, optical_frame(frame)),
        _DEPTH_FORMAT,
        np.frombuffer(_DEPTH_HEADER + png.tobytes(), dtype=np.uint8),
    )


def raw_rgb(frame: RgbdFrame) -> Any:
    """``sensor_msgs/Image``, rgb8, exact."""
    h, w = frame.depth_m.shape
    return message_class("sensor_msgs/msg/Image")(
        header(frame.stamp_s, optical_frame(frame)),
        h,
        w,
        "rgb8",
        0,
        3 * w,
        np.ascontiguousarray(frame.rgb).ravel(),
    )


def raw_depth(frame: RgbdFrame) -> Any:
    """``sensor_msgs/Image``, 32FC1, exact; invalid depth is 0 as in ``RgbdFrame``."""
    h, w = frame.depth_m.shape
    data = np.ascontiguousarray(frame.depth_m, dtype="<f4").view(np.uint8).ravel()
    return message_class("sensor_msgs/msg/Image")(
        header(frame.stamp_s, optical_frame(frame)), h, w, "32FC1", 0, 4 * w, data
    )


def camera_info(frame: RgbdFrame) -> Any:
    """``sensor_msgs/CameraInfo`` of a pinhole camera without distortion."""
    i = frame.intrinsics
    k = np.array([i.fx_px, 0.0, i.cx_px, 0.0, i.fy_px, i.cy_px, 0.0, 0.0, 1.0])
    p = np.insert(k, [3, 6, 9], 0.0)
    roi = message_class("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
    return message_class("sensor_msgs/msg/CameraInfo")(
        header(frame.stamp_s, optical_frame(frame)),
        i.height_px,
        i.width_px,
        "plumb_bob",
        np.zeros(5),
        k,
        np.eye(3).ravel(),
        p,
        0,
        0,
        roi,
    )


def rgb_from(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of an ``Image`` (rgb8) or a ``CompressedImage`` (any that OpenCV reads)."""
    if hasattr(message, "format"):
        image = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
        if image is None:
            raise RecordingError(f"image of format {message.format!r} could not be decoded")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    if message.encoding != "rgb8":
        raise RecordingError(f"image encoding {message.encoding!r}: expected 'rgb8'")
    return np.asarray(message.data, dtype=np.uint8).reshape(message.height, message.width, 3)


def depth_from(message: Any) -> NDArray[np.float32]:
    """(H, W) float32, m, of an ``Image`` (32FC1) or a ``compressedDepth`` image."""
    if hasattr(message, "format"):
        if "compressedDepth" not in message.format:
            raise RecordingError(f"image format {message.format!r}: expected compressedDepth")
        png = np.asarray(message.data)[len(_DEPTH_HEADER) :]
        steps = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
        if steps is None:
            raise RecordingError("depth image could not be decoded")
        return steps.astype(np.float32) * np.float32(DEPTH_UNIT_M)
    if message.encoding != "32FC1":
        raise RecordingError(f"image encoding {message.encoding!r}: expected '32FC1'")
    shape = (message.height, message.width)
    return np.asarray(message.data, dtype=np.uint8).view("<f4").reshape(shape).astype(np.float32)


def intrinsics_from(message: Any) -> CameraIntrinsics:
    """Of a ``CameraInfo``."""
    k = message.k
    return CameraIntrinsics(
        int(message.width), int(message.height), *(float(k[j]) for j in (0, 4, 2, 5))
    )
