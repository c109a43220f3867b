"""What an arm may do: its limits, read from ``configs/robot/*.yaml`` with their source cited."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.load import find, load
from robot.errors import ConfigError
from robot.model_files import Frame, Hand, composed, found, read_urdf

Array = NDArray[np.float64]


_STRAINED = 0.8
"""Share of a motor's torque."""


@dataclass(frozen=True, slots=True, eq=False)
class JointLimits:
    """Limits of each joint: (n,) read-only arrays.

    Attributes:
        lower_rad: lowest position.
        upper_rad: highest position.
        velocity_rad_s: highest speed, either way.
        acceleration_rad_s2: highest acceleration, either way.
        jerk_rad_s3: highest jerk, either way.
        torque_nm: highest torque, either way.
        torque_rate_nm_s: highest change of torque, N·m/s, the same for every joint.
    """

    lower_rad: Array
    upper_rad: Array
    velocity_rad_s: Array
    acceleration_rad_s2: Array
    jerk_rad_s3: Array
    torque_nm: Array
    torque_rate_nm_s: float = 1000.0

    @property
    def count(self) -> int:
        """Number of joints."""
        return int(self.lower_rad.shape[0])

    def strained(self, effort_nm: Array) -> NDArray[np.bool_]:
        """(n,) which joints give nearly all they have, from torques (n,) N·m."""
        return np.asarray(np.abs(effort_nm) > _STRAINED * self.torque_nm)

    def contains(self, position_rad: Array, tolerance_rad: float = 1e-9) -> bool:
        """Whether joints (..., n) rad all lie within the position limits."""
        q = np.asarray(position_rad)
        low, high = self.lower_rad - tolerance_rad, self.upper_rad + tolerance_rad
        return bool((q >= low).all() and (q <= high).all())


@dataclass(frozen=True, slots=True)
class CartesianLimits:
    """Limits of the tool's motion: linear in m, angular in rad."""

    velocity_m_s: float
    acceleration_m_s2: float
    jerk_m_s3: float
    angular_velocity_rad_s: float
    angular_acceleration_rad_s2: float
    angular_jerk_rad_s3: float


@dataclass(frozen=True, slots=True)
class GripperLimits:
    """What a parallel gripper can do.

    Attributes:
        max_opening_m: distance between the fingertips when fully open.
        max_force_n: force it may press with continuously.
        max_speed_m_s: speed at which the opening changes.
        fingertip_beyond_tool_m: how far the fingers' ends reach beyond the tool frame, along z.
        finger_breadth_m: of a finger, across the direction in which it closes.
    """

    max_opening_m: float = 0.08
    max_force_n: float = 70.0
    max_speed_m_s: float = 0.1
    fingertip_beyond_tool_m: float = 0.0
    finger_breadth_m: float = 0.020


@dataclass(frozen=True)
class Travel:
    """How far a joint of the gripper goes.

    Attributes:
        closed: its position, rad or m, where the fingers meet.
        open: its position where they are fully open.
    """

    closed: float = 0.0
    open: float = 0.04


@dataclass(frozen=True, slots=True)
class Finger:
    """A joint of the gripper, and how far it goes; see :class:`Travel`."""

    name: str
    closed: float
    open: float

    @property
    def way(self) -> float:
        """From closed to open, rad or m; negative where it opens towards lower values."""
        return self.open - self.closed


@dataclass(frozen=True)
class Simulation:
    """What stands for the arm in a simulator, where its own URDF does not.

    Attributes:
        urdf: with meshes; joints of the same names.
    """

    urdf: Path | None = None


_PANDA_FINGERS = {"panda_finger_joint1": Travel(), "panda_finger_joint2": Travel()}


