"""Scenes: objects dropped on the table, settled, and drawn again where out of reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.objects import ObjectModel, drop_quaternion
from envs.world import World
from robot.errors import SteadyhandError

CENTRE_M = (0.5, 0.0)


@dataclass(frozen=True)
class DropConfig:
    """How objects come to lie on the table.

    Attributes:
        area_m: edge of the square over which they are dropped, centred on the workspace.
        height_m: from which they are dropped.
        settle_s: the longest they may take to come to rest.
    """

    area_m: float = 0.3
    height_m: float = 0.2
    settle_s: float = 3.0


def drop(
    world: World, models: Sequence[ObjectModel], config: DropConfig, rng: np.random.Generator
) -> int:
    """Drop ``models`` one after the other in random orientations and let each settle.

    Objects that come to rest out of reach, or are pushed there by a later one, are dropped again.

    Returns:
        How many times an object was dropped again.
    """
    pending = list(models)
    redrawn = 0
    for _ in range(50):
        for model in pending:
            _drop_one(world, model, config, rng)
        out = [body for body in world.bodies if not world.in_workspace(body)]
        if not out:
            return redrawn
        redrawn += len(out)
        pending = [world.bodies[body].model for body in out]
        for body in out:
            world.remove(body)
    names = ", ".join(model.name for model in pending)
    raise SteadyhandError(f"object {names}: came to rest out of reach in 50 drops; does it roll?")


def _drop_one(
    world: World, model: ObjectModel, config: DropConfig, rng: np.random.Generator
) -> None:
    half = config.area_m / 2
    x, y = np.array(CENTRE_M) + rng.uniform(-half, half, 2)
    body = world.add(model, (x, y, config.height_m), drop_quaternion(rng))
    # The lowest point starts at the drop height over whatever lies there.
    lower, _ = world.aabb(body)
    pose = world.pose(body)
    lift_m = _top_below(world, body, x, y) + config.height_m - lower[2]
    world.place(body, pose.position_m + np.array([0, 0, lift_m]), pose.quat_xyzw)
    settle(world, config.settle_s)


def _top_below(world: World, body: int, x: float, y: float) -> float:
    """Height of the highest other object near (x, y), m."""
    top = 0.0
    for other in world.bodies:
        if other == body:
            continue
        lower, upper = world.aabb(other)
        if lower[0] - 0.05 < x < upper[0] + 0.05 and lower[1] - 0.05 < y < upper[1] + 0.05:
            top = max(top, float(upper[2]))
    return top


def settle(world: World, longest_s: float) -> bool:
    """Step until every object has been at rest for 0.1 s; False if time ran out first."""
    quiet = 0
    for _ in range(round(longest_s / (8 * world.config.tick_s))):
        world.step(8)
        still = all(_still(world, body) for body in world.bodies)
        quiet = quiet + 1 if still else 0
        if quiet >= 3:
            return True
    return False


def _still(world: World, body: int) -> bool:
    linear, angular = world.velocity(body)
    return bool(np.abs(linear).max() < 0.01 and np.abs(angular).max() < 0.15)
