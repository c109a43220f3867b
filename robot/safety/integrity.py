"""The models that act are the ones that were checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.safety.signals import Signals
from robot.safety.verdict import halt
from robot.types import OK, RobotState, SafetyVerdict

Array = NDArray[np.float64]


class IntegrityMonitor:
    """Halts where the newest check of the bundle found damage.

    Hashing takes milliseconds, so it is done before loading and whenever the loop likes, not here;
    the loop leaves what it found in :attr:`Signals.damage`.
    """

    name = "integrity"
    source = "SHA-256 of every file, after the bundle's manifest; a signature where a key is given"

    def __init__(self, signals: Signals) -> None:
        self._signals = signals

    def check(self, state: RobotState, position_rad: Array, now_s: float) -> SafetyVerdict:
        """HALT until a newer check finds the bundle whole."""
        damage = self._signals.damage
        return OK if damage is None else halt(f"integrity: {damage}")
