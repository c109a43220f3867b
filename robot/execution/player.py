"""Plays joint motions tick by tick under the supervisor: the only way to the robot's ``send``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from robot.errors import SafetyError, SteadyhandError
from robot.execution.grasp import GraspLoop
from robot.execution.guard import MotionGuard
from robot.execution.states import MotionTrouble, PathBlocked, Trouble
from robot.geometry import all_finite
from robot.interface import Clock, Robot
from robot.planning.obstacles import Box
from robot.safety.supervisor import Supervisor
from robot.types import (
    GripperCommand,
    GripperState,
    JointCommand,
    Pose,
    RobotState,
    SafetyVerdict,
    Trajectory,
    VerdictLevel,
)

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)

TICK_S = 1.0 / 240.0
_LONGEST_BRAKING_TICKS = 240

# Share of the speed given up in one tick: from full speed to rest in 0.15 s.
_SLOWING = 1.0 / 36
# What is in the way of a motion is asked so often: 20 times a second.
_LOOK_TICKS = 12
_CALM_S = 0.1
# A trajectory waits for an arm that monitors hold back further than this, and is given up where
# that took so long in all.
_FURTHEST_RAD = 0.1
_HELD_TICKS = 720

T = TypeVar("T")
Motion = Generator[tuple[Array, Array], SafetyVerdict, T]
"""A motion asks for one tick's joints (n,) rad and rad/s after the other, gets the verdict on
each, and returns how it ended. Whoever drives it decides when the next tick is due."""


class TickLog(Protocol):
    """Who is told of every tick: a ``RunLog``, say."""

    @property
    def recorder(self) -> object | None:
        """Something, where the tool's pose is wanted too."""

    def state(
        self,
        stamp_s: float,
        state: RobotState,
        q_command: Array | None,
        verdict: SafetyVerdict,
        phase: str,
        *,
        qd_command: Array | None = None,
        gripper: GripperCommand | None = None,
        X_world_tool: Pose | None = None,
    ) -> None:
        """One control tick."""

    def policy(self, observation: NDArray[np.float32], action: NDArray[np.float32]) -> None:
        """One step of the policy."""


