"""What the loop around the supervisor tells its monitors, beside readings and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robot.planning.obstacles import Box
from robot.types import GripperCommand, GripperState


@dataclass(slots=True)
class Signals:
    """Written by whoever runs the loop, read by the monitors at each tick.

    None means that nobody says: then the monitor has nothing to judge.

    Attributes:
        gripper_command: what the gripper is told at this tick.
        gripper: what the fingers feel, contact and slip included.
        policy_stamp_s: when the policy whose motion is now played last acted; None while it has no
            motion to answer for.
        novelty: how unlike anything seen the policy's newest observation is; 1 is the threshold.
        scene: boxes that the arm has to keep away from; a new tuple where it changes.
        scene_version: counts the changes of ``scene``.
        damage: what the newest check of the running bundle found, None where it was whole.
    """

    gripper_command: GripperCommand | None = None
    gripper: GripperState | None = None
    policy_stamp_s: float | None = None
    novelty: float | None = None
    scene: tuple[Box, ...] = ()
    scene_version: int = 0
    damage: str | None = None

    def see(self, boxes: Sequence[Box]) -> None:
        """These boxes stand around the arm from now on."""
        self.scene, self.scene_version = tuple(boxes), self.scene_version + 1
