"""Hands an emergency stop over from a signal handler or any thread to a thread that may wait."""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

_log = logging.getLogger(__name__)


class Alarm:
    """``press`` takes no lock and never waits; ``send`` is called in a thread of its own.

    A signal handler interrupts its thread anywhere, also while that holds the very locks that
    sending takes; so it only leaves the reason, and wakes who sends it.

    Args:
        send: called with the reason of each press.
    """

    def __init__(self, send: Callable[[str], object]) -> None:
        self._send = send
        self._reasons: deque[str] = deque()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="alarm", daemon=True)
        self._thread.start()

    def press(self, reason: str) -> None:
        """Have ``send`` called; after :meth:`close` nothing happens."""
        self._reasons.append(reason)
        with suppress(OSError):  # a full bell wakes as well; a closed one has nobody to wake
            self._bell.send(b"!")

    def close(self) -> None:
        """End; what was pressed before is still sent."""
        self._bell.close()
        self._thread.join(5.0)
        self._ear.close()

    def _run(self) -> None:
        while True:
            ended = not self._ear.recv(64)
            while self._reasons:
                try:
                    self._send(self._reasons.popleft())
                except Exception:  # the next one may get through
                    _log.exception("an emergency stop was not sent")
            if ended:
                return
