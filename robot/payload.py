"""How heavy what the hand holds is, from the torques that hold the arm still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.errors import SensorError
from robot.kinematics import Kinematics

Array = NDArray[np.float64]

_GRAVITY_M_S2 = 9.81
_RIDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Payload:
    """What is held.

    Attributes:
        mass_kg: its mass.
        residual_nm: torque that it leaves unexplained, root mean square over the joints.
    """

    mass_kg: float
    residual_nm: float


class PayloadEstimator:
    """Weighs by joint torques.

    The torques that hold the empty arm are known from its model, and better so after a tare: what
    the model misses is learned as a correction of its masses and centres, in which torques are
    linear (C. Atkeson, C. An, J. Hollerbach, "Estimation of Inertial Parameters of Manipulator
    Loads and Links", IJRR 5(3), 1986). What remains is the load's.

    Args:
        kinematics: of the arm.
    """

    def __init__(self, kinematics: Kinematics) -> None:
        self._kinematics = kinematics
        self._data = kinematics.model.createData()
        self._correction = np.zeros(10 * (kinematics.model.njoints - 1))

    def tare(self, q: Array, effort_nm: Array) -> float:
        """Learn from the empty arm at rest.

        Args:
            q: (k, n) joints, rad, in k postures; a dozen that differ well is enough.
            effort_nm: (k, n) measured torques there.

        Returns:
            The torque that stays unexplained, root mean square, N·m.
        """
        q, effort = _checked(q, effort_nm, self._kinematics.limits.joints.count)
        rows = np.concatenate([self._regressor(pose) for pose in q])
        off = np.concatenate(
            [e - self._kinematics.gravity_torque(pose) for pose, e in zip(q, effort, strict=True)]
        )
        size = rows.shape[1]
        self._correction = np.linalg.solve(rows.T @ rows + _RIDGE * np.eye(size), rows.T @ off)
        return float(np.sqrt(np.mean((off - rows @ self._correction) ** 2)))

    def empty(self, q: Array) -> Array:
        """(n,) N·m that hold the empty arm still at joints (n,) rad."""
        return np.asarray(
            self._kinematics.gravity_torque(q) + self._regressor(q) @ self._correction
        )

    def estimate(self, q: Array, effort_nm: Array) -> Payload:
        """Weigh what is held, from one posture at rest or several.

        Args:
            q: (n,) or (k, n) joints, rad.
            effort_nm: measured torques there, of the same shape.

        Raises:
            SensorError: torques or joints are missing or not finite.
        """
        q, effort = _checked(q, effort_nm, self._kinematics.limits.joints.count)
        rows, off = [], []
        for pose, torque in zip(q, effort, strict=True):
            J = self._kinematics.jacobian(pose)
            R = np.asarray(self._kinematics.placement.rotation)
            g = np.array([0.0, 0.0, -_GRAVITY_M_S2])
            # A mass m at c in the tool's frame needs -J_c' m g; J_c is linear in m and m c.
            rows.append(np.column_stack([-J[:3].T @ g, J[3:].T @ pin.skew(g) @ R]))
            off.append(torque - self.empty(pose))
        A, b = np.concatenate(rows), np.concatenate(off)
        # Its centre is within a hand's breadth of the tool: where torques say little, stay near.
        weight = np.diag([0.0, *([_RIDGE] * 3)])
        found = np.linalg.solve(A.T @ A + weight + 1e-12 * np.eye(4), A.T @ b)
        left = float(np.sqrt(np.mean((b - A @ found) ** 2)))
        return Payload(float(found[0]), left)

    def _regressor(self, q: Array) -> Array:
        zero = np.zeros_like(q)
        model = self._kinematics.model
        return np.array(pin.computeJointTorqueRegressor(model, self._data, q, zero, zero))


def _checked(q: Array, effort_nm: Array, n: int) -> tuple[Array, Array]:
    q, effort = np.atleast_2d(np.asarray(q, float)), np.atleast_2d(np.asarray(effort_nm, float))
    if q.shape != effort.shape or q.shape[1] != n or not len(q):
        raise SensorError(f"payload: expected (k, {n}) joints and torques, got {q.shape} and "
                          f"{effort.shape}")  # fmt: skip
    if not (np.isfinite(q).all() and np.isfinite(effort).all()):
        raise SensorError("payload: joints and torques must be finite; does the arm measure them?")
    return q, effort
