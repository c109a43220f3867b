"""``steadyhand calibrate`` on a folder of rendered images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from perception.charuco import Board
from perception.views import write_views
from robot.geometry import quat_from_axis_angle
from robot.types import CameraIntrinsics, Pose
from steadyhand.cli import main

CAMERA = CameraIntrinsics(640, 480, 605.0, 605.0, 319.5, 239.5)
X_TOOL_CAM = Pose("tool", "cam", np.array([0.06, 0.01, -0.09]), np.array([0, 0, 0.7071, 0.7071]))


def run(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return end.value.code, out, err


def test_a_folder_of_images_becomes_a_cameras_file(tmp_path, capsys):
    board, rng = Board(), np.random.default_rng(2)
    X_world_board = Pose("world", "board", np.array([0.4, 0.1, 0]), np.array([1.0, 0, 0, 0]))
    images, poses = [], []
    for _ in range(9):
        axis = np.array([*rng.normal(size=2), 0.4 * rng.normal()])
        turn = Pose("board", "board", np.zeros(3), quat_from_axis_angle(axis, 0.45))
        back = Pose("board", "cam", np.array([0, 0, -0.4]), np.array([0, 0, 0, 1.0]))
        centre = Pose("board", "board", np.array([0.12, 0.09, 0]), np.array([0, 0, 0, 1.0]))
        X_board_cam = centre @ turn @ back
        images.append(board.render(CAMERA, X_board_cam.inverse()))
        poses.append(X_world_board @ X_board_cam @ X_TOOL_CAM.inverse())
    images.append(np.full_like(images[0], 128))  # one that shows no board
    poses.append(poses[0])
    write_views(tmp_path, images, poses)
    code, out, err = run(["calibrate", tmp_path, "--json"], capsys)
    assert code == 0, err
    told = json.loads(out)
    assert told["views"] == 9 and "view_09.png" in err
    assert abs(told["fx_px"] / CAMERA.fx_px - 1) < 3e-3
    at = np.array(told["X_tool_cam"]["position_m"])
    assert np.linalg.norm(at - X_TOOL_CAM.position_m) < 1e-3
    assert yaml.safe_load((tmp_path / "camera.yaml").read_text())["views"] == 9


def test_a_folder_without_views_is_one_line_and_code_2(tmp_path, capsys):
    code, _, err = run(["calibrate", tmp_path], capsys)
    assert code == 2 and "views.yaml" in err and err.count("\n") == 1
