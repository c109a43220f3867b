"""ROS 2 messages read back as our nouns, and the few that only the loop's processes exchange."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import SensorError
from robot.loop import messages
from robot.loop.images import depth_from, intrinsics_from, rgb_from
from robot.loop.typestore import message_class
from robot.observation import PATCH_SHAPE, Around
from robot.planning.obstacles import Box
from robot.types import (
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

Array = NDArray[np.float64]


def stamp_of(time: Any) -> float:
    """Seconds of a ``builtin_interfaces/Time`` or ``Duration``."""
    return float(int(time.sec) * 1_000_000_000 + int(time.nanosec)) * 1e-9


def pose_of(message: Any, parent: str, child: str) -> Pose:
    """Of a ``geometry_msgs/Pose`` or ``Transform``."""
    at = getattr(message, "position", None) or message.translation
    turn = getattr(message, "orientation", None) or message.rotation
    return Pose.stored(parent, child, [at.x, at.y, at.z], [turn.x, turn.y, turn.z, turn.w])


def poses_of(message: Any) -> dict[str, Pose]:
    """Of a ``tf2_msgs/TFMessage``, by child frame."""
    return {
        t.child_frame_id: pose_of(t.transform, t.header.frame_id, t.child_frame_id)
        for t in message.transforms
    }


def robot_state_of(
    message: Any, joints: Sequence[str], fingers: Sequence[str], contact: bool = False
) -> RobotState:
    """Of a ``sensor_msgs/JointState`` that holds arm and fingers, in whatever order.

    Raises:
        SensorError: a joint, a position or an arm's velocity is missing.
    """
    index = {name: i for i, name in enumerate(message.name)}
    missing = [name for name in (*joints, *fingers) if name not in index]
    if missing:
        raise SensorError(f"joint states: {', '.join(missing)} missing among {message.name}")
    arm = [index[name] for name in joints]
    hand = [index[name] for name in fingers]
    position, effort = np.asarray(message.position), np.asarray(message.effort)
    velocity = np.asarray(message.velocity)
    if len(position) != len(message.name) or len(velocity) <= max(arm):
        raise SensorError(
            f"joint states: expected a position and a velocity of each of {len(message.name)} "
            f"joints, got {len(position)} and {len(velocity)}"
        )
    opening = float(position[hand].sum())
    force = float(effort[hand].mean()) if len(effort) > max(hand) else 0.0
    torque = effort[arm] if len(effort) > max(arm) else np.zeros(len(arm))
    return RobotState(
        stamp_of(message.header.stamp),
        JointState(position[arm], velocity[arm], torque),
        GripperState(max(opening, 0.0), max(force, 0.0), contact),
    )


def trajectory_of(message: Any) -> Trajectory:
    """Of a ``trajectory_msgs/JointTrajectory`` with positions, velocities and accelerations."""
    points = message.points
    return Trajectory(
        np.array([stamp_of(p.time_from_start) for p in points]),
        np.array([p.positions for p in points]),
        np.array([p.velocities for p in points]),
        np.array([p.accelerations for p in points]),
    )


def objects_of(message: Any) -> tuple[ObjectState, ...]:
    """Of a ``vision_msgs/Detection3DArray``."""
    return tuple(object_of(d) for d in message.detections)


def object_of(detection: Any) -> ObjectState:
    """Of one ``vision_msgs/Detection3D``."""
    best = detection.results[0].hypothesis
    size = detection.bbox.size
    number, _, moving = detection.id.partition("+")
    return ObjectState(
        int(number),
        best.class_id,
        pose_of(detection.bbox.center, detection.header.frame_id, "object"),
        np.array([size.x, size.y, size.z]),
        float(best.score),
        moving == "moving",
        stamp_of(detection.header.stamp),
    )


def scene_message(boxes: Sequence[Box], stamp_s: float) -> Any:
    """``vision_msgs/Detection3DArray`` of what stands around the arm."""
    told = []
    for n, box in enumerate(boxes):
        half = 0.5 * box.yaw_rad
        turn = np.array([0.0, 0.0, math.sin(half), math.cos(half)])
        X = Pose("world", "object", np.array(box.center_m), turn)
        told.append(ObjectState(n, box.name, X, np.array(box.size_m), 1.0, False, stamp_s))
    return messages.detection_3d_array(told, stamp_s)


def scene_of(message: Any) -> list[Box]:
    """Of a :func:`scene_message`."""
    boxes = []
    for d in message.detections:
        at, turn, size = d.bbox.center.position, d.bbox.center.orientation, d.bbox.size
        yaw_rad = 2.0 * math.atan2(turn.z, turn.w)
        name = d.results[0].hypothesis.class_id
        boxes.append(Box((at.x, at.y, at.z), (size.x, size.y, size.z), yaw_rad, name))
    return boxes


def frame_of(camera: str, colour: Any, depth: Any, info: Any, X_world_cam: Pose) -> RgbdFrame:
    """One camera's frame from its messages."""
    return RgbdFrame(
        camera,
        stamp_of(colour.header.stamp),
        rgb_from(colour),
        depth_from(depth),
        intrinsics_from(info),
        X_world_cam,
    )


