"""Time: real, or a simulated clock held to the wall's pace."""

from __future__ import annotations

import time

from robot.interface import Clock

_BEHIND_S = 1.0 / 240.0


class RealClock:
    """The machine's own clock, from 0 at its start."""

    def __init__(self) -> None:
        self._start_s = time.perf_counter()
        self.late_s = 0.0

    def now_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start_s

    def sleep_until(self, time_s: float) -> None:
        """Return at ``time_s``, or at once when it has passed."""
        wait_s = time_s - self.now_s()
        if wait_s > 0:
            time.sleep(wait_s)
        self.late_s = self.now_s() - time_s


class PacedClock:
    """A simulated clock held to the wall's: its time runs ``speed`` times as fast, never faster.

    Where the machine falls behind by more than a tick, simulated time is late from then on rather
    than hurried: a controller that catches up would command bursts.

    Args:
        inner: steps the world.
        speed: simulated seconds in one of the wall's; 1 is real time.

    Attributes:
        late_s: how late the newest ``sleep_until`` returned, s of the wall.
        slipped_s: by how much simulated time has fallen behind the wall so far, s of the wall.
    """

    def __init__(self, inner: Clock, speed: float = 1.0) -> None:
        self.inner = inner
        self.speed = speed
        self.slipped_s = 0.0
        self.restart()

    def restart(self) -> None:
        """Begin to keep pace from now on."""
        self._wall_s = time.perf_counter()
        self._inner_s = self.inner.now_s()
        self.late_s = 0.0

    def now_s(self) -> float:
        """Simulated seconds."""
        return self.inner.now_s()

    def sleep_until(self, time_s: float) -> None:
        """Step the world to ``time_s``, then wait for the wall."""
        self.inner.sleep_until(time_s)
        due_s = self._wall_s + (time_s - self._inner_s) / self.speed
        wait_s = due_s - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        self.late_s = late_s = time.perf_counter() - due_s
        if late_s > _BEHIND_S / self.speed:
            self._wall_s += late_s
            self.slipped_s += late_s
