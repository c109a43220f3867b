"""The loop's topics on DDS, and what DDS may ask of the loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from robot.dds.port import DdsConfig, DdsPort
from robot.loop.mailbox import Mailbox, Packet
from robot.loop.process import wanted
from robot.loop.publisher import DIAGNOSTICS, JOINT_STATES, OBJECTS, TF
from robot.loop.topics import ESTOP, PICK_ACTION, TARGET, TOPICS, feedback_topic

OUT = (JOINT_STATES, TF, DIAGNOSTICS, OBJECTS, feedback_topic(PICK_ACTION), "/camera/*")
"""What goes out unless told otherwise."""
IN = (TARGET, ESTOP)
"""What comes in."""


_log = logging.getLogger(__name__)


class Bridge:
    """Passes packets between a bus and DDS in a thread of its own: a slow network holds nobody up.

    Args:
        take: gets every packet that came in; it is called from the bridge's thread.
        config: where on the wire.
        out: topics that go out; a trailing ``*`` stands for the rest of a name.
    """

    def __init__(
        self,
        take: Callable[[Packet], object],
        config: DdsConfig | None = None,
        out: Iterable[str] = OUT,
    ) -> None:
        self.port = DdsPort(config)
        self.sent = self.received = 0
        self._take, self._wanted = take, wanted(tuple(out))
        self._outbox = Mailbox()
        self._readers = [(t, self.port.subscribe(t, TOPICS[t].type_name)) for t in IN]
        self._there = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)
        self._thread.start()

    def show(self, packet: Packet) -> None:
        """Let a packet out, if its topic goes out; never waits."""
        if self._wanted(packet.topic):
            self._outbox.put(packet)
            self._there.set()

    def close(self) -> None:
        """End; what waits to go out still goes."""
        self._ended.set()
        self._there.set()
        self._thread.join(5.0)
        self.port.close()

    def _run(self) -> None:
        while True:
            self._there.wait(0.01)
            self._there.clear()
            while (packet := self._outbox.get()) is not None:
                self.port.publish(packet.topic, packet.type_name, packet.data)
                self.sent += 1
            for topic, reader in self._readers:
                for data in reader.take():
                    self.received += 1
                    try:
                        self._take(Packet(topic, TOPICS[topic].type_name, 0.0, data))
                    except Exception:  # what comes next may be an emergency stop
                        _log.exception("what came on %s was not taken", topic)
            if self._ended.is_set():
                return
