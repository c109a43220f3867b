"""Collision-free, timed motions between joint positions and along straight lines."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.errors import PlanningError
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.planning.collision import CollisionChecker
from robot.planning.line import cartesian_line
from robot.planning.posture import unhindered
from robot.planning.search import (
    ATTEMPTS,
    Attempt,
    Free,
    both,
    corners_rounded,
    line_contact,
    thinned,
    way,
)
from robot.planning.timing import MotionLimits, section, time_curve
from robot.planning.tool_speed import fastest
from robot.types import Pose, Trajectory

Array = NDArray[np.float64]

# How closely a path is looked at for what would slow the arm down on it.
_LOOKED_AT_RAD = 0.12


@dataclass(frozen=True)
class PathConfig:
    """How paths are searched and how fast they are driven.

    Attributes:
        velocity_scale: share of the arm's joint velocity limits that is used.
        acceleration_scale: share of the acceleration limits.
        jerk_scale: share of the jerk limits; a small one is smooth and costs little time.
        rate_hz: samples a second.
        resolution_rad: greatest joint-space distance between two checked points.
        escape_rad: contacts that exist at the start are forgiven while every joint is within this
            distance of the start.
        planning_time_s: the search gives up after this long.
        detour_rounds: of a search for a path around what would slow the arm down on the one that
            was found; each further attempt has half of them. By time, the same seed would not give
            the same path.
        shortcut_tries: attempts to shorten a found path.
        blend_rad: corners are rounded from at most this far before them.
    """

    velocity_scale: float = bounded(0.6, 0.01, 1.0)
    acceleration_scale: float = bounded(0.5, 0.01, 1.0)
    jerk_scale: float = bounded(0.05, 0.001, 1.0)
    rate_hz: float = bounded(240.0, 10.0, 1000.0)
    resolution_rad: float = bounded(0.02, 0.002, 0.2)
    escape_rad: float = bounded(0.2, 0.0, 1.0)
    planning_time_s: float = bounded(2.0, 1e-4, 60.0)
    detour_rounds: int = bounded(64, 0, 100_000)
    shortcut_tries: int = bounded(150, 0, 10000)
    blend_rad: float = bounded(0.5, 0.0, 2.0)


class PathPlanner:
    """Plans motions of one arm in the scene that its collision checker knows.

    The same scene, question and seed give the same path, whatever was asked before. Only a search
    that runs into its time limit depends on the machine: it fails, or what was found before stands.

    What touches at the start (fingers beside an object just released, say) may go on touching
    within ``escape_rad`` of the start, so that the arm can leave; nothing else may touch, and
    nothing may touch at the goal.

    Args:
        limits: of the arm.
        kinematics: of the same arm.
        checker: scene, hand opening and held object are set there.
        seed: of the search.
        config: speeds and search effort.
    """

    def __init__(
        self,
        limits: RobotLimits,
        kinematics: Kinematics,
        checker: CollisionChecker,
        seed: int = 0,
        config: PathConfig | None = None,
    ) -> None:
        self.config = PathConfig() if config is None else config
        self.limits, self.kinematics, self.checker, self.seed = limits, kinematics, checker, seed
        self._motion = self._motion_limits(1.0)

    def to_joints(self, q_from: Array, q_to: Array, speed_scale: float = 1.0) -> Trajectory:
        """A timed path from rest at ``q_from`` to rest at ``q_to``.

        The straight joint-space line when it is free; otherwise a path found by a search,
        shortened, its corners rounded. Where monitors would slow the arm down on it, near a
        singular posture, with links close to each other or outside the workspace, and not at its
        ends, one around that is sought, too.

        Args:
            q_from: (n,) joints, rad.
            q_to: (n,) joints, rad.
            speed_scale: in (0, 1], slows the whole motion down.

        Raises:
            PlanningError: joints out of limits, a contact at the goal, or no path in time.
        """
        q_from, q_to = self._joints(q_from, "start"), self._joints(q_to, "goal")
        contact = self.checker.first_contact(q_to)
        if contact is not None:
            raise PlanningError(f"goal: {contact}")
        free, motion = self._validity(q_from), self._motion_limits(speed_scale)
        deadline = time.monotonic() + self.config.planning_time_s
        found = self._path(q_from, q_to, free, motion, deadline)
        well = unhindered(self.kinematics, self.checker.is_apart, q_from, q_to)
        if all(map(well, thinned(found.position_rad, _LOOKED_AT_RAD))):
            return found
        try:
            rounds = self.config.detour_rounds
            return self._path(q_from, q_to, free, motion, deadline, well, rounds)
        except PlanningError:
            return found

    def _path(
        self,
        q_from: Array,
        q_to: Array,
        free: Free,
        motion: MotionLimits,
        deadline: float,
        also: Free | None = None,
        rounds: float = math.inf,
    ) -> Trajectory:
        """The line if it is free, else what a search finds; ``also`` must hold all along it."""
        resolution = self.config.resolution_rad
        if also is None and line_contact(q_from, q_to, free, resolution) is None:
            trajectory = self._timed([q_from, q_to], free, motion, resolution)
            if all(free(q) for q in thinned(trajectory.position_rad, 0.5 * resolution)):
                return trajectory
        reason, joints = "", self.limits.joints
        bounds = np.minimum(joints.lower_rad, q_from), np.maximum(joints.upper_rad, q_from)
        for number, attempt in enumerate(ATTEMPTS):
            # Each may use half of what is left, the last one all.
            allowed = deadline - time.monotonic()
            allowed *= 1.0 if number == len(ATTEMPTS) - 1 else 0.5
            if allowed <= 0 or rounds < 1:
                break
            keep = self._roomy(free, q_from, q_to, attempt)
            if also is not None:
                keep = both(keep, also)
            steps, tries = attempt.steps * resolution, self.config.shortcut_tries
            seed = self.seed + number
            waypoints = way(q_from, q_to, keep, bounds, steps, allowed, seed, tries, rounds)
            rounds = 0.5 * rounds
            if waypoints is None:
                continue
            trajectory = self._timed(waypoints, keep, motion, steps)
            looked_at = thinned(trajectory.position_rad, attempt.closely * resolution)
            touching = next((q for q in looked_at if not free(q)), None)
            if touching is None:
                return trajectory
            reason = f"; best path: {self.checker.first_contact(touching)}"
        raise PlanningError(self._nothing_found(q_from, q_to, free) + reason)

    def to_pose(
        self, q_from: Array, X_world_tool: Pose, speed_scale: float = 1.0, tries: int = 3
    ) -> Trajectory:
        """As :meth:`to_joints`, to a pose of the tool; of several solutions the first that works.

        Raises:
            PlanningError: the pose is out of reach, or no solution is free and can be reached.
        """
        seeds = [np.asarray(q_from, dtype=np.float64), self.limits.home_rad]
        rng = np.random.default_rng(self.seed)
        joints = self.limits.joints
        while len(seeds) < tries:
            seeds.append(rng.uniform(joints.lower_rad, joints.upper_rad))
        reasons: list[str] = []
        known: list[Array] = []
        for seed in seeds[: max(tries, 1)]:
            q_to = self.kinematics.inverse(X_world_tool, seed)
            if q_to is None or any(np.abs(q_to - q).max() < 1e-2 for q in known):
                continue
            known.append(q_to)
            try:
                return self.to_joints(q_from, q_to, speed_scale)
            except PlanningError as error:
                reasons.append(str(error))
        at = np.array2string(X_world_tool.position_m, precision=3)
        raise PlanningError("; ".join(reasons) or f"goal: no joints reach the pose at {at} m")

    def straight(
        self,
        q_from: Array,
        X_world_tool_to: Pose,
        speed_m_s: float = 0.1,
        check: bool = True,
    ) -> Trajectory:
        """A straight line of the tool from rest to rest, turning evenly on the way.

        Args:
            q_from: (n,) joints, rad, where the line begins.
            X_world_tool_to: where it ends, in the world frame.
            speed_m_s: greatest speed along the line.
            check: False leaves collisions unchecked, for the last centimetres to an object.

        Raises:
            PlanningError: the line leaves the joint limits, passes a singularity, or touches.
        """
        q_from = self._joints(q_from, "start")
        if not speed_m_s > 0:
            raise PlanningError(f"straight: speed must be above 0 m/s, got {speed_m_s}")
        curve = cartesian_line(self.kinematics, q_from, X_world_tool_to)
        if curve is None:
            return _standing(q_from)
        part = section(curve, 0.0, curve.length, self._motion, speed=speed_m_s)
        trajectory = time_curve(curve, [part], self._motion, self.config.rate_hz)
        if check:
            free = self._validity(q_from)
            for k, q in enumerate(trajectory.position_rad):
                if not free(q):
                    contact = self.checker.first_contact(q) or "contact"
                    share = 100 * k / (len(trajectory.time_s) - 1)
                    raise PlanningError(f"straight line: {contact} at {share:.0f} % of its time")
        return trajectory

    def _nothing_found(self, q_from: Array, q_to: Array, free: Free) -> str:
        at = line_contact(q_from, q_to, free, self.config.resolution_rad)
        contact = None if at is None else self.checker.first_contact(at)
        start = self.checker.first_contact(q_from)
        return (
            f"no path within {self.config.planning_time_s:g} s"
            + (f"; start: {start}" if start else "")
            + (f"; straight there: {contact}" if contact else "")
        )

    def _timed(
        self,
        waypoints: list[Array],
        free: Free,
        motion: MotionLimits,
        resolution_rad: float,
    ) -> Trajectory:
        config = self.config
        rounded = corners_rounded(waypoints, free, config.blend_rad, resolution_rad)
        if rounded is None:
            return _standing(waypoints[0])
        curve, spans = rounded
        closed = self.checker.closed
        parts = [
            section(curve, a, b, motion, cruise, fastest(self.kinematics, curve, a, b, closed))
            for a, b, cruise in spans
        ]
        return time_curve(curve, parts, motion, config.rate_hz)

    def _validity(self, q_from: Array) -> Free:
        """Whether joints are free, contacts at the start forgiven close to it."""
        checker, near = self.checker, self.config.escape_rad
        if checker.is_free(q_from):
            return checker.is_free
        forgiven = checker.contacts(q_from)

        def free(q: Array) -> bool:
            if checker.is_free(q):
                return True
            return bool(np.abs(q - q_from).max() <= near) and checker.contacts(q) <= forgiven

        return free

    def _roomy(self, free: Free, q_from: Array, q_to: Array, attempt: Attempt) -> Free:
        """Asks for more room than ``free``, except close to a start or goal without room."""
        checker, near = self.checker, self.config.escape_rad
        if attempt.judge == "tight":
            return free
        room = checker.has_hull_room if attempt.judge == "hulls" else checker.has_room
        tight = [q for q in (q_from, q_to) if not room(q)]
        if not tight:
            return room

        def roomy(q: Array) -> bool:
            if any(np.abs(q - end).max() <= near for end in tight):
                return free(q)
            return room(q)

        return roomy

    def _motion_limits(self, speed_scale: float) -> MotionLimits:
        if not 0 < speed_scale <= 1:
            raise PlanningError(f"speed_scale must be in (0, 1], got {speed_scale}")
        c, k = self.config, speed_scale
        # Slower by k is time stretched by 1 / k.
        return MotionLimits.scaled(
            self.limits.joints,
            c.velocity_scale * k,
            c.acceleration_scale * k**2,
            c.jerk_scale * k**3,
        )

    def _joints(self, q: Array, which: str) -> Array:
        joints = self.limits.joints
        q = np.array(q, dtype=np.float64)
        if q.shape != joints.lower_rad.shape or not np.isfinite(q).all():
            raise PlanningError(f"{which}: expected {joints.count} finite joints, got {q}")
        beyond = np.maximum(joints.lower_rad - q, q - joints.upper_rad)
        # A measured start may lie a little outside; the way back in is allowed.
        tolerance = 0.02 if which == "start" else 1e-6
        if beyond.max() > tolerance:
            i = int(beyond.argmax())
            raise PlanningError(
                f"{which}: joint {i + 1} at {q[i]:.4f} rad is outside "
                f"[{joints.lower_rad[i]:.4f}, {joints.upper_rad[i]:.4f}]"
            )
        return q


def _standing(q: Array) -> Trajectory:
    """One sample: already there."""
    zero = np.zeros((1, len(q)))
    return Trajectory(np.zeros(1), q[None].copy(), zero, zero.copy())
