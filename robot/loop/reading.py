"""Recordings read back, whole ones and those that were cut."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard
from mcap.exceptions import EndOfFile, InvalidMagic, McapError
from mcap.records import Channel, Chunk, Footer, Message, Metadata, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk

from robot.errors import RecordingError
from robot.loop.typestore import decode


@dataclass(frozen=True)
class RecordedMessage:
    """One message as it stands in the file."""

    topic: str
    type_name: str
    stamp_s: float
    data: bytes

    def decode(self) -> Any:
        """As an instance of its message class."""
        return decode(self.data, self.type_name)


@dataclass
class Recording:
    """What could be read of a recording.

    Attributes:
        path: the file.
        metadata: what the recorder was given (seed, versions, ...).
        messages: in the order written.
        complete: the file ends as it should; if not, ``note`` says where and why reading ended.
        chunks: how many finished chunks there were.
    """

    path: Path
    metadata: dict[str, str] = field(default_factory=dict)
    messages: list[RecordedMessage] = field(default_factory=list)
    complete: bool = False
    note: str = ""
    chunks: int = 0

    @property
    def topics(self) -> dict[str, tuple[str, int]]:
        """Type and number of messages by topic, in order of first appearance."""
        found: dict[str, tuple[str, int]] = {}
        for m in self.messages:
            found[m.topic] = (m.type_name, found.get(m.topic, ("", 0))[1] + 1)
        return found

    @property
    def end_s(self) -> float:
        """Stamp of the newest message, s; 0 when there is none."""
        return max((m.stamp_s for m in self.messages), default=0.0)

    def of(self, topic: str) -> Iterator[tuple[float, Any]]:
        """(stamp in s, decoded message) of one topic."""
        return ((m.stamp_s, m.decode()) for m in self.messages if m.topic == topic)


def read_recording(path: Path, topics: Collection[str] | None = None) -> Recording:
    """Read a recording up to its end or to its last finished chunk.

    Args:
        path: an MCAP file, whole or cut anywhere.
        topics: keep only these; None keeps all.

    Raises:
        RecordingError: the file is missing or is no MCAP file.
    """
    recording = Recording(Path(path))
    recording.messages.extend(read_messages(recording, topics))
    return recording


def read_messages(
    recording: Recording, topics: Collection[str] | None = None
) -> Iterator[RecordedMessage]:
    """The same message by message; what else is learnt goes into ``recording`` meanwhile.

    Args:
        recording: made with the file's path.
        topics: give only these; None gives all.

    Raises:
        RecordingError: as ``read_recording``.
    """
    path = recording.path
    schemas: dict[int, str] = {}
    channels: dict[int, Channel] = {}
    try:
        size = path.stat().st_size
        stream = path.open("rb")
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from None
    with stream:
        good = 0
        try:
            for record in StreamReader(stream, emit_chunks=True, validate_crcs=True).records:
                inner = [record]
                if isinstance(record, Chunk):
                    inner = list(breakup_chunk(record, validate_crc=True))
                    recording.chunks += 1
                for item in inner:
                    if isinstance(item, Schema):
                        schemas[item.id] = item.name
                    elif isinstance(item, Channel):
                        channels[item.id] = item
                    elif isinstance(item, Metadata):
                        recording.metadata.update(item.metadata)
                    elif isinstance(item, Message):
                        channel = channels[item.channel_id]
                        if topics is None or channel.topic in topics:
                            name = schemas[channel.schema_id]
                            stamp_s = item.log_time * 1e-9
                            yield RecordedMessage(channel.topic, name, stamp_s, item.data)
                    elif isinstance(item, Footer):
                        recording.complete = True
                good = stream.tell()
        except InvalidMagic:
            if not recording.complete:
                raise RecordingError(f"{path}: not an MCAP recording") from None
        except (EndOfFile, struct.error) as error:
            if good == 0 and size < 8:
                raise RecordingError(f"{path}: not an MCAP recording, {size} bytes") from error
            recording.note = f"cut off: read {good} of {size} bytes, {recording.chunks} chunks"
        except (McapError, CRCValidationError, zstandard.ZstdError, KeyError, ValueError) as error:
            recording.note = f"damaged after {good} of {size} bytes: {error}"
    if recording.note:
        recording.complete = False
