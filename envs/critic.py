"""What only a critic sees while a policy learns: the truth that the policy has to guess."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.arm import SimArm
from envs.world import World
from robot.execution.grasp import TICKS, GraspLoop
from robot.geometry import yaw_between
from robot.types import GraspCandidate, Pose

#: (name, size) of what only a critic sees. Lengths are in units of 5 cm, angles in rad, both in the
#: candidate's axes; the object's are seen from the hand.
TRUTH: tuple[tuple[str, int], ...] = (
    ("aim", 4),
    ("object_position", 3),
    ("object_velocity", 3),
    ("object_yaw", 1),
    ("mass", 1),
    ("friction", 1),
    ("gripper_force", 1),
    ("latency", 1),
)
_UNIT_M = 0.05

REACH_M = 0.035
REACH_RAD = math.radians(35.0)


def aim(candidate: GraspCandidate, truths: Sequence[Pose]) -> NDArray[np.float64]:
    """From a candidate to the nearest true grasp: (4,) x, y, z m and yaw rad, in its own axes.

    Zero where none lies within ``REACH_M`` and ``REACH_RAD``: then the candidate has to do.

    Args:
        candidate: what a look, or a mistake, made of the grasp.
        truths: grasps planned on the exact shapes, at the time of the look.
    """
    if not truths:
        return np.zeros(4)
    here = candidate.X_world_grasp
    offsets = (np.array([t.position_m for t in truths]) - here.position_m) @ here.rotation
    x_axes = np.array([t.rotation[:, 0] for t in truths]) @ here.rotation
    # A grip is the same after half a turn.
    turns = (np.arctan2(x_axes[:, 1], x_axes[:, 0]) + math.pi / 2) % math.pi - math.pi / 2
    aside = np.hypot(offsets[:, 0], offsets[:, 1])
    cost = aside / 0.01 + np.abs(offsets[:, 2]) / 0.02 + np.abs(turns) / math.radians(15.0)
    near = (aside <= REACH_M) & (np.abs(turns) <= REACH_RAD) & (np.abs(offsets[:, 2]) <= REACH_M)
    if not near.any():
        return np.zeros(4)
    best = int(np.argmin(np.where(near, cost, np.inf)))
    return np.array([*offsets[best], turns[best]])


class CriticView:
    """The truth about one grasp, as ``TRUTH`` lays it out.

    Args:
        world: where it happens.
        arm: whose gripper grasps.
    """

    def __init__(self, world: World, arm: SimArm) -> None:
        self.world, self.arm = world, arm

    def begin(self, body: int, candidate: GraspCandidate, truths: Sequence[Pose]) -> None:
        """A grasp of a body begins; its physics was drawn before."""
        self._body = body
        self._start = self.world.pose(body)
        mass_kg, friction = self.world.mass_and_friction(body)
        self.aim = aim(candidate, truths)
        self._physics = [
            2.0 * mass_kg,
            friction,
            self.arm.force_limit_n / 40.0,
            self.arm.latency_ticks / TICKS,
        ]

    def read(self, loop: GraspLoop) -> NDArray[np.float32]:
        """The numbers now, after the loop's newest ``observe``."""
        here = self.world.pose(self._body)
        linear, _ = self.world.velocity(self._body)
        R_T = loop.target.rotation.T
        truth = [
            *(self.aim[:3] / _UNIT_M),
            self.aim[3],
            *(R_T @ (here.position_m - loop.X_world_tool[:3, 3]) / _UNIT_M),
            *(R_T @ linear / (5.0 * _UNIT_M)),
            yaw_between(self._start.rotation, here.rotation),
            *self._physics,
        ]
        return np.clip(truth, -5.0, 5.0).astype(np.float32)
