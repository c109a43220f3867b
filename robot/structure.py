"""What an arm is made of: masses, inertias, Denavit-Hartenberg parameters, gravity torques."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.kinematics import Kinematics
from robot.limits import RobotLimits

Array = NDArray[np.float64]

_PARALLEL = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class LinkMass:
    """What moves with one joint, all fixed links included.

    Attributes:
        name: of the joint; "base" for what does not move.
        mass_kg: its mass.
        centre_m: (3,) its centre of mass, in the joint's frame.
        inertia_kg_m2: (3, 3) about its centre of mass, in the joint's axes.
    """

    name: str
    mass_kg: float
    centre_m: Array
    inertia_kg_m2: Array


@dataclass(frozen=True, slots=True)
class DhRow:
    """One row of Denavit-Hartenberg parameters in Craig's convention.

    From frame i-1 to i: turn by ``alpha_rad`` about x and move by ``a_m`` along it, then turn by
    the joint plus ``theta_rad`` about z and move by ``d_m`` along it (J. Craig, "Introduction to
    Robotics", section 3.6).
    """

    a_m: float
    alpha_rad: float
    d_m: float
    theta_rad: float

    def matrix(self, q: float) -> Array:
        """(4, 4) from frame i-1 to i at joint ``q``, rad."""
        ca, sa = math.cos(self.alpha_rad), math.sin(self.alpha_rad)
        c, s = math.cos(q + self.theta_rad), math.sin(q + self.theta_rad)
        return np.array(
            [
                [c, -s, 0.0, self.a_m],
                [s * ca, c * ca, -sa, -sa * self.d_m],
                [s * sa, c * sa, ca, ca * self.d_m],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )


def link_masses(limits: RobotLimits) -> list[LinkMass]:
    """Everything that has mass, base first, gripper last."""
    model = pin.buildModelFromUrdf(str(limits.urdf))
    names = ["base", *list(model.names)[1:]]
    return [
        LinkMass(name, float(i.mass), np.array(i.lever), np.array(i.inertia))
        for name, i in zip(names, model.inertias, strict=True)
    ]


def dh_parameters(kinematics: Kinematics) -> tuple[Array, list[DhRow], Array]:
    """The (4, 4) of the first frame in the world, rows for all joints, and the tool's in the last.

    The first frame is the world's where the arm stands upright at its origin. A joint that turns
    the other way round has its axis reversed in Denavit-Hartenberg's frames; here axes are taken
    as the URDF has them.
    """
    model = kinematics.model
    data = model.createData()
    q = np.zeros(model.nq)
    pin.forwardKinematics(model, data, q)
    tool = np.asarray(pin.updateFramePlacement(model, data, kinematics.tool_id).homogeneous)
    axes = [(np.zeros(3), np.array([0.0, 0.0, 1.0]))]
    for joint in range(1, model.njoints):
        # The axis in the joint's frame is where its Jacobian's angular part points.
        turned = pin.computeJointJacobian(model, data, q, joint)
        axis = np.asarray(turned)[3:, joint - 1]
        place = data.oMi[joint]
        axes.append((np.array(place.translation), place.rotation @ axis))
    frames = [(np.zeros(3), np.array([1.0, 0.0, 0.0]))]  # origin and x of each frame
    for i in range(1, len(axes)):
        point, z = axes[i]
        if i == len(axes) - 1:
            # The last frame is free to be chosen: where the tool is, as far as the axis allows.
            x = tool[:3, 0] - z * float(tool[:3, 0] @ z)
            if np.linalg.norm(x) < 1e-6:
                x = frames[-1][1] - z * float(frames[-1][1] @ z)
            origin = point + z * float((tool[:3, 3] - point) @ z)
        else:
            origin, x = _normal((point, z), axes[i + 1], frames[-1])
        frames.append((origin, x / np.linalg.norm(x)))
    # x of frame i-1 must lie along the common normal of axes i-1 and i; for the base that takes
    # a turn about its z, which the first row's theta makes good.
    origin, x = _normal(axes[0], axes[1], frames[0])
    if abs(float(x @ axes[0][1])) < 1e-9 and np.linalg.norm(x) > 1e-9:
        frames[0] = (origin, x / np.linalg.norm(x))
    rows = []
    for i in range(1, len(axes)):
        (o0, x0), (o1, x1) = frames[i - 1], frames[i]
        z0, z1 = axes[i - 1][1], axes[i][1]
        rows.append(
            DhRow(
                float((o1 - o0) @ x0),
                _angle(z0, z1, x0),
                float((o1 - o0) @ z1),
                _angle(x0, x1, z1),
            )
        )
    last = np.eye(4)
    origin, x = frames[-1]
    z = axes[-1][1]
    last[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    last[:3, 3] = origin
    first = np.eye(4)
    first[:3, :3] = np.column_stack([frames[0][1], np.cross(axes[0][1], frames[0][1]), axes[0][1]])
    first[:3, 3] = frames[0][0]
    return first, rows, np.linalg.inv(last) @ tool


def _normal(
    line: tuple[Array, Array], following: tuple[Array, Array], before: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Foot and direction of the common normal from one axis to the next."""
    (p, z), (r, w) = line, following
    across = np.cross(z, w)
    squared = float(across @ across)
    if squared < _PARALLEL:
        # Parallel: the normal through where the frame before sits, or x as before if they are one.
        origin = p + z * float((before[0] - p) @ z)
        way = (r - origin) - z * float((r - origin) @ z)
        if np.linalg.norm(way) < 1e-6:
            way = before[1] - z * float(before[1] @ z)
        if np.linalg.norm(way) < 1e-6:
            way = np.cross(z, [0.0, 1.0, 0.0])
        return origin, way
    t = float(np.cross(r - p, w) @ across) / squared
    s = float(np.cross(r - p, z) @ across) / squared
    foot, other = p + t * z, r + s * w
    way = other - foot
    return foot, across if np.linalg.norm(way) < 1e-6 else way


def _angle(a: Array, b: Array, about: Array) -> float:
    return math.atan2(float(np.cross(a, b) @ about), float(a @ b))
