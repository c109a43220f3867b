"""An empty loop of the same rate: what the machine itself makes of a fixed period."""

from __future__ import annotations

import os
from pathlib import Path

from robot.loop.bus import Bus
from robot.loop.clock import RealClock
from robot.loop.executor import be_urgent
from robot.loop.meter import Meter
from robot.loop.timing import timing_message
from robot.loop.topics import STOP, TIMING

_STAT = Path("/proc/stat")
_STOLEN = 8
"""Where a line of that file tells the stolen time, its name counted; see proc_stat(5)."""


def stolen_s() -> float:
    """Time of all processors that a virtual machine's host gave to others since it started, s.

    0 where there is no host, or it does not tell.
    """
    try:
        first = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
        return int(first[_STOLEN]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def pulse(bus: Bus, rate_hz: float) -> None:
    """Sleep from tick to tick until told to stop, and publish how well that went.

    It runs in the same class as the controller, so that the two can be compared. Beside it stands
    the share of the processors' time that the host took: no loop can be steadier than that.
    """
    be_urgent()
    clock, meter, period_s = RealClock(), Meter(1.0 / rate_hz), 1.0 / rate_hz
    stop = bus.subscribe([STOP])
    began_s = due_s = clock.now_s()
    stolen_before_s, cores = stolen_s(), os.cpu_count() or 1
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
            now_s = clock.now_s()
            stolen = (stolen_s() - stolen_before_s) / (cores * (now_s - began_s))
            figures = {**meter.told(), "stolen_share": round(stolen, 6)}
            bus.publish(TIMING, timing_message("machine", figures, now_s), 0.0)
