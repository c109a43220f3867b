"""The open-loop baseline: execute the candidate by the clock, whatever happens.

It sees only what the policy sees, and only once. A learned policy has to beat it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robot.execution.action import DEFAULT_SCALE, ActionScale
from robot.execution.touch import TouchConfig
from robot.observation import part

CLOSE_STEPS = 20
"""Policy steps (at 20 Hz) for the fingers to close over their whole travel, and to press."""
DESCENT_M_S = TouchConfig().speed_m_s
"""As fast as a hand may go down where it might touch something: by the clock, it cannot adapt."""
LIFT_M_S = 0.20


class ScriptedPolicy:
    """Down to the candidate, close, up; a ``Policy``.

    Args:
        lift_m: how far to lift.
        rate_hz: of the policy.
        scale: what an action of 1 means.
    """

    def __init__(
        self, lift_m: float, rate_hz: float = 20.0, scale: ActionScale = DEFAULT_SCALE
    ) -> None:
        self._lift_steps = math.ceil(lift_m / LIFT_M_S * rate_hz) + 2
        self._rate_hz = rate_hz
        self._scale = scale
        self.reset()

    def reset(self) -> None:
        """Forget the previous episode."""
        self._step = 0
        self._descent = np.zeros(4)
        self._descent_steps = 0

    def act(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The next action of the fixed sequence."""
        if self._step == 0:
            self._plan(observation)
        k = self._step
        self._step += 1
        opening = self._opening
        action = np.zeros(5, dtype=np.float32)
        if k < self._descent_steps:
            action[:4] = self._descent
        elif k < self._descent_steps + 3:
            pass  # let the arm come to rest
        elif k < self._descent_steps + 3 + CLOSE_STEPS:
            opening = 0.0
        else:
            opening = 0.0
            if k < self._descent_steps + 3 + CLOSE_STEPS + self._lift_steps:
                action[2] = -LIFT_M_S / self._scale.linear_m_s
        action[4] = 2 * opening / self._scale.opening_m - 1
        return np.clip(action, -1, 1)

    def _plan(self, observation: NDArray[np.float32]) -> None:
        way = -observation[part("tool_position")].astype(float)
        turn = -float(observation[part("tool_yaw")][0])
        duration = max(
            float(np.linalg.norm(way)) / DESCENT_M_S, abs(turn) / (0.5 * self._scale.yaw_rad_s)
        )
        self._descent_steps = max(1, math.ceil(duration * self._rate_hz))
        seconds = self._descent_steps / self._rate_hz
        self._descent = np.array(
            [*(way / seconds / self._scale.linear_m_s), turn / seconds / self._scale.yaw_rad_s]
        )
        self._opening = float(observation[part("candidate_opening")][0])
