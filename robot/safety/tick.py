"""What several monitors need of one tick, reckoned once and only when asked for."""

from __future__ import annotations

import math

import eigenpy
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.kinematics import Conditioning, Kinematics
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
        # Braking begins as gently as the jerk limit has it.
        easing_s = 0.5 * joints.acceleration_rad_s2 / joints.jerk_rad_s3 + self.tick_s
        per_speed = 0.5 / joints.acceleration_rad_s2
        self._braking = (joints.velocity_rad_s.tolist(), per_speed.tolist(), easing_s.tolist())
        self._speed, self._braking_s = joints.velocity_rad_s, 1.0 / joints.acceleration_rad_s2
        self._easing_s = float(easing_s.max())
        #: Condition number of the tool's Jacobian at joints (n,) rad.
        self.condition = Conditioning(kinematics, config.singular_length_m)
        self._model = kinematics.model
        self._tool_id = kinematics.tool_id
        self._data = self._model.createData()
        self._tool = self._data.oMf[self._tool_id]  # follows Pinocchio's own memory
        self._measured = self._model.createData()
        self._share = config.force.filter_share
        self._feels = "contact" not in config.off
        self._n = len(sent.position_rad)
        self._ldlt = eigenpy.LDLT(6)
        self._damping = np.eye(6) * _DAMPING
        self.forget()

    def forget(self) -> None:
        """The arm starts anew: no torque is felt yet."""
        self._external = [0.0] * self._n
        self._acceleration: Array = np.zeros(self._n)
        self._state: RobotState | None = None
        self._joints = b""
        self._stop: Array | None = None
        self._wrench: tuple[float, float, Array] | None = None
        self.jacobian: Array = np.zeros((6, self._n))

    def begin(self, state: RobotState, position_rad: Array) -> None:
        """The tick's newest reading, and the joint targets (ticks, n) rad that are judged."""
        self.q: Array = position_rad[-1]
        #: (n,) rad/s: how the last of the coming ticks moves the joints.
        self.qd: Array = self.sent.velocity_to(position_rad, self.tick_s)
        self.jacobian = pin.computeFrameJacobian(
            self._model, self._data, self.q, self._tool_id, _WORLD_AXES
        )
        #: (6,) m/s and rad/s, how the tool will move.
        self.tool_velocity: Array = self.jacobian.dot(self.qd)
        self._stop = None
        self._wrench = None
        self._joints = self.q.tobytes()
        if self._feels and state is not self._state:
            self._feel(state)

    def tool_at(self, joints: bytes) -> list[float] | None:
        """x, y, z of the tool, m, where the judged targets are these joints; None where not."""
        return self._tool.translation.tolist() if joints == self._joints else None

    @property
    def tool_m(self) -> Array:
        """(3,) m, where the tool will be."""
        return np.asarray(self._tool.translation)

    @property
    def external_nm(self) -> Array:
        """(n,) N·m: smoothed, what the readings' torques hold beside the arm's own motion.

        It is reckoned for ``contact`` alone: zeros where that is off.
        """
        return np.array(self._external)

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
        share, felt = self._share, joints.effort_nm.tolist()
        self._external = [
            before + share * (torque - explained - before)
            for before, torque, explained in zip(self._external, felt, own.tolist(), strict=True)
        ]

    @property
    def stop_rad(self) -> Array:
        """(n,) rad: where the joints would come to rest if they braked now."""
        if self._stop is None:
            joints = zip(self.q.tolist(), self.qd.tolist(), *self._braking, strict=True)
            stop = []
            for q, qd, most, per_speed, easing_s in joints:
                # No faster than a joint may: what is, is another monitor's business.
                speed = qd if -most <= qd <= most else math.copysign(most, qd)
                stop.append(q + speed * (abs(speed) * per_speed + easing_s))
            self._stop = np.array(stop)
        return self._stop

    @property
    def slowed_rad(self) -> Array:
        """(n,) rad: where the arm would come to rest if it slowed down on its way, as SCALE has it.

        All joints together: those that could brake harder wait for the one that takes longest.
        """
        qd = np.minimum(np.maximum(self.qd, -self._speed), self._speed)
        longest_s = float((np.abs(qd) * self._braking_s).max())
        return self.q + qd * (0.5 * longest_s + self._easing_s)

    @property
    def contact(self) -> tuple[float, float, Array]:
        """Force (N) and torque (N·m) with which the tool presses, and (6,) both, world axes."""
        if self._wrench is None:
            J = self.jacobian
            self._ldlt.compute(J.dot(J.T) + self._damping)
            wrench = self._ldlt.solve(J.dot(self.external_nm))
            fx, fy, fz, tx, ty, tz = wrench.tolist()
            force = (fx * fx + fy * fy + fz * fz) ** 0.5
            self._wrench = force, (tx * tx + ty * ty + tz * tz) ** 0.5, wrench
        return self._wrench
