"""What an opening means for the joints of a gripper, and their torques for its force."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.errors import ConfigError
from robot.limits import RobotLimits

Array = NDArray[np.float64]

_SAMPLES_N = 65


class FingerMap:
    """Between openings and joints of a gripper whose joints all move together.

    Sliding fingers move in proportion. For turning ones the way of the fingertips is computed
    from the URDF: the opening is how far apart the two tips are, less than when closed.

    Args:
        limits: of the arm; the fingers named there are used.

    Raises:
        ConfigError: the fingertips do not come closer when the joints close.
    """

    def __init__(self, limits: RobotLimits) -> None:
        fingers = limits.fingers
        self.names = tuple(f.name for f in fingers)
        self.max_opening_m = limits.gripper.max_opening_m
        self._closed = [f.closed for f in fingers]
        self._slope = [(f.open - f.closed) / self.max_opening_m for f in fingers]
        self.closing = [float(np.sign(f.closed - f.open)) for f in fingers]
        # Of the two joints that carry the tips: read at every tick, so only what cannot be ahead.
        a, b = (0.5 / slope for slope in self._slope[:2])
        self._opening = a, b, -(a * self._closed[0] + b * self._closed[1])
        #: (shares of the way to open, openings m); None where the two are in proportion.
        self._table = _table(limits)

    def positions(self, opening_m: float) -> list[float]:
        """Where each joint is, rad or m, at an opening."""
        if self._table is not None:
            share, opening = self._table
            opening_m = float(np.interp(opening_m, opening, share)) * self.max_opening_m
        return [slope * opening_m + c for slope, c in zip(self._slope, self._closed, strict=True)]

    def reading(
        self, first: float, second: float, first_torque: float, second_torque: float
    ) -> tuple[float, float]:
        """What the two joints that carry the tips say.

        Args:
            first, second: their positions, rad or m.
            first_torque, second_torque: their torques or forces, N·m or N.

        Returns:
            The opening, m, and the force, N, mean over both tips, by virtual work; it is negative
            where the fingers press outwards.
        """
        a, b, c = self._opening
        opening = a * first + b * second + c
        if self._table is not None:
            share, openings = self._table
            opening = float(np.interp(opening / self.max_opening_m, share, openings))
        if opening < 0.0:
            opening = 0.0
        torque = 0.5 * (self.closing[0] * first_torque + self.closing[1] * second_torque)
        return opening, torque * self.lever(opening)

    def lever(self, opening_m: float) -> float:
        """How far a joint moves, rad or m, for each metre that its tip moves."""
        if self._table is None:
            return 2.0 * abs(self._slope[0])
        step = 1e-3
        low, high = max(opening_m - step, 0.0), min(opening_m + step, self.max_opening_m)
        a, b = self.positions(low)[0], self.positions(high)[0]
        return 2.0 * abs(b - a) / max(high - low, 1e-9)


def _table(limits: RobotLimits) -> tuple[Array, Array] | None:
    model = pin.buildModelFromUrdf(str(limits.urdf))
    names = [f.name for f in limits.fingers]
    joints = [model.getJointId(name) for name in names]
    if all("P" in model.joints[j].shortname() for j in joints):
        return None
    # The tips are the last links that the fingers' joints carry.
    tips = [_outermost(model, joints, side) for side in joints[:2]]
    data = model.createData()
    share = np.linspace(0.0, 1.0, _SAMPLES_N)
    apart = np.empty(_SAMPLES_N)
    for k, part in enumerate(share):
        q = pin.neutral(model)
        for joint, finger in zip(joints, limits.fingers, strict=True):
            q[model.joints[joint].idx_q] = finger.closed + part * (finger.open - finger.closed)
        pin.forwardKinematics(model, data, q)
        apart[k] = np.linalg.norm(data.oMi[tips[0]].translation - data.oMi[tips[1]].translation)
    opening = apart - apart[0]
    if (np.diff(opening) <= 0).any():
        raise ConfigError(
            f"{limits.name}: fingers: the tips do not come apart all the way from closed to open; "
            f"are closed and open of {names[0]} and {names[1]} right?"
        )
    return share, opening * (limits.gripper.max_opening_m / opening[-1])


def _outermost(model: pin.Model, joints: list[int], carrier: int) -> int:
    tip = carrier
    for joint in joints:
        if int(model.parents[joint]) == tip:
            tip = joint
    return tip
