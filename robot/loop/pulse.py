"""An empty loop of the same rate: what the machine itself makes of a fixed period."""

from __future__ import annotations

from robot.loop.bus import Bus
from robot.loop.clock import RealClock
from robot.loop.meter import Meter
from robot.loop.timing import timing_message
from robot.loop.topics import STOP, TIMING


def pulse(bus: Bus, rate_hz: float) -> None:
    """Sleep from tick to tick until told to stop, and publish how well that went."""
    clock, meter, period_s = RealClock(), Meter(1.0 / rate_hz), 1.0 / rate_hz
    stop = bus.subscribe([STOP])
    due_s = clock.now_s()
    tick = 0
    while not len(stop) and not bus.gone:
        due_s += period_s
        clock.sleep_until(due_s)
        meter.begin(clock.late_s)
        meter.end()
        if clock.late_s > period_s:
            due_s += clock.late_s
        tick += 1
        if tick % round(rate_hz) == 0:
            bus.pump()
            bus.publish(TIMING, timing_message("machine", meter.told(), clock.now_s()), 0.0)
