"""What the robot does by itself where nobody commands it any more."""

from __future__ import annotations

import math
from collections.abc import Callable


class Watchdog:
    """Calls for a stop at a tick of the world, unless it is put off before."""

    def __init__(self) -> None:
        self._on_quiet: Callable[[], None] | None = None
        self.until_tick: float = math.inf

    def put_off(self, until_tick: float, on_quiet: Callable[[], None]) -> None:
        """Call ``on_quiet`` before the tick of that number, once."""
        self.until_tick, self._on_quiet = until_tick, on_quiet

    def rest(self) -> None:
        """Wait for nothing."""
        self.until_tick = math.inf

    def bark(self) -> None:
        """The time has come."""
        self.rest()
        if self._on_quiet is not None:
            self._on_quiet()
