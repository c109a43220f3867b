"""What a person drives with: keys in a terminal or a window, a gamepad, or keys from a file.

A device gives one :class:`Command` a policy step. Live devices take a step's time to do so; that
is what makes the simulation run in real time.
"""

from __future__ import annotations

import errno
import os
import re
import select
import struct
import termios
import time
import tty
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from robot.errors import SteadyhandError

Word = Literal["", "finish", "discard", "quit"]


@dataclass(frozen=True)
class Command:
    """What a person asks for in one policy step.

    Attributes:
        motion: velocity along the grasp frame's x, y and z and turn about its z, in [-1, 1].
        open_by: change of the gripper's opening, in action units.
        toggle: close the gripper if it is open, or open it.
        word: end the episode and keep it, throw it away, or end altogether.
    """

    motion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    open_by: float = 0.0
    toggle: bool = False
    word: Word = ""


class Device(Protocol):
    """Where commands come from; a context manager that gives the device back."""

    def read(self) -> Command:
        """The command of the coming step."""

    def wait(self) -> Word:
        """Block until a word is said."""

    def __enter__(self) -> Device: ...

    def __exit__(self, *_: object) -> None: ...


SLOW, FAST = 0.15, 0.8
"""Speed of a small and of a capital letter, of what an action of 1 means."""

_MOTIONS: dict[str, tuple[int, int]] = {
    "w": (0, 1),
    "s": (0, -1),
    "a": (1, 1),
    "d": (1, -1),
    "f": (2, 1),
    "r": (2, -1),
    "j": (3, 1),
    "l": (3, -1),
}
_OPENINGS = {"]": 0.1, "[": -0.1}
_WORDS: dict[str, Word] = {"enter": "finish", "backspace": "discard", "q": "quit", "Q": "quit"}
KEYS = frozenset(_MOTIONS) | {k.upper() for k in _MOTIONS} | {" ", *_OPENINGS, *_WORDS}


def command_of(keys: Iterable[str]) -> Command:
    """The command of the keys that are down; unknown ones do nothing.

    ``w s`` x, ``a d`` y, ``f r`` down and up, ``j l`` turn (capitals are fast), space closes or
    opens, ``[ ]`` close and open a little, ``enter``, ``backspace``, ``q``.
    """
    motion = [0.0, 0.0, 0.0, 0.0]
    open_by, toggle = 0.0, False
    word: Word = ""
    for key in keys:
        if key.lower() in _MOTIONS:
            axis, sign = _MOTIONS[key.lower()]
            motion[axis] += sign * (SLOW if key.islower() else FAST)
        open_by += _OPENINGS.get(key, 0.0)
        toggle ^= key == " "
        word = word or _WORDS.get(key, "")
    x, y, z, turn = (min(max(m, -1.0), 1.0) for m in motion)
    return Command((x, y, z, turn), open_by, toggle, word)


