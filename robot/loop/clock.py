"""Time: real, or a simulated clock held to the wall's pace."""

from __future__ import annotations

import math
import time

from robot.interface import Clock

_BEHIND_S = 1.0 / 240.0


class RealClock:
    """The machine's own clock.

    Args:
        at_s: what it shows at its start: the stamp of an arm that stamps by a clock of its own.
    """

    def __init__(self, at_s: float = 0.0) -> None:
        self._start_s = time.perf_counter() - at_s
        self.late_s = 0.0

    def now_s(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._start_s

    def sleep_until(self, time_s: float) -> None:
        """Return at ``time_s``, or at once when it has passed."""
        wait_s = time_s - self.now_s()
        if wait_s > 0:
            time.sleep(wait_s)
        self.late_s = self.now_s() - time_s


class FollowingClock(RealClock):
    """The clock of an arm that stamps by one of its own: it follows the stamps, slowly.

    Stamps come late by more or less, so of each window the one that came earliest counts: this
    clock is brought to show what it says, by no more than a share of the time that passes. Time
    never goes back.

    Args:
        at_s: the first stamp.
        window_s: s of the wall.
        most: the share; two clocks of quartz differ by less than a tenth of it.
    """

    def __init__(self, at_s: float, window_s: float = 1.0, most: float = 5e-4) -> None:
        super().__init__(at_s)
        self._window_s, self._most = window_s, most
        self._heard_s, self._wall_s = at_s, time.perf_counter()
        self._begun_s, self._ahead_s, self._aim_s = self._wall_s, -math.inf, 0.0

    def heard(self, stamp_s: float) -> None:
        """The arm was heard; each stamp counts once."""
        if stamp_s == self._heard_s:
            return
        wall_s = time.perf_counter()
        most_s = self._most * (wall_s - self._wall_s)
        part_s = min(max(self._aim_s, -most_s), most_s)
        self._start_s -= part_s
        self._aim_s -= part_s
        self._heard_s, self._wall_s = stamp_s, wall_s
        self._ahead_s = max(self._ahead_s, stamp_s - (wall_s - self._start_s))
        if wall_s - self._begun_s >= self._window_s:
            self._aim_s, self._ahead_s, self._begun_s = self._ahead_s, -math.inf, wall_s


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