def grid_map(heights: HeightMap) -> Any:
    """``grid_map_msgs/GridMap`` with the layers ``elevation`` (m) and ``seen`` (1 or 0).

    A layer is stored as our array stands: row by row, x along the rows, from the lowest corner.
    """
    nx, ny = heights.height_m.shape
    step = heights.resolution_m
    x, y = (float(v) for v in heights.origin_m)
    layer = message_class("std_msgs/msg/Float32MultiArray")
    dimension = message_class("std_msgs/msg/MultiArrayDimension")
    layout = message_class("std_msgs/msg/MultiArrayLayout")(
        [dimension("row_index", nx, nx * ny), dimension("column_index", ny, ny)], 0
    )
    corner = Pose("world", "map", np.array([x, y, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    info = message_class("grid_map_msgs/msg/GridMapInfo")(
        step, nx * step, ny * step, messages.pose(corner)
    )
    layers = [heights.height_m, heights.seen.astype(np.float32)]
    return message_class("grid_map_msgs/msg/GridMap")(
        messages.header(heights.stamp_s, "world"),
        info,
        ["elevation", "seen"],
        ["elevation"],
        [layer(layout, np.ascontiguousarray(a, np.float32).ravel()) for a in layers],
        0,
        0,
    )


def height_map_of(message: Any) -> HeightMap:
    """Of a ``grid_map_msgs/GridMap`` made by :func:`grid_map`."""
    shape = tuple(int(d.size) for d in message.data[0].layout.dim)
    elevation, seen = (np.asarray(m.data, np.float32).reshape(shape) for m in message.data)
    at = message.info.pose.position
    return HeightMap(
        np.array([at.x, at.y]),
        float(message.info.resolution),
        elevation,
        seen > 0.5,
        stamp_of(message.header.stamp),
    )


def grasp_goal(
    candidate: GraspCandidate, obj: ObjectState | None, around: Around | None = None
) -> Any:
    """``steadyhand_msgs/action/Grasp_Goal``."""
    aim = np.empty(0) if around is None else around.aim
    seen = np.empty(0, np.float32) if around is None else around.patch_m
    objects = messages.detection_3d_array([] if obj is None else [obj], candidate.stamp_s)
    return message_class("steadyhand_msgs/action/Grasp_Goal")(
        messages.pose_stamped(candidate.X_world_grasp, candidate.stamp_s),
        float(candidate.width_m),
        float(candidate.opening_m),
        float(candidate.score),
        int(candidate.object_id),
        objects.detections,
        np.asarray(aim, dtype=np.float64),
        np.asarray(seen, dtype=np.float32).reshape(-1),
    )


def candidate_of(goal: Any) -> tuple[GraspCandidate, ObjectState | None]:
    """Of a :func:`grasp_goal`."""
    candidate = GraspCandidate(
        pose_of(goal.grasp.pose, goal.grasp.header.frame_id, "grasp"),
        float(goal.width),
        float(goal.opening),
        float(goal.score),
        int(goal.object_id),
        stamp_of(goal.grasp.header.stamp),
    )
    return candidate, object_of(goal.object[0]) if goal.object else None


def around_of(goal: Any) -> Around | None:
    """What a :func:`grasp_goal` says of the surroundings.

    Raises:
        SensorError: the patch or the aim has not the size that they have.
    """
    if not len(goal.patch) and not len(goal.aim):
        return None
    seen, aim = np.asarray(goal.patch), np.array(goal.aim, dtype=np.float64)
    if seen.size != math.prod(PATCH_SHAPE) or aim.shape != (4,):
        raise SensorError(
            f"grasp goal: expected {math.prod(PATCH_SHAPE)} heights and an aim of 4, "
            f"got {seen.size} and {aim.size}"
        )
    if not (np.isfinite(seen).all() and np.isfinite(aim).all()):
        raise SensorError("grasp goal: heights and aim must be finite")
    return Around(seen.astype(np.float32).reshape(PATCH_SHAPE), aim)
