"""Plays joint motions tick by tick under the supervisor: the only way to the robot's ``send``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robot.errors import PathBlocked, SafetyError
from robot.execution.grasp import GraspLoop
from robot.interface import Clock, Robot
from robot.loop.log import RunLog
from robot.safety.supervisor import Supervisor
from robot.types import (
    GripperCommand,
    JointCommand,
    RobotState,
    SafetyVerdict,
    Trajectory,
    VerdictLevel,
)

Array = NDArray[np.float64]

TICK_S = 1.0 / 240.0
_LOOK_TICKS = 12
"""What stands in the way of a motion is asked so often: 20 times a second."""
_BRAKE_TICKS = 48
"""A blocked motion comes to rest within so many, evenly, on its own path."""
_CALM_S = 0.1


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
        #: Asked several times a second with the joints (m, n) rad that are still to come: what
        #: stands in their way, or None.
        self.blocked: Callable[[Array], str | None] | None = None
        self.gripper = loop.gripper.command(loop.limits.gripper.max_opening_m)
        self.sync()

    def sync(self) -> None:
        """Read the robot and go on from where it stands, at rest."""
        self.state: RobotState = self.robot.read()
        self.q_sent: Array = self.state.joints.position_rad.copy()
        self.supervisor.reset(self.q_sent)

    def tick(self, q: Array, qd: Array) -> SafetyVerdict:
        """Send one tick's joints (n,) rad and rad/s as far as the supervisor lets them.

        Raises:
            SafetyError: the supervisor halted; the robot was told to stop.
        """
        now = self.clock.now_s()
        qs, qds, verdict = self.supervisor.filter(self.state, q[None], qd[None], now)
        self.robot.send(JointCommand(qs[0], qds[0]), self.gripper)
        self.q_sent = qs[0]
        if self.log is not None:
            self.log.state(
                now,
                self.state,
                qs[0],
                verdict,
                self.phase,
                qd_command=qds[0],
                gripper=self.gripper,
                X_world_tool=self.loop.kinematics.forward(self.state.joints.position_rad)
                if self.log.recorder is not None
                else None,
            )
        if verdict.level is VerdictLevel.HALT:
            self.robot.stop()
            raise SafetyError(f"halted: {verdict.reason}")
        self.clock.sleep_until(now + TICK_S)
        self.state = self.robot.read()
        grip = self.state.gripper
        self.loop.feel([(grip.opening_m, grip.force_n)])
        return verdict

    def play(self, trajectory: Trajectory) -> None:
        """Follow a trajectory; where the supervisor slows it, its time runs slower.

        Raises:
            PathBlocked: something came into the way; the arm stands on its path before it.
        """
        time_s = trajectory.time_s
        if len(time_s) < 2:
            return
        at, scale = 0.0, 1.0
        braking, reason, ticks = 1.0, "", 0
        rest = np.zeros(trajectory.position_rad.shape[1])
        while at < trajectory.duration_s:
            ticks += 1
            if self.blocked is not None and not reason and ticks % _LOOK_TICKS == 0:
                ahead = trajectory.position_rad[int(np.searchsorted(time_s, at)) :]
                reason = self.blocked(ahead) or ""
            if reason:
                braking -= 1.0 / _BRAKE_TICKS
                if braking <= 0.0:
                    self.hold(_CALM_S)
                    raise PathBlocked(f"stopped: {reason}")
            at = min(at + TICK_S * min(scale, braking), trajectory.duration_s)
            k = min(int(np.searchsorted(time_s, at, side="right")), len(time_s) - 1)
            share = (at - time_s[k - 1]) / (time_s[k] - time_s[k - 1])
            q, v = trajectory.position_rad, trajectory.velocity_rad_s
            verdict = self.tick(
                q[k - 1] + share * (q[k] - q[k - 1]),
                min(scale, braking) * (v[k - 1] + share * (v[k] - v[k - 1])),
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
        """Pass on what the policy wants of the gripper."""
        self.gripper = command
