"""Short sequences of looks at one scene, to measure tracking: cameras move, and so does an object.

The table is laid out as for a single scene. Between two looks the cameras shift a little, and
before every second look one object that nothing leans on is slid to a free place nearby.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from configs.load import find, load
from envs.synthesis.maker import SceneMaker, ScenesConfig
from envs.synthesis.scene import Scene
from envs.world import World

# Farther than a tracker's noise, nearer than the next object.
SLIDE_M = (0.02, 0.045)
# Standard deviation of the arm's joints from look to look: the wrist camera shifts about 1 cm.
_JITTER_RAD = 0.015
_GAP_M = 0.004
# Keeps the seeds of sequences apart from those of scenes.
_KIND = 1


def sequence_stream(
    objects: str, count: int, seed: int, looks: int = 4, config: ScenesConfig | None = None
) -> Iterator[list[Scene]]:
    """``count`` sequences one after the other, in memory.

    Args:
        objects: as for ``SceneMaker``.
        count: of sequences.
        seed: of them all.
        looks: in each.
        config: the distribution; the frozen one by default.
    """
    maker = SceneMaker(config or load(ScenesConfig, find("protocol", "scenes")), objects, seed)
    try:
        for number in range(count):
            yield sequence(maker, number, looks)
    finally:
        maker.close()


def sequence(maker: SceneMaker, number: int, looks: int) -> list[Scene]:
    """The ``number``-th sequence; the truth of a look is that of its own moment."""
    rng = np.random.default_rng([maker.seed, number, _KIND])
    setting = maker.lay(rng)
    # A camera's calibration does not change from look to look.
    errors = [maker.calibration_error(setting, rng) for _ in range(2)]
    out = []
    for look in range(looks):
        if look:
            maker.move_arm(setting.arm_rad + rng.normal(0.0, _JITTER_RAD, 7))
        if look % 2:
            slide(maker.world, list(setting.instances), rng)
        out.append(maker.shoot(number, setting, rng, errors))
    return out


def slide(world: World, bodies: Sequence[int], rng: np.random.Generator) -> int | None:
    """Moves one of ``bodies`` sideways to where nothing else is, without physics.

    Returns:
        The body; None where none has room.
    """
    for index in rng.permutation(len(bodies)):
        body = bodies[int(index)]
        low, high = world.aabb(body)
        others = [world.aabb(b) for b in world.bodies if b != body]
        if not world.in_workspace(body) or not _free(low, high, others):
            continue
        for angle in rng.uniform(0.0, 2.0 * np.pi, 12):
            distance = rng.uniform(*SLIDE_M)
            step = distance * np.array([np.cos(angle), np.sin(angle), 0.0])
            pose = world.pose(body)
            if _free(low + step, high + step, others):
                world.place(body, pose.position_m + step, pose.quat_xyzw)
                if world.in_workspace(body):
                    return body
                world.place(body, pose.position_m, pose.quat_xyzw)
    return None


def _free(low: np.ndarray, high: np.ndarray, others: Sequence[tuple]) -> bool:
    """Whether a box seen from above is clear of all others."""
    return not any(
        (low[:2] < upper[:2] + _GAP_M).all() and (high[:2] > lower[:2] - _GAP_M).all()
        for lower, upper in others
    )
