from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.errors import RecordingError
from robot.loop import images, messages
from robot.loop.typestore import decode, definition, encode, message_class, typestore
from robot.types import (
    CameraIntrinsics,
    Detection,
    GraspCandidate,
    GripperCommand,
    GripperState,
    JointCommand,
    JointState,
    ObjectState,
    Pose,
    RgbdFrame,
    RobotState,
    SafetyVerdict,
    Trajectory,
    VerdictLevel,
    Wrench,
)

QUAT = np.array([0.1, -0.2, 0.3, 0.9]) / np.linalg.norm([0.1, -0.2, 0.3, 0.9])


def through(message):
    """The message after the wire."""
    return decode(encode(message), message.__msgtype__)


def frame(seed: int = 0) -> RgbdFrame:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:60, 0:80]
    rgb = np.stack([3 * x, 4 * y, x + y], axis=-1).astype(np.uint8)
    depth = (0.6 + 0.3 * rng.random((60, 80))).astype(np.float32)
    depth[:5, :5] = 0.0
    pose = Pose("world", "wrist_color_optical_frame", [0.4, 0.0, 0.5], QUAT)
    return RgbdFrame("wrist", 1.25, rgb, depth, CameraIntrinsics(80, 60, 70, 71, 39.5, 29.5), pose)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=7, max_size=7),
    stamp=st.floats(0, 2e9),
    opening=st.floats(0, 0.08),
)
def test_joint_state_keeps_every_number(values, stamp, opening):
    q = np.array(values)
    state = RobotState(stamp, JointState(q, 2 * q, 3 * q), GripperState(opening, 12.5))
    got = through(messages.joint_state(state))
    assert got.name == [*messages.PANDA_JOINTS, *messages.PANDA_FINGERS]
    assert np.array_equal(got.position, [*q, opening / 2, opening / 2])
    assert np.array_equal(got.velocity, [*(2 * q), 0, 0])
    assert np.array_equal(got.effort, [*(3 * q), 12.5, 12.5])
    assert got.header.frame_id == "base_link"
    assert got.header.stamp.sec * 10**9 + got.header.stamp.nanosec == round(stamp * 1e9)
    assert 0 <= got.header.stamp.nanosec < 10**9


def test_commands_keep_nan_so_that_a_recording_shows_it():
    command = JointCommand(np.array([0.1, np.nan, np.inf]), np.array([1.0, 2.0, 3.0]))
    got = through(messages.joint_command(command, 2.0, ["a", "b", "c"]))
    assert np.array_equal(got.position, command.position_rad, equal_nan=True)
    assert np.array_equal(got.velocity, command.velocity_rad_s)
    assert got.effort.size == 0
    gripper = through(messages.gripper_command(GripperCommand(0.03, 40.0)))
    assert (gripper.position, gripper.max_effort) == (0.03, 40.0)


def test_trajectory_points_and_the_last_is_kept_when_thinned():
    n = 11
    arrays = [np.random.default_rng(i).normal(size=(n, 7)) for i in range(3)]
    trajectory = Trajectory(np.arange(n) / 240 + 1.5, *arrays)
    whole = through(messages.joint_trajectory(trajectory, 3.0))
    assert len(whole.points) == n
    for i, p in enumerate(whole.points):
        assert np.array_equal(p.positions, arrays[0][i])
        assert np.array_equal(p.velocities, arrays[1][i])
        assert np.array_equal(p.accelerations, arrays[2][i])
        told = p.time_from_start.sec + p.time_from_start.nanosec * 1e-9
        assert told == pytest.approx(trajectory.time_s[i], abs=1e-9)
    thin = through(messages.joint_trajectory(trajectory, 3.0, every=4))
    assert [p.positions[0] for p in thin.points] == [arrays[0][i, 0] for i in (0, 4, 8, 10)]
    empty = Trajectory(np.zeros(0), *[np.zeros((0, 7))] * 3)
    assert through(messages.joint_trajectory(empty, 0.0)).points == []


def test_poses_transforms_and_wrench():
    pose = Pose("world", "tool0", [0.1, 0.2, 0.3], QUAT)
    told = through(messages.tf([pose, pose.inverse()], 7.5)).transforms
    assert [(t.header.frame_id, t.child_frame_id) for t in told] == [
        ("world", "tool0"),
        ("tool0", "world"),
    ]
    move, turn = told[0].transform.translation, told[0].transform.rotation
    assert [move.x, move.y, move.z] == list(pose.position_m)
    assert [turn.x, turn.y, turn.z, turn.w] == list(pose.quat_xyzw)
    stamped = through(messages.pose_stamped(pose, 1.0))
    assert stamped.header.frame_id == "world" and stamped.pose.position.z == 0.3
    grasp = GraspCandidate(pose, 0.04, 0.08, 0.9, 3, 1.0)
    assert len(through(messages.pose_array([grasp, grasp], 1.0)).poses) == 2
    wrench = through(messages.wrench_stamped(Wrench("tool0", [1, 2, 3], [4, 5, 6]), 1.0))
    assert wrench.header.frame_id == "tool0"
    assert (wrench.wrench.force.y, wrench.wrench.torque.z) == (2.0, 6.0)


