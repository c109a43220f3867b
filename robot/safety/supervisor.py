"""The last word before the motors: every command passes here, in training and in deployment."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot.errors import SafetyError
from robot.execution.limiter import JointLimiter
from robot.geometry import all_finite
from robot.interface import SafetyMonitor
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.safety.envelope import Envelope
from robot.safety.monitors import (
    AccelerationMonitor,
    FiniteMonitor,
    PositionMonitor,
    SafetyConfig,
    Sent,
    StaleMonitor,
    VelocityMonitor,
    WorkspaceMonitor,
    halt,
    slow,
)
from robot.types import OK, RobotState, SafetyVerdict, VerdictLevel

__all__ = ["SafetyConfig", "Supervisor"]

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)


class Supervisor:
    """Takes the worst verdict of all monitors and applies it.

    A HALT latches until :meth:`reset`. One tick at a time or many in one batch give the same
    commands as long as no limit is active.

    Args:
        limits: of the arm.
        kinematics: of the arm; used for the workspace, so one thread only.
        config: see :class:`SafetyConfig`.
        extra: further monitors, asked after the built-in ones.
    """

    def __init__(
        self,
        limits: RobotLimits,
        kinematics: Kinematics,
        config: SafetyConfig | None = None,
        extra: Sequence[SafetyMonitor] = (),
    ) -> None:
        self.config = c = config if config is not None else SafetyConfig()
        self._n = limits.joints.count
        self._sent = Sent(self._n)
        self._limiter = JointLimiter(limits.joints, c.tick_s)
        self._first = FiniteMonitor(limits)
        stale = StaleMonitor(c)
        workspace = WorkspaceMonitor(limits, kinematics, c, self._sent)
        self._monitors: list[SafetyMonitor] = [
            self._first,
            stale,
            PositionMonitor(limits, c, self._sent),
            VelocityMonitor(limits, c, self._sent),
            AccelerationMonitor(limits, c, self._sent),
            workspace,
            *extra,
        ]
        self._envelope = Envelope(limits, c)
        self._beyond_envelope: list[SafetyMonitor] = [stale, workspace, *extra]
        self._speed = limits.joints.velocity_rad_s * (1.0 + c.tolerance)
        self._state: RobotState | None = None
        self._latched: SafetyVerdict | None = None
        self._verdict = OK

    @property
    def verdict(self) -> SafetyVerdict:
        """The newest verdict, complete."""
        return self._verdict

    @property
    def halted(self) -> bool:
        """Whether a HALT is latched."""
        return self._latched is not None

    @property
    def last_sent_rad(self) -> Array | None:
        """(n,) joints that were last let through or held, None before the first command."""
        return self._sent.position_rad.copy() if self._sent.known else None

    def estop(self, reason: str = "emergency stop") -> None:
        """Halt now and stay so until :meth:`reset`."""
        self._latch(halt(f"e-stop: {reason}"))

    def reset(self, q: Array | None = None) -> None:
        """Release a latched HALT by hand, its cause gone (if not, the next command halts again).

        Args:
            q: (n,) rad from which the commands go on, at rest. When None, the last sent joints if
                there are any, else those that the first command starts from.

        Raises:
            SafetyError: ``q`` has the wrong length or is not finite.
        """
        if q is not None:
            start = np.array(q, dtype=np.float64)
            if start.shape != (self._n,) or not np.isfinite(start).all():
                raise SafetyError(f"supervisor reset: expected {self._n} finite joints, got {q}")
            self._sent.rest_at(start)
        elif self._sent.known:
            self._sent.rest_at(self._sent.position_rad)
        self._state = None
        self._latched = None
        self._verdict = OK

    def check(
        self, state: RobotState | None, q_command: Array, qd: Array, now_s: float
    ) -> SafetyVerdict:
        """The worst verdict on coming commands; a HALT latches, the command is not taken as sent.

        Args:
            state: the newest reading; None where it went missing, then the one before ages on.
            q_command: (ticks, n) rad, joint targets of the coming ticks.
            qd: (ticks, n) rad/s, their feed-forward.
            now_s: the time on the clock that stamps the state.
        """
        state = self._state = state if state is not None else self._state
        verdict = self._latched
        if verdict is None:
            verdict = self._worst(state, q_command, qd, now_s)
            if verdict.level is VerdictLevel.HALT:
                self._latch(verdict)
        self._verdict = verdict
        return verdict

    def filter(
        self, state: RobotState | None, q_command: Array, qd: Array, now_s: float
    ) -> tuple[Array, Array, SafetyVerdict]:
        """What may be sent instead of a command, and why; takes it as sent.

        On OK the very arrays that came in. On SCALE the motion from the last sent joints, shrunk
        and cut to the joints' velocity, acceleration and position limits. On HALT the last sent
        joints (before the first command, the measured ones) at rest.

        Args:
            state: the newest reading; None where it went missing, then the one before ages on.
            q_command: (ticks, n) rad, joint targets of the coming ticks.
            qd: (ticks, n) rad/s, their feed-forward.
            now_s: the time on the clock that stamps the state.

        Returns:
            (ticks, n) rad, (ticks, n) rad/s, the verdict. When the verdict is not OK, a controller
            that keeps a reference must go on from the last row (``CartesianServo.follow``).

        Raises:
            SafetyError: halted before any state was read, so that there is nothing to hold.
        """
        verdict = self.check(state, q_command, qd, now_s)
        if verdict.level is VerdictLevel.HALT:
            return (*self._hold(q_command), verdict)
        if verdict.level is VerdictLevel.SCALE:
            q_command, qd = self._shrink(q_command, qd, verdict.scale)
        self._remember(q_command)
        return q_command, qd, verdict

    def _worst(self, state: RobotState | None, q: Array, qd: Array, now_s: float) -> SafetyVerdict:
        if state is None:
            return halt("stale input: no state was ever read")
        self._sent.forget_moved()
        monitor: object = self
        worst = OK
        try:
            monitors = self._monitors
            if self._first.sound(state) and self._envelope.holds(q, qd, self._sent):
                monitors = self._beyond_envelope
            for monitor in monitors:
                verdict = monitor.check(state, q, now_s)
                if verdict is OK and monitor is not self._first:
                    continue
                if not 0.0 <= verdict.scale <= 1.0:
                    return halt(f"monitor {type(monitor).__name__} gave scale {verdict.scale}")
                if (verdict.level, -verdict.scale) > (worst.level, -worst.scale):
                    worst = verdict
                if monitor is self._first:
                    if worst.level is VerdictLevel.OK:
                        worst = self._feed_forward(state, q, qd)
                    if worst.level is VerdictLevel.HALT:
                        return worst  # the others could not reckon with such numbers
        except Exception as error:  # whatever a monitor fails with, the arm must stop
            _log.exception("a safety monitor failed")
            return halt(f"monitor {type(monitor).__name__} failed: {error}")
        return worst

    def _feed_forward(self, state: RobotState, q: Array, qd: Array) -> SafetyVerdict:
        """Judges the velocities; at the very first command also where it starts from."""
        if qd.shape != q.shape or not all_finite(qd):
            return halt(f"command: velocities must be finite and of shape {q.shape}")
        if not self._sent.known:
            start = q[0] - qd[0] * self.config.tick_s
            gap = np.abs(start - state.joints.position_rad)
            j = int(gap.argmax())
            if gap[j] > self.config.start_tolerance_rad:
                return halt(
                    f"joint {j + 1}: first command starts {gap[j]:.3f} rad from where the joint "
                    f"is, limit {self.config.start_tolerance_rad:g}"
                )
            self._sent.rest_at(start)
        if np.count_nonzero(np.abs(qd) <= self._speed) != qd.size:
            return slow(1.0, "command: velocities are above the joints' limits")
        return OK

    def _latch(self, verdict: SafetyVerdict) -> None:
        self._latched = self._verdict = verdict
        _log.warning("HALT: %s", verdict.reason)

    def _hold(self, q_command: Array) -> tuple[Array, Array]:
        sent = self._sent
        if not sent.known and self._state is None:
            raise SafetyError("supervisor: halted before any state was read: nothing to hold")
        if not sent.known and self._state is not None:
            sent.rest_at(self._state.joints.position_rad)
        sent.rest_at(sent.position_rad)
        ticks = max(1, q_command.shape[0] if np.ndim(q_command) == 2 else 1)
        return np.tile(sent.position_rad, (ticks, 1)), np.zeros((ticks, self._n))

    def _remember(self, q: Array) -> None:
        before = q[-2] if len(q) > 1 else self._sent.position_rad
        self._sent.advance(q[-1].copy(), (q[-1] - before) / self.config.tick_s)

    def _shrink(self, q: Array, qd: Array, scale: float) -> tuple[Array, Array]:
        """The motion from the last sent joints, shrunk by ``scale`` and within the joint limits."""
        dt, limiter = self.config.tick_s, self._limiter
        start = self._sent.position_rad
        targets = start + scale * (q - start)
        q_out, qd_out = np.empty_like(targets), np.empty_like(targets)
        position, velocity, before = start, self._sent.velocity_rad_s, start
        for k, target in enumerate(targets):
            # Follow the target's own speed, and close what is behind no faster than can be
            # stopped, or a joint that has to catch up would overshoot.
            rate = (target - before) / dt
            if k == 0:
                allowed = np.abs(qd[0]) * scale + limiter.stoppable(np.abs(target - start))
                rate = np.minimum(np.maximum(rate, -allowed), allowed)
            else:
                gap = before - position
                catch_up = np.minimum(np.abs(gap) / dt, limiter.stoppable(np.abs(gap)))
                rate = rate + np.copysign(catch_up, gap)
            velocity, _ = limiter.limit(position, velocity, rate)
            position = position + velocity * dt
            q_out[k], qd_out[k] = position, velocity
            before = target
        return q_out, qd_out
