"""A window onto a running loop: whoever opens it sees every packet, and holds nobody up."""

from __future__ import annotations

import os
import select
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from robot.errors import SteadyhandError
from robot.loop.link import Link, LinkError
from robot.loop.mailbox import Packet


def folder() -> Path:
    """Where loops of this user put their sockets."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"steadyhand-{os.getuid()}"


class Window:
    """The loop's side: a socket that others connect to.

    Args:
        path: of the socket; one named after this process in :func:`folder` when None.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or folder() / f"loop-{os.getpid()}.sock"
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self.path.unlink()
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(str(self.path))
        self._door.listen(4)
        self._door.setblocking(False)
        self._guests: list[Link] = []
        # Whoever publishes shows; another thread admits.
        self._lock = threading.RLock()

    def admit(self) -> None:
        """Let in whoever knocked; see off who left."""
        with self._lock:
            with suppress(BlockingIOError):
                while True:
                    self._guests.append(Link(self._door.accept()[0], "guest"))
            for guest in self._guests:
                guest.receive()
                guest.flush()
            self._guests = [guest for guest in self._guests if guest.open]

    def show(self, packet: Packet) -> None:
        """Show a packet; a guest that does not keep up with what keeps all is seen off."""
        with self._lock:
            for guest in self._guests:
                try:
                    guest.send(packet)
                except LinkError:
                    guest.close()

    def close(self) -> None:
        """Close, and leave no socket behind."""
        with self._lock:
            self._door.close()
            for guest in self._guests:
                guest.close()
        with suppress(FileNotFoundError):
            self.path.unlink()


def look_in(path: Path | None = None, duration_s: float | None = None) -> Iterator[Packet]:
    """Packets of a running loop, as they come, for ``duration_s`` or until it ends.

    Args:
        path: of its socket; the newest one of this user when None.
        duration_s: None does not end.

    Raises:
        SteadyhandError: no loop is running.
    """
    link = _connect(path)
    end_s = None if duration_s is None else time.monotonic() + duration_s
    try:
        while link.open and (end_s is None or time.monotonic() < end_s):
            select.select([link], [], [], 0.1)
            yield from link.receive()
    finally:
        link.close()


def _connect(path: Path | None) -> Link:
    known = [path] if path else sorted(folder().glob("*.sock"), key=lambda p: p.stat().st_mtime)
    for candidate in reversed(known):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(candidate))
        except OSError:
            sock.close()
            continue
        return Link(sock, "loop")
    raise SteadyhandError(
        f"no loop is running: {path or folder()} has no socket that answers; start one with: "
        "steadyhand loop"
    )
