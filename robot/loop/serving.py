"""The loop of a process that only answers: take in packets, do what they ask, until the end."""

from __future__ import annotations

from collections.abc import Callable

from robot.loop.bus import Bus
from robot.loop.mailbox import Packet
from robot.loop.topics import STOP


def serve(bus: Bus, feed: Callable[[Packet], object], lockstep: bool, boss: str) -> None:
    """Feed every packet that comes to ``feed`` until told to stop.

    Args:
        bus: of the process.
        feed: takes a packet.
        lockstep: wait after each packet until everything sent has been taken.
        boss: without this process there is nothing left to do.
    """
    inbox = bus.subscribe(lambda topic: True, own=False)
    while boss not in bus.gone:
        packet = inbox.get()
        if packet is None:
            bus.pump(1.0)
            continue
        if packet.topic == STOP:
            return
        feed(packet)
        if lockstep:
            bus.settle()
