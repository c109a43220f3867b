"""Bounded queues between who sends and who reads, each with a stated policy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

from robot.loop.topics import topic
from robot.loop.typestore import decode


@dataclass(frozen=True)
class Packet:
    """A message on its way: CDR bytes, decoded by who reads them."""

    topic: str
    type_name: str
    stamp_s: float
    data: bytes

    @cached_property
    def message(self) -> Any:
        """As an instance of its message class."""
        return decode(self.data, self.type_name)


class Mailbox:
    """Packets of any topics in the order they came; each topic's own policy holds.

    Attributes:
        lost: how many packets of topics that keep the newest had to go.
    """

    def __init__(self) -> None:
        self._queue: deque[Packet] = deque()
        self._count: dict[str, int] = {}
        self._lock = Lock()
        self.lost = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, packet: Packet) -> bool:
        """Add a packet; False if a topic that keeps all was full: a fault, to who sends."""
        stated, name = topic(packet.topic), packet.topic
        with self._lock:
            waiting = self._count.get(name, 0)
            if waiting >= stated.depth:
                if stated.keep == "all":
                    return False
                self._drop(name)
                self.lost += stated.keep == "newest"
                waiting -= 1
            self._queue.append(packet)
            self._count[name] = waiting + 1
        return True

    def get(self) -> Packet | None:
        """The oldest packet, or None."""
        with self._lock:
            if not self._queue:  # asked here: another thread may take the last one
                return None
            packet = self._queue.popleft()
            self._count[packet.topic] -= 1
        return packet

    def _drop(self, name: str) -> None:
        for i, packet in enumerate(self._queue):
            if packet.topic == name:
                del self._queue[i]
                return
