"""Rigid-body algebra on plain arrays: quaternions are xyzw, rotations active, lengths in metres."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def all_finite(array: Array) -> bool:
    """Whether an array holds neither NaN nor infinity; faster than ``isfinite(array).all()``."""
    return int(np.count_nonzero(np.isfinite(array))) == array.size


def quat_multiply(a_xyzw: Array, b_xyzw: Array) -> Array:
    """Hamilton product ``a * b``: the rotation that applies ``b`` first, then ``a``."""
    ax, ay, az, aw = (float(v) for v in a_xyzw)
    bx, by, bz, bw = (float(v) for v in b_xyzw)
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def quat_conjugate(quat_xyzw: Array) -> Array:
    """The inverse of a unit quaternion."""
    return np.array([-quat_xyzw[0], -quat_xyzw[1], -quat_xyzw[2], quat_xyzw[3]])


def matrix_from_quat(quat_xyzw: Array) -> Array:
    """The (3, 3) rotation matrix of a unit quaternion."""
    x, y, z, w = (float(v) for v in quat_xyzw)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quat_from_matrix(rotation: Array) -> Array:
    """The unit quaternion (w >= 0) of a (3, 3) rotation matrix, by Shepperd's method."""
    m = rotation
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    choices = [m[0, 0], m[1, 1], m[2, 2], trace]
    k = int(np.argmax(choices))
    if k == 3:
        q = [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + trace]
    elif k == 0:
        q = [1 + 2 * m[0, 0] - trace, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]]
    elif k == 1:
        q = [m[0, 1] + m[1, 0], 1 + 2 * m[1, 1] - trace, m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]]
    else:
        q = [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 + 2 * m[2, 2] - trace, m[1, 0] - m[0, 1]]
    quat = np.array(q, dtype=np.float64)
    quat /= np.linalg.norm(quat)
    return -quat if quat[3] < 0 else quat


def quat_from_axis_angle(axis: Array, angle_rad: float) -> Array:
    """The quaternion of a turn by ``angle_rad`` about ``axis`` (any length but zero)."""
    unit = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    half = 0.5 * angle_rad
    return np.array([*(unit * math.sin(half)), math.cos(half)])


def rotation_vector(rotation: Array) -> Array:
    """The (3,) rotation vector (axis times angle, rad) of a (3, 3) rotation matrix."""
    quat = quat_from_matrix(rotation)
    sine = float(np.linalg.norm(quat[:3]))
    if sine < 1e-12:
        return np.zeros(3)
    return np.asarray(quat[:3] * (2.0 * math.atan2(sine, float(quat[3])) / sine))


def grasp_rotation(yaw_rad: float) -> Array:
    """The (3, 3) world rotation of a top-down grasp frame.

    z points down (the approach), x lies at ``yaw_rad`` from the world's x in the table's plane,
    and y (the closing direction) completes a right-handed frame.
    """
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])


def yaw_between(R_a: Array, R_b: Array) -> float:
    """The turn about the vertical from rotation (3, 3) a to b, in [-pi, pi] rad.

    0 where something tipped or rolled by more than 18 degrees: then it is no turn on the table.
    """
    turn = R_b @ R_a.T
    if turn[2, 2] < 0.95:
        return 0.0
    return math.atan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])


def wrap_angle(angle_rad: float, period_rad: float = 2 * math.pi) -> float:
    """``angle_rad`` moved by whole periods into [-period/2, period/2)."""
    return (angle_rad + 0.5 * period_rad) % period_rad - 0.5 * period_rad
