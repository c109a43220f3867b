"""Whether a candidate can be reached, and which way round the hand should come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.execution.grasp import GraspLoop
from robot.planning.posture import IMPASSABLE, WELL_CONDITIONED, Apart, elbow_aside
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
    loop: GraspLoop, candidate: GraspCandidate, near: Array, apart: Apart | None = None
) -> tuple[GraspCandidate, Array] | None:
    """The better way round, or None where neither reaches.

    That is one that keeps away from singular postures and leaves the hand room to turn, and of two
    the one that stays nearer to joints ``near`` (n,) rad.

    Pre-grasp, grasp and the top of the lift must all have joints within the limits, each found
    from the one before. Where they come near a singular posture, as close to the base, the elbow
    is swung to the side as far as it takes; a way round on which that does not do is none, since
    the arm would get stuck there: a joint comes to its end, or the monitor stops it.

    Args:
        loop: knows the arm, and how far the policy's part goes.
        candidate: the grip.
        near: (n,) rad, where the arm comes from.
        apart: whether the arm's own links are well apart at joints (n,) rad; None: anywhere.

    Returns:
        The candidate (perhaps turned) and the joints (n,) rad of its pre-grasp.
    """
    best: tuple[tuple[bool, bool, float], GraspCandidate, Array] | None = None
    joints = loop.limits.joints
    for way in (candidate, turned(candidate)):
        first = loop.kinematics.inverse(loop.pregrasp(way), near, tries=3)
        if first is None:
            continue
        found = elbow_aside(loop.kinematics, _part(loop, way), first, apart)
        if found is None or found[1] > IMPASSABLE:
            continue
        q, condition = found
        room = min(q[-1] - joints.lower_rad[-1], joints.upper_rad[-1] - q[-1])
        away = float(np.abs(q - near).max())
        cost = (bool(condition > WELL_CONDITIONED), bool(room < _TURN_ROOM_RAD), away)
        if best is None or cost < best[0]:
            best = (cost, way, q)
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
