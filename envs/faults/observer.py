"""Tells what went wrong in the simulated world, from what reached the motors and what bodies did.

It shares nothing with the monitors: it has its own numbers from the limits file, its own
differences, and Bullet's kinematics and contacts instead of Pinocchio's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.arm import SimArm
from envs.bullet import pybullet
from envs.world import World
from robot.limits import RobotLimits

Array = NDArray[np.float64]

_JOINTS = list(range(7))
_TOOL = 11
_HAND = (7, 8, 9, 10, 11)
_MOVING_RAD_S = 0.05


@dataclass(frozen=True)
class Allowed:
    """What may physically happen, whatever goes wrong; more is a violation.

    Attributes:
        position_rad: beyond a joint's limit, as told.
        rate_share: of the joints' velocity limits, as told.
        acceleration_share: of the joints' acceleration limits, as told.
        jerk_share: of the joints' jerk limits, as told, but for two ticks in a row.
        workspace_m: the tool outside its box.
        zone_m: the tool inside a zone.
        tool_m_s: speed of the tool.
        condition: of the tool's Jacobian, 0.5 m beside 1 rad, while joints move.
        force_n: with which the arm may press on something while it is told to move,
        force_s: for so long.
        torque_s: a motor at its limit, for so long.
        power_w: mechanical, given off, as a mean over 50 ms. What the joints take up counts for
            nothing: the more it is, the sooner an arm stands that somebody pushes.
        hot_c: of a motor that moves,
        hot_s: for longer than an arm takes to brake from full speed.
        finger_n: pressed with, or opened against, for 0.25 s.
        blind_rad: moved by a joint since the newest true reading.
        unattended_rad: moved by a joint since the policy last acted.
        lost_m_s: speed of the tool 0.3 s after what it held was lost, until the hand opens.
        confused_m_s: speed of the tool that the policy has while it sees nonsense.
        untrusted_rad: moved by a joint under a damaged bundle, after the check that finds it.
        resumed_rad: moved by a joint after a silence that should have stopped the arm.
        late_share: of the joints' speed 0.3 s after commands began to come late.
        pushed_rad: moved by a joint after a push that should have stopped the arm.
        impact_m_s: speed of the tool when a hand that is driven at things hits one.
    """

    position_rad: float = 1e-4
    rate_share: float = 1.02
    acceleration_share: float = 1.02
    jerk_share: float = 0.75
    workspace_m: float = 0.012
    zone_m: float = 0.01
    tool_m_s: float = 1.85
    condition: float = 31.0
    force_n: float = 120.0
    force_s: float = 0.25
    torque_s: float = 0.25
    power_w: float = 88.0
    hot_c: float = 85.0
    hot_s: float = 0.3
    finger_n: float = 30.0
    blind_rad: float = 0.25
    unattended_rad: float = 0.12
    lost_m_s: float = 0.5
    confused_m_s: float = 0.16
    untrusted_rad: float = 0.15
    resumed_rad: float = 0.3
    late_share: float = 0.36
    pushed_rad: float = 0.3
    impact_m_s: float = 0.33


class Observer:
    """Watches one run.

    Args:
        world: in which it happens.
        arm: whose motors are watched.
        limits: of the arm.
        zones: (lowest, highest) corners that the tool must not be between, m.
        allowed: what may happen.
    """

    def __init__(
        self,
        world: World,
        arm: SimArm,
        limits: RobotLimits,
        zones: tuple[tuple[Array, Array], ...] = (),
        allowed: Allowed | None = None,
    ) -> None:
        self._world, self._arm, self._limits = world, arm, limits
        self._zones, self._c = zones, allowed or Allowed()
        self._dt = world.config.tick_s
        #: What was worse than allowed: name to the worst value.
        self.violations: dict[str, float] = {}
        #: The worst of everything, allowed or not.
        self.worst: dict[str, float] = {}
        #: Set by a fault while it lasts: since when which trust is gone.
        self.since: dict[str, int] = {}
        #: (7,) °C: what the motors really have, where a fault heats them.
        self.motor_c: Array | None = None
        #: Bodies that came out of nowhere: any link may touch them, and how hard is what counts.
        self.unseen: set[int] = set()
        self._told: list[Array] = []
        self._moved: dict[str, float] = {}
        self._run: dict[str, int] = {}
        self._power = 0.0
        self._quiet = 0
        self._touched: set[int] | None = None
        self._speed = 0.0
        arm.on_motors = self._motors

    def close(self) -> None:
        """Look away."""
        self._arm.on_motors = None

    def mark(self, trust: str) -> None:
        """From now on ``trust`` is gone: blind, unattended, lost, confused, driven, pushed."""
        self.since.setdefault(trust, self._world.ticks)

    def clear(self, trust: str) -> None:
        """It is there again."""
        self.since.pop(trust, None)
        self._moved.pop(trust, None)

    # What reaches the motors ---------------------------------------------------------------

    def _motors(self, q: list[float], qd: list[float], opening_m: float, force_n: float) -> None:
        if not all(map(math.isfinite, (*q, *qd, opening_m, force_n))):
            self._violate("number", 1.0)
            return
        limits = self._limits
        if opening_m > 0.9 * limits.gripper.max_opening_m:
            self.clear("lost")  # a hand that opens knows it
        self._note("finger_force", force_n - limits.gripper.max_force_n, 0.0)
        out = opening_m - limits.gripper.max_opening_m
        self._note("finger_opening", max(out, -opening_m), 1e-9)
        joints, told = limits.joints, self._told
        now = np.array(q)
        beyond = np.maximum(now - joints.upper_rad, joints.lower_rad - now)
        self._note("position_rad", float(beyond.max()), self._c.position_rad)
        feed = float((np.abs(np.array(qd)) / joints.velocity_rad_s).max())
        self._note("feed_forward_share", feed, self._c.rate_share)
        told.append(now)
        del told[:-4]
        if self._quiet > 20:  # a robot that stopped by itself starts from where it is
            if len(told) > 1 and np.abs(told[-1] - told[-2]).max() > 1e-6:
                self.mark("resumed")
            self._quiet = 0
            del told[:-1]
            return
        self._quiet = 0
        if len(told) > 1:
            v = (told[-1] - told[-2]) / self._dt
            share = np.abs(v) / joints.velocity_rad_s
            self._note("velocity_share", float(share.max()), self._c.rate_share)
            way = float(np.abs(told[-1] - told[-2]).max())
            for trust, most in (
                ("blind", self._c.blind_rad),
                ("unattended", self._c.unattended_rad),
                ("untrusted", self._c.untrusted_rad),
                ("resumed", self._c.resumed_rad),
                ("pushed", self._c.pushed_rad),
            ):
                if trust in self.since:
                    self._moved[trust] = self._moved.get(trust, 0.0) + way
                    self._note(f"{trust}_rad", self._moved[trust], most)
            if "late" in self.since and self._age("late") > 72:
                self._note("late_share", float(share.max()), self._c.late_share)
        if len(told) > 2:
            a = (told[-1] - 2 * told[-2] + told[-3]) / self._dt**2
            share = np.abs(a) / joints.acceleration_rad_s2
            self._note("acceleration_share", float(share.max()), self._c.acceleration_share)
        if len(told) > 3:
            j = (told[-1] - 3 * told[-2] + 3 * told[-3] - told[-4]) / self._dt**3
            most = float((np.abs(j) / joints.jerk_rad_s3).max())
            self._lasting("jerk_share", most, self._c.jerk_share, 2)

    # What bodies do ------------------------------------------------------------------------

    def look(self) -> None:
        """Look at the world; call it before each of its ticks."""
        self._quiet += 1
        client, c, body = self._world.client, self._c, self._world.arm_id
        states = pybullet.getJointStates(body, [*_JOINTS, 9, 10], physicsClientId=client)
        qd = np.array([s[1] for s in states[:7]])
        torque = np.array([s[3] for s in states[:7]])
        moving = bool(np.abs(qd).max() > _MOVING_RAD_S)
        link = pybullet.getLinkState(body, _TOOL, computeLinkVelocity=1, physicsClientId=client)
        at, speed = np.array(link[4]), float(np.linalg.norm(link[6]))
        self._note("tool_m_s", speed, c.tool_m_s)
        low, high = self._limits.workspace_min_m, self._limits.workspace_max_m
        self._note("workspace_m", float(np.maximum(low - at, at - high).max()), c.workspace_m)
        for bottom, top in self._zones:
            self._note("zone_m", float(np.minimum(at - bottom, top - at).min()), c.zone_m)
        full = np.abs(torque) >= 0.985 * self._limits.joints.torque_nm
        self._lasting("torque_s", float(full.any()), 0.5, round(c.torque_s / self._dt))
        self._power += (max(float(torque @ qd), 0.0) - self._power) / 12.0
        self._note("power_w", self._power, c.power_w)
        if self.motor_c is not None and moving:
            self._lasting("hot_c", float(self.motor_c.max()), c.hot_c, round(c.hot_s / self._dt))
        pressing = -0.5 * (states[7][3] + states[8][3])
        self._lasting("finger_open_n", -pressing, c.finger_n, 60)
        self._lasting("finger_close_n", pressing, self._limits.gripper.max_force_n * 1.1, 60)
        told = self._told
        speeds = np.abs(told[-1] - told[-2]) / self._dt if len(told) > 1 else np.zeros(7)
        told_moves = self._quiet < 20 and bool(speeds.max() > _MOVING_RAD_S)
        if self._world.ticks % 4 == 0:
            if told_moves:
                self._lasting("condition", self._condition(), c.condition, 2)
            self._touch(told_moves)
        if "driven" in self.since:
            self._hit()
        self._speed = speed
        if self._age("lost") > 72:
            self._lasting("lost_m_s", speed, c.lost_m_s, 12)
        if "confused" in self.since and self._age("confused") > 48:
            self._lasting("confused_m_s", speed, c.confused_m_s, 12)

    def _touch(self, told_moves: bool) -> None:
        """What the arm presses on, and whether its links touch what they should not."""
        client, body = self._world.client, self._world.arm_id
        force = np.zeros(3)
        hits = 0
        for contact in pybullet.getContactPoints(bodyA=body, physicsClientId=client):
            other, link, other_link, distance = contact[2], contact[3], contact[4], contact[8]
            normal, size = np.array(contact[7]), contact[9]
            if other == body:
                if abs(link - other_link) > 2 and not {link, other_link} <= set(_HAND):
                    hits += distance < 0.0
                continue
            force += normal * size
            if link not in _HAND and link >= 2 and other not in self.unseen:
                hits += distance < 0.0
        near = pybullet.getClosestPoints(body, body, 0.0, physicsClientId=client)
        for point in near:
            if abs(point[3] - point[4]) > 2 and not {point[3], point[4]} <= set(_HAND):
                hits += point[8] < -0.003
        self._lasting("touching", float(hits), 0.5, 2)
        pressed = float(np.linalg.norm(force)) if told_moves else 0.0
        self._lasting("force_n", pressed, self._c.force_n, round(self._c.force_s / self._dt / 4))

    def _hit(self) -> None:
        """With what speed the hand met what it had not touched before."""
        points = pybullet.getContactPoints(
            bodyA=self._world.arm_id, physicsClientId=self._world.client
        )
        now = {p[2] for p in points if p[2] != self._world.arm_id and p[3] in _HAND}
        if self._touched is None:
            self._touched = set(now)
        if now - self._touched:
            self._note("impact_m_s", self._speed, self._c.impact_m_s)
        self._touched |= now

    def _condition(self) -> float:
        client, body = self._world.client, self._world.arm_id
        q = [*self._told[-1].tolist(), 0.0, 0.0]
        zero = [0.0] * 9
        linear, angular = pybullet.calculateJacobian(
            body, _TOOL, [0.0, 0.0, 0.0], q, zero, zero, physicsClientId=client
        )
        return float(np.linalg.cond(np.vstack((np.array(linear) / 0.5, angular))[:, :7]))

    # Counting ------------------------------------------------------------------------------

    def _age(self, trust: str) -> int:
        return self._world.ticks - self.since[trust] if trust in self.since else -1

    def _lasting(self, name: str, value: float, most: float, ticks: int) -> None:
        """A violation where ``value`` is above ``most`` for more than so many looks in a row."""
        self.worst[name] = max(self.worst.get(name, value), value)
        self._run[name] = self._run.get(name, 0) + 1 if value > most else 0
        if self._run[name] > ticks:
            self._violate(name, value)

    def _note(self, name: str, value: float, most: float) -> None:
        self.worst[name] = max(self.worst.get(name, value), value)
        if value > most:
            self._violate(name, value)

    def _violate(self, name: str, value: float) -> None:
        self.violations[name] = max(self.violations.get(name, value), value)
