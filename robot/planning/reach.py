"""Whether a candidate can be reached, and which way round the hand should come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from robot.execution.grasp import GraspLoop
from robot.planning.posture import WELL_CONDITIONED, Apart, elbow_aside
from robot.types import GraspCandidate, Pose

Array = NDArray[np.float64]

Found = tuple[GraspCandidate, Array]

_HALF_TURN = np.diag([-1.0, -1.0, 1.0])
_IMPASSABLE = 30.0
"""Condition number at which the singularity monitor stops what goes on."""
_TURN_ROOM_RAD = 1.0
"""The last joint, which turns the hand, should be so far from its limits: a grip that is corrected,
or that follows an object which is turned, needs the room."""


def turned(candidate: GraspCandidate) -> GraspCandidate:
    """The same grip with the hand turned by half a turn about the approach."""
    pose = candidate.X_world_grasp
    return GraspCandidate(
        Pose.from_matrix(pose.parent, pose.child, pose.rotation @ _HALF_TURN, pose.position_m),
        candidate.width_m,
        candidate.opening_m,
        candidate.score,
        candidate.object_id,
        candidate.stamp_s,
    )


def in_turn(
    loop: GraspLoop,
    candidates: Iterable[GraspCandidate],
    near: Callable[[], Array],
    apart: Apart | None = None,
) -> Iterator[tuple[int, GraspCandidate, Found | None]]:
    """Candidates in their order, each with how it is reached; those that strain the arm come last.

    On the way to those the arm gets as far as a singular posture or a joint's end, as a rule.

    Args:
        loop: as for :func:`reachable`.
        candidates: the best first; taken one by one.
        near: tells where the arm is by then, (n,) rad.
        apart: as there.

    Yields:
        How many have been looked at, the candidate, and what :func:`reachable` found.
    """
    strained: list[tuple[GraspCandidate, Found]] = []
    number = 0
    for number, candidate in enumerate(candidates, start=1):
        found = _best(loop, candidate, near(), apart)
        if found is None:
            yield number, candidate, None
        elif found[0] > _IMPASSABLE:
            strained.append((candidate, found[1]))
        else:
            yield number, candidate, found[1]
    yield from ((number, candidate, found) for candidate, found in strained)


def reachable(
    loop: GraspLoop, candidate: GraspCandidate, near: Array, apart: Apart | None = None
) -> Found | None:
    """The better way round, or None where neither reaches.

    That is one that keeps away from singular postures and leaves the hand room to turn, and of two
    the one that stays nearer to joints ``near`` (n,) rad.

    Pre-grasp, grasp and the top of the lift must all have joints within the limits, each found
    from the one before. Where they come near a singular posture, as close to the base, the elbow
    is swung to the side as far as it takes.

    Args:
        loop: knows the arm, and how far the policy's part goes.
        candidate: the grip.
        near: (n,) rad, where the arm comes from.
        apart: whether the arm's own links are well apart at joints (n,) rad; None: anywhere.

    Returns:
        The candidate (perhaps turned) and the joints (n,) rad of its pre-grasp.
    """
    found = _best(loop, candidate, near, apart)
    return None if found is None else found[1]


def _best(
    loop: GraspLoop, candidate: GraspCandidate, near: Array, apart: Apart | None
) -> tuple[float, Found] | None:
    """What :func:`reachable` tells, and the worst condition number on the way."""
    best: tuple[tuple[bool, bool, float], float, Found] | None = None
    joints = loop.limits.joints
    for way in (candidate, turned(candidate)):
        first = loop.kinematics.inverse(loop.pregrasp(way), near, tries=3)
        if first is None:
            continue
        found = elbow_aside(loop.kinematics, _part(loop, way), first, apart)
        if found is None:
            continue
        q, condition = found
        room = min(q[-1] - joints.lower_rad[-1], joints.upper_rad[-1] - q[-1])
        away = float(np.abs(q - near).max())
        cost = (bool(condition > WELL_CONDITIONED), bool(room < _TURN_ROOM_RAD), away)
        if best is None or cost < best[0]:
            best = (cost, condition, (way, q))
    return None if best is None else best[1:]


def _part(loop: GraspLoop, way: GraspCandidate) -> list[Pose]:
    """The tool's poses of the policy's part after the pre-grasp: half-way, grasp, top."""
    c, grasp = loop.config, way.X_world_grasp
    return [
        Pose(
            "world",
            loop.limits.tool_frame,
            grasp.position_m - grasp.rotation[:, 2] * out_m,
            grasp.quat_xyzw,
        )
        for out_m in (0.5 * c.pregrasp_m, 0.0, c.lift_m)
    ]
