"""Simulated time: sleeping steps the world."""

from __future__ import annotations

from collections.abc import Callable

from envs.world import World


class SimClock:
    """A ``Clock`` over a world; as fast as it goes.

    Args:
        world: advances while somebody sleeps.
        on_tick: called after each advance with the new time, s: a film's camera, say.
    """

    def __init__(self, world: World, on_tick: Callable[[float], None] | None = None) -> None:
        self._world = world
        self.on_tick = on_tick

    def now_s(self) -> float:
        """Simulated seconds since the world's reset."""
        return self._world.time_s

    def sleep_until(self, time_s: float) -> None:
        """Step the world until ``time_s``."""
        ticks = round((time_s - self._world.time_s) / self._world.config.tick_s)
        if ticks > 0:
            self._world.step(ticks)
            if self.on_tick is not None:
                self.on_tick(self._world.time_s)
