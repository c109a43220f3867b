"""A ChArUco board: what it looks like, where its corners are, and where it is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.errors import SensorError
from robot.types import CameraIntrinsics, Pose

Array = NDArray[np.float64]

_LEAST_CORNERS = 6
_PX_PER_SQUARE = 200


@dataclass(frozen=True)
class BoardConfig:
    """The board as it was printed; measure it with a rule, printers scale.

    Attributes:
        squares_x, squares_y: number of squares.
        square_m: edge of a square.
        marker_m: edge of a marker.
        dictionary: OpenCV's name of the markers' dictionary.
    """

    squares_x: int = bounded(8, 3, 40)
    squares_y: int = bounded(6, 3, 40)
    square_m: float = bounded(0.030, 0.001, 1.0)
    marker_m: float = bounded(0.022, 0.001, 1.0)
    dictionary: str = "DICT_4X4_50"


@dataclass(frozen=True, eq=False)
class BoardView:
    """The corners that one image shows.

    Attributes:
        points_m: (n, 3) in the board's frame, z = 0.
        pixels: (n, 2) px, (0, 0) the centre of the first pixel.
    """

    points_m: Array
    pixels: Array


class Board:
    """A board, by its configuration."""

    def __init__(self, config: BoardConfig | None = None) -> None:
        self.config = c = config or BoardConfig()
        number = getattr(cv2.aruco, c.dictionary, None)
        if number is None or c.marker_m >= c.square_m:
            raise SensorError(
                f"board: dictionary {c.dictionary!r} must be one of OpenCV's, as DICT_4X4_50 is, "
                f"and marker_m ({c.marker_m:g}) smaller than square_m ({c.square_m:g})"
            )
        dictionary = cv2.aruco.getPredefinedDictionary(number)
        self._board = cv2.aruco.CharucoBoard(
            (c.squares_x, c.squares_y), c.square_m, c.marker_m, dictionary
        )
        self._detector = cv2.aruco.CharucoDetector(self._board)
        self._corners = np.asarray(self._board.getChessboardCorners(), dtype=np.float64)

    def find(self, image: NDArray[np.uint8], name: str = "image") -> BoardView:
        """The board's corners in a grey or colour image.

        Raises:
            SensorError: too few of them are to be seen.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
        corners, ids, _, _ = self._detector.detectBoard(grey)
        count = 0 if ids is None else len(ids)
        if count < _LEAST_CORNERS:
            raise SensorError(
                f"{name}: shows {count} corners of the board, needs {_LEAST_CORNERS} or more; "
                "is it the board that was described, in the light and in focus?"
            )
        # A 5 px window at most: a larger one would reach the next corner of a small board.
        fine = np.ascontiguousarray(corners, dtype=np.float32).reshape(-1, 1, 2)
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-4)
        cv2.cornerSubPix(grey, fine, (4, 4), (-1, -1), criteria)
        numbers = np.asarray(ids).ravel()
        return BoardView(self._corners[numbers], fine.reshape(-1, 2).astype(np.float64))

    def render(self, intrinsics: CameraIntrinsics, X_cam_board: Pose) -> NDArray[np.uint8]:
        """(H, W) uint8: the board as a pinhole camera sees it, on grey, averaged over pixels."""
        c = self.config
        size = (c.squares_x * _PX_PER_SQUARE, c.squares_y * _PX_PER_SQUARE)
        flat = self._board.generateImage(size, marginSize=0)
        step_m = c.square_m / _PX_PER_SQUARE
        # Of the flat image, pixel i's centre lies (i + 1/2) steps from the board's corner.
        to_board = np.array([[step_m, 0, step_m / 2], [0, step_m, step_m / 2], [0, 0, 1.0]])
        rotation, at = X_cam_board.rotation, X_cam_board.position_m
        k = np.array(
            [
                [intrinsics.fx_px, 0, intrinsics.cx_px],
                [0, intrinsics.fy_px, intrinsics.cy_px],
                [0, 0, 1.0],
            ]
        )
        finer = 4
        fine = np.array([[finer, 0, (finer - 1) / 2], [0, finer, (finer - 1) / 2], [0, 0, 1.0]])
        homography = fine @ k @ np.column_stack([rotation[:, 0], rotation[:, 1], at]) @ to_board
        whole = (finer * intrinsics.width_px, finer * intrinsics.height_px)
        flat = cv2.GaussianBlur(flat, (0, 0), 2.0)
        image = cv2.warpPerspective(
            flat, homography, whole, flags=cv2.INTER_LINEAR, borderValue=(140,)
        )
        # The mean over a pixel's finer ones is what its area sees.
        small = image.reshape(intrinsics.height_px, finer, intrinsics.width_px, finer)
        return np.rint(small.mean(axis=(1, 3))).astype(np.uint8)


def camera_matrix(intrinsics: CameraIntrinsics) -> Array:
    """(3, 3) of a pinhole camera."""
    i = intrinsics
    return np.array([[i.fx_px, 0, i.cx_px], [0, i.fy_px, i.cy_px], [0, 0, 1.0]])


def board_pose(view: BoardView, intrinsics: CameraIntrinsics) -> Pose:
    """``X_cam_board`` from one view.

    Raises:
        SensorError: there is none.
    """
    found, turn, at = cv2.solvePnP(
        view.points_m, view.pixels, camera_matrix(intrinsics), None, flags=cv2.SOLVEPNP_ITERATIVE
    )
    if not found:
        raise SensorError("board: its pose cannot be told from the corners that were found")
    return Pose.from_matrix("cam", "board", cv2.Rodrigues(turn)[0], at.ravel())
