"""Bullet as the judge of planned motions: it drives them, and sees what touches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.arm import SimArm
from envs.bullet import pybullet
from envs.planning_scenes import PlanningScene
from envs.world import World
from robot.limits import RobotLimits
from robot.planning.shapes import ArmShapes
from robot.types import Trajectory

Array = NDArray[np.float64]

_SELF_EVERY = 4
"""Links among themselves are looked at every so many ticks: 17 ms."""
_SLACK = 1.0 + 1e-4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one motion.

    Attributes:
        touched: what the arm ran into, or "".
        off_m: distance of the last joints from the goal, rad, at most over the joints.
        samples: of the planned motion.
        beyond: samples that broke a limit of position, velocity, acceleration or jerk.
    """

    touched: str
    off_rad: float
    samples: int
    beyond: int


class Judge:
    """A world of its own in which planned motions are driven by motors.

    Args:
        limits: of the arm.
        shapes: say which links are expected to touch each other.
    """

    def __init__(self, limits: RobotLimits, shapes: ArmShapes) -> None:
        self.limits = limits
        self.world = World(arm=limits.simulated_urdf)
        self.arm = SimArm(self.world, limits)
        self._kw = {"physicsClientId": self.world.client}
        arm = self.world.arm_id
        count = pybullet.getNumJoints(arm, **self._kw)
        infos = [pybullet.getJointInfo(arm, i, **self._kw) for i in range(count)]
        self.links = {info[12].decode(): info[0] for info in infos}
        #: Links that stand still, whatever the arm does: its base.
        self._still = {-1}
        for info in infos:  # parents come first
            if info[2] == pybullet.JOINT_FIXED and info[16] in self._still:
                self._still.add(info[0])
        self.joints = {info[1].decode(): info[0] for info in infos}
        self.links[pybullet.getBodyInfo(arm, **self._kw)[0].decode()] = -1
        pairs = ((self.links.get(a), self.links.get(b)) for a, b in shapes.checked_pairs())
        self.checked = [(a, b) for a, b in pairs if a is not None and b is not None]

    def set_up(self, scene: PlanningScene) -> None:
        """Put the scene's boxes there, and the arm at its start."""
        self.world.reset()
        for box in scene.boxes:
            if not box.name.startswith("tray"):  # which the world has anyway
                self.world.fix(box)
        self.arm.reset(scene.start_rad)

    def drive(self, scene: PlanningScene, trajectory: Trajectory) -> Verdict:
        """Execute a motion, and say what it touched and whether its samples are within limits."""
        self.set_up(scene)
        touched = ""
        open_m, force_n = self.limits.gripper.max_opening_m, self.arm.force_limit_n
        steps = zip(
            trajectory.position_rad.tolist(), trajectory.velocity_rad_s.tolist(), strict=True
        )
        for tick, (q, qd) in enumerate(steps):
            self.arm.send_arrays(q, qd, open_m, force_n)
            self.world.step()
            touched = touched or self._touches(with_self=tick % _SELF_EVERY == 0)
        q_end, *_ = self.arm.read_arrays()
        off = float(np.abs(q_end - trajectory.position_rad[-1]).max())
        return Verdict(touched, off, len(trajectory.time_s), beyond_limits(trajectory, self.limits))

    def close(self) -> None:
        """Disconnect from Bullet."""
        self.world.close()

    def _touches(self, with_self: bool) -> str:
        arm = self.world.arm_id
        for contact in pybullet.getContactPoints(bodyA=arm, **self._kw):
            _, _, other, link, *_ = contact
            if other != arm and contact[8] < 0.0 and link not in self._still:
                name = "table" if other == self.world.table_id else f"body {other}"
                return f"link {link} hits {name}"
        if with_self:
            for a, b in self.checked:
                if pybullet.getClosestPoints(arm, arm, 0.0, a, b, **self._kw):
                    return f"link {a} hits link {b}"
        return ""


def beyond_limits(trajectory: Trajectory, limits: RobotLimits) -> int:
    """How many samples of a motion break a limit of the arm; jerk from sample to sample."""
    joints = limits.joints
    if len(trajectory.time_s) < 2:
        return 0
    bad = np.zeros(len(trajectory.time_s), dtype=bool)
    q = trajectory.position_rad
    bad |= ((q < joints.lower_rad - 1e-6) | (q > joints.upper_rad + 1e-6)).any(axis=1)
    bad |= (np.abs(trajectory.velocity_rad_s) > joints.velocity_rad_s * _SLACK).any(axis=1)
    top = joints.acceleration_rad_s2 * _SLACK
    bad |= (np.abs(trajectory.acceleration_rad_s2) > top).any(axis=1)
    step = np.diff(trajectory.time_s)[:, None]
    jerk = np.abs(np.diff(trajectory.acceleration_rad_s2, axis=0)) / step
    bad[1:] |= (jerk > joints.jerk_rad_s3 * _SLACK).any(axis=1)
    return int(bad.sum())
