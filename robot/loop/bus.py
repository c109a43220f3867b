"""What a process publishes and hears: topics within it, and links to others. No daemon."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import RLock
from typing import Any

from robot.loop.link import Link
from robot.loop.mailbox import Mailbox, Packet
from robot.loop.typestore import encode

Wanted = Callable[[str], bool]


class Bus:
    """The topics of one process; several of its threads may publish, one may pump.

    Args:
        name: of the process.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.links: dict[str, Link] = {}
        self._wanted: dict[str, Wanted] = {}
        self._readers: list[tuple[Wanted, Mailbox, bool]] = []
        self._lock = RLock()
        self._taps: list[Callable[[Packet], object]] = []

    def attach(self, name: str, link: Link, wanted: Wanted = lambda _: True) -> None:
        """Everything published here on a wanted topic goes out over ``link`` as well."""
        self.links[name] = link
        self._wanted[name] = wanted

    def subscribe(self, topics: Iterable[str] | Wanted, own: bool = True) -> Mailbox:
        """A mailbox for some topics, published by others or, if ``own``, here."""
        wanted = topics if callable(topics) else frozenset(topics).__contains__
        mailbox = Mailbox()
        self._readers.append((wanted, mailbox, own))
        return mailbox

    def tap(self, take: Callable[[Packet], object]) -> None:
        """Let ``take`` see every packet as it comes by: a recorder, say."""
        self._taps.append(take)

    def publish(self, topic: str, message: Any, stamp_s: float) -> None:
        """Send a message to whoever wants its topic."""
        self.pass_on(Packet(topic, message.__msgtype__, stamp_s, encode(message)))

    def pass_on(self, packet: Packet) -> None:
        """Send what is encoded already."""
        with self._lock:
            for name, link in self.links.items():
                if self._wanted[name](packet.topic):
                    link.send(packet)
            self.deliver(packet, True)

    def deliver(self, packet: Packet, from_here: bool = False) -> None:
        """To the readers of this process alone."""
        for wanted, mailbox, own in self._readers:
            if (own or not from_here) and wanted(packet.topic):
                mailbox.put(packet)
        for take in self._taps:
            take(packet)

    def pump(self, timeout_s: float = 0.0) -> bool:
        """Take in what others sent and send what is left; True if anything came.

        Args:
            timeout_s: wait so long for something to come; 0 does not wait.
        """
        links = [link for link in self.links.values() if link.open]
        if timeout_s > 0 and links:
            writing = [link for link in links if link.waiting]
            try:
                ready, _, _ = select.select(links, writing, [], timeout_s)
            except (OSError, ValueError):  # one was closed meanwhile, by another thread: it is gone
                ready = links
            links = [link for link in links if link.open and (link in ready or link in writing)]
        came = False
        with self._lock:
            for link in links:
                if link.waiting:
                    link.flush()
                for packet in link.receive():
                    came = True
                    self.deliver(packet)
        return came

    def settle(self) -> None:
        """Wait until everything sent has been taken: a barrier, in simulated time only."""
        while writing := [k for k in self.links.values() if k.open and k.waiting]:
            with suppress(OSError, ValueError):
                select.select([], writing, [], 1.0)
            with self._lock:
                for link in writing:
                    link.flush()

    @property
    def gone(self) -> list[str]:
        """Names of the processes whose link has closed."""
        return [name for name, link in self.links.items() if not link.open]

    def close(self) -> None:
        """Close every link."""
        with self._lock:
            for link in self.links.values():
                link.close()
