"""Nouns that went through a message come back as they were, to the last bit where it counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.errors import SensorError
from robot.geometry import quat_from_axis_angle
from robot.loop import images, messages, nouns
from robot.loop.typestore import decode, definition, encode, typestore
from robot.observation import PATCH_SHAPE, Around
from robot.types import (
    CameraIntrinsics,
    GraspCandidate,
    GripperState,
    HeightMap,
    JointState,
    ObjectState,
    Pose,
    RgbdFrame,
    RobotState,
    Trajectory,
)

seeds = st.integers(0, 2**32 - 1)


def again(message):
    return decode(encode(message), message.__msgtype__)


def pose(rng, child="object"):
    return Pose("world", child, rng.normal(size=3), quat_from_axis_angle(rng.normal(size=3), 0.7))


def thing(rng, moving=False):
    return ObjectState(
        int(rng.integers(9)),
        "box",
        pose(rng),
        rng.random(3) + 0.01,
        float(rng.random()),
        moving,
        1.5,
    )


def assert_same(a: Pose, b: Pose) -> None:
    assert (a.parent, a.child) == (b.parent, b.child)
    np.testing.assert_array_equal(a.position_m, b.position_m)
    np.testing.assert_array_equal(a.quat_xyzw, b.quat_xyzw)


@settings(max_examples=30, deadline=None)
@given(seeds, st.booleans())
def test_objects(seed, moving):
    rng = np.random.default_rng(seed)
    sent = [thing(rng, moving), thing(rng)]
    got = nouns.objects_of(again(messages.detection_3d_array(sent, 1.5)))
    for a, b in zip(sent, got, strict=True):
        assert_same(a.X_world_obj, b.X_world_obj)
        np.testing.assert_array_equal(a.dimensions_m, b.dimensions_m)
        assert (a.object_id, a.class_name, a.confidence, a.moving, a.stamp_s) == (
            b.object_id, b.class_name, b.confidence, b.moving, b.stamp_s,
        )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(seeds, st.booleans())
def test_a_grasp_and_its_object(seed, has_object):
    rng = np.random.default_rng(seed)
    sent = GraspCandidate(pose(rng, "grasp"), 0.04, 0.06, -1.25, 3, 0.75)
    obj = thing(rng) if has_object else None
    seen = rng.normal(size=PATCH_SHAPE).astype(np.float32)
    around = Around(seen, rng.normal(size=4)) if has_object else None
    goal = again(nouns.grasp_goal(sent, obj, around))
    got, back = nouns.candidate_of(goal)
    told = nouns.around_of(goal)
    assert (told is None) == (around is None)
    if told is not None:
        np.testing.assert_array_equal(told.patch_m, around.patch_m)
        np.testing.assert_array_equal(told.aim, around.aim)
    assert_same(sent.X_world_grasp, got.X_world_grasp)
    assert (got.width_m, got.opening_m, got.score, got.object_id, got.stamp_s) == (
        0.04, 0.06, -1.25, 3, 0.75,
    )  # fmt: skip
    assert (back is None) == (obj is None)


@pytest.mark.parametrize("field", ["aim", "patch"])
@pytest.mark.parametrize("values", [[1.0, 2.0], [np.nan] * 4])
def test_surroundings_that_are_none_are_refused(field, values):
    rng = np.random.default_rng(0)
    sent = GraspCandidate(pose(rng, "grasp"), 0.04, 0.06, -1.25, 3, 0.75)
    goal = nouns.grasp_goal(sent, None, Around(np.zeros(PATCH_SHAPE, np.float32), np.zeros(4)))
    setattr(goal, field, np.array(values))
    with pytest.raises(SensorError, match="grasp goal"):
        nouns.around_of(goal)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_a_height_map_and_a_frame(seed):
    rng = np.random.default_rng(seed)
    heights = HeightMap(
        np.array([0.3, -0.2]), 0.0025, rng.random((7, 5)).astype(np.float32),
        rng.random((7, 5)) > 0.5, 2.25,
    )  # fmt: skip
    got = nouns.height_map_of(again(nouns.grid_map(heights)))
    np.testing.assert_array_equal(got.height_m, heights.height_m)
    np.testing.assert_array_equal(got.seen, heights.seen)
    np.testing.assert_array_equal(got.origin_m, heights.origin_m)
    assert (got.resolution_m, got.stamp_s) == (heights.resolution_m, heights.stamp_s)
    camera = CameraIntrinsics(6, 4, 400.0, 401.0, 2.5, 1.5)
    frame = RgbdFrame(
        "wrist", 0.5, rng.integers(256, size=(4, 6, 3), dtype=np.uint8),
        rng.random((4, 6)).astype(np.float32), camera, pose(rng, "wrist"),
    )  # fmt: skip
    X = nouns.poses_of(again(messages.tf([frame.X_world_cam], 0.5)))["wrist"]
    back = nouns.frame_of(
        "wrist",
        again(images.raw_rgb(frame)),
        again(images.raw_depth(frame)),
        again(images.camera_info(frame)),
        X,
    )
    np.testing.assert_array_equal(back.rgb, frame.rgb)
    np.testing.assert_array_equal(back.depth_m, frame.depth_m)
    assert back.intrinsics == camera and back.stamp_s == 0.5
    assert_same(back.X_world_cam, frame.X_world_cam)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_a_robot_state_in_whatever_order_its_joints_are_named(seed):
    rng = np.random.default_rng(seed)
    joints = JointState(*rng.normal(size=(3, 7)))
    sent = RobotState(0.25, joints, GripperState(0.05, 12.0))
    message = again(messages.joint_state(sent))
    order = rng.permutation(9)
    message.name = [message.name[i] for i in order]
    for part in ("position", "velocity", "effort"):
        setattr(message, part, getattr(message, part)[order])
    got = nouns.robot_state_of(message, messages.PANDA_JOINTS, messages.PANDA_FINGERS)
    np.testing.assert_array_equal(got.joints.position_rad, joints.position_rad)
    np.testing.assert_array_equal(got.joints.effort_nm, joints.effort_nm)
    assert (got.gripper.opening_m, got.gripper.force_n, got.stamp_s) == (0.05, 12.0, 0.25)


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ("name", "panda_joint1, panda_joint2, .* missing among"),
        ("velocity", "got 9 and 0"),
        ("position", "got 0 and 9"),
    ],
)
def test_joint_states_that_are_not_this_arms_are_one_clear_error(part, match):
    rest = JointState(*np.zeros((3, 7)))
    message = messages.joint_state(RobotState(0.25, rest, GripperState(0.05, 12.0)))
    other = [f"wheel{i}" for i in range(9)] if part == "name" else np.zeros(0)
    setattr(message, part, other)
    with pytest.raises(SensorError, match=match):
        nouns.robot_state_of(again(message), messages.PANDA_JOINTS, messages.PANDA_FINGERS)


def test_a_trajectory_keeps_its_points():
    rng = np.random.default_rng(0)
    sent = Trajectory(np.arange(20) / 240, *rng.normal(size=(3, 20, 7)))
    got = nouns.trajectory_of(again(messages.joint_trajectory(sent, 0.0)))
    np.testing.assert_array_equal(got.position_rad, sent.position_rad)
    np.testing.assert_allclose(got.time_s, sent.time_s, atol=1e-9)


def test_every_schema_of_an_action_names_all_that_it_is_made_of():
    """A reader that knows nothing but the text must find every type that it names."""
    for name in typestore().types:
        if "/action/" not in name and "/srv/" not in name:
            continue
        sections = definition(name).split("=" * 80)
        told = {s.strip().partition("\n")[0].removeprefix("MSG: ") for s in sections[1:]}
        for section in sections:
            for line in section.strip().splitlines():
                kind = line.split()[0].removesuffix("[]")
                if not line.startswith("MSG:") and "/" in kind:
                    assert kind in told, (name, line)
