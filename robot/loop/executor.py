"""Runs nodes at their own rates on one clock, and measures how well it keeps them."""

from __future__ import annotations

import gc
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from robot.errors import ConfigError
from robot.loop.meter import Meter

_FIRST, _NEXT = 10, 5  # of the 99 priorities of the real-time class
_WAKING = Path("/dev/cpu_dma_latency")


class Node(Protocol):
    """Does its part of the loop, at its own rate."""

    name: str
    rate_hz: float

    def step(self, now_s: float) -> None:
        """One step at ``now_s`` of the loop's clock."""


class Beat(Protocol):
    """What ends a tick: waits for the next one."""

    def advance(self) -> None:
        """Return when the next tick is due."""

    def late_s(self) -> float:
        """How late that was, s of the wall."""

    def now_s(self) -> float:
        """The loop's clock."""


class Executor:
    """A fixed-rate loop over nodes.

    Args:
        beat: of the loop.
        rate_hz: of the loop; each node's own rate must divide it.
        nodes: in the order in which they run within a tick.

    Raises:
        ConfigError: a node's rate does not divide the loop's.
    """

    def __init__(self, beat: Beat, rate_hz: float, nodes: Sequence[Node]) -> None:
        self.beat = beat
        self.rate_hz = rate_hz
        self.tick = 0
        self.stopped = False
        self.meter = Meter(1.0 / rate_hz)
        self._nodes = [(_every(node, rate_hz), node) for node in nodes]

    def run(self) -> None:
        """Tick until ``stopped`` is set by a node."""
        late_s = 0.0
        while not self.stopped:
            self.meter.begin(late_s)
            now = self.beat.now_s()
            for every, node in self._nodes:
                if self.tick % every == 0:
                    node.step(now)
            self.meter.end()
            self.beat.advance()
            self.tick += 1
            late_s = self.beat.late_s()


def _every(node: Node, rate_hz: float) -> int:
    every = rate_hz / node.rate_hz
    if every < 1 or abs(every - round(every)) > 1e-6:
        raise ConfigError(
            f"node {node.name}: {node.rate_hz:g} Hz does not divide the loop's {rate_hz:g} Hz"
        )
    return round(every)


def be_urgent() -> bool:
    """Let the system run this process before others where it may; no pauses to collect garbage.

    The process's other threads come right after the calling one: if one of them had to wait for a
    processor while it holds the interpreter's lock, the caller would wait with it.

    Returns:
        Whether the real-time class was granted (it needs root or CAP_SYS_NICE).
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_FIRST))
        for thread in threading.enumerate():
            if thread.native_id not in (None, threading.get_native_id()):
                os.sched_setscheduler(thread.native_id, os.SCHED_FIFO, os.sched_param(_NEXT))
        return True
    with suppress(OSError):
        os.nice(-10)
    return False


@contextmanager
def kept_awake(device: Path = _WAKING) -> Iterator[bool]:
    """Ask the system to let no processor sleep deeply meanwhile, where it may be asked.

    A processor that sleeps takes its time to wake; a virtual one has to be given back by its host
    first, which takes milliseconds where the host is busy. The file is Linux's own means
    (kernel documentation, "PM Quality Of Service Interface"): what is written, the longest that
    waking may take (µs, 32 bits), holds as long as the file is open. It costs power.

    Args:
        device: the file.

    Yields:
        Whether the system took it (it needs root, or the right to write the file).
    """
    with ExitStack() as held:
        try:
            file = held.enter_context(device.open("r+b", buffering=0))
            file.write(struct.pack("i", 0))
        except OSError:
            yield False
        else:
            yield True
