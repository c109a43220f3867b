"""Which of an arm's many postures at one pose of the tool does for all that comes from there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from robot.kinematics import WELL_CONDITIONED, Kinematics
from robot.types import Pose

Array = NDArray[np.float64]
Apart = Callable[[Array], bool]

_SWING_RAD, _SWINGS = 0.3, 10
"""The elbow is swung aside in such steps of all joints together, so many to either side."""

_NO_WORSE = 1.1
"""Between its ends a path may be that much nearer to a singular posture than they are."""
_BESIDE_RAD = 0.2
"""Beside an end where links are close to each other they may be."""


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
        Infinity where links come close to each other, None where a pose cannot be reached.
    """
    through = [q]
    for pose in poses:
        there = kinematics.inverse(pose, q, tries=3)
        if there is None:
            return None
        through.append(there)
    if apart is not None and not all(map(apart, through)):
        return math.inf
    return max(map(kinematics.condition, through))


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


def unhindered(
    kinematics: Kinematics, apart: Apart, q_from: Array, q_to: Array
) -> Callable[[Array], bool]:
    """Tells whether monitors let the arm go at joints (n,) rad as fast as it likes.

    Not near a singular posture, nor with links close to each other, unless an end of its way,
    ``q_from`` or ``q_to`` (n,) rad, is no better.
    """
    condition = kinematics.condition
    most = max(WELL_CONDITIONED, _NO_WORSE * max(condition(q_from), condition(q_to)))
    close = [q for q in (q_from, q_to) if not apart(q)]

    def well(q: Array) -> bool:
        if condition(q) > most:
            return False
        return any(np.abs(q - end).max() <= _BESIDE_RAD for end in close) or apart(q)

    return well
