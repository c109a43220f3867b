"""The loop's processes: each has a bus, links to some of the others, and one thing to do."""

from __future__ import annotations

import multiprocessing
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from robot.errors import SteadyhandError
from robot.loop import messages
from robot.loop.bus import Bus
from robot.loop.link import Link, LinkError
from robot.loop.publisher import EVENTS
from robot.loop.topics import STOP

_START_S = 120.0
FAILED = "failed: "
"""With this an event begins that tells why a process ended."""


@dataclass(frozen=True)
class Part:
    """A process.

    Attributes:
        name: of it.
        run: called in it with its bus and ``setup``; returns when it is done.
        setup: whatever ``run`` needs; it must be picklable.
        links: other process's name to the topics that go to it, a trailing ``*`` standing for the
            rest of a name.
    """

    name: str
    run: Callable[[Bus, Any], None]
    setup: Any
    links: Mapping[str, tuple[str, ...]]


def wanted(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a topic is among names, or begins as one that ends in ``*``."""
    exact = frozenset(p for p in patterns if not p.endswith("*"))
    starts = tuple(p[:-1] for p in patterns if p.endswith("*"))
    return lambda topic: topic in exact or topic.startswith(starts)


class Processes:
    """Starts parts, links them with each other and with this process, and ends them.

    Args:
        bus: of this process; its name is the one that parts link to.
        parts: to start.
        to: part's name to the topics that this process sends to it; as for :class:`Part`.
    """

    def __init__(self, bus: Bus, parts: Iterable[Part], to: Mapping[str, tuple[str, ...]]) -> None:
        self.bus = bus
        self._running: dict[str, Any] = {}
        parts = list(parts)
        here = Part(bus.name, _nothing, None, to)
        ends = _ends([here, *parts])
        # One clean process imports what the parts need, and is forked for each of them.
        context = multiprocessing.get_context("forkserver")
        modules = {part.run.__module__ for part in parts}
        context.set_forkserver_preload(["robot.loop.preload", *sorted(modules)])
        for part in parts:
            mine = ends[part.name]
            process = context.Process(
                target=_run, args=(part, mine), name=f"steadyhand {part.name}", daemon=True
            )
            process.start()
            for sock in mine.values():
                sock.close()
            self._running[part.name] = process
        for other, sock in ends[bus.name].items():
            bus.attach(other, Link(sock, other), wanted(to.get(other, ())))

    @property
    def dead(self) -> list[str]:
        """Names of the parts whose process has ended."""
        return [name for name, process in self._running.items() if process.exitcode is not None]

    def pid(self, name: str) -> int:
        """Of a part's process."""
        return int(self._running[name].pid or -1)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask every part to end; kill those that do not."""
        with suppress(LinkError):
            self.bus.publish(STOP, messages.string("end"), 0.0)
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s and len(self.dead) < len(self._running):
            self.bus.pump(0.05)
        for process in self._running.values():
            if process.exitcode is None:
                process.kill()
            process.join(1.0)
        self.bus.pump()
        self.bus.close()


def _ends(parts: list[Part]) -> dict[str, dict[str, socket.socket]]:
    """For each part its ends of the sockets to others: one pair where either sends to the other."""
    ends: dict[str, dict[str, socket.socket]] = {part.name: {} for part in parts}
    for part in parts:
        for other in part.links:
            if other in ends and other not in ends[part.name]:
                ends[part.name][other], ends[other][part.name] = Link.pair()
    return ends


def _nothing(bus: Bus, setup: Any) -> None:
    del bus, setup


def _run(part: Part, sockets: dict[str, socket.socket]) -> None:

    import faulthandler

    faulthandler.register(signal.SIGUSR2, all_threads=True)  # DEBUG
    # An interrupt from the keyboard goes to everybody; who stops the others decides when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bus = Bus(part.name)
    for other, sock in sockets.items():
        bus.attach(other, Link(sock, other), wanted((*part.links.get(other, ()), EVENTS)))
    try:
        part.run(bus, part.setup)
    except SteadyhandError as error:
        with suppress(LinkError):
            bus.publish(EVENTS, messages.string(f"{FAILED}{part.name}: {error}"), 0.0)
            bus.settle()
    finally:
        bus.close()
