"""The scripted expert: closed loop over the policy's own observation.

It makes the demonstrations and is measured like any policy. Its behaviour is a function of the
observation alone (the previous action is part of it), so that a memoryless network can learn it.
It goes for the best grip that the heights show close to the candidate; when its fingers close on
nothing it opens them and tries again, until the time is up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.execution.action import DEFAULT_SCALE, ActionScale
from robot.observation import OLD_S, part

_POSITION = part("tool_position")
_VELOCITY = part("tool_velocity")
_PREVIOUS = part("previous_action")
_OPENING = part("candidate_opening")
_GRIP = part("opening")
_CONTACT = part("contact")
_AGE = part("object_age")
_AIM, _AIM_YAW = part("aim_position"), part("aim_yaw")
_CLEAR_M = 0.06
_AGAIN_M = 0.045
_OPEN_M = 0.012
_FRESH_S = 0.3


class ExpertPolicy:
    """Approach with feedback, close when there, lift when the fingers hold; a ``Policy``.

    Args:
        lift_m: height to lift to, above the grasp, m.
        scale: what an action of 1 means.
    """

    def __init__(self, lift_m: float, scale: ActionScale = DEFAULT_SCALE) -> None:
        self.lift_m = lift_m
        self.scale = scale

    def reset(self) -> None:
        """Nothing to forget: the observation holds all there is."""

    def act(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The expert's action, (5,) float32."""
        o = observation
        position = o[_AIM].astype(float)
        yaw = float(o[_AIM_YAW][0])
        previous = o[_PREVIOUS]
        action = np.zeros(5)
        contact = o[_CONTACT][0] > 0.5
        empty = o[_GRIP][0] < 0.002
        # Whether it is closing is read from where the hand is and what it was told, with room on
        # both sides: a clone's action is never exactly the expert's.
        told_m = 0.5 * (float(previous[4]) + 1.0) * self.scale.opening_m
        lateral = float(np.hypot(position[0], position[1]))
        near = abs(position[2]) < 0.025 and lateral < 0.02
        want_m, grip_m = float(o[_OPENING][0]), float(o[_GRIP][0])
        started = told_m < want_m - 0.02
        closing = contact or (started and near)
        # Nothing between the fingers: open them, clear of what may stand there, and try again.
        opening_again = not contact and (empty or (not started and grip_m < want_m - _OPEN_M))
        if opening_again:
            opening = want_m
            action[2] = -0.2 / self.scale.linear_m_s if position[2] > -_AGAIN_M else 0.0
        elif not closing:
            # Sideways and turning first, so that the fingers come down where they are meant to.
            error = -position
            ready = float(np.clip(1.6 - lateral / 0.005 - abs(yaw) / 0.10, 0.0, 1.0))
            goal = error[2] - _CLEAR_M * _above(lateral, yaw)
            # Where the object is watched, the last centimetres wait until it was seen just now.
            stale = bool(_FRESH_S < o[_AGE][0] < 0.99 * OLD_S)
            if stale and position[2] > -0.04:
                goal = min(goal, 0.0)
            velocity = np.clip(6.0 * error, -0.22, 0.22)
            velocity[2] = np.clip(6.0 * goal, -0.16, 0.20 * ready)
            action[:3] = velocity / self.scale.linear_m_s
            action[3] = np.clip(-6.0 * yaw, -1.2, 1.2) / self.scale.yaw_rad_s
            there = abs(error[2]) < 0.004 and lateral < 0.004 and abs(yaw) < 0.06
            # Something is in the way just before the end, so that the hand does not go as it was
            # told: close on what there is.
            told_m_s = float(previous[2]) * self.scale.linear_m_s
            held_up = told_m_s > 0.01 and abs(o[_VELOCITY][2]) < 0.25 * told_m_s
            there |= error[2] < 0.02 and held_up
            there &= not stale
            opening = 0.0 if there else want_m
            if there:
                action[:4] = 0.0
        else:
            opening = 0.0
            height = -float(o[_POSITION][2])  # how far it was lifted is judged from the candidate
            if contact:
                # Gently off the table, then faster: most slips happen while the grip still seats.
                speed = np.clip(0.06 + 3.0 * max(height, 0.0), 0.0, 0.22)
                speed = min(speed, max(0.0, 5.0 * (self.lift_m + 0.01 - height)))
                action[2] = -speed / self.scale.linear_m_s
            else:  # stay where the fingers are meant to close
                action[:2] = np.clip(-4.0 * position[:2], -0.1, 0.1) / self.scale.linear_m_s
                action[3] = np.clip(-4.0 * yaw, -0.5, 0.5) / self.scale.yaw_rad_s
        action[4] = 2 * opening / self.scale.opening_m - 1
        return np.clip(action, -1, 1).astype(np.float32)


def _above(lateral: float, yaw: float) -> float:
    """How far the hand ought to stay above the grasp for now, as a share of ``_CLEAR_M``.

    Fingers that are moved sideways at the object's height push it along and never get there.
    """
    off = max(lateral / 0.010, abs(yaw) / 0.2)
    return float(np.clip(off - 1.0, 0.0, 1.0))


def expert_for(env: Any) -> ExpertPolicy:
    """The expert for a grasp environment, as ``policies.evaluation.rollouts`` makes actors."""
    return ExpertPolicy(env.unwrapped.loop.config.lift_m)
