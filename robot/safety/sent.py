"""What was last sent to the arm: all that monitors know of the motion so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Sent:
    """What was last sent to the arm; the supervisor writes it, the monitors read it.

    Attributes:
        known: False before the arm's start is known.
        position_rad: (n,) joints last sent, or from which the first command starts.
        velocity_rad_s: (n,) by finite difference over the last tick.
        velocity_before_rad_s: (n,) the same, one tick earlier.
        at_rest: whether what was last sent stands still.
    """

    def __init__(self, joints: int) -> None:
        self.known = False
        self.at_rest = True
        self.position_rad: Array = np.zeros(joints)
        self.velocity_rad_s: Array = np.zeros(joints)
        self.velocity_before_rad_s: Array = np.zeros(joints)
        self._rows: Array | None = None
        self._ahead: Array | None = None
        self._velocity: Array = self.velocity_rad_s
        self._moved: tuple[Array, Array] = (np.zeros((1, joints)), np.zeros((1, joints)))

    def moved(self, position_rad: Array) -> tuple[Array, Array]:
        """(ticks, n) rad: how each coming tick moves the joints, and how far.

        Remembered for one array.
        """
        if position_rad is not self._rows:
            moved = differences(self.position_rad, position_rad)
            self._moved = moved, np.abs(moved)
            self._rows = position_rad
        return self._moved

    def velocity_to(self, position_rad: Array, tick_s: float) -> Array:
        """(n,) rad/s at the end of (ticks, n) rad, by finite difference over the last tick.

        Remembered for one array.
        """
        if position_rad is not self._ahead:
            before = position_rad[-2] if len(position_rad) > 1 else self.position_rad
            self._velocity = (position_rad[-1] - before) / tick_s
            self._ahead = position_rad
        return self._velocity

    def forget_moved(self) -> None:
        """Reckon anew what is remembered: the caller may have changed its array in place."""
        self._rows = self._ahead = None

    def advance(
        self, position_rad: Array, velocity_rad_s: Array, before_rad_s: Array | None = None
    ) -> None:
        """The arm was sent to (n,) rad, at (n,) rad/s; at ``before_rad_s`` one tick earlier."""
        self.forget_moved()
        self.velocity_before_rad_s = self.velocity_rad_s if before_rad_s is None else before_rad_s
        self.position_rad, self.velocity_rad_s = position_rad, velocity_rad_s
        self.at_rest = not any(velocity_rad_s.tolist())

    def rest_at(self, position_rad: Array) -> None:
        """The arm is at rest at (n,) rad."""
        self.known = True
        start = np.array(position_rad, dtype=np.float64)
        rest = np.zeros_like(start)
        self.advance(start, rest, rest)


def differences(first: Array, rows: Array) -> Array:
    """(ticks, n): each row minus the one before, the first minus ``first``."""
    out = rows.copy()
    out[0] -= first
    out[1:] -= rows[:-1]
    return out
