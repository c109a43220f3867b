"""From readings to the policy's vector: the only code that makes it, here or beside a robot.

All lengths and directions are in the axes of the candidate's grasp frame, so that the policy sees
every grasp from the same side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot.types import GraspCandidate, GripperState, HeightMap, ObjectState, Pose

Array = NDArray[np.float64]

#: An object that was not seen for longer is observed as so old, s: nothing watches it, and the time
#: since the look is a clock, which a policy had better not see.
OLD_S = 1.0
#: Points of the patch along the closing direction and across it, and from point to point, m. It
#: reaches as far as the fingers do when open, and 2 cm beyond.
PATCH_SHAPE = (11, 19)
PATCH_STEP_M = 0.0075
#: What is higher or lower than this, seen from the grasp, counts as so high or low, m.
PATCH_LIMIT_M = 0.06

#: (name, size, unit) of each part of the observation, in order.
OBSERVATION: tuple[tuple[str, int, str], ...] = (
    ("tool_position", 3, "m"),
    ("tool_yaw", 1, "rad"),
    ("tool_velocity", 3, "m/s"),
    ("tool_yaw_rate", 1, "rad/s"),
    ("opening", 1, "m"),
    ("force", 1, "N"),
    ("contact", 1, "1"),
    ("slip", 1, "1"),
    ("previous_action", 5, "1"),
    ("width", 1, "m"),
    ("candidate_opening", 1, "m"),
    ("grasp_height", 1, "m"),
    ("candidate_age", 1, "s"),
    ("object_position", 3, "m"),
    ("object_dimensions", 3, "m"),
    ("object_yaw", 2, "1"),
    ("object_confidence", 1, "1"),
    ("object_age", 1, "s"),
    ("aim_position", 3, "m"),
    ("aim_yaw", 1, "rad"),
    ("patch", PATCH_SHAPE[0] * PATCH_SHAPE[1], "m"),
)
SIZE = sum(size for _, size, _ in OBSERVATION)


def names() -> list[str]:
    """One name for each number of the observation: ``tool_position.0``, ..."""
    return [
        f"{name}.{i}" if size > 1 else name for name, size, _ in OBSERVATION for i in range(size)
    ]


def part(name: str) -> slice:
    """Where the part called ``name`` stands in the vector."""
    start = 0
    for key, size, _ in OBSERVATION:
        if key == name:
            return slice(start, start + size)
        start += size
    raise KeyError(name)


_AIM, _PATCH = slice(part("aim_position").start, part("aim_yaw").stop), part("patch")


@dataclass(frozen=True, slots=True, eq=False)
class Around:
    """What a look showed around a candidate.

    Attributes:
        patch_m: PATCH_SHAPE float32, see :func:`patch`.
        aim: (4,) x, y, z m and yaw rad from the candidate to the best grip close to it; zeros where
            there is none.
    """

    patch_m: NDArray[np.float32]
    aim: Array


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The candidate and the object that the policy goes for, as plain arrays.

    Attributes:
        position_m: (3,) of the grasp frame in the world.
        rotation: (3, 3) of the grasp frame in the world.
        candidate: what was chosen.
        obj: the object's state at the newest look, or None where no object could be told apart.
        object_position_m: (3,) of the object in the world, or the candidate's position.
        patch_m: PATCH_SHAPE float32, how high what a look saw around the candidate stands above it.
        aim: (4,) x, y, z m and yaw rad from the candidate to the best grip close to it, on the
            heights of the look; zeros where there is none.
        constant: (SIZE,) float32, the observation as far as it stays the same all the time.
    """

    position_m: Array
    rotation: Array
    candidate: GraspCandidate
    obj: ObjectState | None
    object_position_m: Array
    patch_m: NDArray[np.float32]
    aim: Array
    constant: NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Here, so that a target made from another one by dataclasses.replace is right as well.
        candidate, obj = self.candidate, self.obj
        constant, height_m = np.zeros(SIZE, dtype=np.float32), self.position_m[2]
        constant[17:20] = (candidate.width_m, candidate.opening_m, height_m)
        if obj is None:
            constant[24:30] = (candidate.width_m, candidate.width_m, height_m, 1.0, 0.0, 0.0)
        else:
            turn = self.rotation.T @ obj.X_world_obj.rotation[:, 0]
            # A box looks the same after half a turn, so the doubled angle is what is observed.
            double = 2 * math.atan2(turn[1], turn[0])
            constant[24:27] = obj.dimensions_m
            constant[27:30] = (math.cos(double), math.sin(double), obj.confidence)
        constant[_AIM] = -self.aim
        constant[_PATCH] = self.patch_m.reshape(-1)
        object.__setattr__(self, "constant", constant)

    @classmethod
    def make(
        cls,
        candidate: GraspCandidate,
        obj: ObjectState | None,
        patch_m: NDArray[np.float32] | None = None,
        aim: Array | None = None,
    ) -> Target:
        """From the planner's choice and what was seen around it; None is all flat, and no aim."""
        pose = candidate.X_world_grasp
        if patch_m is None:
            patch_m = np.zeros(PATCH_SHAPE, dtype=np.float32)
        where = pose.position_m if obj is None else obj.X_world_obj.position_m
        if aim is None:
            aim = np.zeros(4)
        return cls(pose.position_m, pose.rotation, candidate, obj, where, patch_m, aim)


