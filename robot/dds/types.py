"""ROS 2 message types as DDS types: names, plain final structs, and CDR bytes as they are.

A ROS 2 topic ``/joint_states`` of ``sensor_msgs/msg/JointState`` is the DDS topic
``rt/joint_states`` of ``sensor_msgs::msg::dds_::JointState_``. The struct is described to DDS so
that other vendors match it; its samples carry the CDR that ``robot.loop.typestore`` writes and
reads, so nothing is encoded twice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cyclonedds.idl import make_idl_struct
from cyclonedds.idl import types as idl
from rosbags.interfaces import Nodetype

from robot.loop.typestore import message_class, typestore

_PLAIN: dict[str, Any] = {
    "bool": bool,
    "byte": idl.byte,
    "char": idl.uint8,
    "int8": idl.int8,
    "uint8": idl.uint8,
    "int16": idl.int16,
    "uint16": idl.uint16,
    "int32": idl.int32,
    "uint32": idl.uint32,
    "int64": idl.int64,
    "uint64": idl.uint64,
    "float32": idl.float32,
    "float64": idl.float64,
    "string": str,
}


def dds_topic(topic: str) -> str:
    """``rt/joint_states`` of ``/joint_states``."""
    return f"rt{topic}" if topic.startswith("/") else f"rt/{topic}"


def ros_topic(dds: str) -> str | None:
    """``/joint_states`` of ``rt/joint_states``; None of what is no ROS 2 topic."""
    return dds[2:] if dds.startswith("rt/") else None


def dds_name(type_name: str) -> str:
    """``sensor_msgs::msg::dds_::JointState_`` of ``sensor_msgs/msg/JointState``."""
    package, kind, name = type_name.split("/")
    return f"{package}::{kind}::dds_::{name}_"


def ros_name(dds: str) -> str | None:
    """The ROS 2 name of a DDS type's; None of what is no ROS 2 type."""
    parts = dds.split("::")
    if len(parts) != 4 or parts[2] != "dds_" or not parts[3].endswith("_"):
        return None
    return f"{parts[0]}/{parts[1]}/{parts[3][:-1]}"


@lru_cache(maxsize=256)
def dds_type(type_name: str) -> Any:
    """The type to make DDS topics with; its samples are made of CDR bytes by :func:`sample`.

    Raises:
        RecordingError: the type is unknown.
    """
    made = _struct(type_name)
    made.serialize = _bytes_of
    made.deserialize = classmethod(_sample_of)
    return made


def sample(type_name: str, data: bytes) -> Any:
    """A sample to write: ``data`` is CDR with its 4-byte header."""
    kind = dds_type(type_name)
    made = object.__new__(kind)
    made.cdr = data
    return made


def _bytes_of(self: Any, **_: Any) -> bytes:
    return bytes(self.cdr)


def _sample_of(cls: Any, data: bytes, **_: Any) -> Any:
    made = object.__new__(cls)
    made.cdr = bytes(data)
    return made


@lru_cache(maxsize=512)
def _struct(type_name: str) -> Any:
    message_class(type_name)
    _, fields = typestore().fielddefs[type_name]
    name = dds_name(type_name)
    members = {name: _field(kind) for name, kind in fields}
    return make_idl_struct(name.rpartition("::")[2], name, members)


def _field(kind: Any) -> Any:
    node, what = kind
    if node == Nodetype.BASE:
        name, bound = what
        del bound  # ROS 2's bounded strings are plain strings on the wire
        return _PLAIN[name]
    if node == Nodetype.NAME:
        return _struct(what)
    inner, count = what
    element = _field(inner)
    array: Any = idl.array
    sequence: Any = idl.sequence
    return array[element, count] if node == Nodetype.ARRAY else sequence[element]