@dataclass(frozen=True, slots=True, eq=False)
class RobotLimits:
    """One arm: its model, its limits, its home and the space it may work in.

    Attributes:
        urdf: the arm's model; joints (n,) in the order of its chain.
        tool_frame: the frame in ``urdf`` that is planned for and commanded.
        home_rad: (n,) the pose from which the robot looks at the table.
        workspace_min_m: (3,) lowest corner of the box that the tool may be in, world frame.
        workspace_max_m: (3,) highest corner.
        source: where the numbers come from.
        joint_names: (n) in the order of the limits.
        fingers: joints of the gripper; all go from closed to open together. The first two move
            the fingers' tips.
        simulated_urdf: what a simulator loads.
    """

    name: str
    urdf: Path
    tool_frame: str
    joints: JointLimits
    cartesian: CartesianLimits
    gripper: GripperLimits
    home_rad: Array
    workspace_min_m: Array
    workspace_max_m: Array
    source: str
    joint_names: tuple[str, ...]
    fingers: tuple[Finger, ...]
    simulated_urdf: Path


@dataclass(frozen=True)
class JointsFile:
    """The section ``joints`` of a robot's file; see :class:`JointLimits`."""

    lower_rad: tuple[float, ...]
    upper_rad: tuple[float, ...]
    velocity_rad_s: tuple[float, ...]
    acceleration_rad_s2: tuple[float, ...]
    jerk_rad_s3: tuple[float, ...]
    torque_nm: tuple[float, ...]
    torque_rate_nm_s: float = 1000.0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class RobotFile:
    """A robot's YAML file as it is written; :func:`load_limits` makes arrays of it.

    Attributes:
        urdf: the arm, relative to the file or ``package://NAME/...``.
        mount_m: where the arm's root link stands in the world.
        hand: a gripper that has a URDF of its own.
        tool: where the tool frame is, if not in the URDF.
        fingers: joints of the gripper, the first two those that carry the fingertips.
        simulation: the URDF for a simulator, if it is another one.
    """

    name: str
    urdf: Path
    source: str
    joints: JointsFile
    cartesian: CartesianLimits
    home_rad: tuple[float, ...]
    workspace_min_m: tuple[float, float, float]
    workspace_max_m: tuple[float, float, float]
    gripper: GripperLimits = GripperLimits()
    tool_frame: str = "tool0"
    mount_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    hand: Hand | None = None
    tool: Frame | None = None
    fingers: dict[str, Travel] = field(default_factory=lambda: dict(_PANDA_FINGERS))
    simulation: Simulation = Simulation()


