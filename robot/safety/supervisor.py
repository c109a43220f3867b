"""The last word before the motors: every command passes here, in training and in deployment."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robot.errors import SafetyError
from robot.geometry import all_finite
from robot.interface import SafetyMonitor
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.safety import suite
from robot.safety.braking import Brake
from robot.safety.config import SafetyConfig
from robot.safety.envelope import Envelope
from robot.safety.readings import FiniteMonitor
from robot.safety.sent import Sent
from robot.safety.signals import Signals
from robot.safety.slowing import Slowing
from robot.safety.tick import Tick
from robot.safety.verdict import halt, slow
from robot.types import OK, GripperCommand, RobotState, SafetyVerdict, VerdictLevel

__all__ = ["SafetyConfig", "Supervisor"]

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)

_TRIED_TICKS = 60
_TOO_SOON = slow(1.0, "command: more than one within a controller period")


class Supervisor:
    """Takes the worst verdict of all monitors and applies it.

    A HALT brakes, or stops at once where the arm ran into something, and latches until
    :meth:`reset`. One tick at a time or many in one batch give the same commands as long as no
    limit is active.

    Args:
        limits: of the arm.
        kinematics: of the arm; used for the workspace, so one thread only.
        config: see :class:`SafetyConfig`; all monitors are on unless it says otherwise.
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
        self.signals = Signals()
        self._n = limits.joints.count
        self._sent = Sent(self._n)
        jerk = c.jerk_share if "jerk" not in c.off else None
        self._slowing = Slowing(limits.joints, c.tick_s, jerk)
        self._brake = Brake(limits.joints, c.tick_s, c.jerk_share)
        self._tick = Tick(kinematics, self._sent, limits.joints, c)
        #: The monitors that are on, by name.
        self.monitors = suite.make(limits, kinematics, c, self._sent, self._tick, self.signals)
        self._all: list[SafetyMonitor] = [*self.monitors.values(), *extra]
        # The dear ones take turns at single ticks; in between, what they said last stands.
        self._kept: dict[SafetyMonitor, SafetyVerdict] = {}
        self._turn, self._verdict = 0, OK
        first = self.monitors.get("finite")
        self._first = first if isinstance(first, FiniteMonitor) else None
        self._ticks = any(name in self.monitors for name in suite.NEED_TICK)
        self._envelope = Envelope(limits, c)
        # Each with the turn at which it is not asked; first those beyond the finite one.
        self._beyond_first, self._beyond_batch, self._beyond_tick = (
            [
                *((m, suite.TURNS.get(n)) for n, m in self.monitors.items() if n not in within),
                *((monitor, None) for monitor in extra),
            ]
            for within in (("finite",), Envelope.BATCH, Envelope.TICK)
        )
        self._speed = limits.joints.velocity_rad_s * (1.0 + c.tolerance)
        self._gripper = limits.gripper
        self._state: RobotState | None = None
        self._latched: SafetyVerdict | None = None
        self._out: tuple[Array, Array] | None = None
        self._asked_s, self._earned = -math.inf, 0.0

    @property
    def verdict(self) -> SafetyVerdict:
        """The newest verdict, complete."""
        return self._latched or self._verdict

    @property
    def halted(self) -> bool:
        """Whether a HALT is latched."""
        return self._latched is not None

    @property
    def at_rest(self) -> bool:
        """Whether what was last sent stands still: after a HALT, whether it has braked."""
        return self._sent.at_rest

    @property
    def wants_look(self) -> bool:
        """Whether the policy sees what is unlike anything before, so that a look is worth it."""
        novelty = self.signals.novelty if "novelty" in self.monitors else None
        return novelty is not None and not novelty <= self.config.novelty_most

    @property
    def pressed(self) -> Array:
        """(6,) N and N·m, world: what the tool presses with; zeros where ``contact`` is off."""
        return self._tick.contact[2] if "contact" in self.monitors else np.zeros(6)

    def estop(self, reason: str = "emergency stop") -> None:
        """Halt from the next tick on and stay so until :meth:`reset`; from any thread."""
        self._latch(halt(f"e-stop: {reason}"))

    def reset(
        self,
        q: Array | None = None,
        state: RobotState | None = None,
        now_s: float | None = None,
    ) -> None:
        """Release a latched HALT by hand.

        Args:
            q: (n,) rad from which the commands go on, at rest. When None, the last sent joints if
                there are any, else those that the first command starts from.
            state: the newest reading. Where it, or what the loop signals, would halt an arm at
                rest, the HALT stays. Without it, the next command halts again.
            now_s: the time on the clock that stamps the state; the state's own when None.

        Raises:
            SafetyError: ``q`` has the wrong length or is not finite, or the cause is not gone.
        """
        if q is not None:
            start = np.array(q, dtype=np.float64)
            if start.shape != (self._n,) or not np.isfinite(start).all():
                raise SafetyError(f"supervisor reset: expected {self._n} finite joints, got {q}")
            self._sent.rest_at(start)
        elif self._sent.known:
            self._sent.rest_at(self._sent.position_rad)
        self._forget()
        before = self._latched
        if state is not None and self._sent.known:
            self._try_rest(state, state.stamp_s if now_s is None else now_s)
            self._forget()
        self._state = None
        if self._latched is before:  # not stopped anew meanwhile
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

    def prepare(self, state: RobotState, q_command: Array) -> None:
        """Reckon what several monitors share, so that each can be asked for itself."""
        self._sent.forget_moved()
        self._tick.begin(state, q_command)

    def filter(
        self,
        state: RobotState | None,
        q_command: Array,
        qd: Array,
        now_s: float,
        gripper: GripperCommand | None = None,
    ) -> tuple[Array, Array, SafetyVerdict]:
        """What may be sent instead of a command, and why; takes it as sent.

        On OK the very arrays that came in. Where commands come faster than their ticks pass, some
        get the answer of the one before. On SCALE the motion from the last sent joints, shrunk
        and cut to the joints' velocity, acceleration, jerk and position limits. On HALT each
        joint's shortest way to rest within its limits, from the last sent joints (before the first
        command, the measured ones; where the arm ran into something, these, at rest).

        Args:
            state: the newest reading; None where it went missing, then the one before ages on.
            q_command: (ticks, n) rad, joint targets of the coming ticks.
            qd: (ticks, n) rad/s, their feed-forward.
            now_s: the time on the clock that stamps the state.
            gripper: what the gripper is told beside them; see :meth:`grip`.

        Returns:
            (ticks, n) rad, (ticks, n) rad/s, the verdict. When the verdict is not OK, a controller
            that keeps a reference must go on from the last row (``CartesianServo.follow``).

        Raises:
            SafetyError: halted before any state was read, so that there is nothing to hold.
        """
        if self._too_soon(len(q_command), now_s) and self._out is not None:
            self._state = state if state is not None else self._state
            return (*self._out, self._latched or _TOO_SOON)
        self.signals.gripper_command = gripper
        verdict = self.check(state, q_command, qd, now_s)
        if verdict.level is VerdictLevel.HALT:
            self._out = self._braking(q_command)
            return (*self._out, verdict)
        if verdict.level is VerdictLevel.SCALE:
            q_command, qd = self._slowing.follow(self._sent, q_command, qd, verdict.scale)
        self._remember(q_command)
        self._out = q_command, qd
        return q_command, qd, verdict

    def grip(self, command: GripperCommand, last: GripperCommand) -> GripperCommand:
        """The gripper's command as it may be sent: the very one within limits, else cut to them.

        Where a HALT is latched, or a number is none, the last one stays: a hand that holds goes on
        holding.
        """
        if self._latched is not None:
            return last
        most_m, most_n = self._gripper.max_opening_m, self._gripper.max_force_n
        if 0.0 <= command.opening_m <= most_m and command.force_n <= most_n:
            return command
        opening_m = min(max(command.opening_m, 0.0), most_m)
        return GripperCommand(opening_m, min(command.force_n, most_n))

    def _try_rest(self, state: RobotState, now_s: float) -> None:
        """Raises ``SafetyError`` where an arm at rest that reads this would be halted."""
        rest = self._sent.position_rad[None]
        # Again and again, for monitors that smooth or count what they read; each time as a new one.
        for _ in range(_TRIED_TICKS):
            verdict = self._worst(replace(state), rest, np.zeros_like(rest), now_s)
            if verdict.level is VerdictLevel.HALT:
                self._latch(verdict)
                raise SafetyError(f"supervisor reset: the cause is not gone: {verdict.reason}")

    def _too_soon(self, ticks: int, now_s: float) -> bool:
        """Whether commands outrun time: each counts as a tick of motion, and time earns ticks.

        One that came late may be followed by one too early.
        """
        earned, self._asked_s = (now_s - self._asked_s) / self.config.tick_s, now_s
        most = ticks + 0.25
        if not 0.0 <= earned < most:  # a first command, a pause, or a clock that was set
            self._earned = most
        else:
            self._earned = min(self._earned + earned, most)
        if self._earned < ticks - 0.5:
            return True
        self._earned -= ticks
        return False

    def _forget(self) -> None:
        self._asked_s = -math.inf
        self._tick.forget()
        self._kept.clear()
        self._turn = 0  # the same motion gets the same verdicts, whatever came before
        for monitor in self._all:
            forget = getattr(monitor, "forget", None)
            if forget is not None:
                forget()

    def _worst(self, state: RobotState | None, q: Array, qd: Array, now_s: float) -> SafetyVerdict:
        if state is None:
            return halt("stale input: no state was ever read")
        self._sent.forget_moved()
        turn = self._turn = self._turn ^ 1
        monitor: object = self
        worst, first = OK, self._first
        try:
            if (first is None or first.sound(state)) and self._envelope.holds(q, qd, self._sent):
                monitors = self._beyond_tick if len(q) == 1 else self._beyond_batch
            else:
                monitors = self._beyond_first
                if first is not None:
                    monitor = first
                    worst = first.check(state, q, now_s)
                if worst.level is VerdictLevel.OK:
                    worst = self._feed_forward(state, q, qd)
                if first is not None and worst.level is VerdictLevel.HALT:
                    return worst  # the others could not reckon with such numbers
            if self._ticks:
                self._tick.begin(state, q)
            kept = self._kept
            for monitor, its_turn in monitors:
                if its_turn is None:
                    verdict = monitor.check(state, q, now_s)
                elif its_turn == turn and monitor in kept:
                    verdict = kept[monitor]
                else:
                    verdict = kept[monitor] = monitor.check(state, q, now_s)
                if verdict is OK:
                    continue
                if not 0.0 <= verdict.scale <= 1.0:
                    return halt(f"monitor {type(monitor).__name__} gave scale {verdict.scale}")
                if (verdict.level, -verdict.scale) > (worst.level, -worst.scale):
                    worst = verdict
        except Exception as error:  # whatever a monitor fails with, the arm must stop
            _log.exception("a safety monitor failed")
            return halt(f"monitor {type(monitor).__name__} failed: {error}")
        return worst

    def _feed_forward(self, state: RobotState, q: Array, qd: Array) -> SafetyVerdict:
        """Judges the velocities; at the very first command also where it starts from."""
        if self._first is not None and (qd.shape != q.shape or not all_finite(qd)):
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
        if verdict.at_once and self._state is not None:
            self._sent.rest_at(self._state.joints.position_rad)
        _log.warning("HALT: %s", verdict.reason)

    def _braking(self, q_command: Array) -> tuple[Array, Array]:
        sent = self._sent
        if not sent.known:
            if self._state is None:
                raise SafetyError("supervisor: halted before any state was read: nothing to hold")
            sent.rest_at(self._state.joints.position_rad)
        ticks = max(1, q_command.shape[0] if np.ndim(q_command) == 2 else 1)
        q_out, qd_out = np.empty((ticks, self._n)), np.empty((ticks, self._n))
        for k in range(ticks):
            if not sent.at_rest:
                sent.advance(*self._brake.next(sent))
            q_out[k], qd_out[k] = sent.position_rad, sent.velocity_rad_s
        return q_out, qd_out

    def _remember(self, q: Array) -> None:
        dt, sent = self.config.tick_s, self._sent
        two_before = q[-3] if len(q) > 2 else sent.position_rad
        before = (q[-2] - two_before) / dt if len(q) > 1 else None
        sent.advance(q[-1].copy(), sent.velocity_to(q, dt), before)
