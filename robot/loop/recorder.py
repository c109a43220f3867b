"""A recording: one MCAP file of CDR-encoded ROS 2 messages that never disturbs who writes it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mcap.writer import CompressionType, Writer

from robot.errors import RecordingError
from robot.loop.messages import nanoseconds
from robot.loop.typestore import definition, encode

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecorderConfig:
    """How a recording is written.

    Attributes:
        chunk_bytes: a chunk is finished, compressed and handed to the operating system once it
            holds this much; what a power cut costs is at most one chunk.
    """

    chunk_bytes: int = 128 * 1024


class _Sink:
    """An unbuffered file that is cut back when a write fails, so that it never ends mid-record."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data)
        done = 0
        try:
            while done < len(view):
                done += os.write(self._fd, view[done:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            raise
        self._size += done
        return done

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Recorder:
    """Writes messages into one MCAP file under its final name, chunk by chunk.

    A file that was cut anywhere reads up to its last finished chunk (see ``read_recording``).
    Once writing fails, for want of space or otherwise, the recording stops, ``failed`` says why,
    one warning is logged, and every later call returns at once: nothing is ever raised into a
    controller. Only making a recorder raises.

    Raises:
        RecordingError: the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        config: RecorderConfig | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Opens ``path``; ``metadata`` (seed, versions, ...) goes first and survives any cut."""
        self.path = Path(path)
        self.failed: str | None = None
        self.messages = 0
        self._size = 0
        self._channels: dict[str, tuple[int, str]] = {}
        self._schemas: dict[str, int] = {}
        self._sequence: dict[int, int] = {}
        config = config or RecorderConfig()
        try:
            self._sink: _Sink | None = _Sink(self.path)
        except OSError as error:
            raise RecordingError(f"{self.path}: {_say(error)}") from None
        self._writer = Writer(
            self._sink,  # type: ignore[arg-type]
            chunk_size=config.chunk_bytes,
            compression=CompressionType.ZSTD,
        )
        try:
            self._writer.start(profile="ros2", library="steadyhand")
            if metadata:
                text = {str(key): str(value) for key, value in metadata.items()}
                self._writer.add_metadata("steadyhand", text)
        except OSError as error:
            self._sink.close()
            if self.path.is_file():  # /dev/full is none
                self.path.unlink()
            raise RecordingError(f"{self.path}: {_say(error)}") from None

    @property
    def bytes_written(self) -> int:
        """Bytes that are in the file by now; what the open chunk holds is not among them."""
        return self._size

    @property
    def topics(self) -> dict[str, tuple[str, int]]:
        """Type and number of messages by topic."""
        return {
            topic: (type_name, self._sequence[channel])
            for topic, (channel, type_name) in self._channels.items()
        }

    def write(self, topic: str, message: Any, stamp_s: float) -> bool:
        """Add one message; returns False when the recording has stopped.

        Args:
            topic: e.g. ``/joint_states``; its type is that of the first message.
            message: an instance of a message class of ``robot.loop.typestore``.
            stamp_s: time since the clock's start, s; it is the message's log time.
        """
        if self._sink is None:
            return False
        # Whatever goes wrong in here, a full disk above all, must not reach the controller.
        try:
            data = encode(message)
        except Exception as error:
            self.fail(_say(error))
            return False
        return self.write_encoded(topic, message.__msgtype__, data, stamp_s)

    def write_encoded(self, topic: str, type_name: str, data: bytes, stamp_s: float) -> bool:
        """Add a message that is CDR already; as ``write``."""
        sink = self._sink
        if sink is None:
            return False
        try:
            channel = self._channel(topic, type_name)
            count = self._sequence[channel] = self._sequence[channel] + 1
            when = max(nanoseconds(stamp_s), 0)
            self._writer.add_message(channel, when, data, when, count)
            self.messages += 1
            self._size = sink.tell()
        except Exception as error:
            self.fail(_say(error))
            return False
        return True

    def fail(self, reason: str) -> None:
        """Stop the recording for ``reason``; the first reason stands."""
        if self._sink is None:
            return
        self.failed = reason
        _log.warning("recording %s stopped: %s", self.path, reason)
        self._release()

    def close(self) -> None:
        """Finish the file with its index; more than once is fine."""
        if self._sink is None:
            return
        try:
            self._writer.finish()
            self._size = self._sink.tell()
        except Exception as error:
            self.fail(_say(error))
        self._release()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _release(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            self._size = sink.tell()
            with suppress(OSError):
                sink.close()

    def _channel(self, topic: str, type_name: str) -> int:
        known = self._channels.get(topic)
        if known is not None:
            if known[1] != type_name:
                raise RecordingError(f"topic {topic} carries {known[1]}, not {type_name}")
            return known[0]
        if type_name not in self._schemas:
            text = definition(type_name).encode()
            self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", text)
        channel = self._writer.register_channel(topic, "cdr", self._schemas[type_name])
        self._channels[topic] = (channel, type_name)
        self._sequence[channel] = 0
        return channel


def _say(error: Exception) -> str:
    if isinstance(error, OSError):
        full = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
        return full.get(error.errno or 0, error.strerror or str(error))
    return f"{type(error).__name__}: {error}"