class KeyFile:
    """Key presses from a file: a line is a step, as in ``wF``, and ``<enter>`` is a key by name.

    At the file's end it quits.

    Args:
        path: of the file; an empty line is a step without a key.

    Raises:
        SteadyhandError: it cannot be read, or a key is unknown.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise SteadyhandError(f"{path}: cannot be read: {reason}") from error
        self._steps = []
        for number, line in enumerate(lines, 1):
            keys = [k[1:-1] if len(k) > 1 else k for k in re.findall(r"<\w+>|.", line)]
            keys = [" " if k == "space" else k for k in keys]
            unknown = next((k for k in keys if k not in KEYS), None)
            if unknown is not None:
                raise SteadyhandError(f"{path}:{number}: there is no key {unknown!r}")
            self._steps.append(keys)
        self._at = 0

    def read(self) -> Command:
        """The next line."""
        if self._at >= len(self._steps):
            return Command(word="quit")
        self._at += 1
        return command_of(self._steps[self._at - 1])

    def wait(self) -> Word:
        """The next word in the file; what stands before it is left out."""
        while True:
            word = self.read().word
            if word:
                return word

    def __enter__(self) -> KeyFile:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Paced:
    """Lets a step pass in real time; late steps are not caught up with."""

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz
        self._due_s = 0.0

    def deadline_s(self) -> float:
        self._due_s = max(self._due_s + self._period_s, time.monotonic())
        return self._due_s


# A terminal tells presses, not releases: a key counts as down until its next repeat is overdue.
_HOLD_S = 0.12
_REPEAT_S = 0.75
_NAMED = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace"}


class Terminal:
    """Keys pressed in a terminal; needs no display and works over ssh.

    Args:
        fd: file descriptor of the terminal.
        rate_hz: steps a second.
        window: keys that are down in a window besides, by the same names.
    """

    def __init__(
        self, fd: int, rate_hz: float, window: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._fd, self._window = fd, window
        self._pace = _Paced(rate_hz)
        self._pressed_s: dict[str, float] = {}

    def read(self) -> Command:
        """The keys of a step."""
        fresh = self._collect(self._pace.deadline_s())
        now = time.monotonic()
        down = {
            key
            for key, at in self._pressed_s.items()
            if key.lower() in _MOTIONS and now - at < _HOLD_S
        }
        for key in fresh:
            # A space that is held down must not open and close in turn.
            if key != " " or now - self._pressed_s.get(key, -_REPEAT_S) >= _REPEAT_S:
                down.add(key)
            self._pressed_s[key] = now
        return command_of(sorted(down | set(self._window())))

    def wait(self) -> Word:
        """Block until a word is said."""
        while True:
            keys = [*self._collect(time.monotonic() + 0.1), *self._window()]
            word = command_of(keys).word
            if word:
                return word

    def _collect(self, until_s: float) -> set[str]:
        keys: set[str] = set()
        while True:
            left_s = until_s - time.monotonic()
            if not select.select([self._fd], [], [], max(left_s, 0.0))[0]:
                return keys
            data = os.read(self._fd, 1024)
            if not data:  # the terminal is gone
                return {"q"}
            keys |= {_NAMED.get(c, c) for c in data.decode("utf-8", "ignore")}

    def __enter__(self) -> Terminal:
        self._saved: list[Any] = termios.tcgetattr(self._fd)
        # Not raw: Ctrl-C must go on interrupting.
        tty.setcbreak(self._fd)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)


# The kernel's struct js_event: time in ms, value, type, number (linux/joystick.h).
_EVENT = struct.Struct("=IhBB")
_BUTTON, _AXIS, _INITIAL = 0x01, 0x02, 0x80
_DEAD = 0.12
# As the kernel's xpad driver numbers them: sticks 0 1 and 3 4, buttons A B X Y LB RB back start.
_AXES: dict[int, tuple[int, float]] = {1: (0, -1.0), 0: (1, -1.0), 4: (2, 1.0), 3: (3, -1.0)}
_BUTTONS: dict[int, str] = {0: " ", 1: "backspace", 4: "[", 5: "]", 6: "q", 7: "enter"}


class Gamepad:
    """A gamepad by the kernel's joystick interface.

    Left stick x and y, right stick down, up and turn, A closes or opens, LB and RB close and open
    a little, start keeps, B discards, back quits.

    Args:
        path: the device, as ``/dev/input/js0``.
        rate_hz: steps a second.

    Raises:
        SteadyhandError: it is not there, may not be read, or went away.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise SteadyhandError(f"{path}: cannot be opened: {error.strerror}") from error
        self._pace = _Paced(rate_hz)
        self._axes = [0.0, 0.0, 0.0, 0.0]
        self._down: set[str] = set()
        self._rest = b""

    def read(self) -> Command:
        """Sticks and buttons of a step."""
        time.sleep(max(self._pace.deadline_s() - time.monotonic(), 0.0))
        pressed = self._collect()
        said = command_of(sorted(pressed | (self._down & set(_OPENINGS))))
        x, y, z, turn = self._axes
        return Command((x, y, z, turn), said.open_by, said.toggle, said.word)

    def wait(self) -> Word:
        """Block until a word is said."""
        while True:
            time.sleep(0.05)
            word = command_of(sorted(self._collect())).word
            if word:
                return word

    def _collect(self) -> set[str]:
        """Take in the events that have come; which buttons were pressed since."""
        pressed: set[str] = set()
        while True:
            try:
                data = os.read(self._fd, 64 * _EVENT.size)
            except BlockingIOError:
                return pressed
            except OSError as error:
                gone = "went away" if error.errno == errno.ENODEV else str(error.strerror)
                raise SteadyhandError(
                    f"{self._path}: {gone}; finished episodes are kept"
                ) from error
            if not data:
                return pressed
            data = self._rest + data
            whole = len(data) - len(data) % _EVENT.size
            self._rest = data[whole:]
            for _, value, kind, number in _EVENT.iter_unpack(data[:whole]):
                self._take(value, kind, number, pressed)

    def _take(self, value: int, kind: int, number: int, pressed: set[str]) -> None:
        if kind & _AXIS and number in _AXES:
            axis, sign = _AXES[number]
            share = max(-1.0, min(1.0, value / 32767))
            beyond = max(abs(share) - _DEAD, 0.0) / (1.0 - _DEAD)
            self._axes[axis] = sign * (beyond if share > 0 else -beyond)
        elif kind & _BUTTON and number in _BUTTONS:
            key = _BUTTONS[number]
            if value:
                self._down.add(key)
                # What is down when the device is opened was not pressed for us.
                if not kind & _INITIAL:
                    pressed.add(key)
            else:
                self._down.discard(key)

    def __enter__(self) -> Gamepad:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
