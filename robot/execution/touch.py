"""Coming down on something: gently at first, then off it again, and once more beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.execution.action import ActionScale, no_faster_down

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TouchConfig:
    """How the hand comes to where its fingers might touch what was seen, and what it does there.

    An arm that meets something presses on it by its braking distance, whatever monitors say, and
    one that stops where it presses goes on pressing.

    Attributes:
        speed_m_s: no faster than this the hand goes down from there on, and off what it touched.
        room_m: it has slowed down so far above that,
        deceleration_m_s2: and no harder than this.
        force_n: a hand that presses harder there, or twice as hard anywhere, and holds nothing,
            has come down on something;
        recoil_m: it rises by so much.
        aside_m: where it was one finger, the grasp moves so far to that finger's side, and
        asides_n: so often at most; else the hand goes no lower until the fingers hold something.
        steps_n: if they have not begun to close after so many policy steps, it was in vain.
    """

    speed_m_s: float = bounded(0.03, 0.005, 1.0)
    room_m: float = bounded(0.01, 0.0, 0.1)
    deceleration_m_s2: float = bounded(0.8, 0.05, 10.0)
    force_n: float = bounded(30.0, 1.0, 500.0)
    recoil_m: float = bounded(0.002, 0.0, 0.05)
    aside_m: float = bounded(0.006, 0.0, 0.05)
    asides_n: int = bounded(4, 0, 10)
    steps_n: int = bounded(20, 1, 1000)


class Touch:
    """What the hand may do on its way down, by what it has touched so far.

    Args:
        config: see :class:`TouchConfig`.
        scale: what an action of 1 means.
        fingertip_m: how far the fingertips reach beyond the tool.
    """

    def __init__(self, config: TouchConfig, scale: ActionScale, fingertip_m: float) -> None:
        self.config = config
        self._scale = scale
        self._fingertip_m = fingertip_m
        self.begin(0.0)

    def begin(self, top_m: float) -> None:
        """A new descent; what was seen stands so far above the grasp."""
        self._slow_below_m = max(top_m, 0.0) + self._fingertip_m + self.config.room_m
        self._floor_m: float | None = None
        self._aside_m = 0.0
        self._touches_n = self._waited_n = 0

    def feels(self, pressed_n: float, above_m: float) -> bool:
        """Whether the hand has come down on something, by the force along its way down."""
        # Further up it brakes and turns, which a model of the arm never explains wholly.
        least_n = self.config.force_n * (1.0 if above_m < self._slow_below_m else 2.0)
        return pressed_n > least_n

    def met(self, above_m: float, side: float) -> bool:
        """The hand presses on something; whether it has to turn round now, and rise.

        Args:
            above_m: how far it is above the grasp.
            side: where it is pressed, along the closing direction: 1 and -1 are at its fingers.
        """
        c, floor_m = self.config, above_m + self.config.recoil_m
        if self._floor_m is not None:
            higher = floor_m > self._floor_m
            self._floor_m = max(floor_m, self._floor_m)
            return higher
        self._floor_m = floor_m
        self._touches_n += 1
        if self._touches_n <= c.asides_n and abs(side) > 0.5:
            self._aside_m = math.copysign(c.aside_m, side)
        return True

    def gently(self, action: NDArray[np.float32], above_m: float) -> NDArray[np.float32]:
        """The action, going down no faster than what might be touched allows."""
        c = self.config
        room_m = max(above_m - self._slow_below_m, 0.0)
        speed = math.sqrt(c.speed_m_s**2 + 2.0 * c.deceleration_m_s2 * room_m)
        return no_faster_down(action, speed, self._scale)

    def off(self, action: NDArray[np.float32], above_m: float) -> NDArray[np.float32]:
        """The action, but off what the hand came down on."""
        if self._floor_m is None:
            return action
        below = above_m < self._floor_m
        return no_faster_down(action, -self.config.speed_m_s if below else 0.0, self._scale)

    def aside_m(self, above_m: float) -> float:
        """How far the grasp is to move along the closing direction, now that the hand is off.

        Told once; the hand may go down again then.
        """
        if not self._aside_m or (self._floor_m is not None and above_m < self._floor_m):
            return 0.0
        aside_m, self._aside_m, self._floor_m = self._aside_m, 0.0, None
        return aside_m

    def in_vain(self) -> bool:
        """Whether the hand has waited for long enough above what it touched; asked each step."""
        if self._floor_m is None:
            return False
        self._waited_n += 1
        return self._waited_n > self.config.steps_n
