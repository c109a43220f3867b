"""Which of an arm's many postures at one pose of the tool does for all that comes from there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from robot.kinematics import Kinematics
from robot.planning.line import onto
from robot.types import Pose

Array = NDArray[np.float64]
Apart = Callable[[Array], bool]

#: Condition number up to which a posture is as good as any: speed is cut from 17 on.
WELL_CONDITIONED = 16.0

_SWING_RAD, _SWINGS = 0.3, 10
"""The elbow is swung aside in such steps of all joints together, so many to either side."""

_STEP_M = 0.02
"""So closely the way through the poses is followed."""

IMPASSABLE = 30.0
"""Condition number at which the singularity monitor stops what goes on."""

_LINKS_CLOSE = 25.0
"""Links that come close to each other count as much: that slows the arm, and stops nothing."""

_PATH_CONDITION = 22.0
"""A planned path drives joints at 0.6 of their speed at most: that is slowed from 25 on."""

_INSIDE_M = 0.005
"""A planned path keeps so far within the workspace."""


def worst_condition(
    kinematics: Kinematics, poses: Sequence[Pose], q: Array, apart: Apart | None = None
) -> float | None:
    """The worst condition number on a way through poses of the tool.

    Args:
        kinematics: of the arm.
        poses: ``X_world_tool`` that the arm goes to from ``q``.
        q: (n,) rad, where it begins.
        apart: whether the arm's own links are well apart at joints (n,) rad.

    Returns:
        Infinity where a joint comes to its end, at least 25 where links come close to each other,
        None where a pose cannot be reached.
    """
    if any(kinematics.inverse(pose, q, tries=3) is None for pose in poses):
        return None
    through = _followed(kinematics, poses, q)
    if through is None:
        return math.inf
    close = apart is not None and not all(map(apart, through))
    return max(_LINKS_CLOSE if close else 1.0, *map(kinematics.condition, through))


def _followed(kinematics: Kinematics, poses: Sequence[Pose], q: Array) -> list[Array] | None:
    """Joints straight through the poses, each the nearest to the last, as the servo goes.

    Inverse kinematics finds its own way round the end of a joint, the servo does not: None there.
    """
    joints, through = kinematics.limits.joints, [q]
    for pose in poses:
        at = kinematics.forward(through[-1]).position_m
        way = pose.position_m - at
        steps = max(1, math.ceil(float(np.linalg.norm(way)) / _STEP_M))
        for k in range(1, steps + 1):
            there = onto(kinematics, through[-1], at + way * (k / steps), pose.rotation)
            if (there < joints.lower_rad).any() or (there > joints.upper_rad).any():
                return None
            through.append(there)
    return through


def elbow_aside(
    kinematics: Kinematics, poses: Sequence[Pose], q: Array, apart: Apart | None = None
) -> tuple[Array, float] | None:
    """Joints like ``q``, the elbow swung so far to the side that no pose is near a singular one.

    Args:
        kinematics: of the arm.
        poses: as in :func:`worst_condition`.
        q: (n,) rad.
        apart: as there.

    Returns:
        The joints (n,) rad with the tool where it is at ``q``, and their worst condition number:
        the first good ones on either side, else the best there are. None where ``poses`` cannot be
        reached from ``q``.
    """
    condition = worst_condition(kinematics, poses, q, apart)
    if condition is None:
        return None
    best = q, condition
    here = kinematics.forward(q)
    sides: list[tuple[Array, Array]] = []
    if condition > WELL_CONDITIONED and (way := kinematics.swivel(q)) is not None:
        sides = [(q, way), (q, -way)]
    for _ in range(_SWINGS):
        swung: list[tuple[Array, Array]] = []
        for start, way in sides:
            there = kinematics.inverse(here, start + _SWING_RAD * way, tries=1)
            on = None if there is None else kinematics.swivel(there)
            if there is None or on is None or (there - start) @ way <= 0.0:
                continue  # the end of a joint
            swung.append((there, on if on @ way > 0 else -on))
            condition = worst_condition(kinematics, poses, there, apart)
            if condition is not None and condition < best[1]:
                best = there, condition
        if best[1] <= WELL_CONDITIONED:
            break
        sides = swung
    return best


def unhindered(kinematics: Kinematics, apart: Apart, *ends: Array) -> Callable[[Array], bool]:
    """Tells whether monitors let a planned path pass joints (n,) rad as fast as it likes.

    Neither near a singular posture or with links close to each other, nor with the tool outside
    its workspace, where the arm would get no further.

    Args:
        kinematics: of the arm.
        apart: whether the arm's own links are well apart at joints (n,) rad.
        ends: (n,) rad each, of the path: of the two, what does not hold there is not asked for.
    """
    condition, place = kinematics.condition, kinematics.tool_position
    low = (kinematics.limits.workspace_min_m + _INSIDE_M).tolist()
    high = (kinematics.limits.workspace_max_m - _INSIDE_M).tolist()

    def passable(q: Array) -> bool:
        return condition(q) <= _PATH_CONDITION and apart(q)

    def inside(q: Array) -> bool:
        return all(a <= x <= b for a, x, b in zip(low, place(q), high, strict=True))

    kept = [holds for holds in (passable, inside) if all(map(holds, ends))]
    return lambda q: all(holds(q) for holds in kept)
