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

_AHEAD_S = 0.05
"""How long a plan is: a step of the policy."""

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
        jerk_share: share of the joints' jerk limits that is used.
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
    jerk_share: float = bounded(0.65, 0.05, 1.0)
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
        self._ahead = max(1, round(_AHEAD_S / dt))
        self._half_s = 0.5 * self._ahead * dt
        nth = np.arange(self._ahead)[:, None]
        self._ones = np.ones((self._ahead, 1))
        # How far the twist may have changed at each tick.
        most = [c.linear_acceleration_m_s2] * 3 + [c.angular_acceleration_rad_s2] * 3
        self._ways = (nth + 1) * dt * np.array(most)
        # What is taken back of the reference's lead at each tick of a plan, and is then gone.
        left = max(0.0, 1.0 - c.feedback_per_s * dt)
        self._decay = c.feedback_per_s * left**nth
        self._max_lag_m, self._max_lag_rad = c.max_lag_m, c.max_lag_rad
        # Views that follow the tool; fetching them at each tick costs as much as the Jacobian.
        placement = kinematics.placement
        self._tool_p, self._tool_Rt = placement.translation, placement.rotation.T
        self._ldlt = eigenpy.LDLT(6)
        self._normal = np.empty((6, 6))
        self._damping = np.eye(6) * c.damping
        self._singular_damping = np.eye(6) * c.singular_damping
        self._singular_square = c.singular_manipulability**2
        self._limiter = JointLimiter(
            joints, dt, c.velocity_share, c.acceleration_share, c.margin_rad, c.jerk_share
        )
        self.reset(limits.home_rad)

    @property
    def q_ref(self) -> Array:
        """(n,) rad: the joint reference after the last tick."""
        return np.array(self._plan_q[self._taken - 1] if self._taken else self._q)

    @property
    def qd_ref(self) -> Array:
        """(n,) rad/s: its velocity."""
        return np.array(self._plan_qd[self._taken - 1] if self._taken else self._qd)

    def reset(self, q: Array) -> None:
        """Start at rest at joints (n,) rad; the tool's orientation there is the one to keep.

        Raises:
            SteadyhandError: ``q`` has the wrong length or is not finite.
        """
        start = np.array(q, dtype=np.float64)
        if start.shape != (self._n,) or not np.isfinite(start).all():
            raise SteadyhandError(f"servo reset: expected {self._n} finite joints in rad, got {q}")
        self._q = start
        self._qd = self._qd_before = np.zeros(self._n)
        self._v = self._twist = [0.0] * 6
        self._forget_plan()
        placement = self._tool_placement()
        self._p: list[float] = placement.translation.tolist()
        self._R = np.array(placement.rotation)

    def follow(self, q: Array) -> None:
        """Go on from joints (n,) rad: what was sent where a supervisor changed the command.

        Unlike after ``reset``, the velocity and the tilt to keep stay, so that a motion that is
        slowed by half goes on at half its speed. What was not moved and turned is given up.
        """
        self._settle()
        self._q = np.array(q, dtype=np.float64)
        placement = self._tool_placement()
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
        if twist != self._twist:
            self._settle()
            self._twist = twist
        done = 0
        while done < ticks:
            if self._taken == len(self._plan_q):
                self._settle()
                self._plan(twist)
            first = self._taken
            more = min(ticks - done, len(self._plan_q) - first)
            self._taken += more
            q_out[done : done + more] = self._plan_q[first : self._taken]
            qd_out[done : done + more] = self._plan_qd[first : self._taken]
            done += more
        return q_out, qd_out

    def _tool_placement(self) -> pin.SE3:
        pin.forwardKinematics(self._model, self._data, self._q)
        return pin.updateFramePlacement(self._model, self._data, self._tool_id)

    def _forget_plan(self) -> None:
        self._plan_q = self._plan_qd = np.empty((0, self._n))
        self._plan_v = np.empty((0, 6))
        self._taken = 0

    def _settle(self) -> None:
        """Make what was taken of the plan the state to go on from, and forget the rest."""
        taken = self._taken
        if taken:
            self._qd_before = self._plan_qd[taken - 2] if taken > 1 else self._qd
            self._q, self._qd = self._plan_q[taken - 1], self._plan_qd[taken - 1]
            self._v = self._plan_v[taken - 1].tolist()
            # The reference advances only as far as the joints could follow.
            way = np.add.reduce(self._plan_v[:taken]) * (self._share * self._dt)
            x, y, z, a, b, c = way.tolist()
            px, py, pz = self._p
            self._p = [px + x, py + y, pz + z]
            if a or b or c:
                self._R = np.dot(pin.exp3(np.array([a, b, c])), self._R)
        self._forget_plan()

    def _plan(self, twist: list[float]) -> None:
        """Plan the ticks of a policy step under a twist: a single one where a limit binds.

        One Jacobian does for all, taken half-way: it changes by a few percent meanwhile, and what
        that leaves of an error the next plan's feedback takes back.
        """
        v = self._ramp(twist)
        self._tool_placement()
        wanted: Array = v + self._decay * self._lead(v[0].tolist())
        _, qd = self._solve(self._q + self._qd * self._half_s, wanted)
        share = 1.0
        limiter, before = self._limiter, self._qd_before
        if not limiter.free(self._q, self._qd, qd, before):
            J, qd = self._solve(self._q, wanted[:1])
            one = self._without_stopped(J, wanted[0], qd[0])
            one, share = limiter.limit(self._q, self._qd, one)
            qd = limiter.ease(self._q, before, self._qd, one)[None]
        q = np.add.accumulate(qd)
        q *= self._dt
        q += self._q
        self._plan_q, self._plan_qd, self._plan_v, self._share = q, qd, v, share

    def _solve(self, q: Array, wanted: Array) -> tuple[Array, Array]:
        """The tool's Jacobian (6, n) at joints (n,), and rates (ticks, n) for twists (ticks, 6)."""
        J = pin.computeFrameJacobian(self._model, self._data, q, self._tool_id, _WORLD_AXES)
        normal = J.dot(J.T, self._normal)
        np.add(normal, self._damping, normal)
        self._ldlt.compute(normal)
        square = math.prod(self._ldlt.vectorD().tolist())
        if square < self._singular_square:
            near = 1.0 - math.sqrt(max(square, 0.0) / self._singular_square)
            self._ldlt.compute(normal + self._singular_damping * near**2)
        return J, self._ldlt.solve(wanted.T).T.reshape(-1, 6).dot(J)

    def _ramp(self, twist: list[float]) -> Array:
        """(ticks, 6): the coming twists, straight to the wanted one as fast as they may change."""
        if self._v == twist:
            return self._ones * twist
        a, b, c, d, e, f = (to - now for now, to in zip(self._v, twist, strict=True))
        linear, angular = math.sqrt(a * a + b * b + c * c), math.sqrt(d * d + e * e + f * f)
        linear, angular = 1.0 / max(linear, 1e-12), 1.0 / max(angular, 1e-12)
        rows = self._ways * [linear, linear, linear, angular, angular, angular]
        np.minimum(rows, 1.0, out=rows)
        rows *= [a, b, c, d, e, f]
        rows += self._v
        return np.asarray(rows)

    def _without_stopped(self, J: Array, wanted: Array, qd: Array) -> Array:
        """Let the other joints do what those at their limits cannot, but for turning the hand.

        Else the whole arm would stop with the first joint, since what is wanted is scaled. The turn
        about the approach is given up: without the joint that makes it, the arm would have to
        contort itself.
        """
        stopped = self._limiter.at_end(self._q, qd)
        if not stopped.any():
            return qd
        J[:, stopped] = 0.0
        approach = self._tool_Rt[2]
        J[3:] -= np.outer(approach, approach @ J[3:])
        wanted[3:] -= approach * (approach @ wanted[3:])
        self._ldlt.compute(J @ J.T + self._singular_damping)
        return np.asarray(self._ldlt.solve(wanted).dot(J))

    def _lead(self, v: list[float]) -> list[float]:
        """How far, (6,) m and rad, the reference pose is ahead of the arm's.

        A lead that is too long is cut; of the rotation only the commanded turn of ``v``, never the
        tilt: the hand keeps its attitude to the table whatever the joints cannot follow.
        """
        x, y, z = self._tool_p.tolist()
        px, py, pz = self._p
        ex, ey, ez = px - x, py - y, pz - z
        square = ex * ex + ey * ey + ez * ez
        if square > self._max_lag_m * self._max_lag_m:
            f = self._max_lag_m / math.sqrt(square)
            ex, ey, ez = ex * f, ey * f, ez * f
            self._p = [x + ex, y + ey, z + ez]
        lead = self._R.dot(self._tool_Rt)
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
        return [ex, ey, ez, rx, ry, rz]
