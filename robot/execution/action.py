"""The policy's action and the one place where it becomes a command.

An action is (5,) float32 in [-1, 1]: linear velocity along the grasp frame's x, y and z, turn about
the grasp frame's z, and the gripper's opening. In the grasp frame z is the approach and y the
closing direction, so the same action means the same to the object whatever way the hand points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.errors import SteadyhandError

Array = NDArray[np.float64]

ACTION = ("vx", "vy", "vz", "yaw", "opening")
TICK_S = 1.0 / 240.0
POLICY_TICKS = 12
"""Control ticks (240 Hz) of one policy step (20 Hz)."""


@dataclass(frozen=True, slots=True)
class ActionScale:
    """What an action of 1 means.

    Attributes:
        linear_m_s: velocity along each axis of the grasp frame.
        yaw_rad_s: turn about the grasp frame's z.
        opening_m: gripper opening; -1 is closed.
    """

    linear_m_s: float = 0.25
    yaw_rad_s: float = 1.5
    opening_m: float = 0.08

    def __post_init__(self) -> None:
        if min(self.linear_m_s, self.yaw_rad_s, self.opening_m) <= 0:
            raise SteadyhandError(f"ActionScale: every scale must be above 0: {self}")


DEFAULT_SCALE = ActionScale()


def to_twist(
    action: NDArray[np.float32], R_world_grasp: Array, scale: ActionScale = DEFAULT_SCALE
) -> tuple[Array, float]:
    """What an action commands.

    Args:
        action: (5,) float32; clipped to [-1, 1]. NaN passes through, for the supervisor to catch.
        R_world_grasp: (3, 3) rotation of the grasp frame in the world.
        scale: what 1 means.

    Returns:
        The tool's twist (6,) in world axes (linear m/s, angular rad/s) and the opening, m.
    """
    a = np.asarray(action, dtype=np.float64)
    if a.shape != (len(ACTION),):
        raise SteadyhandError(f"action: expected {len(ACTION)} numbers {ACTION}, got {a.shape}")
    # In this order NaN passes through; five numbers are clipped sooner one by one than as an array.
    x, y, z, yaw, opening = [min(max(value, -1.0), 1.0) for value in a.tolist()]
    metre, turn = scale.linear_m_s, yaw * scale.yaw_rad_s
    x, y, z = x * metre, y * metre, z * metre
    (r00, r01, r02), (r10, r11, r12), (r20, r21, r22) = R_world_grasp.tolist()
    twist = (
        r00 * x + r01 * y + r02 * z,
        r10 * x + r11 * y + r12 * z,
        r20 * x + r21 * y + r22 * z,
        r02 * turn,
        r12 * turn,
        r22 * turn,
    )
    return np.array(twist), 0.5 * (opening + 1.0) * scale.opening_m


def no_faster_down(
    action: NDArray[np.float32], speed_m_s: float, scale: ActionScale = DEFAULT_SCALE
) -> NDArray[np.float32]:
    """An action that goes along the approach no faster than this; the same one where it does not.

    What has not five numbers, or NaN among them, passes through, for others to judge.
    """
    most = speed_m_s / scale.linear_m_s
    if len(action) != len(ACTION) or not float(action[2]) > most:
        return action
    slower = np.array(action)
    slower[2] = most
    return slower


def from_twist(
    twist_world: Array,
    opening_m: float,
    R_world_grasp: Array,
    scale: ActionScale = DEFAULT_SCALE,
) -> NDArray[np.float32]:
    """The action (5,) float32, clipped, that asks for a twist and an opening.

    The inverse of :func:`to_twist`; of the angular velocity only the part about the grasp frame's
    z can be asked for, the rest is dropped.
    """
    twist = np.asarray(twist_world, dtype=np.float64)
    action = np.empty(len(ACTION))
    action[:3] = (R_world_grasp.T @ twist[:3]) / scale.linear_m_s
    action[3] = float(R_world_grasp[:, 2] @ twist[3:]) / scale.yaw_rad_s
    action[4] = 2.0 * opening_m / scale.opening_m - 1.0
    return np.minimum(np.maximum(action, -1.0), 1.0).astype(np.float32)