def patch(heights: HeightMap, candidate: GraspCandidate) -> NDArray[np.float32]:
    """Heights around a candidate, in its own axes: PATCH_SHAPE float32, m above the grasp.

    The first axis is the grasp frame's x, the second its y, the closing direction. What lies
    outside the map counts as table.
    """
    pose = candidate.X_world_grasp
    x, y = (PATCH_STEP_M * (np.arange(n) - (n - 1) / 2) for n in PATCH_SHAPE)
    turn = pose.rotation[:2, :2]
    xy = pose.position_m[:2] + x[:, None, None] * turn[:, 0] + y[None, :, None] * turn[:, 1]
    cells = heights.cells_at(xy)
    n_x, n_y = heights.height_m.shape
    inside = (cells >= 0).all(axis=-1) & (cells[..., 0] < n_x) & (cells[..., 1] < n_y)
    i, j = np.where(inside[..., None], cells, 0).transpose(2, 0, 1)
    seen = np.where(inside, heights.height_m[i, j], 0.0)
    above = seen - pose.position_m[2]
    return np.clip(above, -PATCH_LIMIT_M, PATCH_LIMIT_M).astype(np.float32)


def offset(here: Pose, there: Pose) -> Array:
    """From one grasp to another, in the first one's axes: (4,) x, y, z m and yaw rad."""
    relative = here.rotation.T @ there.rotation
    way = here.rotation.T @ (there.position_m - here.position_m)
    return np.array([*way, math.atan2(relative[1, 0], relative[0, 0])])


def observe(
    X_world_tool: Array,
    tool_velocity: Array,
    gripper: GripperState,
    previous_action: NDArray[np.float32],
    target: Target,
    now_s: float,
) -> NDArray[np.float32]:
    """The policy's observation.

    Args:
        X_world_tool: (4, 4) measured pose of the tool in the world.
        tool_velocity: (6,) measured linear m/s and angular rad/s velocity, world axes.
        gripper: the gripper's reading.
        previous_action: (5,) what the policy last asked for; zeros at the start.
        target: candidate and object.
        now_s: the time of the readings.

    Returns:
        (SIZE,) float32, as laid out in ``OBSERVATION``.
    """
    # Plain numbers: NumPy's calls for so few take twice as long.
    (a, b, c), (d, e, f), (g, h, i) = target.rotation.tolist()  # their columns are its axes
    (x_x, _, _, x), (x_y, _, _, y), (x_z, _, _, z), _ = X_world_tool.tolist()
    x0, y0, z0 = target.position_m.tolist()
    x1, y1, z1 = target.object_position_m.tolist()
    vx, vy, vz, wx, wy, wz = tool_velocity.tolist()
    x0, y0, z0, x1, y1, z1 = x - x0, y - y0, z - z0, x1 - x, y1 - y, z1 - z
    candidate_age = now_s - target.candidate.stamp_s
    object_age = candidate_age if target.obj is None else now_s - target.obj.stamp_s
    out = target.constant.copy()
    out[0:12] = (
        a * x0 + d * y0 + g * z0,
        b * x0 + e * y0 + h * z0,
        c * x0 + f * y0 + i * z0,
        math.atan2(b * x_x + e * x_y + h * x_z, a * x_x + d * x_y + g * x_z),
        a * vx + d * vy + g * vz,
        b * vx + e * vy + h * vz,
        c * vx + f * vy + i * vz,
        c * wx + f * wy + i * wz,
        gripper.opening_m,
        gripper.force_n,
        gripper.contact,
        gripper.slip,
    )
    out[12:17] = previous_action
    out[20:24] = (
        candidate_age,
        a * x1 + d * y1 + g * z1,
        b * x1 + e * y1 + h * z1,
        c * x1 + f * y1 + i * z1,
    )
    out[30] = min(object_age, OLD_S)
    # Constant so far: from the aim to the candidate. A network sees better what is in one number
    # than what is the difference of two.
    out[31:35] += out[:4]
    return out
