"""Our nouns as ROS 2 messages, field for field, in SI units and the frames they are given in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.loop.typestore import message_class
from robot.types import (
    Detection,
    GraspCandidate,
    GripperCommand,
    JointCommand,
    ObjectState,
    Pose,
    RobotState,
    SafetyVerdict,
    Trajectory,
    VerdictLevel,
    Wrench,
)

PANDA_JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
PANDA_FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
_LEVELS = {VerdictLevel.OK: 0, VerdictLevel.SCALE: 1, VerdictLevel.HALT: 2}


def nanoseconds(stamp_s: float) -> int:
    """Seconds as whole nanoseconds, the nearest."""
    return round(stamp_s * 1e9)


def time_message(stamp_s: float) -> Any:
    """``builtin_interfaces/Time``."""
    sec, nanosec = divmod(nanoseconds(stamp_s), 1_000_000_000)
    return message_class("builtin_interfaces/msg/Time")(sec, nanosec)


def header(stamp_s: float, frame_id: str) -> Any:
    """``std_msgs/Header``."""
    return message_class("std_msgs/msg/Header")(time_message(stamp_s), frame_id)


def string(text: str) -> Any:
    """``std_msgs/String``."""
    return message_class("std_msgs/msg/String")(text)


def float_array(values: NDArray[np.float32], label: str) -> Any:
    """``std_msgs/Float32MultiArray`` of a vector: one dimension called ``label``."""
    data = np.ascontiguousarray(values, dtype=np.float32).ravel()
    dimension = message_class("std_msgs/msg/MultiArrayDimension")(label, data.size, data.size)
    layout = message_class("std_msgs/msg/MultiArrayLayout")([dimension], 0)
    return message_class("std_msgs/msg/Float32MultiArray")(layout, data)


def joint_state(
    state: RobotState,
    names: Sequence[str] = PANDA_JOINTS,
    fingers: Sequence[str] = PANDA_FINGERS,
) -> Any:
    """``sensor_msgs/JointState``: the arm's joints, then the fingers.

    Each finger's position is half the opening (m) and its effort the closing force (N), as in
    the Panda's URDF; the fingers' velocity is not measured and is given as zero.
    """
    arm, n = state.joints, len(fingers)
    half = [0.5 * state.gripper.opening_m] * n
    return message_class("sensor_msgs/msg/JointState")(
        header(state.stamp_s, "base_link"),
        [*names, *fingers],
        np.concatenate((arm.position_rad, half)),
        np.concatenate((arm.velocity_rad_s, np.zeros(n))),
        np.concatenate((arm.effort_nm, [state.gripper.force_n] * n)),
    )


def joint_command(
    command: JointCommand, stamp_s: float, names: Sequence[str] = PANDA_JOINTS
) -> Any:
    """``sensor_msgs/JointState`` with the targets; efforts are not commanded and left empty."""
    return message_class("sensor_msgs/msg/JointState")(
        header(stamp_s, "base_link"),
        list(names),
        np.ascontiguousarray(command.position_rad),
        np.ascontiguousarray(command.velocity_rad_s),
        np.zeros(0),
    )


def gripper_command(command: GripperCommand) -> Any:
    """``control_msgs/GripperCommand``: position is the opening (m), max_effort the force (N)."""
    return message_class("control_msgs/msg/GripperCommand")(
        float(command.opening_m), float(command.force_n)
    )


def joint_trajectory(
    trajectory: Trajectory,
    stamp_s: float,
    names: Sequence[str] = PANDA_JOINTS,
    every: int = 1,
) -> Any:
    """``trajectory_msgs/JointTrajectory`` with every ``every``-th point, the last one always."""
    n = len(trajectory.time_s)
    chosen = sorted({*range(0, n, every), n - 1}) if n else []
    point = message_class("trajectory_msgs/msg/JointTrajectoryPoint")
    duration = message_class("builtin_interfaces/msg/Duration")
    points = [
        point(
            np.ascontiguousarray(trajectory.position_rad[i], dtype=np.float64),
            np.ascontiguousarray(trajectory.velocity_rad_s[i], dtype=np.float64),
            np.ascontiguousarray(trajectory.acceleration_rad_s2[i], dtype=np.float64),
            np.zeros(0),
            duration(*divmod(nanoseconds(float(trajectory.time_s[i])), 1_000_000_000)),
        )
        for i in chosen
    ]
    return message_class("trajectory_msgs/msg/JointTrajectory")(
        header(stamp_s, "base_link"), list(names), points
    )


def pose(value: Pose) -> Any:
    """``geometry_msgs/Pose``; its frame is ``value.parent`` and goes into the header around it."""
    return message_class("geometry_msgs/msg/Pose")(
        message_class("geometry_msgs/msg/Point")(*(float(v) for v in value.position_m)),
        message_class("geometry_msgs/msg/Quaternion")(*(float(v) for v in value.quat_xyzw)),
    )


def pose_stamped(value: Pose, stamp_s: float) -> Any:
    """``geometry_msgs/PoseStamped``."""
    return message_class("geometry_msgs/msg/PoseStamped")(
        header(stamp_s, value.parent), pose(value)
    )


def pose_array(candidates: Sequence[GraspCandidate], stamp_s: float) -> Any:
    """``geometry_msgs/PoseArray`` of the grasp frames, in the order given."""
    frame = candidates[0].X_world_grasp.parent if candidates else "world"
    return message_class("geometry_msgs/msg/PoseArray")(
        header(stamp_s, frame), [pose(c.X_world_grasp) for c in candidates]
    )


def tf(poses: Sequence[Pose], stamp_s: float) -> Any:
    """``tf2_msgs/TFMessage``, one transform for each pose."""
    stamped = message_class("geometry_msgs/msg/TransformStamped")
    transform = message_class("geometry_msgs/msg/Transform")
    return message_class("tf2_msgs/msg/TFMessage")(
        [
            stamped(
                header(stamp_s, p.parent),
                p.child,
                transform(_vector3(p.position_m), pose(p).orientation),
            )
            for p in poses
        ]
    )


def wrench_stamped(wrench: Wrench, stamp_s: float) -> Any:
    """``geometry_msgs/WrenchStamped`` in the wrench's own frame."""
    return message_class("geometry_msgs/msg/WrenchStamped")(
        header(stamp_s, wrench.frame),
        message_class("geometry_msgs/msg/Wrench")(
            _vector3(wrench.force_n), _vector3(wrench.torque_nm)
        ),
    )


