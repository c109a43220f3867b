"""A Cartesian velocity controller: a twist of the tool into joint targets, tick by tick.

It runs open loop on a reference of its own: where the reference goes depends on the twists alone,
not on the measured joints, so that training and deployment command the same. ``reset`` ties the
reference to the arm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import eigenpy
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from configs.load import bounded
from robot.errors import SteadyhandError
from robot.execution.limiter import JointLimiter
from robot.kinematics import Kinematics
from robot.limits import RobotLimits

Array = NDArray[np.float64]

_WORLD_AXES = pin.LOCAL_WORLD_ALIGNED


@dataclass(frozen=True)
class ServoConfig:
    """How the reference moves.

    Attributes:
        tick_s: period of the control loop.
        linear_acceleration_m_s2: how fast the tool's velocity may change.
        angular_acceleration_rad_s2: how fast its angular velocity may change.
        feedback_per_s: share of the reference's error that is taken back each second.
        max_lag_m: how far the reference pose may run ahead of the arm's reference.
        max_lag_rad: the same for the commanded turn.
        damping: least-squares damping, always on; in m² like J Jᵀ.
        singular_damping: damping at a singularity; it fades in below ``singular_manipulability``.
        singular_manipulability: Yoshikawa's measure sqrt(det J Jᵀ), below which damping grows
            (0.1 at home).
        velocity_share: share of the joints' velocity limits that is used.
        acceleration_share: share of the joints' acceleration limits that is used.
        margin_rad: distance kept from the joints' position limits.
    """

    tick_s: float = bounded(1.0 / 240.0, 1e-4, 0.1)
    linear_acceleration_m_s2: float = bounded(3.0, 0.01, 13.0)
    angular_acceleration_rad_s2: float = bounded(12.0, 0.01, 25.0)
    feedback_per_s: float = bounded(20.0, 0.0, 100.0)
    max_lag_m: float = bounded(0.003, 1e-5, 0.1)
    max_lag_rad: float = bounded(0.02, 1e-4, 0.5)
    damping: float = bounded(1e-6, 0.0, 1.0)
    singular_damping: float = bounded(0.001, 0.0, 1.0)
    singular_manipulability: float = bounded(0.02, 0.0, 1.0)
    velocity_share: float = bounded(0.95, 0.05, 1.0)
    acceleration_share: float = bounded(0.95, 0.05, 1.0)
    margin_rad: float = bounded(0.002, 0.0, 0.2)


class CartesianServo:
    """Turns twists into joint targets within every joint limit.

    Args:
        kinematics: of the arm; its work space is used, so one thread only.
        limits: of the arm.
        config: see :class:`ServoConfig`.
    """

    def __init__(
        self, kinematics: Kinematics, limits: RobotLimits, config: ServoConfig | None = None
    ) -> None:
        self.config = config if config is not None else ServoConfig()
        self.limits = limits
        c, joints = self.config, limits.joints
        self._model, self._data = kinematics.model, kinematics.data
        self._tool_id = kinematics.tool_id
        self._n = joints.count
        self._dt = dt = c.tick_s
        self._dts = np.full(self._n, dt)
        self._linear_step = c.linear_acceleration_m_s2 * dt
        self._angular_step = c.angular_acceleration_rad_s2 * dt
        self._feedback = c.feedback_per_s
        self._max_lag_m, self._max_lag_rad = c.max_lag_m, c.max_lag_rad
        # Views that follow the tool; fetching them at each tick costs as much as the Jacobian.
        placement = kinematics.placement
        self._tool_p, self._tool_Rt = placement.translation, placement.rotation.T
        self._ldlt = eigenpy.LDLT(6)
        self._normal, self._lead, self._step_rad = (
            np.empty((6, 6)),
            np.empty((3, 3)),
            np.empty(self._n),
        )
        self._damping = np.eye(6) * c.damping
        self._singular_damping = np.eye(6) * c.singular_damping
        self._singular_square = c.singular_manipulability**2
        self._limiter = JointLimiter(
            joints, dt, c.velocity_share, c.acceleration_share, c.margin_rad
        )
        self.reset(limits.home_rad)

    @property
    def q_ref(self) -> Array:
        """(n,) rad: the joint reference after the last tick."""
        return self._q.copy()

    @property
    def qd_ref(self) -> Array:
        """(n,) rad/s: its velocity."""
        return self._qd.copy()

    def reset(self, q: Array) -> None:
        """Start at rest at joints (n,) rad; the tool's orientation there is the one to keep.

        Raises:
            SteadyhandError: ``q`` has the wrong length or is not finite.
        """
        start = np.array(q, dtype=np.float64)
        if start.shape != (self._n,) or not np.isfinite(start).all():
            raise SteadyhandError(f"servo reset: expected {self._n} finite joints in rad, got {q}")
        self._q = start
        self._qd = np.zeros(self._n)
        self._v = self._turn_of = [0.0] * 6
        self._turn, self._turn_share = np.eye(3), 0.0
        self._clear_ticks = 0
        pin.forwardKinematics(self._model, self._data, start)
        placement = pin.updateFramePlacement(self._model, self._data, self._tool_id)
        self._p: list[float] = placement.translation.tolist()
        self._R = np.array(placement.rotation)

    def follow(self, q: Array) -> None:
        """Go on from joints (n,) rad: what was sent where a supervisor changed the command.

        Unlike after ``reset``, the velocity and the tilt to keep stay, so that a motion that is
        slowed by half goes on at half its speed. What was not moved and turned is given up.
        """
        self._q = np.array(q, dtype=np.float64)
        self._clear_ticks = 0
        pin.forwardKinematics(self._model, self._data, self._q)
        placement = pin.updateFramePlacement(self._model, self._data, self._tool_id)
        self._p = placement.translation.tolist()
        approach = placement.rotation[:, 2]
        behind = float(pin.log3(self._R @ placement.rotation.T) @ approach)
        self._R = pin.exp3(approach * -behind) @ self._R

    def rollout(self, twist_world: Array, ticks: int) -> tuple[Array, Array]:
        """Advance the reference under a constant twist.

        Args:
            twist_world: (6,) linear m/s and angular rad/s of the tool, world axes.
            ticks: how many ticks to go.

        Returns:
            Joint targets (ticks, n) rad and their velocities (ticks, n) rad/s. ``rollout(t, 12)``
            is the same as twelve times ``rollout(t, 1)``. A twist that holds NaN gives targets of
            NaN, for the supervisor to refuse, and leaves the reference where it was.
        """
        q_out = np.empty((ticks, self._n))
        qd_out = np.empty((ticks, self._n))
        twist = np.asarray(twist_world, dtype=np.float64).tolist()
        if not all(map(math.isfinite, twist)):
            q_out.fill(math.nan)
            qd_out.fill(math.nan)
            return q_out, qd_out
        for q_row, qd_row in zip(q_out, qd_out, strict=True):
            self._tick(twist, q_row, qd_row)
        # The rows belong to the caller from here on.
        self._q, self._qd = self._q.copy(), self._qd.copy()
        return q_out, qd_out

    def _tick(self, twist: list[float], q_row: Array, qd_row: Array) -> None:
        """Advance by one tick and write the reference into two rows, which it then refers to."""
        v = self._v
        if v != twist:
            v = self._v = _ramp(v, twist, self._linear_step, self._angular_step)
        dt = self._dt
        J = pin.computeFrameJacobian(self._model, self._data, self._q, self._tool_id, _WORLD_AXES)
        wanted = self._wanted(v)
        normal = J.dot(J.T, self._normal)
        np.add(normal, self._damping, normal)
        self._ldlt.compute(normal)
        square = math.prod(self._ldlt.vectorD().tolist())
        if square < self._singular_square:
            near = 1.0 - math.sqrt(max(square, 0.0) / self._singular_square)
            self._ldlt.compute(normal + self._singular_damping * near**2)
        self._ldlt.solve(wanted).dot(J, qd_row)
        if self._clear_ticks <= 0:
            self._clear_ticks = self._limiter.clear_ticks(self._q, self._qd)
            if self._clear_ticks <= 0:
                self._without_stopped(J, wanted, qd_row)
        self._clear_ticks -= 1
        qd, share = self._limiter.limit(self._q, self._qd, qd_row, self._clear_ticks >= 0)
        if qd is not qd_row:
            qd_row[:] = qd
        self._qd = qd_row
        self._q = np.add(self._q, np.multiply(qd_row, self._dts, self._step_rad), q_row)
        # The reference advances only as far as the joints could follow.
        step = share * dt
        px, py, pz = self._p
        self._p = [px + v[0] * step, py + v[1] * step, pz + v[2] * step]
        if v[3] or v[4] or v[5]:
            if v is not self._turn_of or share != self._turn_share:
                self._turn = pin.exp3(np.array([v[3] * step, v[4] * step, v[5] * step]))
                self._turn_of, self._turn_share = v, share
            self._R = np.dot(self._turn, self._R)

    def _without_stopped(self, J: Array, wanted: Array, qd_row: Array) -> None:
        """Let the other joints do what those at their limits cannot, but for turning the hand.

        Else the whole arm would stop with the first joint, since what is wanted is scaled. The turn
        about the approach is given up: without the joint that makes it, the arm would have to
        contort itself.
        """
        stopped = self._limiter.at_end(self._q, qd_row)
        if not stopped.any():
            return
        J[:, stopped] = 0.0
        approach = self._tool_Rt[2]
        J[3:] -= np.outer(approach, approach @ J[3:])
        wanted[3:] -= approach * (approach @ wanted[3:])
        self._ldlt.compute(J @ J.T + self._singular_damping)
        self._ldlt.solve(wanted).dot(J, qd_row)

    def _wanted(self, v: list[float]) -> Array:
        """The twist (6,) to aim for: ``v`` and what takes back the reference pose's lead.

        A lead that is too long is cut; of the rotation only the commanded turn, never the tilt:
        the hand keeps its attitude to the table whatever the joints cannot follow.
        """
        x, y, z = self._tool_p.tolist()
        px, py, pz = self._p
        ex, ey, ez = px - x, py - y, pz - z
        square = ex * ex + ey * ey + ez * ez
        if square > self._max_lag_m * self._max_lag_m:
            f = self._max_lag_m / math.sqrt(square)
            ex, ey, ez = ex * f, ey * f, ez * f
            self._p = [x + ex, y + ey, z + ez]
        lead = self._R.dot(self._tool_Rt, self._lead)
        (_, m01, m02), (m10, _, m12), (m20, m21, _) = lead.tolist()
        # The rotation vector of a small turn; its sine beyond, which is as good for feedback.
        rx, ry, rz = 0.5 * (m21 - m12), 0.5 * (m02 - m20), 0.5 * (m10 - m01)
        v3, v4, v5 = v[3], v[4], v[5]
        if v3 or v4 or v5:
            speed = math.sqrt(v3 * v3 + v4 * v4 + v5 * v5)
            along = (rx * v3 + ry * v4 + rz * v5) / speed
            if abs(along) > self._max_lag_rad:
                excess = (along - math.copysign(self._max_lag_rad, along)) / speed
                rx, ry, rz = rx - excess * v3, ry - excess * v4, rz - excess * v5
                self._R = np.dot(pin.exp3(np.array(v[3:]) * -excess), self._R)
        g = self._feedback
        return np.array(
            [v[0] + g * ex, v[1] + g * ey, v[2] + g * ez, v3 + g * rx, v4 + g * ry, v5 + g * rz]
        )


def _ramp(
    now: list[float], wanted: list[float], linear_step: float, angular_step: float
) -> list[float]:
    """``now`` moved towards ``wanted``, straight, by at most one step for each half."""
    out: list[float] = []
    for start, step in ((0, linear_step), (3, angular_step)):
        a = now[start : start + 3]
        b = wanted[start : start + 3]
        d = [y - x for x, y in zip(a, b, strict=True)]
        length = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
        if length <= step:
            out += b
        else:
            f = step / length
            out += [x + f * y for x, y in zip(a, d, strict=True)]
    return out
