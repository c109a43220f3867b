"""What several monitors need of one tick, reckoned once and only when asked for."""

from __future__ import annotations

import eigenpy
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.kinematics import Kinematics
from robot.limits import JointLimits
from robot.safety.config import SafetyConfig
from robot.safety.sent import Sent
from robot.types import RobotState

Array = NDArray[np.float64]

_WORLD_AXES = pin.LOCAL_WORLD_ALIGNED
_DAMPING = 1e-4


class Tick:
    """One tick's commands and readings, and what follows from them.

    Args:
        kinematics: of the arm; only its model is used.
        sent: what was sent before.
        joints: their limits, for the way to rest.
        config: period of the loop, smoothing of torques, scale of the condition number.
    """

    def __init__(
        self, kinematics: Kinematics, sent: Sent, joints: JointLimits, config: SafetyConfig
    ) -> None:
        self.sent, self.tick_s = sent, config.tick_s
        self._speed = joints.velocity_rad_s
        self._per_speed = 0.5 / joints.acceleration_rad_s2
        # Braking begins as gently as the jerk limit has it.
        self._easing_s = 0.5 * joints.acceleration_rad_s2 / joints.jerk_rad_s3 + self.tick_s
        scale = np.array([1.0 / config.singular_length_m] * 3 + [1.0] * 3)
        self._square = np.outer(scale, scale)
        self._model = kinematics.model
        self._tool_id = kinematics.tool_id
        self._data = self._model.createData()
        self._measured = self._model.createData()
        self._resting = self._model.createData()
        self._share = config.force.filter_share
        self._n = len(sent.position_rad)
        self._solver = eigenpy.SelfAdjointEigenSolver(6)
        self._ldlt = eigenpy.LDLT(6)
        self._damping = np.eye(6) * _DAMPING
        self.forget()

    def forget(self) -> None:
        """The arm starts anew: no torque is felt yet."""
        self.external_nm: Array = np.zeros(self._n)
        self._acceleration: Array = np.zeros(self._n)
        self._state: RobotState | None = None
        self._stop: Array | None = None
        self._wrench: tuple[float, float, Array] | None = None

    def begin(self, state: RobotState, position_rad: Array) -> None:
        """The tick's newest reading, and the joint targets (ticks, n) rad that are judged."""
        self.q: Array = position_rad[-1]
        before = position_rad[-2] if len(position_rad) > 1 else self.sent.position_rad
        #: (n,) rad/s: how the last of the coming ticks moves the joints.
        self.qd: Array = (self.q - before) / self.tick_s
        self.jacobian: Array = pin.computeFrameJacobian(
            self._model, self._data, self.q, self._tool_id, _WORLD_AXES
        )
        placement = self._data.oMf[self._tool_id]
        #: (3,) m, where the tool will be.
        self.tool_m: Array = placement.translation
        #: (6,) m/s and rad/s, how the tool will move.
        self.tool_velocity: Array = self.jacobian.dot(self.qd)
        self._stop = None
        self._wrench = None
        if state is not self._state:
            self._feel(state)

    def _feel(self, state: RobotState) -> None:
        """Take in the torques of a new reading: what the arm's own motion does not explain."""
        self._state = state
        joints = state.joints
        # The reading answers the command before, so that acceleration explains it.
        a = self._acceleration
        self._acceleration = (
            self.sent.velocity_rad_s - self.sent.velocity_before_rad_s
        ) / self.tick_s
        own = pin.rnea(self._model, self._measured, joints.position_rad, joints.velocity_rad_s, a)
        self.external_nm = self.external_nm + self._share * (
            joints.effort_nm - own - self.external_nm
        )

    @property
    def stop_rad(self) -> Array:
        """(n,) rad: where the joints would come to rest if they braked now."""
        if self._stop is None:
            # No faster than a joint may: what is, is another monitor's business.
            qd = np.minimum(np.maximum(self.qd, -self._speed), self._speed)
            self._stop = self.q + qd * (np.abs(qd) * self._per_speed + self._easing_s)
        return self._stop

    def condition(self, q: Array) -> float:
        """Condition number of the tool's Jacobian at joints (n,) rad.

        Lengths count in units of ``singular_length_m``: with metres beside radians it tells more
        of how far out the tool is (J. Angeles, "The design of isotropic redundant manipulators",
        IJRR 1992).
        """
        J = pin.computeFrameJacobian(self._model, self._resting, q, self._tool_id, _WORLD_AXES)
        self._solver.compute(J.dot(J.T) * self._square)
        values = self._solver.eigenvalues()
        low, high = float(values[0]), float(values[-1])
        return (high / low) ** 0.5 if low > 1e-12 else 1e6

    @property
    def contact(self) -> tuple[float, float, Array]:
        """Force (N) and torque (N·m) with which the tool presses, and the (3,) force, world."""
        if self._wrench is None:
            J = self.jacobian
            self._ldlt.compute(J.dot(J.T) + self._damping)
            wrench = self._ldlt.solve(J.dot(self.external_nm))
            fx, fy, fz, tx, ty, tz = wrench.tolist()
            force = (fx * fx + fy * fy + fz * fz) ** 0.5
            self._wrench = force, (tx * tx + ty * ty + tz * tz) ** 0.5, wrench[:3]
        return self._wrench
