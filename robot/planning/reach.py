"""Whether a candidate can be reached, and which way round the hand should come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.execution.grasp import GraspLoop
from robot.types import GraspCandidate, Pose

Array = NDArray[np.float64]

_HALF_TURN = np.diag([-1.0, -1.0, 1.0])
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


def reachable(
    loop: GraspLoop, candidate: GraspCandidate, near: Array
) -> tuple[GraspCandidate, Array] | None:
    """The better way round, or None where neither reaches.

    That is one that leaves the hand room to turn, and of two the one that stays nearer to joints
    ``near`` (n,) rad.

    Pre-grasp, grasp and the top of the lift must all have joints within the limits, each found
    from the one before.

    Returns:
        The candidate (perhaps turned) and the joints (n,) rad of its pre-grasp.
    """
    best: tuple[tuple[bool, float], GraspCandidate, Array] | None = None
    joints = loop.limits.joints
    for way in (candidate, turned(candidate)):
        pregrasp = loop.pregrasp(way)
        q = loop.kinematics.inverse(pregrasp, near, tries=3)
        if q is None:
            continue
        grasp = Pose("world", pregrasp.child, way.X_world_grasp.position_m, pregrasp.quat_xyzw)
        rise = -way.X_world_grasp.rotation[:, 2] * loop.config.lift_m
        top = Pose("world", pregrasp.child, grasp.position_m + rise, pregrasp.quat_xyzw)
        if any(loop.kinematics.inverse(x, q, tries=3) is None for x in (grasp, top)):
            continue
        room = min(q[-1] - joints.lower_rad[-1], joints.upper_rad[-1] - q[-1])
        cost = (bool(room < _TURN_ROOM_RAD), float(np.abs(q - near).max()))
        if best is None or cost < best[0]:
            best = (cost, way, q)
    return None if best is None else best[1:]
