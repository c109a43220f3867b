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
        self._slope = [f.way / self.max_opening_m for f in fingers]
        self.closing = [float(np.sign(-f.way)) for f in fingers]
        # Of the two joints that carry the tips: read at every tick, so only what cannot be ahead.
        a, b = (0.5 / slope for slope in self._slope[:2])
        self._opening = a, b, -(a * self._closed[0] + b * self._closed[1])
        #: (shares of the way to open, openings m); None where the two are in proportion.
        self._table = _table(limits)

    @property
    def turns(self) -> bool:
        """Whether fingers turn, so that :meth:`levers` differ from opening to opening."""
        return self._table is not None

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
        one, other = self.levers(opening)
        pressing = self.closing[0] * first_torque * one + self.closing[1] * second_torque * other
        return opening, 0.5 * pressing

    def levers(self, opening_m: float) -> tuple[float, float]:
        """How far each of the two joints moves, rad or m, for each metre that its tip moves."""
        if self._table is None:
            return 2.0 * abs(self._slope[0]), 2.0 * abs(self._slope[1])
        step = 1e-3
        low, high = max(opening_m - step, 0.0), min(opening_m + step, self.max_opening_m)
        to, at = self.positions(high), self.positions(low)
        apart_m = max(high - low, 1e-9)
        return 2.0 * abs(to[0] - at[0]) / apart_m, 2.0 * abs(to[1] - at[1]) / apart_m


def fingertips(limits: RobotLimits, share: float) -> tuple[Array, Array]:
    """Where the two tips are, (3,) m in the world, with the arm at home and the hand so far open.

    Args:
        limits: of the arm.
        share: 0 is closed, 1 is open.
    """
    return _Tips(limits).at(share)


def tips_apart(limits: RobotLimits, share: float) -> float:
    """How far apart the tips' joints are, m, at a share of the way to open."""
    first, second = fingertips(limits, share)
    return float(np.linalg.norm(first - second))


class _Tips:
    """The last links that the fingers' joints carry."""

    def __init__(self, limits: RobotLimits) -> None:
        self.limits = limits
        self.model = pin.buildModelFromUrdf(str(limits.urdf))
        self.data = self.model.createData()
        self.joints = [self.model.getJointId(f.name) for f in limits.fingers]
        self.tips = [_outermost(self.model, self.joints, side) for side in self.joints[:2]]
        self.q = pin.neutral(self.model)
        for name, value in zip(limits.joint_names, limits.home_rad, strict=True):
            joint = self.model.joints[self.model.getJointId(name)]
            if joint.nq == 1:
                self.q[joint.idx_q] = value
            else:  # one without an end is kept as cosine and sine
                self.q[joint.idx_q : joint.idx_q + 2] = np.cos(value), np.sin(value)

    @property
    def slide(self) -> bool:
        """Whether no finger turns."""
        return all("P" in self.model.joints[j].shortname() for j in self.joints)

    def at(self, share: float) -> tuple[Array, Array]:
        for joint, finger in zip(self.joints, self.limits.fingers, strict=True):
            self.q[self.model.joints[joint].idx_q] = finger.closed + share * finger.way
        pin.forwardKinematics(self.model, self.data, self.q)
        one, other = (np.array(self.data.oMi[tip].translation) for tip in self.tips)
        return one, other


def _table(limits: RobotLimits) -> tuple[Array, Array] | None:
    tips = _Tips(limits)
    if tips.slide:
        return None
    share = np.linspace(0.0, 1.0, _SAMPLES_N)
    apart = np.array([np.linalg.norm(np.subtract(*tips.at(part))) for part in share])
    opening = apart - apart[0]
    if (np.diff(opening) <= 0).any():
        first, second = limits.fingers[:2]
        raise ConfigError(
            f"{limits.name}: fingers: the tips do not come apart all the way from closed to open; "
            f"are closed and open of {first.name} and {second.name} right?"
        )
    return share, opening * (limits.gripper.max_opening_m / opening[-1])


def _outermost(model: pin.Model, joints: list[int], carrier: int) -> int:
    tip = carrier
    for joint in joints:
        if int(model.parents[joint]) == tip:
            tip = joint
    return tip
