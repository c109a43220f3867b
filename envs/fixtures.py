"""What stands in the world and does not move: table, tray, bins, boards."""

from __future__ import annotations

import math
from collections.abc import Sequence

from envs.bullet import pybullet
from robot.planning.placing import TrayConfig

_TRAY_THICKNESS_M = 0.008

Solid = tuple[Sequence[float], Sequence[float]]
"""Centre and full edge lengths of a box, m."""


def static_boxes(
    client: int,
    boxes: Sequence[Solid],
    rgba: Sequence[float],
    friction: float,
    yaw_rad: float = 0.0,
) -> int:
    """One fixed body of several boxes; returns its id.

    Args:
        client: Bullet's.
        boxes: of the body.
        rgba: its colour.
        friction: its lateral friction.
        yaw_rad: turn of a single box about the vertical through its centre.
    """
    kw = {"physicsClientId": client}
    halves = [[s / 2 for s in size] for _, size in boxes]
    centres = [list(centre) for centre, _ in boxes]
    where = {}
    if yaw_rad:
        where["basePosition"] = centres[0]
        where["baseOrientation"] = [0.0, 0.0, math.sin(yaw_rad / 2), math.cos(yaw_rad / 2)]
        centres = [[0.0, 0.0, 0.0]]
    kinds = [pybullet.GEOM_BOX] * len(boxes)
    collision = pybullet.createCollisionShapeArray(
        shapeTypes=kinds, halfExtents=halves, collisionFramePositions=centres, **kw
    )
    visual = pybullet.createVisualShapeArray(
        shapeTypes=kinds,
        halfExtents=halves,
        visualFramePositions=centres,
        rgbaColors=[list(rgba)] * len(boxes),
        **kw,
    )
    body = pybullet.createMultiBody(
        baseMass=0,
        baseCollisionShapeIndex=collision,
        baseVisualShapeIndex=visual,
        **where,
        **kw,
    )
    pybullet.changeDynamics(body, -1, lateralFriction=friction, **kw)
    return int(body)


def tray_boxes(tray: TrayConfig) -> list[Solid]:
    """Floor and four walls of the tray."""
    (cx, cy), (sx, sy), h, t = tray.centre_m, tray.size_m, tray.wall_m, _TRAY_THICKNESS_M
    return [
        ((cx, cy, t / 2), (sx, sy, t)),
        ((cx - sx / 2 + t / 2, cy, h / 2), (t, sy, h)),
        ((cx + sx / 2 - t / 2, cy, h / 2), (t, sy, h)),
        ((cx, cy - sy / 2 + t / 2, h / 2), (sx, t, h)),
        ((cx, cy + sy / 2 - t / 2, h / 2), (sx, t, h)),
    ]
