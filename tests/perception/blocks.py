"""A table with boxes, rendered by ray casting in NumPy: exact, and without a simulator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from perception.camera import rays
from robot.types import CameraIntrinsics, Detection, Pose, RgbdFrame

WRIST = CameraIntrinsics(320, 240, 280.0, 280.0, 159.5, 119.5)
OVERHEAD = CameraIntrinsics(320, 240, 400.0, 400.0, 159.5, 119.5)


@dataclass(frozen=True)
class Block:
    """An upright box: centre (x, y), size (3,), yaw, standing on ``bottom_m``."""

    xy: tuple[float, float]
    size: tuple[float, float, float]
    yaw: float = 0.0
    bottom_m: float = 0.0
    class_name: str = "box"

    def corners(self) -> np.ndarray:
        signs = np.array(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [0.0, 1.0])).reshape(3, -1).T
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        return (signs * self.size) @ turn.T + np.array([*self.xy, self.bottom_m])


def camera_pose(name: str, eye: tuple[float, float, float], target: tuple[float, float, float]):
    forward = np.subtract(target, eye)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    return Pose.from_matrix("world", name, np.column_stack([right, down, forward]), eye)


X_OVERHEAD = camera_pose("overhead", (0.95, 0.0, 0.90), (0.5, 0.0, 0.0))
X_WRIST = camera_pose("wrist", (0.451, 0.0, 0.60), (0.45, 0.0, 0.0))


def cast(blocks, intrinsics, pose):
    """(depth (H, W) float32 m, hit (H, W) int: -1 table, else the block)."""
    direction = rays(intrinsics) @ pose.rotation.T
    eye = pose.position_m
    depth = np.where(direction[..., 2] < -1e-6, -eye[2] / direction[..., 2], np.inf)
    hit = np.full(depth.shape, -1)
    for index, block in enumerate(blocks):
        c, s = math.cos(block.yaw), math.sin(block.yaw)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        middle = np.array([*block.xy, block.bottom_m + block.size[2] / 2])
        start, way = turn @ (eye - middle), direction @ turn.T
        half = np.array(block.size) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = (-half - start) / way, (half - start) / way
        near, far = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
        closer = (near <= far) & (near > 0) & (near < depth)
        depth[closer], hit[closer] = near[closer], index
    depth[~np.isfinite(depth)] = 0.0
    return depth.astype(np.float32), hit


def look(blocks, camera="overhead", stamp_s=0.0, rng=None, sigma_m=0.0, actual=None):
    """A frame and its perfect detections; ``actual`` is where the camera really stands."""
    intrinsics, pose = (OVERHEAD, X_OVERHEAD) if camera == "overhead" else (WRIST, X_WRIST)
    depth, hit = cast(blocks, intrinsics, actual or pose)
    if sigma_m:
        noise = cv2.GaussianBlur(rng.standard_normal(depth.shape).astype(np.float32), (0, 0), 3)
        depth = depth + noise * np.float32(sigma_m / noise.std())
    shades = np.array([[120, 110, 100], *[[40 + 30 * i, 90, 200] for i in range(len(blocks))]])
    rgb = shades[hit + 1].astype(np.uint8)
    detections = []
    for index, block in enumerate(blocks):
        rows, columns = np.nonzero(hit == index)
        if len(rows) < 20:
            continue
        x, y = float(columns.min()), float(rows.min())
        box = (x, y, float(columns.max()) + 1 - x, float(rows.max()) + 1 - y)
        detections.append(Detection(box, 0.9, block.class_name))
    return RgbdFrame(camera, stamp_s, rgb, depth, intrinsics, pose), detections
