"""The nouns every room shares: frozen, checked when they are made, in SI units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot import geometry
from robot.errors import SensorError, SteadyhandError

Array = NDArray[np.float64]


def _vector(value: Any, size: int | None, name: str) -> Array:
    """A read-only float64 copy of ``value``, checked for shape and finite values."""
    array = np.array(value, dtype=np.float64)
    if array.ndim != 1 or (size is not None and array.shape[0] != size):
        want = "a vector" if size is None else f"{size} numbers"
        raise SteadyhandError(f"{name}: expected {want}, got shape {array.shape}")
    if not geometry.all_finite(array):
        raise SteadyhandError(f"{name}: holds NaN or infinity: {array}")
    array.setflags(write=False)
    return array


def _set(instance: object, **values: Any) -> None:
    for key, value in values.items():
        object.__setattr__(instance, key, value)


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Where frame ``child`` is in frame ``parent``: ``X_parent_child``.

    Attributes:
        parent: name of the frame in which the numbers are given.
        child: name of the frame that is described.
        position_m: (3,) origin of ``child``, m.
        quat_xyzw: (4,) unit quaternion; it is normalized on creation.
    """

    parent: str
    child: str
    position_m: Array
    quat_xyzw: Array

    def __post_init__(self) -> None:
        quat = np.array(_vector(self.quat_xyzw, 4, "Pose.quat_xyzw"))
        norm = float(np.linalg.norm(quat))
        if abs(norm - 1.0) > 1e-3:
            raise SteadyhandError(f"Pose.quat_xyzw: expected a unit quaternion, norm is {norm:.6g}")
        quat /= norm
        quat.setflags(write=False)
        _set(self, position_m=_vector(self.position_m, 3, "Pose.position_m"), quat_xyzw=quat)

    @classmethod
    def from_matrix(cls, parent: str, child: str, rotation: Array, position_m: Any) -> Pose:
        """From a (3, 3) rotation matrix and a (3,) position in m."""
        return cls(parent, child, position_m, geometry.quat_from_matrix(np.asarray(rotation)))

    @classmethod
    def stored(cls, parent: str, child: str, position_m: Any, quat_xyzw: Any) -> Pose:
        """One that was written down: normalizing it once more could change its last bits."""
        pose = cls(parent, child, position_m, quat_xyzw)
        _set(pose, quat_xyzw=_vector(quat_xyzw, 4, "Pose.quat_xyzw"))
        return pose

    @property
    def rotation(self) -> Array:
        """The (3, 3) rotation matrix."""
        return geometry.matrix_from_quat(self.quat_xyzw)

    @property
    def matrix(self) -> Array:
        """The (4, 4) homogeneous matrix."""
        out = np.eye(4)
        out[:3, :3] = self.rotation
        out[:3, 3] = self.position_m
        return out

    def __matmul__(self, other: Pose) -> Pose:
        """``X_a_b @ X_b_c`` is ``X_a_c``; frames that do not meet raise."""
        if self.child != other.parent:
            raise SteadyhandError(
                f"poses do not meet: X_{self.parent}_{self.child} @ X_{other.parent}_{other.child}"
            )
        return Pose(
            self.parent,
            other.child,
            self.rotation @ other.position_m + self.position_m,
            geometry.quat_multiply(self.quat_xyzw, other.quat_xyzw),
        )

    def turned(self, turn_rad: float, about_m: Array, to_m: Array) -> Pose:
        """Turned about the vertical through the point (3,) ``about_m``, which moves to ``to_m``."""
        quat = geometry.quat_from_axis_angle(np.array([0.0, 0.0, 1.0]), turn_rad)
        out = geometry.matrix_from_quat(quat) @ (self.position_m - about_m) + to_m
        return Pose(self.parent, self.child, out, geometry.quat_multiply(quat, self.quat_xyzw))

    def inverse(self) -> Pose:
        """``X_child_parent``."""
        return Pose(
            self.child,
            self.parent,
            -(self.rotation.T @ self.position_m),
            geometry.quat_conjugate(self.quat_xyzw),
        )

    def transform(self, points_m: Array) -> Array:
        """Points given in ``child``, (..., 3) m, expressed in ``parent``."""
        return np.asarray(points_m @ self.rotation.T + self.position_m)


