"""The ROS 2 message types that Steadyhand speaks, and their CDR encoding, without ROS.

The types are those of ROS 2 Jazzy as `rosbags` ships them; ``vision_msgs`` (4.x) and
``control_msgs`` are not among them and are registered here, field for field.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from robot.errors import RecordingError

# Field definitions after https://github.com/ros-perception/vision_msgs (branch ros2) and
# https://github.com/ros-controls/control_msgs (branch jazzy).
_DEFINITIONS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": ("vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y"),
    "vision_msgs/msg/BoundingBox3D": ("geometry_msgs/Pose center\ngeometry_msgs/Vector3 size"),
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection2DArray": (
        "std_msgs/Header header\nvision_msgs/Detection2D[] detections"
    ),
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection3DArray": (
        "std_msgs/Header header\nvision_msgs/Detection3D[] detections"
    ),
    "control_msgs/msg/GripperCommand": "float64 position\nfloat64 max_effort",
    "control_msgs/msg/JointTolerance": (
        "string name\nfloat64 position\nfloat64 velocity\nfloat64 acceleration"
    ),
}


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The one store, made at the first use (some 20 ms)."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in _DEFINITIONS.items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


def message_class(type_name: str) -> type[Any]:
    """The dataclass of a message, e.g. of ``sensor_msgs/msg/JointState``."""
    try:
        return typestore().types[type_name]
    except KeyError:
        raise RecordingError(
            f"message type {type_name!r} is unknown; names are like 'sensor_msgs/msg/JointState'"
        ) from None


@lru_cache(maxsize=256)
def definition(type_name: str) -> str:
    """The ``ros2msg`` text of a type with all types it is made of, as MCAP schemas carry it."""
    message_class(type_name)
    return typestore().generate_msgdef(type_name, ros_version=2)[0]


def encode(message: Any) -> bytes:
    """A message as little-endian CDR with its 4-byte encapsulation header."""
    return bytes(typestore().serialize_cdr(message, message.__msgtype__, little_endian=True))


def decode(data: bytes, type_name: str) -> Any:
    """The message that ``encode`` made; raises ``RecordingError`` for an unknown type."""
    message_class(type_name)
    return typestore().deserialize_cdr(data, type_name)
