"""A parallel gripper that closes with force, and knows from its own fingers whether it holds.

Only the fingers' opening and force are read. Contact: the fingers have stopped on something before
they met, and press. Slip: while holding, they came closer than where contact was made.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from configs.load import bounded
from robot.errors import SteadyhandError
from robot.limits import GripperLimits
from robot.types import GripperCommand, GripperState


@dataclass(frozen=True)
class GripperConfig:
    """How the gripper is driven and what counts as a hold.

    Attributes:
        force_n: force to close with.
        force_limit_n: never more than this, whatever is asked; the robot's own limit still holds.
        contact_force_n: the fingers press at least this much when they hold.
        stalled_speed_m_s: the opening changes slower than this when the fingers have stopped;
            pressed fingers tremble, so it is the mean over the ticks below that counts.
        stalled_ticks: over so many ticks.
        closed_m: an opening at or below this is an empty hand.
        slip_m: the opening shrinks by more than this from where contact was made.
        tick_s: period at which the fingers are read.
    """

    force_n: float = bounded(40.0, 0.0, 140.0)
    force_limit_n: float = bounded(70.0, 0.0, 140.0)
    contact_force_n: float = bounded(3.0, 0.0, 140.0)
    stalled_speed_m_s: float = bounded(0.008, 0.0, 1.0)
    stalled_ticks: int = bounded(12, 1, 1000)
    closed_m: float = bounded(0.0015, 0.0, 0.08)
    slip_m: float = bounded(0.002, 0.0, 0.08)
    tick_s: float = bounded(1.0 / 240.0, 1e-4, 0.1)


class GripperController:
    """Turns a desired opening into a command, and finger readings into a state.

    Args:
        limits: of the gripper.
        config: see :class:`GripperConfig`.
    """

    def __init__(self, limits: GripperLimits, config: GripperConfig | None = None) -> None:
        self.limits = limits
        self.config = config if config is not None else GripperConfig()
        self.max_force_n = min(self.config.force_limit_n, limits.max_force_n)
        c = self.config
        self._stalled_m = c.stalled_speed_m_s * c.tick_s * c.stalled_ticks
        self.reset()

    def reset(self) -> None:
        """Forget the fingers' past: no contact, no slip."""
        self._openings_m: deque[float] = deque(maxlen=self.config.stalled_ticks + 1)
        self._contact_opening_m: float | None = None
        self._slip = False

    def command(self, opening_m: float, force_n: float | None = None) -> GripperCommand:
        """The command for a desired opening.

        Args:
            opening_m: cut to what the gripper can do. A NaN closes nothing and opens nothing: it
                raises, for the caller to hold the last command.
            force_n: to close with; the configured force when None; cut to the limit.

        Raises:
            SteadyhandError: the opening or the force is not a finite number, or the force is
                negative.
        """
        force = self.config.force_n if force_n is None else force_n
        if not math.isfinite(opening_m):
            raise SteadyhandError(f"gripper command: opening_m must be finite, got {opening_m}")
        if not math.isfinite(force) or force < 0:
            raise SteadyhandError(f"gripper command: force_n must be finite and >= 0, got {force}")
        opening = min(max(opening_m, 0.0), self.limits.max_opening_m)
        return GripperCommand(opening, min(force, self.max_force_n))

    def update(
        self, readings: Sequence[tuple[float, float]], commanded_opening_m: float
    ) -> GripperState:
        """What the readings of one or more ticks say.

        Args:
            readings: for each tick the distance between the fingertips, m, and the mean force with
                which the fingers press, N; at least one.
            commanded_opening_m: the opening that was last commanded.

        Returns:
            The state after them. Contact begins once the fingers have stood still for
            ``stalled_ticks`` ticks, short of the commanded opening, not closed, and pressing; it
            ends when the force is gone, the hand is closed, or it is told to open. Slip stays until
            contact ends.
        """
        c, openings = self.config, self._openings_m
        least_force_n, closed_m, slip_m = c.contact_force_n, c.closed_m, c.slip_m
        for opening_m, force_n in readings:
            openings.append(opening_m)
            # Told to be no wider than it is, the hand keeps what it has; only opening lets go.
            closing = commanded_opening_m <= opening_m + slip_m
            if not (force_n >= least_force_n and opening_m > closed_m and closing):
                self._contact_opening_m, self._slip = None, False
            elif self._contact_opening_m is None:
                stalled = (
                    len(openings) > c.stalled_ticks
                    and abs(opening_m - openings[0]) <= self._stalled_m
                )
                if stalled and commanded_opening_m < opening_m:
                    self._contact_opening_m = opening_m
            elif opening_m < self._contact_opening_m - slip_m:
                self._slip = True
        holding = self._contact_opening_m is not None
        return GripperState(opening_m, max(force_n, 0.0), holding, self._slip)
