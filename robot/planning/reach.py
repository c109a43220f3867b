"""Whether a candidate can be reached, and which way round the hand should come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.execution.grasp import GraspLoop
from robot.types import GraspCandidate, Pose

Array = NDArray[np.float64]

_HALF_TURN = np.diag([-1.0, -1.0, 1.0])


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
    """The way round that stays nearer to joints ``near`` (n,) rad, or None where neither reaches.

    Pre-grasp, grasp and the top of the lift must all have joints within the limits, each found
    from the one before.

    Returns:
        The candidate (perhaps turned) and the joints (n,) rad of its pre-grasp.
    """
    best: tuple[float, GraspCandidate, Array] | None = None
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
        away = float(np.abs(q - near).max())
        if best is None or away < best[0]:
            best = (away, way, q)
    return None if best is None else best[1:]