@dataclass(frozen=True, slots=True, eq=False)
class JointState:
    """Measured joints: (n,) rad, rad/s and N·m."""

    position_rad: Array
    velocity_rad_s: Array
    effort_nm: Array

    def __post_init__(self) -> None:
        try:  # all three at once: a state is made at every tick
            block = np.array(
                (self.position_rad, self.velocity_rad_s, self.effort_nm), dtype=np.float64
            )
        except ValueError:  # of different lengths: said below
            block = np.empty(0)
        if block.ndim == 2 and geometry.all_finite(block):
            block.setflags(write=False)
            _set(self, position_rad=block[0], velocity_rad_s=block[1], effort_nm=block[2])
            return
        position = _vector(self.position_rad, None, "JointState.position_rad")
        n = position.shape[0]
        _set(
            self,
            position_rad=position,
            velocity_rad_s=_vector(self.velocity_rad_s, n, "JointState.velocity_rad_s"),
            effort_nm=_vector(self.effort_nm, n, "JointState.effort_nm"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class JointCommand:
    """Joint targets for one control tick: (n,) rad and the feed-forward (n,) rad/s.

    Unlike the measured nouns it may carry NaN: a policy can produce one, and the supervisor is
    what must catch it.
    """

    position_rad: Array
    velocity_rad_s: Array

    def __post_init__(self) -> None:
        position = np.asarray(self.position_rad, dtype=np.float64)
        velocity = np.asarray(self.velocity_rad_s, dtype=np.float64)
        if position.ndim != 1 or position.shape != velocity.shape:
            raise SteadyhandError(
                f"JointCommand: position {position.shape} and velocity {velocity.shape} "
                "must be vectors of one length"
            )
        _set(self, position_rad=position, velocity_rad_s=velocity)


@dataclass(frozen=True, slots=True)
class GripperCommand:
    """Desired opening between the fingertips (m) and the force with which to close (N)."""

    opening_m: float
    force_n: float

    def __post_init__(self) -> None:
        if self.force_n < 0:
            raise SteadyhandError(f"GripperCommand.force_n: must not be negative: {self.force_n}")


@dataclass(frozen=True, slots=True)
class GripperState:
    """What the gripper reads of itself.

    Attributes:
        opening_m: distance between the fingertips, m.
        force_n: force with which the fingers press, N (mean of the two).
        contact: the fingers have stalled on something before they met.
        slip: the fingers moved closer while holding since contact was made.
        opening_force_n: force with which the fingers press outwards, N; 0 where it is not read.
    """

    opening_m: float
    force_n: float
    contact: bool = False
    slip: bool = False
    opening_force_n: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Wrench:
    """Force (3,) N and torque (3,) N·m in ``frame``."""

    frame: str
    force_n: Array
    torque_nm: Array

    def __post_init__(self) -> None:
        _set(
            self,
            force_n=_vector(self.force_n, 3, "Wrench.force_n"),
            torque_nm=_vector(self.torque_nm, 3, "Wrench.torque_nm"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RobotState:
    """One reading of the whole robot, stamped with the time it was taken (s).

    Attributes:
        motor_temperature_c: (n,) °C, or None where the robot does not report it.
    """

    stamp_s: float
    joints: JointState
    gripper: GripperState
    wrench: Wrench | None = None
    motor_temperature_c: Array | None = None


@dataclass(frozen=True, slots=True)
class CameraIntrinsics:
    """A pinhole camera without distortion, px."""

    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px) < 1 or min(self.fx_px, self.fy_px) <= 0:
            raise SteadyhandError(f"CameraIntrinsics: sizes and focal lengths must be > 0: {self}")


@dataclass(frozen=True, slots=True, eq=False)
class RgbdFrame:
    """One look of one camera.

    Attributes:
        camera: the camera's name.
        stamp_s: time of exposure, s.
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32, m along the optical axis; 0 where the camera saw nothing.
        intrinsics: of the camera.
        X_world_cam: pose of the optical frame (z forward, x right, y down).
    """

    camera: str
    stamp_s: float
    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    intrinsics: CameraIntrinsics
    X_world_cam: Pose

    def __post_init__(self) -> None:
        shape = (self.intrinsics.height_px, self.intrinsics.width_px)
        if self.rgb.shape != (*shape, 3) or self.rgb.dtype != np.uint8:
            raise SensorError(
                f"camera {self.camera}: expected rgb {(*shape, 3)} uint8, "
                f"got {self.rgb.shape} {self.rgb.dtype}"
            )
        if self.depth_m.shape != shape or self.depth_m.dtype != np.float32:
            raise SensorError(
                f"camera {self.camera}: expected depth {shape} float32, "
                f"got {self.depth_m.shape} {self.depth_m.dtype}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class HeightMap:
    """Heights over the table on a grid in the world frame.

    Attributes:
        origin_m: (2,) world x, y of the centre of cell [0, 0], m.
        resolution_m: edge of a cell, m.
        height_m: (NX, NY) float32, height above the table, m; ``height_m[i, j]`` is at
            ``origin_m + resolution_m * (i, j)``. Never NaN: unseen cells carry an estimate.
        seen: (NX, NY) bool, False where no camera saw the cell.
        stamp_s: time of the newest look that went in, s.
    """

    origin_m: Array
    resolution_m: float
    height_m: NDArray[np.float32]
    seen: NDArray[np.bool_]
    stamp_s: float

    def __post_init__(self) -> None:
        _set(self, origin_m=_vector(self.origin_m, 2, "HeightMap.origin_m"))
        if self.height_m.ndim != 2 or self.height_m.shape != self.seen.shape:
            raise SteadyhandError(
                f"HeightMap: height {self.height_m.shape} and seen {self.seen.shape} must be "
                "grids of one shape"
            )
        if not np.isfinite(self.height_m).all():
            raise SteadyhandError("HeightMap.height_m: holds NaN or infinity")

    def cells_at(self, xy_m: Array) -> NDArray[np.int_]:
        """(..., 2) rows and columns of places (..., 2) m; the grid may end before them."""
        cells: NDArray[np.int_] = np.rint((xy_m - self.origin_m) / self.resolution_m).astype(int)
        return cells


@dataclass(frozen=True, slots=True)
class Detection:
    """One object in one image: ``box_xywh_px`` is COCO's [x, y, width, height]."""

    box_xywh_px: tuple[float, float, float, float]
    score: float
    class_name: str


@dataclass(frozen=True, slots=True, eq=False)
class ObjectState:
    """A fused object: an oriented box, what it is, how sure, and when seen.

    Attributes:
        object_id: stable while the object is tracked.
        X_world_obj: centre of the oriented box; its z is the world's z.
        dimensions_m: (3,) full edge lengths along the box's own axes, m; x is the longer
            horizontal one.
        confidence: in [0, 1].
        moving: seen to move between the last two looks.
        stamp_s: time of the newest look that saw it, s.
    """

    object_id: int
    class_name: str
    X_world_obj: Pose
    dimensions_m: Array
    confidence: float
    moving: bool
    stamp_s: float

    def __post_init__(self) -> None:
        _set(self, dimensions_m=_vector(self.dimensions_m, 3, "ObjectState.dimensions_m"))


@dataclass(frozen=True, slots=True, eq=False)
class GraspCandidate:
    """A place to grip.

    Attributes:
        X_world_grasp: origin midway between the fingertips at closing time, z along the approach,
            y along the closing direction.
        width_m: expected extent of the object between the fingers, m.
        opening_m: how far to open the fingers on the way down, m: wide, yet clear of neighbours.
        score: higher is better; comparable within one look only.
        object_id: the object it belongs to, or -1.
        stamp_s: time of the look, s.
    """

    X_world_grasp: Pose
    width_m: float
    opening_m: float
    score: float
    object_id: int
    stamp_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """A timed joint path: times (n,) s from 0; positions, velocities, accelerations (n, dof)."""

    time_s: Array
    position_rad: Array
    velocity_rad_s: Array
    acceleration_rad_s2: Array

    def __post_init__(self) -> None:
        n = self.time_s.shape[0]
        shapes = {a.shape for a in (self.position_rad, self.velocity_rad_s)}
        shapes.add(self.acceleration_rad_s2.shape)
        if len(shapes) != 1 or self.position_rad.ndim != 2 or self.position_rad.shape[0] != n:
            raise SteadyhandError(f"Trajectory: {n} times but arrays of shapes {sorted(shapes)}")
        if n and (np.diff(self.time_s) <= 0).any():
            raise SteadyhandError("Trajectory.time_s: must rise strictly")

    @property
    def duration_s(self) -> float:
        return float(self.time_s[-1]) if len(self.time_s) else 0.0


@dataclass(frozen=True, slots=True)
class PickResult:
    """How one attempt went.

    Attributes:
        success: the object was put away (or, where the task ends at the lift, held).
        category: "success", or why not, as in the protocols' table of failures.
        object_id: of the object that was tried, or -1.
        attempt_s: simulated or real seconds from look to end.
        detail: one line for a person.
        refused: other candidates that were not taken: reason to number.
    """

    success: bool
    category: str
    object_id: int
    attempt_s: float
    detail: str = ""
    refused: Mapping[str, int] = field(default_factory=dict)


class VerdictLevel(IntEnum):
    """How serious a verdict is; the supervisor takes the worst."""

    OK = 0
    SCALE = 1
    HALT = 2


@dataclass(frozen=True, slots=True)
class SafetyVerdict:
    """What a monitor says of one tick.

    Attributes:
        level: what is to be done.
        scale: in [0, 1], slows the command on SCALE.
        reason: in words.
        at_once: on HALT the robot stops by itself, where it is; to brake within the limits would
            only press it further into what it ran into.
    """

    level: VerdictLevel
    scale: float = 1.0
    reason: str = ""
    at_once: bool = False


OK = SafetyVerdict(VerdictLevel.OK)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one look at the table gave: the objects, the heights, and what they came from.

    Attributes:
        objects: the fused objects, surest first.
        height_map: heights over the table.
        stamp_s: time of the newest frame, s.
        source: "camera" or "truth".
        frames: the frames that went in (none for "truth").
        detections: for each frame its detections.
    """

    objects: tuple[ObjectState, ...]
    height_map: HeightMap
    stamp_s: float
    source: str
    frames: tuple[RgbdFrame, ...] = ()
    detections: tuple[tuple[Detection, ...], ...] = ()
