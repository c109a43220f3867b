"""What the loop around the supervisor tells its monitors, beside readings and commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from robot.planning.obstacles import Box, HeldBox
from robot.types import GripperCommand, GripperState


@dataclass(slots=True)
class Signals:
    """Written by whoever runs the loop, read by the monitors at each tick.

    None means that nobody says: then the monitor has nothing to judge.

    Attributes:
        gripper_command: what the gripper is told at this tick.
        gripper: what the fingers feel, contact and slip included.
        held: what is between the fingers, None for nothing or what was never seen.
        policy_stamp_s: when the policy whose motion is now played last acted; None while it has no
            motion to answer for.
        novelty: how unlike anything seen the policy's newest observation is; 1 is the threshold.
        scene: boxes that the arm has to keep away from; see :meth:`see`.
        on_scene: called with the boxes where they change.
        damage: what the newest check of the running bundle found, None where it was whole.
    """

    gripper_command: GripperCommand | None = None
    gripper: GripperState | None = None
    held: HeldBox | None = None
    policy_stamp_s: float | None = None
    novelty: float | None = None
    scene: tuple[Box, ...] = ()
    on_scene: list[Callable[[tuple[Box, ...]], None]] = field(default_factory=list)
    damage: str | None = None

    def see(self, boxes: Sequence[Box]) -> None:
        """These boxes stand around the arm from now on; between two ticks, in the loop's thread."""
        self.scene = tuple(boxes)
        for call in self.on_scene:
            call(self.scene)
