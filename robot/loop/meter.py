"""What a fixed-rate loop does with its time: period, jitter, work, misses; and latencies."""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np

EDGES_S = tuple(float(f"{v:.3g}") for v in np.geomspace(2e-6, 5.0, 160))
"""Upper edges of the histograms' bins: 10 % apart, so that quantiles are as good as that."""


@dataclass
class Histogram:
    """Times in bins that grow geometrically: constant memory however long it runs."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(EDGES_S) + 1))
    count: int = 0
    total_s: float = 0.0
    max_s: float = 0.0

    def add(self, value_s: float) -> None:
        """Count one."""
        self.counts[bisect_left(EDGES_S, value_s)] += 1
        self.count += 1
        self.total_s += value_s
        if value_s > self.max_s:
            self.max_s = value_s

    def quantile(self, share: float) -> float:
        """The upper edge of the bin that holds the quantile, s; 0 when empty."""
        if not self.count:
            return 0.0
        left = max(share * self.count, 1e-6)
        for edge, count in zip((*EDGES_S, self.max_s), self.counts, strict=True):
            left -= count
            if left <= 1e-9:
                return min(edge, self.max_s)
        return self.max_s

    def told(self) -> dict[str, float]:
        """Milliseconds, for people and for programs."""
        values = {"p50": self.quantile(0.5), "p99": self.quantile(0.99), "max": self.max_s}
        return {f"{name}_ms": round(1e3 * value, 4) for name, value in values.items()}


class Meter:
    """Measures a loop of a fixed period.

    A tick's deadline is the next tick's beginning: a tick whose work ends later has missed it. An
    overrun is a tick whose work alone takes longer than the period, whenever it began.

    Args:
        period_s: of the loop.
    """

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.period, self.jitter, self.work = Histogram(), Histogram(), Histogram()
        self.ticks = self.missed = self.overruns = 0
        self._began_s: float | None = None

    def begin(self, late_s: float) -> None:
        """A tick begins, ``late_s`` after it was due (s of the wall)."""
        now = time.perf_counter()
        if self._began_s is not None:
            self.period.add(now - self._began_s)
        self._began_s, self._late_s = now, max(late_s, 0.0)
        self.jitter.add(self._late_s)

    def end(self) -> None:
        """Its work is done."""
        if self._began_s is None:
            return
        work_s = time.perf_counter() - self._began_s
        self.work.add(work_s)
        self.ticks += 1
        self.overruns += work_s > self.period_s
        self.missed += self._late_s + work_s > self.period_s

    def pause(self) -> None:
        """What comes next is not one period after what was."""
        self._began_s = None

    def told(self) -> dict[str, float | int | dict[str, float]]:
        """All figures so far."""
        return {
            "ticks": self.ticks,
            "missed": self.missed,
            "missed_share": self.missed / self.ticks if self.ticks else 0.0,
            "overruns": self.overruns,
            "period": self.period.told(),
            "jitter": self.jitter.told(),
            "work": self.work.told(),
        }
