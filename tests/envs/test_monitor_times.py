"""How long the monitors take: what is measured, not how much."""

from __future__ import annotations

import math

from envs.faults.timing import time_monitors
from robot.safety.suite import NAMES


def test_all_calls_each_ticks_fastest_and_each_monitors_own_are_told():
    times = time_monitors(500)
    assert len(times.whole) == 500
    # The first calls are of the pick's first ticks, and none is below its tick's fastest.
    assert all(least <= taken for least, taken in zip(times.least, times.whole, strict=False))
    assert all(0.0 < least < math.inf for least in times.least)
    assert set(times.each) == set(NAMES)
    assert {len(own) for own in times.each.values()} == {len(times.least)}
