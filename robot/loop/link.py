"""A connection between two processes that never makes its sender wait."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from robot.errors import SteadyhandError
from robot.loop.mailbox import Mailbox, Packet

_HEAD = struct.Struct("<IHHd")
_BUFFER_BYTES = 4 * 1024 * 1024
_SO_SNDBUFFORCE = 32  # of Linux; allowed to root only


class LinkError(SteadyhandError):
    """The other end is gone, or does not read what must not be lost."""


class Link:
    """One end of a socket pair; packets go out through a :class:`Mailbox`.

    ``send`` puts a packet into the mailbox and hands to the system what it takes at once. What it
    does not take stays, by each topic's policy: a slow reader costs the sender neither time nor
    memory without end.

    Args:
        sock: of :meth:`pair`.
        name: of the other end, for messages.
    """

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.name = name
        self.sock = sock
        sock.setblocking(False)
        for kind in (_SO_SNDBUFFORCE, socket.SO_SNDBUF):
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, kind, _BUFFER_BYTES)
                break
        self._out = Mailbox()
        self._rest = memoryview(b"")
        self._in = bytearray()
        self.open = True

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Two sockets, one for each process; they may go to a process that is started."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def fileno(self) -> int:
        """For ``select``."""
        return self.sock.fileno()

    @property
    def lost(self) -> int:
        """Packets that had to go because the reader was slow."""
        return self._out.lost

    @property
    def waiting(self) -> bool:
        """Whether something is left to send."""
        return bool(self._rest) or len(self._out) > 0

    def send(self, packet: Packet) -> None:
        """Send, or keep until ``flush``.

        Raises:
            LinkError: the queue of a topic that keeps all is full.
        """
        if not self.open:
            return
        if not self._out.put(packet):
            raise LinkError(f"{self.name}: does not read {packet.topic}: its queue is full")
        self.flush()

    def flush(self) -> None:
        """Hand on what the system takes at once."""
        while self.open:
            if not self._rest:
                packet = self._out.get()
                if packet is None:
                    return
                self._rest = memoryview(_framed(packet))
            try:
                sent = self.sock.send(self._rest)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._rest = self._rest[sent:]

    def receive(self) -> list[Packet]:
        """The whole packets that have come so far; none where nothing did."""
        while self.open:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.close()
                break
            self._in += data
            if len(data) < 1 << 16:
                break
        return self._whole() if len(self._in) >= _HEAD.size else []

    def close(self) -> None:
        """Let go; the other end notices."""
        self.open = False
        with suppress(OSError):
            self.sock.close()

    def _whole(self) -> list[Packet]:
        found, at, buffer = [], 0, self._in
        while len(buffer) - at >= _HEAD.size:
            size, topic_size, type_size, stamp_s = _HEAD.unpack_from(buffer, at)
            start = at + _HEAD.size
            end = start + topic_size + type_size + size
            if len(buffer) < end:
                break
            topic = buffer[start : start + topic_size].decode()
            middle = start + topic_size + type_size
            type_name = buffer[start + topic_size : middle].decode()
            found.append(Packet(topic, type_name, stamp_s, bytes(buffer[middle:end])))
            at = end
        if at:
            del buffer[:at]
        return found


def _framed(packet: Packet) -> bytes:
    topic, type_name = packet.topic.encode(), packet.type_name.encode()
    head = _HEAD.pack(len(packet.data), len(topic), len(type_name), packet.stamp_s)
    return b"".join((head, topic, type_name, packet.data))
