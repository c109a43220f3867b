"""Faults of what is commanded: out of limits in each way, from upstream of the supervisor."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from envs.faults.fault import Fault, Told
from envs.faults.injector import Injector
from envs.faults.surroundings import drag, over
from envs.world import TRAY
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.planning.collision import CollisionChecker
from robot.types import GripperCommand

Array = NDArray[np.float64]

DT = 1.0 / 240.0
_FOLDING, _FOLDED_WITHIN_S = 0.35, 3.0  # share of the joints' speed; the run ends some time later
_FAST_M_S = 1.78  # less would be within limits
_GENTLE = 0.8  # share of the acceleration limits, so that nothing else is wrong


class Altered(Fault):
    """One number or the shape of the joints' command is wrong."""

    def __init__(self, what: str) -> None:
        self._what = what

    def upstream(self, run: Injector, told: Told) -> Told:
        """With that one wrong."""
        state, q, qd, now, gripper = told
        q, qd = q.copy(), qd.copy()
        joint = int(run.rng.integers(7))
        if self._what == "size":
            q, qd = q[:, :6], qd[:, :6]
        elif self._what == "jump":
            q[:, joint] += 0.5
        elif self._what == "feed_forward":
            qd[:, joint] += 4.0
        else:
            q[:, joint] = float(self._what)
        return state, q, qd, now, gripper


class Gripping(Fault):
    """The gripper is told what it cannot do, or no number."""

    def __init__(self, opening_m: float, force_n: float) -> None:
        self._command = GripperCommand(opening_m, force_n)

    def upstream(self, run: Injector, told: Told) -> Told:
        """The player keeps telling it."""
        run.player.gripper = self._command
        return (*told[:4], self._command)


class Driven(Fault, ABC):
    """The joints are driven by somebody else, from where they are; the pick's own way is lost.

    What drives goes on from what was really sent, so that only what it wants is wrong.
    """

    def begin(self, run: Injector) -> None:
        """Take over from what was last sent."""
        self._limits: RobotLimits = run.station.limits
        self._joints = self._limits.joints
        self._kinematics = Kinematics(self._limits)
        self._last: Array = run.sent[-1]
        self._step = _GENTLE * self._joints.acceleration_rad_s2 * DT

    def upstream(self, run: Injector, told: Told) -> Told:
        """The driver's own command."""
        state, _, _, now, gripper = told
        before, at = run.sent[0], run.sent[-1]
        wanted = self.velocity(run, at, (at - before) / DT)
        return state, (at + wanted * DT)[None], wanted[None], now, gripper

    @abstractmethod
    def velocity(self, run: Injector, q: Array, qd: Array) -> Array:
        """(n,) rad/s to command next, at (n,) rad and after (n,) rad/s."""

    def towards(self, qd: Array, goal: Array) -> Array:
        """From one velocity to another within gentle accelerations."""
        return np.asarray(qd + np.clip(goal - qd, -self._step, self._step))


class JointDrive(Driven):
    """One joint alone goes at a share of its speed limit; the others come to rest.

    Args:
        joint: which, from 0.
        share: of its limit; above 1 is the fault.
        side: 1 or -1; 0 takes the side that has more room, or less where ``share`` is below 1.
    """

    def __init__(self, joint: int, share: float, side: float = 0.0) -> None:
        self._joint, self._share, self._side = joint, share, side
        self.waits = share > 1.0  # slowed for another reason it may never get there

    def upstream(self, run: Injector, told: Told) -> Told:
        """What is told of its speed keeps the limits; where the joints are to be does not."""
        state, q, qd, now, gripper = super().upstream(run, told)
        most = self._joints.velocity_rad_s
        return state, q, np.clip(qd, -most, most), now, gripper

    def velocity(self, run: Injector, q: Array, qd: Array) -> Array:
        """Faster and faster, to the side that has more room."""
        goal = np.zeros(7)
        if self._side == 0.0:
            room_up = self._joints.upper_rad[self._joint] - q[self._joint]
            room_down = q[self._joint] - self._joints.lower_rad[self._joint]
            up = room_up > room_down
            self._side = 1.0 if (up if self._share > 1.0 else not up) else -1.0
        most = float(self._joints.velocity_rad_s[self._joint])
        goal[self._joint] = self._side * self._share * most
        wanted = self.towards(qd, goal)
        if abs(wanted[self._joint]) > most:
            run.takes_effect()
        return wanted


class Shaken(Driven):
    """A joint swings with an acceleration beyond its limit, or with one that jumps to and fro.

    Args:
        share: of the acceleration limit at the peak.
        period: ticks of a swing; 2 is from tick to tick.
    """

    def __init__(self, share: float, period: int) -> None:
        self._share, self._period = share, period

    def velocity(self, run: Injector, q: Array, qd: Array) -> Array:
        """The others come to rest."""
        wanted = self.towards(qd, np.zeros(7))
        most = float(self._joints.acceleration_rad_s2[6])
        if self._period == 2:
            a = self._share * most
            wanted[6] = 0.5 * a * DT * (-1.0) ** run.age  # to and fro about rest
        else:
            a = self._share * most * math.sin(2.0 * math.pi * run.age / self._period)
            wanted[6] = qd[6] + a * DT
        if abs(a) > most or self._period == 2:
            run.takes_effect()
        return wanted


