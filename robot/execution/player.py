"""Plays joint motions tick by tick under the supervisor: the only way to the robot's ``send``."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from robot.errors import SafetyError, SteadyhandError
from robot.execution.grasp import GraspLoop
from robot.interface import Clock, Robot
from robot.loop.log import RunLog
from robot.safety.supervisor import Supervisor
from robot.types import (
    GripperCommand,
    GripperState,
    JointCommand,
    RobotState,
    SafetyVerdict,
    Trajectory,
    VerdictLevel,
)

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)

TICK_S = 1.0 / 240.0
_LONGEST_BRAKING_TICKS = 240


class Player:
    """One control tick after the other: judge, send, wait, read.

    Args:
        robot: is commanded.
        clock: paces the ticks.
        supervisor: passes, slows or halts every tick.
        loop: feels the fingers.
        log: gets every tick.
    """

    def __init__(
        self,
        robot: Robot,
        clock: Clock,
        supervisor: Supervisor,
        loop: GraspLoop,
        log: RunLog | None = None,
    ) -> None:
        self.robot = robot
        self.clock = clock
        self.supervisor = supervisor
        self.loop = loop
        self.log = log
        self.phase = "idle"
        self.gripper = self._gripped = loop.gripper.command(loop.limits.gripper.max_opening_m)
        self._felt: GripperState | None = None
        self._acted_s: float | None = None
        self.sync()

    def sync(self) -> None:
        """Read the robot and go on from where it stands, at rest.

        Raises:
            SafetyError: the supervisor halted, and what made it halt is still there.
        """
        self.state: RobotState = self.robot.read()
        self._fresh: RobotState | None = self.state
        self.q_sent: Array = self.state.joints.position_rad.copy()
        self._felt = self._acted_s = None
        signals = self.supervisor.signals
        signals.gripper = signals.gripper_command = signals.policy_stamp_s = None
        self.supervisor.reset(self.q_sent, self.state)

    def tick(self, q: Array, qd: Array) -> SafetyVerdict:
        """Send one tick's joints (n,) rad and rad/s as far as the supervisor lets them.

        Raises:
            SafetyError: the supervisor halted; the arm has braked and was told to stop.
        """
        verdict = self._exchange(q, qd)
        if verdict.level is VerdictLevel.HALT:
            for _ in range(_LONGEST_BRAKING_TICKS):
                if self.supervisor.at_rest:
                    break
                self._exchange(q, qd)
            self.robot.stop()
            raise SafetyError(f"halted: {verdict.reason}")
        return verdict

    def _exchange(self, q: Array, qd: Array) -> SafetyVerdict:
        """One tick: what is left of a command goes to the robot, its answer comes back."""
        now, supervisor, loop = self.clock.now_s(), self.supervisor, self.loop
        signals = supervisor.signals
        signals.gripper = self._felt
        acts = self.phase == "grasp" and loop.acting
        signals.policy_stamp_s = self._acted_s if acts else None
        qs, qds, verdict = supervisor.filter(self._fresh, q[None], qd[None], now, self.gripper)
        self._gripped = supervisor.grip(self.gripper, self._gripped)
        self.robot.send(JointCommand(qs[0], qds[0]), self._gripped)
        self.q_sent = qs[0]
        if self.log is not None:
            self.log.state(
                now,
                self.state,
                qs[0],
                verdict,
                self.phase,
                qd_command=qds[0],
                gripper=self._gripped,
                X_world_tool=loop.kinematics.forward(self.state.joints.position_rad)
                if self.log.recorder is not None
                else None,
            )
        self.clock.sleep_until(now + TICK_S)
        try:
            self.state = self._fresh = self.robot.read()
        except SteadyhandError as error:  # a lost reading; the supervisor lets the last one age
            _log.warning("lost a reading: %s", error)
            self._fresh = None
        else:
            grip = self.state.gripper
            self._felt = loop.feel([(grip.opening_m, grip.force_n)])
        return verdict

    def play(self, trajectory: Trajectory) -> None:
        """Follow a trajectory; where the supervisor slows it, its time runs slower."""
        time_s = trajectory.time_s
        if len(time_s) < 2:
            return
        at, scale = 0.0, 1.0
        rest = np.zeros(trajectory.position_rad.shape[1])
        while at < trajectory.duration_s:
            at = min(at + TICK_S * scale, trajectory.duration_s)
            k = min(int(np.searchsorted(time_s, at, side="right")), len(time_s) - 1)
            share = (at - time_s[k - 1]) / (time_s[k] - time_s[k - 1])
            q, v = trajectory.position_rad, trajectory.velocity_rad_s
            verdict = self.tick(
                q[k - 1] + share * (q[k] - q[k - 1]),
                scale * (v[k - 1] + share * (v[k] - v[k - 1])),
            )
            scale = max(verdict.scale, 0.02) if verdict.level is VerdictLevel.SCALE else 1.0
        goal = trajectory.position_rad[-1]
        for _ in range(72):  # commands may be late; go on when the arm has come to rest
            if np.abs(self.state.joints.position_rad - goal).max() < 2e-3 and (
                np.abs(self.state.joints.velocity_rad_s).max() < 0.01
            ):
                break
            self.tick(goal, rest)

    def hold(self, seconds: float) -> None:
        """Stand still where the last command was."""
        rest = np.zeros_like(self.q_sent)
        for _ in range(round(seconds / TICK_S)):
            self.tick(self.q_sent, rest)

    def open(self, opening_m: float) -> None:
        """Tell the gripper a new opening; it moves during the next ticks."""
        self.loop.commanded_opening_m = opening_m
        self.gripper = self.loop.gripper.command(opening_m)

    def stop(self, reason: str) -> None:
        """Stop the robot at once and latch a HALT."""
        self.supervisor.estop(reason)
        self.robot.stop()

    def command_gripper(self, command: GripperCommand) -> None:
        """Pass on what the policy, which has just acted, wants of the gripper."""
        self.gripper = command
        self._acted_s = self.clock.now_s()
