"""Joint curves along which the tool moves in a straight line."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robot import geometry
from robot.errors import PlanningError
from robot.kinematics import Kinematics
from robot.planning.timing import Curve
from robot.types import Pose

Array = NDArray[np.float64]

_STEP_M = 0.004
# One radian of turning counts as much as this many metres, in the curve's length.
_METRES_PER_RAD = 0.15
# Joints may move at most this fast per metre of tool motion: beyond, the arm is near a singularity.
_FASTEST_RAD_PER_M = 60.0


def cartesian_line(kinematics: Kinematics, q_from: Array, X_world_tool_to: Pose) -> Curve | None:
    """The curve q(s) that moves the tool evenly along a line while it turns about one axis.

    s is the tool's way in metres (or 0.15 m a radian, where it turns more than it moves). Among
    the joint motions that do this, the smallest is taken at every point.

    Args:
        kinematics: of the arm.
        q_from: (n,) rad, where the line begins.
        X_world_tool_to: where it ends, in the world frame.

    Returns:
        The curve, or None when the tool is there already.

    Raises:
        PlanningError: the line leaves the joint limits or comes close to a singularity.
    """
    if X_world_tool_to.parent != "world":
        raise PlanningError(f"line: the goal must be in world, not {X_world_tool_to.parent}")
    begin = kinematics.forward_matrix(q_from)
    way = X_world_tool_to.position_m - begin[:3, 3]
    turn = geometry.rotation_vector(X_world_tool_to.rotation @ begin[:3, :3].T)
    angle = float(np.linalg.norm(turn))
    length = max(float(np.linalg.norm(way)), _METRES_PER_RAD * angle)
    if length < 1e-6:
        return None
    axis = turn / angle if angle > 1e-9 else np.array([0.0, 0.0, 1.0])
    twist = np.concatenate([way, turn]) / length

    steps = max(8, math.ceil(length / _STEP_M))
    s = np.linspace(0.0, length, steps + 1)
    h = length / steps
    q, dq = np.empty((2, steps + 1, len(q_from)))
    q[0] = q_from
    dq[0] = _rate(kinematics, q_from, twist)
    for k in range(steps):
        # A fourth-order Runge-Kutta step, then a small correction onto the line itself.
        k2 = _rate(kinematics, q[k] + 0.5 * h * dq[k], twist)
        k3 = _rate(kinematics, q[k] + 0.5 * h * k2, twist)
        k4 = _rate(kinematics, q[k] + h * k3, twist)
        guess = q[k] + h / 6 * (dq[k] + 2 * k2 + 2 * k3 + k4)
        share = s[k + 1] / length
        spin = geometry.matrix_from_quat(geometry.quat_from_axis_angle(axis, angle * share))
        rotation = spin @ begin[:3, :3]
        q[k + 1] = onto(kinematics, guess, begin[:3, 3] + share * way, rotation)
        dq[k + 1] = _rate(kinematics, q[k + 1], twist)
        _check(kinematics, q[k + 1], dq[k + 1], share, q_from)
    return Curve(s, q, dq, np.gradient(dq, h, axis=0, edge_order=2))


def _rate(kinematics: Kinematics, q: Array, twist: Array) -> Array:
    """The smallest joint velocity, (n,), that moves the tool with ``twist`` (6,)."""
    J = kinematics.jacobian(q)
    return np.asarray(J.T @ np.linalg.solve(J @ J.T + 1e-9 * np.eye(6), twist))


def onto(kinematics: Kinematics, q: Array, position_m: Array, rotation: Array) -> Array:
    """The joints nearest to ``q`` (n,) with the tool there, (3,) m and (3, 3); after two steps."""
    for _ in range(2):
        now = kinematics.forward_matrix(q)
        error = np.concatenate(
            [position_m - now[:3, 3], geometry.rotation_vector(rotation @ now[:3, :3].T)]
        )
        q = q + _rate(kinematics, q, error)
    return q


def _check(kinematics: Kinematics, q: Array, dq: Array, share: float, q_from: Array) -> None:
    joints = kinematics.limits.joints
    if np.abs(dq).max() > _FASTEST_RAD_PER_M:
        raise PlanningError(f"straight line: passes a singularity at {100 * share:.0f} % of it")
    # Where it begins slightly outside, it need only not go farther out.
    low = np.minimum(joints.lower_rad, q_from) - 1e-9
    high = np.maximum(joints.upper_rad, q_from) + 1e-9
    beyond = np.maximum(low - q, q - high)
    if beyond.max() > 0:
        raise PlanningError(
            f"straight line: joint {int(beyond.argmax()) + 1} leaves its limits at "
            f"{100 * share:.0f} % of it"
        )
