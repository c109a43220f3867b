"""The ROS 2 message types that Steadyhand speaks, and their CDR encoding, without ROS.

The types are those of ROS 2 Jazzy as `rosbags` ships them; what is not among them
(``robot.loop.definitions``) is registered here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from robot.errors import RecordingError
from robot.loop.definitions import definitions

_RULE = 80 * "="


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The one store, made at the first use (some 20 ms)."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in definitions().items():
        # rosbags takes the name of a service's part for that of a message.
        made = get_types_from_msg(text, name)
        types.update({key.replace("/srv/msg/", "/srv/"): value for key, value in made.items()})
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
    if "/msg/" in type_name:
        return typestore().generate_msgdef(type_name, ros_version=2)[0]
    # rosbags writes no action and no service; in a schema their parts go by two names, like
    # messages, which is all that readers know.
    parts: dict[str, str] = {}
    text = _told(definitions()[type_name], parts)
    return "".join([text, *(f"\n{_RULE}\nMSG: {n}\n{body}" for n, body in parts.items())]) + "\n"


def _told(text: str, parts: dict[str, str]) -> str:
    """A definition with two-part names; what it is made of goes into ``parts``."""
    lines = []
    for line in text.splitlines():
        kind, name = line.split()
        bare = kind.removesuffix("[]")
        if "/" in bare:
            full = bare if bare.count("/") == 2 else bare.replace("/", "/msg/")
            short = f"{full.split('/')[0]}/{full.split('/')[-1]}"
            kind = kind.replace(bare, short)
            if short not in parts:
                parts[short] = ""
                if "/msg/" in full:
                    first, *others = definition(full).split(_RULE)
                    parts[short] = first.strip()
                    for other in others:
                        head, _, body = other.strip().partition("\n")
                        parts.setdefault(head.removeprefix("MSG: "), body)
                else:
                    parts[short] = _told(definitions()[full], parts)
        lines.append(f"{kind} {name}")
    return "\n".join(lines)


def encode(message: Any) -> bytes:
    """A message as little-endian CDR with its 4-byte encapsulation header."""
    return bytes(typestore().serialize_cdr(message, message.__msgtype__, little_endian=True))


def decode(data: bytes, type_name: str) -> Any:
    """The message that ``encode`` made; raises ``RecordingError`` for an unknown type."""
    message_class(type_name)
    return typestore().deserialize_cdr(data, type_name)
