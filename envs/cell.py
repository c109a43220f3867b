"""The loop's simulated plant: a Panda at its table, paced by the wall or as fast as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from envs.arm import SimArm
from envs.clock import SimClock
from envs.exposure import Snapshot
from envs.objects import ObjectModel
from envs.physics import PhysicsConfig, apply_physics
from envs.scene import DropConfig, drop
from envs.world import World
from robot.interface import Clock
from robot.limits import RobotLimits
from robot.loop.bus import Bus
from robot.loop.clock import PacedClock

Pace = Literal["real", "sim", "scaled"]


class SimPlant:
    """Implements ``robot.loop.cell.Plant`` over a world.

    Args:
        bus: of the process; snapshots for the cameras go there.
        models: objects that may be asked for, by index.
        physics: of the world.
        limits: of the arm.
        pace: of the clock.
        speed: with the scaled pace, simulated seconds in one of the wall's.
        drops: how objects come to lie on the table.
    """

    def __init__(
        self,
        bus: Bus,
        models: Sequence[ObjectModel],
        physics: PhysicsConfig,
        limits: RobotLimits,
        pace: Pace,
        speed: float = 1.0,
        drops: DropConfig | None = None,
    ) -> None:
        self.models, self.physics = models, physics
        self.drops = drops or DropConfig()
        self.world = World()
        self.robot = SimArm(self.world, limits)
        inner = SimClock(self.world)
        self.paced = None if pace == "sim" else PacedClock(inner, speed)
        self.clock: Clock = self.paced or inner
        self._snapshot = Snapshot(self.world, bus)
        self._before = 0

    def begin(self, wanted: dict[str, Any]) -> None:
        """Drop the objects that were asked for; the arm is at home."""
        now_s, rng = self.clock.now_s(), np.random.default_rng(int(wanted["seed"]))
        self._before += self._in_tray()
        self.world.reset()
        self.robot.configure(0, self.physics.gripper_force_n)
        self.robot.reset()
        drop(self.world, [self.models[int(i)] for i in wanted["models"]], self.drops, rng)
        apply_physics(self.physics, self.world, self.robot, rng)
        self.robot.reset()
        self.world.set_time(now_s)

    def expose(self, now_s: float) -> None:
        """Tell the cameras what there is to see."""
        self._snapshot.send(self.robot.read(), now_s)

    def put_away(self) -> int:
        """Objects that came to lie in the tray, on all tables."""
        return self._before + self._in_tray()

    def close(self) -> None:
        """Disconnect from Bullet."""
        self.world.close()

    def _in_tray(self) -> int:
        return sum(self.world.in_tray(body) for body in self.world.bodies)
