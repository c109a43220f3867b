"""Calibration on rendered boards: the truth is known, and the images are all that is given."""

from __future__ import annotations

import numpy as np
import pytest

from perception.calibration import calibrate_hand_eye, calibrate_intrinsics
from perception.charuco import Board, BoardConfig, board_pose
from robot.errors import SensorError
from robot.geometry import quat_from_axis_angle
from robot.types import CameraIntrinsics, Pose

CAMERA = CameraIntrinsics(640, 480, 612.0, 608.0, 322.5, 236.0)
X_TOOL_CAM = Pose(
    "tool", "cam", np.array([0.07, -0.012, -0.10]), np.array([0.02, -0.03, 0.7, 0.7131])
)
X_WORLD_BOARD = Pose("world", "board", np.array([0.42, -0.07, 0.0]), np.array([0.995, 0.1, 0, 0]))


def turned(axis, degrees):
    return quat_from_axis_angle(np.asarray(axis, float), np.radians(degrees))


def hand_poses(count, rng, X_tool_cam=X_TOOL_CAM):
    """Poses of the tool from which the camera sees the board from all sides."""
    out = []
    for _ in range(count):
        tilt = rng.uniform(-35, 35, 2)
        look = Pose("board", "cam", np.zeros(3), turned([1, 0, 0], tilt[0]))
        roll = Pose("cam", "cam", np.zeros(3), turned([0, 1, 0], tilt[1]))
        spin = Pose("cam", "cam", np.zeros(3), turned([0, 0, 1], rng.uniform(-60, 60)))
        back = Pose("cam", "cam", np.array([0, 0, -rng.uniform(0.32, 0.45)]), turned([0, 0, 1], 0))
        centre = Pose("board", "board", np.array([0.12, 0.09, 0.0]), turned([0, 0, 1], 0))
        X_board_cam = centre @ look @ roll @ spin @ back
        out.append(X_WORLD_BOARD @ X_board_cam @ X_tool_cam.inverse())
    return out


def angle_deg(a: Pose, b: Pose) -> float:
    cosine = (np.trace(a.rotation.T @ b.rotation) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


@pytest.fixture(scope="module")
def seen():
    board, rng = Board(), np.random.default_rng(4)
    poses = hand_poses(12, rng)
    views = []
    for X_world_tool in poses:
        X_cam_board = (X_world_tool @ X_TOOL_CAM).inverse() @ X_WORLD_BOARD
        image = board.render(CAMERA, X_cam_board).astype(float)
        noisy = np.clip(image + rng.normal(0, 3.0, image.shape), 0, 255).astype(np.uint8)
        views.append(board.find(noisy))
    return board, poses, views


def test_a_rendered_board_is_found_where_it_is(seen):
    _, poses, views = seen
    X_cam_board = (poses[0] @ X_TOOL_CAM).inverse() @ X_WORLD_BOARD
    found = board_pose(views[0], CAMERA)
    assert np.linalg.norm(found.position_m - X_cam_board.position_m) < 1e-3
    assert angle_deg(found, X_cam_board) < 0.3


def test_intrinsics_come_out_of_the_images_alone(seen):
    _, _, views = seen
    found = calibrate_intrinsics(views, CAMERA.width_px, CAMERA.height_px)
    got = found.intrinsics
    assert abs(got.fx_px / CAMERA.fx_px - 1) < 2e-3
    assert abs(got.fy_px / CAMERA.fy_px - 1) < 2e-3
    assert abs(got.cx_px - CAMERA.cx_px) < 1.0 and abs(got.cy_px - CAMERA.cy_px) < 1.0
    assert found.rms_px < 0.3


def test_hand_eye_within_a_millimetre_and_a_fifth_of_a_degree(seen):
    """With the intrinsics that the same images gave: what a user has."""
    _, poses, views = seen
    camera = calibrate_intrinsics(views, CAMERA.width_px, CAMERA.height_px).intrinsics
    found = calibrate_hand_eye(views, poses, camera)
    assert np.linalg.norm(found.X_base_cam.position_m - X_TOOL_CAM.position_m) < 1e-3
    assert angle_deg(found.X_base_cam, X_TOOL_CAM) < 0.2
    assert np.linalg.norm(found.X_far_board.position_m - X_WORLD_BOARD.position_m) < 1e-3
    assert found.rms_px < 0.4


def test_a_fixed_camera_and_a_board_in_the_hand():
    board, rng = Board(), np.random.default_rng(9)
    X_tool_board = Pose("tool", "board", np.array([-0.1, -0.08, 0.05]), turned([1, 0, 0], 8))
    X_world_cam = Pose("world", "cam", np.array([0.9, 0.1, 0.8]), turned([1, 0.2, 0], 160))
    poses, views = [], []
    for X_other in hand_poses(10, rng, Pose("tool", "cam", np.zeros(3), turned([0, 0, 1], 0))):
        X_cam_board = X_other.inverse() @ X_WORLD_BOARD
        X_world_tool = (
            X_world_cam
            @ Pose("cam", "board", X_cam_board.position_m, X_cam_board.quat_xyzw)
            @ X_tool_board.inverse()
        )
        poses.append(X_world_tool)
        views.append(board.find(board.render(CAMERA, X_cam_board)))
    found = calibrate_hand_eye(views, poses, CAMERA, fixed=True)
    assert np.linalg.norm(found.X_base_cam.position_m - X_world_cam.position_m) < 1e-3
    assert angle_deg(found.X_base_cam, X_world_cam) < 0.2


def test_what_cannot_be_told_is_refused(seen):
    board, poses, views = seen
    with pytest.raises(SensorError, match="4 at least"):
        calibrate_intrinsics(views[:3], 640, 480)
    with pytest.raises(SensorError, match="corners"):
        board.find(np.full((480, 640), 128, np.uint8))
    with pytest.raises(SensorError, match="one axis"):
        calibrate_hand_eye(views[:1] * 4, poses[:1] * 4, CAMERA)
    with pytest.raises(SensorError, match="marker_m"):
        Board(BoardConfig(square_m=0.02, marker_m=0.03))