@pytest.mark.parametrize(
    ("level", "number"), [(VerdictLevel.OK, 0), (VerdictLevel.SCALE, 1), (VerdictLevel.HALT, 2)]
)
def test_verdict_becomes_a_diagnostic_status(level, number):
    verdict = SafetyVerdict(level, 0.25, "joint 4 near its limit")
    got = through(messages.diagnostics(verdict, 1.0, values={"monitor": "position"}))
    (status,) = got.status
    assert (status.level, status.message, status.hardware_id) == (number, verdict.reason, "panda")
    values = {v.key: v.value for v in status.values}
    assert values == {"level": level.name, "scale": "0.25", "monitor": "position"}


def test_objects_and_detections():
    pose = Pose("world", "object_4", [0.5, 0.1, 0.03], QUAT)
    still = ObjectState(4, "box", pose, [0.1, 0.05, 0.06], 0.93, False, 2.0)
    moving = ObjectState(5, "ball", pose, [0.05, 0.05, 0.05], 0.5, True, 2.5)
    got = through(messages.detection_3d_array([still, moving], 3.0))
    assert got.header.frame_id == "world"
    first, second = got.detections
    assert (first.id, second.id) == ("4", "5+moving")
    assert (first.results[0].hypothesis.class_id, first.results[0].hypothesis.score) == (
        "box",
        0.93,
    )
    assert (first.bbox.size.x, first.bbox.size.y, first.bbox.size.z) == (0.1, 0.05, 0.06)
    assert first.bbox.center.position.x == first.results[0].pose.pose.position.x == 0.5
    assert second.header.stamp.nanosec == 500_000_000
    assert through(messages.detection_3d_array([], 3.0)).detections == []

    found = [Detection((10.0, 20.0, 30.0, 40.0), 0.75, "cylinder")]
    (d,) = through(messages.detection_2d_array(found, 1.0, "cam")).detections
    assert (d.bbox.center.position.x, d.bbox.center.position.y) == (25.0, 40.0)
    assert (d.bbox.size_x, d.bbox.size_y) == (30.0, 40.0)
    assert (d.results[0].hypothesis.class_id, d.results[0].hypothesis.score) == ("cylinder", 0.75)


def test_exact_images_come_back_bit_for_bit():
    look = frame()
    assert np.array_equal(images.rgb_from(through(images.raw_rgb(look))), look.rgb)
    assert np.array_equal(images.depth_from(through(images.raw_depth(look))), look.depth_m)


def test_compact_images_stay_within_their_stated_error():
    look = frame()
    depth = images.depth_from(through(images.compressed_depth(look)))
    assert depth.dtype == np.float32
    assert np.abs(depth - look.depth_m).max() <= 0.5e-3 + 1e-6
    assert (depth[:5, :5] == 0).all()
    colour = through(images.compressed_rgb(look))
    assert np.abs(images.rgb_from(colour).astype(int) - look.rgb).mean() < 3
    assert colour.header.frame_id == "wrist_color_optical_frame"
    assert len(colour.data) < look.rgb.size


def test_depth_beyond_sixteen_bits_is_invalid_not_wrapped():
    look = frame()
    far = look.depth_m.copy()
    far[10, 10:13] = (70.0, np.inf, np.nan)
    odd = RgbdFrame("wrist", 0.0, look.rgb, far, look.intrinsics, look.X_world_cam)
    assert (images.depth_from(images.compressed_depth(odd))[10, 10:13] == 0).all()


def test_camera_info():
    look = frame()
    info = through(images.camera_info(look))
    assert list(info.k) == [70, 0, 39.5, 0, 71, 29.5, 0, 0, 1]
    assert list(info.p) == [70, 0, 39.5, 0, 0, 71, 29.5, 0, 0, 0, 1, 0]
    assert images.intrinsics_from(info) == look.intrinsics


def test_wrong_images_are_named():
    with pytest.raises(RecordingError, match="expected compressedDepth"):
        images.depth_from(images.compressed_rgb(frame()))
    with pytest.raises(RecordingError, match="expected 'rgb8'"):
        images.rgb_from(images.raw_depth(frame()))


def test_float_array_and_string():
    got = through(messages.float_array(np.arange(5, dtype=np.float32), "action"))
    assert got.layout.dim[0].label == "action" and got.layout.dim[0].size == 5
    assert np.array_equal(got.data, np.arange(5, dtype=np.float32))
    assert through(messages.string("Zuordnung geprüft")).data == "Zuordnung geprüft"


def test_registered_definitions_hold_all_they_are_made_of():
    text = definition("vision_msgs/msg/Detection3DArray")
    for part in (
        "vision_msgs/BoundingBox3D",
        "geometry_msgs/PoseWithCovariance",
        "std_msgs/Header",
    ):
        assert f"MSG: {part}\n" in text
    assert "control_msgs/msg/GripperCommand" in typestore().fielddefs
    with pytest.raises(RecordingError, match="pkg/msg/Nothing"):
        message_class("pkg/msg/Nothing")
