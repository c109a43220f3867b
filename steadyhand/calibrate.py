"""``steadyhand calibrate``: a camera's intrinsics and its place, from images of a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import yaml

from perception.calibration import calibrate_hand_eye, calibrate_intrinsics
from perception.charuco import Board, BoardConfig
from perception.coco import write_bytes
from perception.views import read_views
from robot.errors import SensorError
from robot.types import CameraIntrinsics, Pose
from steadyhand.console import ERR, Json, emit


def calibrate(
    folder: Annotated[Path, typer.Argument(help="Images and views.yaml with the tool's poses.")],
    fixed: Annotated[
        bool, typer.Option("--fixed", help="The camera stands still, the hand holds the board.")
    ] = False,
    squares_x: Annotated[int, typer.Option(min=3, max=40)] = 8,
    squares_y: Annotated[int, typer.Option(min=3, max=40)] = 6,
    square_m: Annotated[float, typer.Option(help="Edge of a square, measured.")] = 0.030,
    marker_m: Annotated[float, typer.Option(help="Edge of a marker, measured.")] = 0.022,
    dictionary: Annotated[str, typer.Option(help="Of the markers, by OpenCV's name.")] = (
        "DICT_4X4_50"
    ),
    out: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--out", help="YAML file; camera.yaml in the folder if left out."),
    ] = None,
    json: Json = False,
) -> None:
    """Intrinsics and hand-eye from ChArUco images; a view without the board is left out."""
    names, images, poses = read_views(folder)
    board = Board(BoardConfig(squares_x, squares_y, square_m, marker_m, dictionary))
    views, hands = [], []
    for name, image, pose in zip(names, images, poses, strict=True):
        try:
            views.append(board.find(image, name))
            hands.append(pose)
        except SensorError as error:
            ERR.print(f"left out: {error}", highlight=False)
    height_px, width_px = images[0].shape
    camera = calibrate_intrinsics(views, width_px, height_px)
    place = calibrate_hand_eye(views, hands, camera.intrinsics, fixed)
    result: dict[str, Any] = {
        **_camera(camera.intrinsics),
        f"X_{place.X_base_cam.parent}_cam": _pose(place.X_base_cam),
        f"X_{place.X_far_board.parent}_board": _pose(place.X_far_board),
        "views": len(views),
        "intrinsics_rms_px": camera.rms_px,
        "hand_eye_rms_px": place.rms_px,
    }
    path = out or folder / "camera.yaml"
    write_bytes(path, yaml.safe_dump(result, sort_keys=False).encode())
    emit({**result, "file": str(path)}, json, f"{len(views)} of {len(images)} views used")


def _camera(found: CameraIntrinsics) -> dict[str, Any]:
    names = ("width_px", "height_px", "fx_px", "fy_px", "cx_px", "cy_px")
    return {name: getattr(found, name) for name in names}


def _pose(pose: Pose) -> dict[str, list[float]]:
    return {"position_m": pose.position_m.tolist(), "quat_xyzw": pose.quat_xyzw.tolist()}