class Reaching(Driven):
    """The tool is driven straight to a place where it must not go.

    Args:
        to_m: (3,) where to, world.
        speed_m_s: of the tool.
        outward: go away from the base instead, at the height of ``to_m``.
    """

    def __init__(
        self,
        to_m: tuple[float, float, float],
        speed_m_s: float = 0.5,
        outward: bool = False,
    ) -> None:
        self._to = np.array(to_m)
        self._speed, self._outward = speed_m_s, outward

    def velocity(self, run: Injector, q: Array, qd: Array) -> Array:
        """Damped least squares on the tool's velocity."""
        J = self._kinematics.jacobian(q)
        here = np.array(self._kinematics.tool_position(q))
        to = self._to.copy()
        if self._outward:
            to[:2] = here[:2] / max(float(np.linalg.norm(here[:2])), 0.05) * 1.5
        way = to - here
        length = float(np.linalg.norm(way))
        twist = np.zeros(6)
        twist[:3] = way / max(length, 1e-6) * min(self._speed, 2.0 * length)
        goal = J.T @ np.linalg.solve(J @ J.T + 1e-5 * np.eye(6), twist)
        share = float((np.abs(goal) / self._joints.velocity_rad_s).max())
        return self.towards(qd, goal / max(1.0, share / 0.9))


class Lowered(Reaching):
    """The tool is driven at the table and what stands on it."""

    def begin(self, run: Injector) -> None:
        """From now on it counts how hard the hand hits what it did not touch before."""
        super().begin(run)
        run.observer.mark("driven")


class Hauled(Reaching):
    """The tool is driven upwards fast, and something hangs on it.

    Args:
        to_m: (3,) where to, world.
        speed_m_s: of the tool.
        force_n: with which it pulls downwards.
    """

    def __init__(self, to_m: tuple[float, float, float], speed_m_s: float, force_n: float) -> None:
        super().__init__(to_m, speed_m_s)
        self._force_n = force_n

    def before_tick(self, run: Injector) -> None:
        """Pull, until it halts."""
        if not over(run):
            drag(run, -self._force_n)


class Swung(Driven):
    """Several joints at nearly full speed at once, each within its limits: the tool is beyond."""

    def begin(self, run: Injector) -> None:
        """Find the swing that is worst."""
        super().begin(run)
        best, self._goal = 0.0, np.zeros(7)
        for signs in itertools.product((-0.93, 0.0, 0.93), repeat=4):
            goal = np.zeros(7)
            goal[:4] = np.array(signs) * self._joints.velocity_rad_s[:4]
            worst = self._worst(goal)
            if worst > best:
                best, self._goal = worst, goal
        if best < _FAST_M_S:
            run.impossible()

    def _worst(self, goal: Array) -> float:
        """How fast it gets within half a second, in the box and away from singular postures."""
        kinematics, limits = self._kinematics, self._limits
        q, qd, most = self._last.copy(), np.zeros(7), 0.0
        for _ in range(12):
            for _ in range(10):
                qd = self.towards(qd, goal)
                q = q + qd * DT
            if not limits.joints.contains(q, -0.25):
                break
            J = kinematics.jacobian(q)
            at = kinematics.placement.translation
            if (at < limits.workspace_min_m + 0.15).any() or (
                at > limits.workspace_max_m - 0.1
            ).any():
                break
            if np.linalg.cond(J) > 15.0:
                break
            most = max(most, float(np.linalg.norm((J @ qd)[:3])))
        return most

    def velocity(self, run: Injector, q: Array, qd: Array) -> Array:
        """On and on."""
        return self.towards(qd, self._goal)


class Folded(Driven):
    """The arm is driven into itself, into the table or the tray, the tool within its box."""

    def begin(self, run: Injector) -> None:
        """Find joints at which something touches that must not."""
        super().begin(run)
        checker = CollisionChecker(self._limits, self._kinematics)
        checker.set_scene(None, TRAY.walls)
        joints = self._joints
        hand = set(checker.shapes.hand)
        self._to: Array = self._last
        for _ in range(4000):
            q = run.rng.uniform(joints.lower_rad + 0.1, joints.upper_rad - 0.1)
            away_s = float((np.abs(q - self._last) / joints.velocity_rad_s).max()) / _FOLDING
            if away_s > _FOLDED_WITHIN_S or checker.is_free(q):
                continue
            # It slows down as it comes there, so what is barely touched is not reached in time.
            bad = set.intersection(
                *(
                    {p for p in checker.contacts(at) if not hand & set(p.split(" hits "))}
                    for at in (q, self._last + 0.9 * (q - self._last))
                )
            )
            if bad and self._stays_inside(q):
                self._to = q
                return
        run.impossible()

    def _stays_inside(self, to: Array) -> bool:
        low, high = self._limits.workspace_min_m + 0.05, self._limits.workspace_max_m - 0.05
        for share in np.linspace(0.0, 1.0, 12):
            q = self._last + share * (to - self._last)
            J = self._kinematics.jacobian(q)
            at = self._kinematics.placement.translation
            if share > 0.2 and ((at < low).any() or (at > high).any()):
                return False
            if np.linalg.cond(J) > 14.0:
                return False
        return True

    def velocity(self, run: Injector, q: Array, qd: Array) -> Array:
        """Straight there in joint space."""
        way = self._to - q
        longest = float((np.abs(way) / self._joints.velocity_rad_s).max())
        speed = min(_FOLDING, 3.0 * longest)
        return self.towards(qd, way / max(longest, 1e-6) * speed)
