"""Calibration from images of a board: a camera's intrinsics, and where it sits.

Hand-eye after Park and Martin (1994), "Robot sensor calibration: solving AX = XB on the Euclidean
group", as a start; then least squares over all corners in the images, with the camera's and the
board's place both unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from perception.charuco import BoardView, board_pose, camera_matrix
from robot.errors import SensorError
from robot.types import CameraIntrinsics, Pose

Array = NDArray[np.float64]

_LEAST_VIEWS = 4


@dataclass(frozen=True)
class IntrinsicsFound:
    """A pinhole camera's intrinsics, and how well they explain the corners.

    Attributes:
        rms_px: root mean square distance of the corners from where they should be.
    """

    intrinsics: CameraIntrinsics
    rms_px: float


@dataclass(frozen=True)
class HandEyeFound:
    """Where a camera sits.

    Attributes:
        X_base_cam: in the frame that carries it: the tool's, or the world for a fixed one.
        X_far_board: the board's place in the other frame.
        rms_px: as of the intrinsics, over all views.
    """

    X_base_cam: Pose
    X_far_board: Pose
    rms_px: float


def calibrate_intrinsics(
    views: Sequence[BoardView], width_px: int, height_px: int
) -> IntrinsicsFound:
    """Focal lengths and centre of a camera without distortion.

    Raises:
        SensorError: too few views, or all of them from one direction.
    """
    _enough(views)
    flags = cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3
    rms, matrix, _, turns, _ = cv2.calibrateCamera(
        [v.points_m.astype(np.float32) for v in views],
        [v.pixels.astype(np.float32) for v in views],
        (width_px, height_px),
        None,
        None,
        flags=flags,
    )
    tilts = [cv2.Rodrigues(turn)[0][2, 2] for turn in turns]
    if min(tilts) > np.cos(np.radians(10.0)):
        raise SensorError(
            "intrinsics: every view looks straight at the board; tilt it by 30 degrees or so in "
            "different directions, or the focal length cannot be told from the distance"
        )
    fx, fy, cx, cy = (float(matrix[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return IntrinsicsFound(CameraIntrinsics(width_px, height_px, fx, fy, cx, cy), float(rms))


def calibrate_hand_eye(
    views: Sequence[BoardView],
    X_world_tools: Sequence[Pose],
    intrinsics: CameraIntrinsics,
    fixed: bool = False,
) -> HandEyeFound:
    """Where the camera sits, from views of one board at known poses of the tool.

    Args:
        views: of the board.
        X_world_tools: one for each view.
        intrinsics: of the camera.
        fixed: False: the camera is on the hand and the board lies still; the result is
            ``X_tool_cam`` and ``X_world_board``. True: the camera stands still and the hand holds
            the board; ``X_world_cam`` and ``X_tool_board``.

    Raises:
        SensorError: too few views, or the hand turned about one axis only.
    """
    _enough(views)
    if len(views) != len(X_world_tools):
        raise SensorError(
            f"hand-eye: {len(views)} views but {len(X_world_tools)} poses of the tool"
        )
    # In either case: X_far_base_i . X_base_cam . X_cam_board_i is the same for all i.
    far = [pose.inverse().matrix if fixed else pose.matrix for pose in X_world_tools]
    seen = [board_pose(view, intrinsics).matrix for view in views]
    X = _park_martin(far, seen)
    Y = far[0] @ X @ seen[0]
    start = np.concatenate([_six(X), _six(Y)])
    k = camera_matrix(intrinsics)

    def residuals(x: Array) -> Array:
        X_base_cam, X_far_board = _matrix(x[:6]), _matrix(x[6:])
        out = []
        for X_far_base, view in zip(far, views, strict=True):
            X_cam_board = np.linalg.inv(X_far_base @ X_base_cam) @ X_far_board
            points = view.points_m @ X_cam_board[:3, :3].T + X_cam_board[:3, 3]
            projected = points @ k.T
            out.append(projected[:, :2] / projected[:, 2:] - view.pixels)
        return np.concatenate(out).ravel()

    found = least_squares(residuals, start, x_scale="jac", loss="soft_l1", f_scale=1.0)
    rms = float(np.sqrt(2.0 * np.mean(residuals(found.x) ** 2)))
    base, other = ("world", "tool") if fixed else ("tool", "world")
    X_cam, X_board = _matrix(found.x[:6]), _matrix(found.x[6:])
    return HandEyeFound(
        Pose.from_matrix(base, "cam", X_cam[:3, :3], X_cam[:3, 3]),
        Pose.from_matrix(other, "board", X_board[:3, :3], X_board[:3, 3]),
        rms,
    )


def _enough(views: Sequence[BoardView]) -> None:
    if len(views) < _LEAST_VIEWS:
        raise SensorError(f"calibration: {len(views)} views, {_LEAST_VIEWS} at least are needed")


def _park_martin(far: Sequence[Array], seen: Sequence[Array]) -> Array:
    """X of A X = X B, A and B the motions of the hand and of the board in the camera's eyes."""
    pairs = [(i, j) for i in range(len(far)) for j in range(i + 1, len(far))]
    moves = [(np.linalg.inv(far[j]) @ far[i], seen[j] @ np.linalg.inv(seen[i])) for i, j in pairs]
    turns = [(_log(a[:3, :3]), _log(b[:3, :3])) for a, b in moves]
    alpha = np.array([a for a, _ in turns])
    if np.linalg.svd(alpha, compute_uv=False)[1] < 0.1:
        raise SensorError(
            "hand-eye: the hand turned about one axis only; turn it about two at least, by 20 "
            "degrees or more"
        )
    m = sum(np.outer(b, a) for a, b in turns)
    u, _, vt = np.linalg.svd(np.asarray(m))
    # The rotation that takes every b to its a (Park and Martin's (MᵀM)^-1/2 Mᵀ, kept proper).
    rotation = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
    left = np.concatenate([a[:3, :3] - np.eye(3) for a, _ in moves])
    right = np.concatenate([rotation @ b[:3, 3] - a[:3, 3] for a, b in moves])
    X = np.eye(4)
    X[:3, :3] = rotation
    X[:3, 3] = np.linalg.lstsq(left, right, rcond=None)[0]
    return X


def _log(rotation: Array) -> Array:
    return np.asarray(cv2.Rodrigues(rotation)[0], dtype=np.float64).ravel()


def _six(matrix: Array) -> Array:
    return np.concatenate([_log(matrix[:3, :3]), matrix[:3, 3]])


def _matrix(six: Array) -> Array:
    out = np.eye(4)
    out[:3, :3] = cv2.Rodrigues(six[:3])[0]
    out[:3, 3] = six[3:]
    return out