def load_limits(name_or_path: str | Path = "panda") -> RobotLimits:
    """Read a robot's limits.

    Args:
        name_or_path: the name of a file in ``configs/robot/`` or the path of an own YAML file;
            the path of its ``urdf`` is relative to the file.

    Raises:
        ConfigError: the file is missing or malformed, lengths differ, or limits contradict.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith((".yaml", ".yml")) else find("robot", text)
    file = load(RobotFile, path)
    return _checked(file, path)


def _checked(file: RobotFile, path: Path) -> RobotLimits:
    n = len(file.joints.lower_rad)

    def vector(field: str, values: Any, size: int) -> Array:
        array = np.array(values, dtype=np.float64)
        if array.shape != (size,):
            raise ConfigError(f"{path}: {field}: expected {size} numbers, got {array.size}")
        if not np.isfinite(array).all():
            raise ConfigError(f"{path}: {field}: must be finite, got {values}")
        array.setflags(write=False)
        return array

    fields = ("lower_rad", "upper_rad", "velocity_rad_s", "acceleration_rad_s2", "jerk_rad_s3")
    per_joint = {
        name: vector(f"joints.{name}", getattr(file.joints, name), n)
        for name in (*fields, "torque_nm")
    }
    for name in (*fields[2:], "torque_nm"):
        if (per_joint[name] <= 0).any():
            raise ConfigError(f"{path}: joints.{name}: must be above 0: {per_joint[name]}")
    joints = JointLimits(**per_joint, torque_rate_nm_s=file.joints.torque_rate_nm_s)
    if (joints.lower_rad >= joints.upper_rad).any():
        raise ConfigError(f"{path}: joints.lower_rad: must be below joints.upper_rad everywhere")
    home = vector("home_rad", file.home_rad, n)
    if not joints.contains(home):
        raise ConfigError(f"{path}: home_rad: lies outside the joint limits: {home}")
    low = vector("workspace_min_m", file.workspace_min_m, 3)
    high = vector("workspace_max_m", file.workspace_max_m, 3)
    if (low >= high).any():
        raise ConfigError(f"{path}: workspace_min_m: must be below workspace_max_m everywhere")
    grip = file.gripper
    sizes = (grip.max_opening_m, grip.max_force_n, grip.max_speed_m_s, grip.finger_breadth_m)
    if min(sizes) <= 0:
        what = "opening, force and speed, and the fingers' breadth,"
        raise ConfigError(f"{path}: gripper: {what} must be above 0: {grip}")
    urdf = found(file.urdf, path)
    if not urdf.is_file():
        raise ConfigError(f"{path}: urdf: no such file: {urdf}")
    names = file.joints.names or _movable(urdf)[:n]
    if len(names) != n:
        raise ConfigError(f"{path}: joints.names: expected {n} names, got {len(names)}")
    if file.hand is not None or file.tool is not None or any(file.mount_m) or file.joints.names:
        hand = file.hand and Hand(found(file.hand.urdf, path), file.hand.flange)
        bounds = zip(names, file.joints.lower_rad, file.joints.upper_rad, strict=True)
        urdf = composed(
            file.name, urdf, list(bounds), file.mount_m, hand, file.tool, file.tool_frame
        )
    known = _movable(urdf)
    unknown = [name for name in file.fingers if name not in known]
    if unknown or len(file.fingers) < 2:
        fixed = [j.get("name", "") for j in read_urdf(urdf).findall("joint")]
        raise ConfigError(
            f"{path}: fingers: "
            + ("expected two joints at least" if not unknown else f"{unknown[0]!r} is fixed"
               if unknown[0] in fixed else f"no joint {unknown[0]!r}")
            + f"; movable joints of the arm: {', '.join(known)}"
        )  # fmt: skip
    still = next((k for k, v in file.fingers.items() if v.open == v.closed), None)
    if still is not None:
        raise ConfigError(f"{path}: fingers: {still}: open and closed are the same")
    return RobotLimits(
        name=file.name,
        urdf=urdf,
        tool_frame=file.tool_frame,
        joints=joints,
        cartesian=file.cartesian,
        gripper=grip,
        home_rad=home,
        workspace_min_m=low,
        workspace_max_m=high,
        source=file.source,
        joint_names=tuple(names),
        fingers=tuple(Finger(k, v.closed, v.open) for k, v in file.fingers.items()),
        simulated_urdf=_simulated(file, path, urdf),
    )


def _movable(urdf: Path) -> tuple[str, ...]:
    """Names of a URDF's joints that are not fixed, in its order."""
    joints = read_urdf(urdf).findall("joint")
    return tuple(e.get("name", "") for e in joints if e.get("type") != "fixed")


def _simulated(file: RobotFile, path: Path, urdf: Path) -> Path:
    if file.simulation.urdf is not None:
        return _if_installed(file.simulation.urdf, path, urdf)
    shipped = Path(__file__).parents[1] / "configs" / "robot" / f"{file.name}.yaml"
    if shipped.is_file() and shipped != path.resolve():
        # A bundle holds what a robot needs; what simulates it stays with the simulator.
        own = load(RobotFile, shipped).simulation.urdf
        if own is not None:
            return _if_installed(own, shipped, urdf)
    return urdf


def _if_installed(wanted: Path, beside: Path, urdf: Path) -> Path:
    """Beside a robot there is no simulator, and its models need not be there either."""
    try:
        return found(wanted, beside)
    except ConfigError:
        return urdf