def twist_stamped(twist: NDArray[np.float64], stamp_s: float, frame: str = "world") -> Any:
    """``geometry_msgs/TwistStamped`` of (6,) linear m/s and angular rad/s."""
    return message_class("geometry_msgs/msg/TwistStamped")(
        header(stamp_s, frame),
        message_class("geometry_msgs/msg/Twist")(_vector3(twist[:3]), _vector3(twist[3:])),
    )


def diagnostics(
    verdict: SafetyVerdict,
    stamp_s: float,
    name: str = "safety: supervisor",
    hardware_id: str = "panda",
    values: Mapping[str, str] | None = None,
) -> Any:
    """``diagnostic_msgs/DiagnosticArray`` with one status: OK, SCALE and HALT as OK, WARN, ERROR.

    The scale and the level's name stand among the values, then what else is given.
    """
    pair = message_class("diagnostic_msgs/msg/KeyValue")
    told = {"level": verdict.level.name, "scale": repr(float(verdict.scale)), **(values or {})}
    status = message_class("diagnostic_msgs/msg/DiagnosticStatus")(
        _LEVELS[verdict.level],
        name,
        verdict.reason,
        hardware_id,
        [pair(key, value) for key, value in told.items()],
    )
    return message_class("diagnostic_msgs/msg/DiagnosticArray")(header(stamp_s, ""), [status])


def detection_3d_array(objects: Sequence[ObjectState], stamp_s: float) -> Any:
    """``vision_msgs/Detection3DArray``; ``id`` is the object's id, ``moving`` is told apart by
    a trailing ``+moving`` because the message has no field for it."""
    frame = objects[0].X_world_obj.parent if objects else "world"
    detection = message_class("vision_msgs/msg/Detection3D")
    box = message_class("vision_msgs/msg/BoundingBox3D")
    detections = [
        detection(
            header(o.stamp_s, o.X_world_obj.parent),
            [_hypothesis(o.class_name, o.confidence, pose(o.X_world_obj))],
            box(pose(o.X_world_obj), _vector3(o.dimensions_m)),
            f"{o.object_id}+moving" if o.moving else str(o.object_id),
        )
        for o in objects
    ]
    return message_class("vision_msgs/msg/Detection3DArray")(header(stamp_s, frame), detections)


def detection_2d_array(detections: Sequence[Detection], stamp_s: float, frame_id: str) -> Any:
    """``vision_msgs/Detection2DArray``: boxes by centre and size, px."""
    detection = message_class("vision_msgs/msg/Detection2D")
    box = message_class("vision_msgs/msg/BoundingBox2D")
    pose_2d = message_class("vision_msgs/msg/Pose2D")
    point = message_class("vision_msgs/msg/Point2D")
    nowhere = pose(Pose(frame_id, "object", np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])))
    found = []
    for d in detections:
        x, y, w, h = (float(v) for v in d.box_xywh_px)
        centre = pose_2d(point(x + 0.5 * w, y + 0.5 * h), 0.0)
        hypothesis = _hypothesis(d.class_name, d.score, nowhere)
        found.append(detection(header(stamp_s, frame_id), [hypothesis], box(centre, w, h), ""))
    return message_class("vision_msgs/msg/Detection2DArray")(header(stamp_s, frame_id), found)


def _vector3(values: NDArray[np.float64]) -> Any:
    return message_class("geometry_msgs/msg/Vector3")(*(float(v) for v in values))


def _hypothesis(class_name: str, score: float, where: Any) -> Any:
    return message_class("vision_msgs/msg/ObjectHypothesisWithPose")(
        message_class("vision_msgs/msg/ObjectHypothesis")(class_name, float(score)),
        message_class("geometry_msgs/msg/PoseWithCovariance")(where, np.zeros(36)),
    )
