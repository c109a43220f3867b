"""The recorder's node: puts what several processes send into the order of their stamps."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from robot.loop.mailbox import Packet
from robot.loop.messages import nanoseconds
from robot.loop.recorder import Recorder

_Key = tuple[int, str, int]


class Logbook:
    """Writes packets into a recording, ordered by stamp and topic.

    Processes are read one after the other, so what they sent at the same time comes in any order.
    Each packet waits until the newest stamp is ``wait_s`` further; in simulated time, where nobody
    is ever behind by that much, the same seed then gives the same file.

    Args:
        recorder: writes; it never raises.
        leave_out: topics that are not recorded, such as figures of the wall's clock.
        wait_s: on the loop's clock.
    """

    def __init__(
        self,
        recorder: Recorder,
        leave_out: Callable[[str], bool] = lambda topic: False,
        wait_s: float = 0.5,
    ) -> None:
        self.recorder = recorder
        self._leave_out = leave_out
        self._wait_ns = nanoseconds(wait_s)
        self._heap: list[tuple[_Key, Packet]] = []
        self._counts: dict[str, int] = {}
        self._newest_ns = 0

    def take(self, packet: Packet) -> None:
        """Keep a packet until it is its turn."""
        if self._leave_out(packet.topic) or self.recorder.failed is not None:
            return
        when = nanoseconds(packet.stamp_s)
        count = self._counts[packet.topic] = self._counts.get(packet.topic, 0) + 1
        heapq.heappush(self._heap, ((when, packet.topic, count), packet))
        self._newest_ns = max(self._newest_ns, when)

    def write(self) -> None:
        """Write what nothing can come before any more."""
        self._write(self._newest_ns - self._wait_ns)

    def close(self) -> None:
        """Write the rest, and finish the file."""
        self._write(self._newest_ns + 1)
        self.recorder.close()

    def _write(self, before_ns: int) -> None:
        heap = self._heap
        while heap and heap[0][0][0] < before_ns:
            _, packet = heapq.heappop(heap)
            self.recorder.write_encoded(packet.topic, packet.type_name, packet.data, packet.stamp_s)