class Player:
    """One control tick after the other: judge, send, wait, read.

    A caller that may block calls ``run``, ``play``, ``hold`` and ``tick``. A loop that has its own
    pace drives a :data:`Motion` itself, with ``command`` and ``advance`` for each tick.

    Args:
        robot: is commanded.
        clock: paces the ticks.
        supervisor: passes, slows or halts every tick.
        loop: feels the fingers.
        log: gets every tick.
        guard: may end a planned motion before its time; without one it runs to its end.
    """

    def __init__(
        self,
        robot: Robot,
        clock: Clock,
        supervisor: Supervisor,
        loop: GraspLoop,
        log: TickLog | None = None,
        guard: MotionGuard | None = None,
    ) -> None:
        self.robot = robot
        self.clock = clock
        self.supervisor = supervisor
        self.loop = loop
        self.log = log
        self.guard = guard
        self.phase = "idle"
        self.gripper = self._gripped = loop.gripper.command(loop.limits.gripper.max_opening_m)
        self._felt: GripperState | None = None
        self._acted_s: float | None = None
        #: Asked several times a second with the joints (m, n) rad that are still to come: what
        #: stands in their way, or None.
        self.blocked: Callable[[Array], str | None] | None = None
        self._in_the_way = ""
        self._stopped = False
        self.sync()

    def sync(self) -> None:
        """Read the robot and go on from where it stands, at rest.

        Raises:
            SafetyError: the supervisor halted, and what made it halt is still there.
        """
        self.state: RobotState = self.robot.read()
        self._fresh: RobotState | None = self.state
        self.q_sent: Array = self.state.joints.position_rad.copy()
        self.qd_sent: Array = np.zeros_like(self.q_sent)
        self._felt = self._acted_s = None
        signals = self.supervisor.signals
        signals.gripper = signals.gripper_command = signals.policy_stamp_s = signals.held = None
        self.supervisor.reset(self.q_sent, self.state, self.clock.now_s())

    def tick(self, q: Array, qd: Array) -> SafetyVerdict:
        """Send one tick's joints (n,) rad and rad/s as far as the supervisor lets them.

        Raises:
            SafetyError: the supervisor halted; the arm has braked and was told to stop.
        """
        verdict = self.command(q, qd)
        self.advance()
        if verdict.level is VerdictLevel.HALT:
            self._rest()
            raise SafetyError(f"halted: {verdict.reason}")
        return verdict

    def _rest(self) -> None:
        """Halted: bring the arm to rest, as far as it still answers, and have it stay there."""
        q, qd = self.q_sent, np.zeros_like(self.q_sent)  # the supervisor has its own way
        calm = 0
        for _ in range(_LONGEST_BRAKING_TICKS):
            calm = 0 if self._strained else calm + 1
            if self.supervisor.at_rest and (calm * TICK_S > _CALM_S or not self._stopped):
                break
            self.command(q, qd)
            self.advance()
        self.robot.stop()

    def command(self, q: Array, qd: Array) -> SafetyVerdict:
        """The first half of a tick: what is left of a command goes to the robot.

        After a HALT that is the way to rest, one tick of it at each call, whatever is asked for. An
        arm that ran into something is told to stop instead, and as long as a motor strains it is
        told so anew: it gives way, and does not go on pressing.
        """
        now, supervisor, loop = self.clock.now_s(), self.supervisor, self.loop
        signals = supervisor.signals
        signals.gripper, signals.held = self._felt, loop.held
        acts = self.phase == "grasp" and loop.acting
        signals.policy_stamp_s = self._acted_s if acts else None
        qs, qds, verdict = supervisor.filter(self._fresh, q[None], qd[None], now, self.gripper)
        self._gripped = supervisor.grip(self.gripper, self._gripped)
        if not verdict.at_once:
            self.robot.send(JointCommand(qs[0], qds[0]), self._gripped)
        elif self._strained or not self._stopped:
            self.robot.stop()
        self._stopped = verdict.at_once
        self.q_sent, self.qd_sent = qs[0], qds[0]
        if self.log is not None:
            self.log.state(
                now,
                self.state,
                qs[0],
                verdict,
                self.phase,
                qd_command=qds[0],
                gripper=self._gripped,
                X_world_tool=self._tool() if self.log.recorder is not None else None,
            )
        return verdict

    def _tool(self) -> Pose | None:
        """Where the tool is; None where a reading without a number tells nothing.

        What is noted about a halt must not keep the arm from braking.
        """
        q = self.state.joints.position_rad
        return self.loop.kinematics.forward(q) if all_finite(q) else None

    def advance(self, until_s: float | None = None) -> None:
        """The second half: wait for the next tick, read the robot, feel the fingers.

        Args:
            until_s: when that is due; a tick from now when None, which suits simulated time.
        """
        self.clock.sleep_until(self.clock.now_s() + TICK_S if until_s is None else until_s)
        try:
            self.state = self._fresh = self.robot.read()
        except SteadyhandError as error:  # a lost reading; the supervisor lets the last one age
            _log.warning("lost a reading: %s", error)
            self._fresh = None
        else:
            grip = self.state.gripper
            self._felt = self.loop.feel([(grip.opening_m, grip.force_n)])

    @property
    def _strained(self) -> bool:
        """Whether a motor gives all it has."""
        return bool(self.loop.limits.joints.strained(self.state.joints.effort_nm).any())

    def run(self, motion: Motion[T]) -> T:
        """Drive a motion to its end, tick by tick; raises as ``tick`` does."""
        verdict: SafetyVerdict | None = None
        while True:
            try:
                wanted = next(motion) if verdict is None else motion.send(verdict)
            except StopIteration as end:
                result: T = end.value
                return result
            except SafetyError:  # of the motion itself, between two ticks
                if self.supervisor.halted:
                    self._rest()
                raise
            verdict = self.tick(*wanted)

    def see(self, boxes: Sequence[Box]) -> None:
        """What stands around the arm from now on, for the monitors that keep a distance."""
        self.supervisor.signals.see(boxes)

    def play(self, trajectory: Trajectory) -> None:
        """Follow a trajectory; where the supervisor slows it, its time runs slower.

        Raises:
            PathBlocked: something came into its way; the arm has come to rest before it.
            MotionTrouble: the guard ended it; the arm has come to rest on its way.
        """
        trouble = self.run(self.playing(trajectory))
        if self._in_the_way:
            self.hold(_CALM_S)
            raise PathBlocked(self._in_the_way)
        if trouble is not None:
            raise MotionTrouble(trouble)

    def hold(self, seconds: float) -> None:
        """Stand still where the last command was."""
        self.run(self.holding(seconds))

    def playing(self, trajectory: Trajectory) -> Motion[Trouble | None]:
        """The motion along a trajectory, until the arm has come to rest at its end.

        Where the guard finds trouble, or something is in the way, the arm slows down on its way,
        and stays there.
        """
        self._in_the_way = ""
        time_s = trajectory.time_s
        if len(time_s) < 2:
            return None
        guard, trouble = self.guard, None
        # One that begins in motion, as a way back does, is joined from rest.
        speed = 0.0 if np.abs(trajectory.velocity_rad_s[0]).max() > 1e-6 else 1.0
        if guard is not None:
            guard.begin()
        at, allowed, scale = 0.0, 1.0, max(speed, _SLOWING)
        ticks = held = 0
        rest = np.zeros(trajectory.position_rad.shape[1])
        while at < trajectory.duration_s:
            at = min(at + TICK_S * scale, trajectory.duration_s)
            k = min(int(np.searchsorted(time_s, at, side="right")), len(time_s) - 1)
            share = (at - time_s[k - 1]) / (time_s[k] - time_s[k - 1])
            q, v = trajectory.position_rad, trajectory.velocity_rad_s
            due = q[k - 1] + share * (q[k] - q[k - 1])
            verdict = yield due, scale * (v[k - 1] + share * (v[k] - v[k - 1]))
            # Slower at once, and faster again no sooner than joints may speed up.
            most = verdict.scale if verdict.level is VerdictLevel.SCALE else 1.0
            allowed = max(min(most, allowed + _SLOWING), 0.02)
            if np.abs(due - self.q_sent).max() > _FURTHEST_RAD:
                allowed, held = 0.0, held + 1
                if held > _HELD_TICKS:
                    trouble = trouble or Trouble.TOO_LONG
            wanted = 1.0
            if guard is not None:
                trouble = trouble or guard.check(self.state, self.q_sent, verdict)
                if guard.slipping:
                    self.press_harder()
                wanted = guard.speed
            ticks += 1
            if self.blocked is not None and trouble is None and ticks % _LOOK_TICKS == 0:
                ahead = trajectory.position_rad[k:]
                self._in_the_way = self.blocked(ahead) or ""
                trouble = Trouble.BLOCKED_PATH if self._in_the_way else None
            wanted = 0.0 if trouble is not None else wanted
            speed += min(max(wanted - speed, -_SLOWING), _SLOWING)
            if speed <= 0.0:
                return trouble
            scale = allowed * speed
        goal = trajectory.position_rad[-1]
        for _ in range(72):  # commands may be late; go on when the arm has come to rest
            if np.abs(self.state.joints.position_rad - goal).max() < 2e-3 and (
                np.abs(self.state.joints.velocity_rad_s).max() < 0.01
            ):
                break
            yield goal, rest
        return trouble

    def holding(self, seconds: float) -> Motion[None]:
        """The motion that stands still."""
        rest = np.zeros_like(self.q_sent)
        for _ in range(round(seconds / TICK_S)):
            yield self.q_sent, rest

    def open(self, opening_m: float) -> None:
        """Tell the gripper a new opening; it moves during the next ticks."""
        self.loop.commanded_opening_m = opening_m
        self.gripper = self.loop.gripper.command(opening_m)

    def stop(self, reason: str) -> None:
        """Latch a HALT: each command from the next one on is a tick of the way to rest."""
        self.supervisor.estop(reason)

    def press_harder(self) -> None:
        """Close with all the force that the gripper may use."""
        gripper = self.loop.gripper
        self.gripper = gripper.command(self.loop.commanded_opening_m, gripper.max_force_n)

    def command_gripper(self, command: GripperCommand) -> None:
        """Pass on what the policy, which has just acted, wants of the gripper."""
        self.gripper = command
        self._acted_s = self.clock.now_s()
