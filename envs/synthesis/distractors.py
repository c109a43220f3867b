"""What lies on a table and must not be detected: it is flat, or too wide for any gripper."""

from __future__ import annotations

import numpy as np

from envs.objects import ObjectModel
from envs.world import World


def distract(world: World, count: tuple[int, int], rng: np.random.Generator) -> set[int]:
    """Lays out ``count`` (fewest, most) things, fixed to the table.

    Returns:
        Their bodies.
    """
    fewest, most = count
    bodies = set()
    for _ in range(int(rng.integers(fewest, most + 1))):
        x, y = 0.5 + rng.uniform(-0.25, 0.35), rng.uniform(-0.4, 0.4)
        if rng.random() < 0.6:
            dims = (rng.uniform(0.04, 0.25), rng.uniform(0.04, 0.25), 0.002)
            model = ObjectModel("card", "box", dimensions_m=dims)
        elif rng.random() < 0.5:
            dims = (rng.uniform(0.12, 0.2), rng.uniform(0.12, 0.3), rng.uniform(0.04, 0.15))
            model = ObjectModel("crate", "box", dimensions_m=dims)
        else:
            width = rng.uniform(0.12, 0.2)
            dims = (width, width, rng.uniform(0.04, 0.15))
            model = ObjectModel("drum", "cylinder", dimensions_m=dims)
        turn = rng.uniform(0.0, np.pi)
        quat = (0.0, 0.0, np.sin(turn / 2), np.cos(turn / 2))
        body = world.add(model, (x, y, dims[2] / 2), quat)
        world.dynamics(body, mass=0.0)
        bodies.add(body)
    return bodies
