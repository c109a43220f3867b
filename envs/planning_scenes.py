"""Seeded questions for path planners: a start, a goal, and what stands between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs.world import TRAY
from robot.errors import PlanningError
from robot.geometry import grasp_rotation
from robot.kinematics import Kinematics
from robot.planning.collision import CollisionChecker
from robot.planning.obstacles import Box, tray_walls
from robot.types import Pose

Array = NDArray[np.float64]
SceneKind = Literal["free", "bin", "shelf", "cluttered-path"]
KINDS: tuple[SceneKind, ...] = get_args(SceneKind)

_WALL_M = 0.012
_BIN_AT_M = (0.52, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class PlanningScene:
    """One question.

    Attributes:
        kind: see :func:`planning_scenes`.
        boxes: what stands on the table.
        start_rad: (n,) where the arm stands; free.
        goal_rad: (n,) where it should go; free.
    """

    kind: SceneKind
    boxes: tuple[Box, ...]
    start_rad: Array
    goal_rad: Array


def planning_scenes(
    kinematics: Kinematics, checker: CollisionChecker, count: int, seed: int
) -> Iterator[PlanningScene]:
    """Scenes of all kinds in turn; scene i depends on the arm, the seed and i alone.

    ``free``: nothing but table and tray, between any two postures. ``bin``: from deep in a box
    with walls to over the tray. ``shelf``: into a compartment, the hand level. ``cluttered-path``:
    from one side of the table to the other around pillars.

    Args:
        kinematics: of the arm.
        checker: of the same arm; its scene is replaced.
        count: how many.
        seed: of all of them.

    Raises:
        PlanningError: the arm reaches no goal of a kind.
    """
    makers: dict[SceneKind, _Maker] = {
        "free": _free,
        "bin": _bin,
        "shelf": _shelf,
        "cluttered-path": _cluttered,
    }
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        rng = np.random.default_rng((seed, i))
        for _ in range(500):
            boxes, start, goal = makers[kind](kinematics, rng)
            if start is None or goal is None or np.abs(start - goal).max() < 0.2:
                continue
            checker.set_scene(None, boxes)
            # With room, so that every planner's idea of the arm is free there.
            if checker.has_room(start) and checker.has_room(goal):
                yield PlanningScene(kind, tuple(boxes), start, goal)
                break
        else:
            raise PlanningError(f"{kinematics.limits.name}: reaches no goal in a {kind} scene")


_Question = tuple[list[Box], "Array | None", "Array | None"]
_Maker = Callable[[Kinematics, np.random.Generator], _Question]


def _free(kinematics: Kinematics, rng: np.random.Generator) -> _Question:
    joints = kinematics.limits.joints
    low = np.maximum(joints.lower_rad, -math.pi)
    high = np.minimum(joints.upper_rad, math.pi)
    start, goal = rng.uniform(low, high), rng.uniform(low, high)
    return _tray(), start, goal


def _bin(kinematics: Kinematics, rng: np.random.Generator) -> _Question:
    size = rng.uniform(0.26, 0.36, 2)
    height = float(rng.uniform(0.10, 0.22))
    x, y = np.array(_BIN_AT_M) + rng.uniform(-0.04, 0.04, 2)
    boxes = [
        *tray_walls((float(x), float(y)), (float(size[0]), float(size[1])), height, _WALL_M, "bin"),
        *_tray(),
    ]
    inside = 0.5 * size - _WALL_M - 0.06
    at = np.array([x, y]) + rng.uniform(-1, 1, 2) * np.maximum(inside, 0.0)
    depth = float(rng.uniform(0.03, 0.08))
    start = _above(kinematics, at, depth, rng)
    goal = _over_tray(kinematics, rng)
    return boxes, start, goal


def _shelf(kinematics: Kinematics, rng: np.random.Generator) -> _Question:
    x, width = float(rng.uniform(0.55, 0.65)), float(rng.uniform(0.45, 0.6))
    y, floor = float(rng.uniform(-0.1, 0.1)), float(rng.uniform(0.15, 0.3))
    room, deep = float(rng.uniform(0.26, 0.34)), 0.3
    middle = floor + 0.5 * room
    boards = [("bottom", floor), ("top", floor + room)]
    boxes = [Box((x, y, z), (deep, width, _WALL_M), name=f"shelf {name}") for name, z in boards] + [
        Box((x, y + side * 0.5 * width, middle), (deep, _WALL_M, room), name="shelf side")
        for side in (-1, 1)
    ]
    boxes += [Box((x + 0.5 * deep, y, middle), (_WALL_M, width, room), name="shelf back"), *_tray()]
    at = (
        x - 0.5 * deep + float(rng.uniform(0.05, 0.16)),
        y + float(rng.uniform(-0.3, 0.3)) * width,
        middle + float(rng.uniform(-0.03, 0.03)),
    )
    # The approach lies level, turned a little to either side; the fingers close sideways.
    turn = float(rng.uniform(-0.3, 0.3))
    c, s = math.cos(turn), math.sin(turn)
    level = np.array([[0.0, -s, c], [0.0, c, s], [-1.0, 0.0, 0.0]])
    goal = _joints(kinematics, level, at, rng)
    start = kinematics.limits.home_rad if rng.random() < 0.5 else _over_tray(kinematics, rng)
    return boxes, start, goal


def _cluttered(kinematics: Kinematics, rng: np.random.Generator) -> _Question:
    boxes = _tray()
    for _ in range(int(rng.integers(4, 9))):
        size = rng.uniform(0.04, 0.12, 2)
        height = float(rng.uniform(0.15, 0.5))
        at = rng.uniform([0.3, -0.2], [0.75, 0.2])
        boxes.append(
            Box(
                (float(at[0]), float(at[1]), 0.5 * height),
                (float(size[0]), float(size[1]), height),
                float(rng.uniform(-math.pi, math.pi)),
                "pillar",
            )
        )
    depth = float(rng.uniform(0.03, 0.15))
    start = _above(kinematics, rng.uniform([0.35, 0.2], [0.6, 0.4]), depth, rng)
    goal = _over_tray(kinematics, rng)
    return boxes, start, goal


def _tray() -> list[Box]:
    return tray_walls(TRAY.centre_m, TRAY.size_m, TRAY.wall_m)


def _over_tray(kinematics: Kinematics, rng: np.random.Generator) -> Array | None:
    at = np.array(TRAY.centre_m) + rng.uniform(-0.06, 0.06, 2)
    return _above(kinematics, at, float(rng.uniform(0.12, 0.2)), rng)


def _above(
    kinematics: Kinematics, xy_m: Array, height_m: float, rng: np.random.Generator
) -> Array | None:
    rotation = grasp_rotation(float(rng.uniform(-math.pi, math.pi)))
    return _joints(kinematics, rotation, (float(xy_m[0]), float(xy_m[1]), height_m), rng)


def _joints(
    kinematics: Kinematics,
    rotation: Array,
    at_m: tuple[float, float, float],
    rng: np.random.Generator,
) -> Array | None:
    limits = kinematics.limits
    seed = limits.home_rad + rng.uniform(-0.3, 0.3, limits.joints.count)
    return kinematics.inverse(Pose.from_matrix("world", limits.tool_frame, rotation, at_m), seed)
