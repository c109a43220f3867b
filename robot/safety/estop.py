"""The emergency stop: from the API, from a signal, from the command line.

``steadyhand estop`` finds a running arm by the file that :class:`EStop` leaves, and sends it
SIGUSR1; so can anything else (``kill -USR1 PID``).
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from robot.errors import SafetyError

SIGNAL = signal.SIGUSR1


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"steadyhand-{os.getuid()}"


class EStop:
    """Ties SIGUSR1 to what stops an arm while it runs; use it in a ``with``.

    Args:
        stop: called with the reason: ``Supervisor.estop``, or what reaches one elsewhere.
    """

    def __init__(self, stop: Callable[[str], object]) -> None:
        self._stop = stop
        self._file = _folder() / str(os.getpid())

    def __enter__(self) -> EStop:
        self._before = signal.signal(SIGNAL, self._pressed)
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file.touch()
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(SIGNAL, self._before)
        self._file.unlink(missing_ok=True)

    def _pressed(self, number: int, frame: FrameType | None) -> None:
        self._stop(f"signal {signal.Signals(number).name}")


def running() -> list[int]:
    """Process ids of the arms that run on this machine, for this user."""
    found = []
    for file in sorted(_folder().glob("*")) if _folder().is_dir() else []:
        if not file.name.isdigit():  # somebody else's
            continue
        if _alive(int(file.name)):
            found.append(int(file.name))
        else:
            file.unlink(missing_ok=True)
    return found


def press(pid: int | None = None) -> list[int]:
    """Halt the arm of a process, or all that run; returns whom it told.

    Raises:
        SafetyError: none runs.
    """
    targets = running()
    if pid is not None:
        targets = [p for p in targets if p == pid]
    if not targets:
        raise SafetyError("estop: no arm runs here" if pid is None else f"estop: no arm in {pid}")
    for target in targets:
        os.kill(target, SIGNAL)
    return targets


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
