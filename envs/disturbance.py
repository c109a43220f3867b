"""What happens to an object: somebody shifts or turns it, or it slips out of the fingers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from envs.arm import SimArm
from envs.world import WORKSPACE_MAX_M, WORKSPACE_MIN_M, World
from robot.geometry import grasp_rotation, yaw_between
from robot.types import GraspCandidate, Pose

_INSIDE_M = 0.02


@dataclass(frozen=True)
class DisturbanceConfig:
    """How an object is disturbed, and how wrong the candidate is.

    Attributes:
        shift_m: range of the way that the object is shifted, in any direction.
        turn_deg: range of the angle by which it is turned instead, either way.
        turn_share: how often it is turned and not shifted.
        start_s: range of the time from the policy's first action to the disturbance.
        pace_s: how long the disturbance takes.
        candidate_off_m: the candidate lies up to so far to the side of the planned one.
        candidate_off_deg: and is turned by up to so much.
    """

    shift_m: tuple[float, float] = (0.02, 0.05)
    turn_deg: tuple[float, float] = (15.0, 45.0)
    turn_share: float = bounded(0.33, 0.0, 1.0)
    start_s: tuple[float, float] = (0.1, 0.5)
    pace_s: float = bounded(0.3, 0.02, 5.0)
    candidate_off_m: float = bounded(0.02, 0.0, 0.1)
    candidate_off_deg: float = bounded(20.0, 0.0, 90.0)


@dataclass(frozen=True)
class SlipConfig:
    """How an object slips out of the fingers, once in an episode.

    Attributes:
        lifted_m: range of the height above where it lay at which it begins to.
        force_n: what the fingers press with meanwhile, at most.
        lasts_s: how long.
    """

    lifted_m: tuple[float, float] = (0.03, 0.15)
    force_n: float = bounded(0.0, 0.0, 1000.0)
    lasts_s: float = bounded(0.4, 0.0, 10.0)


class Slip:
    """One episode's slip of one object; call :meth:`advance` before each tick.

    The fingers' force gives way for a moment. Friction would be the other thing to take away, but
    Bullet keeps what a contact had when it began.

    Args:
        config: how.
        world: where the object is.
        arm: whose fingers hold it.
        body: the object.
        rng: draws everything.
    """

    def __init__(
        self, config: SlipConfig, world: World, arm: SimArm, body: int, rng: np.random.Generator
    ) -> None:
        self.config, self.world, self.arm, self.body = config, world, arm, body
        self._at_m = float(world.aabb(body)[0][2]) + float(rng.uniform(*config.lifted_m))
        self._force_n = arm.force_limit_n
        self._over = False
        self.began_s: float | None = None

    def advance(self) -> None:
        """Let it slip during the coming tick, if it is time to."""
        if self._over:
            return
        now = self.world.time_s
        if self.began_s is None:
            if float(self.world.aabb(self.body)[0][2]) >= self._at_m:
                self.began_s = now
                self.arm.force_limit_n = self.config.force_n
        elif now - self.began_s >= self.config.lasts_s:
            self._over = True
            self.arm.force_limit_n = self._force_n


class Disturbance:
    """One episode's disturbance of one object; call :meth:`advance` before each tick.

    The object is pushed by its velocity, so that what stands in its way stops it.

    Args:
        config: how.
        world: where the object is.
        body: the object.
        rng: draws everything.
    """

    def __init__(
        self, config: DisturbanceConfig, world: World, body: int, rng: np.random.Generator
    ) -> None:
        self.world, self.body = world, body
        self._start_s = rng.uniform(*config.start_s)
        self._pace_s = config.pace_s
        self._way, self._turn = np.zeros(2), 0.0
        angles = rng.uniform(0.0, 2.0 * np.pi, 12)
        way_m = rng.uniform(*config.shift_m)
        turn = np.radians(rng.uniform(*config.turn_deg)) * rng.choice([-1.0, 1.0])
        if rng.random() < config.turn_share:
            self._turn = float(turn)
        else:
            here = world.pose(body).position_m[:2]
            steps = way_m * np.column_stack([np.cos(angles), np.sin(angles)])
            low, high = np.array(WORKSPACE_MIN_M), np.array(WORKSPACE_MAX_M)
            there = here + steps
            inside = ((there > low + _INSIDE_M) & (there < high - _INSIDE_M)).all(axis=1)
            self._way = steps[int(np.argmax(inside))]
        self._began_s: float | None = None
        self._from: Pose | None = None
        self._done = False

    def advance(self) -> None:
        """Push the object during the coming tick, if it is time to."""
        now = self.world.time_s
        if self._began_s is None:
            self._began_s = now + self._start_s
        since = now - self._began_s
        if self._done or since < 0.0:
            return
        here = self.world.pose(self.body)
        if self._from is None:
            self._from = here
        linear, _ = self.world.velocity(self.body)
        if since >= self._pace_s:
            self._done = True
            self.world.push(self.body, [0.0, 0.0, linear[2]], [0.0, 0.0, 0.0])
            return
        tick_s = self.world.config.tick_s
        # Where it ought to be after this tick; friction and what is in the way hold it back.
        share = min(1.0, (since + tick_s) / self._pace_s)
        behind = self._from.position_m[:2] + share * self._way - here.position_m[:2]
        velocity = _limited(behind / tick_s, 2.0 * np.linalg.norm(self._way) / self._pace_s)
        missing = share * self._turn - yaw_between(self._from.rotation, here.rotation)
        spin = _limited(np.array([missing / tick_s]), 2.0 * abs(self._turn) / self._pace_s)
        self.world.push(self.body, [*velocity, linear[2]], [0.0, 0.0, float(spin[0])])


def _limited(vector: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    length = float(np.linalg.norm(vector))
    return vector * min(1.0, longest / max(length, 1e-12))


def misjudged(
    candidate: GraspCandidate,
    shift_m: NDArray[np.float64],
    turn_rad: float,
    lowest_m: float = -np.inf,
) -> GraspCandidate:
    """The candidate, shifted by (3,) m and turned about the vertical, not below ``lowest_m``."""
    pose = candidate.X_world_grasp
    x_axis = pose.rotation[:, 0]
    yaw = float(np.arctan2(x_axis[1], x_axis[0])) + turn_rad
    position = pose.position_m + shift_m
    position[2] = max(position[2], lowest_m)
    return GraspCandidate(
        Pose.from_matrix("world", "grasp", grasp_rotation(yaw), position),
        candidate.width_m,
        candidate.opening_m,
        candidate.score,
        candidate.object_id,
        candidate.stamp_s,
    )


def mistake(
    config: DisturbanceConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """A candidate's error, evenly over the disc and the angles: (3,) m and rad."""
    radius = config.candidate_off_m * np.sqrt(rng.random())
    angle = rng.uniform(0.0, 2.0 * np.pi)
    turn = np.radians(rng.uniform(-config.candidate_off_deg, config.candidate_off_deg))
    return np.array([radius * np.cos(angle), radius * np.sin(angle), 0.0]), float(turn)
