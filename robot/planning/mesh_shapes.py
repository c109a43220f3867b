"""An arm's solids out of its URDF, where nobody has written them down: hulls of its meshes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, HalfspaceIntersection, QhullError

from configs.load import as_dict
from robot.errors import ConfigError
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.model_files import is_composed
from robot.planning.hulls import UNIT_BALL
from robot.planning.shapes import ArmShapes, Shape, load_shapes
from robot.planning.solids import Room, Solids, Surroundings, solids_of

Array = NDArray[np.float64]

_CORNERS_N = 60  # of a hull: more are slower to check and hardly closer
_HALF_TOUCHES = 0.5
_ALWAYS_NEAR_M = 0.02
_SAMPLES_N = 60
_RULES = 2  # counts up when they give other solids, so that none of before are read


def arm_shapes(limits: RobotLimits, kinematics: Kinematics) -> ArmShapes:
    """The solids in ``<name>_collision.yaml`` beside the URDF, or those of the URDF itself.

    Raises:
        ConfigError: there are none, or a file is malformed.
    """
    path = limits.urdf.parent / f"{limits.name}_collision.yaml"
    if path.is_file():
        return load_shapes(path)
    composed = is_composed(limits.urdf)
    if composed:  # reading many meshes takes seconds: once is enough
        path = path.with_name(f"{limits.name}_{_key(limits)}_collision.yaml")
        if path.is_file():
            return load_shapes(path)
    shapes = shapes_from_urdf(limits, kinematics)
    if composed:
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(_as_file(shapes)), encoding="utf-8")  # JSON is YAML, too
        part.replace(path)
    return shapes


def _key(limits: RobotLimits) -> str:
    """Changes with what the solids are made of beside the URDF: home, fingers, meshes."""
    meshes = re.findall(r'filename="([^"]+)"', limits.urdf.read_text(encoding="utf-8"))
    stamps = [(name, Path(name).stat().st_mtime_ns) for name in meshes if Path(name).is_file()]
    plain = repr((_RULES, limits.home_rad.tolist(), limits.fingers, stamps))
    return hashlib.sha256(plain.encode()).hexdigest()[:12]


def shapes_from_urdf(limits: RobotLimits, kinematics: Kinematics) -> ArmShapes:
    """Convex hulls of the URDF's collision geometry, and which pairs of links to check.

    Not checked are neighbours, links that touch at home or in most postures, and links that are
    close to each other in every posture, as those are that turn beside each other: their hulls
    overlap where their true surfaces do not, and no way round them is any better.

    Raises:
        ConfigError: the URDF has no collision geometry, or a mesh is missing.
    """
    model = kinematics.model
    try:
        geometry = pin.buildGeomFromUrdf(model, str(limits.urdf), pin.GeometryType.COLLISION)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{limits.urdf}: a collision mesh cannot be read: {error}") from error
    links: dict[str, list[Shape]] = {}
    for solid in geometry.geometryObjects:
        frame = model.frames[solid.parentFrame]
        X_link_solid = frame.placement.inverse() * solid.placement
        shape = _shape(solid, X_link_solid)
        if shape is not None:
            links.setdefault(frame.name, []).append(shape)
    if not links:
        raise ConfigError(
            f"{limits.urdf}: no collision geometry, and no {limits.name}_collision.yaml beside it"
        )
    order = sorted(links, key=lambda name: int(model.frames[model.getFrameId(name)].parentJoint))
    parent = {name: int(model.frames[model.getFrameId(name)].parentJoint) for name in order}
    last = model.njoints - 1
    hand = tuple(name for name in order if parent[name] == last)
    solids = ArmShapes(
        source=f"convex hulls of the collision geometry of {limits.urdf.name}",
        links={name: tuple(links[name]) for name in order},
        fingers=_sliding(limits, Path(limits.urdf), set(links)),
        hand=hand,
        ignored=(),
        on_table=tuple(name for name in order if parent[name] <= 1),
    )
    return replace(solids, ignored=tuple(_needless(solids, kinematics, parent)))


def _as_file(shapes: ArmShapes) -> dict[str, Any]:
    """As ``load_shapes`` reads it."""
    content = as_dict(shapes)
    for solids in content["links"].values():
        for solid in solids:
            for key in [k for k, v in solid.items() if v is None]:
                del solid[key]
    return content


def _shape(solid: Any, X_link_solid: Any) -> Shape | None:
    points = _points(solid.geometry)
    if points is None:
        return None
    points = points * np.asarray(solid.meshScale) if hasattr(solid.geometry, "vertices") else points
    points = points @ X_link_solid.rotation.T + X_link_solid.translation
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        return None  # flat: no solid
    corners = _fewer(corners)
    rows = [(float(x), float(y), float(z)) for x, y, z in np.round(corners, 5)]
    return Shape("hull", (0.0, 0.0, 0.0), points_m=tuple(rows))


def _points(geometry: Any) -> Array | None:
    """(n, 3) corners of a mesh or a primitive in its own frame, m."""
    if hasattr(geometry, "halfSide"):
        signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
        return np.asarray(signs * np.asarray(geometry.halfSide))
    if hasattr(geometry, "radius"):
        half = float(getattr(geometry, "halfLength", 0.0))
        radius = float(geometry.radius)
        if type(geometry).__name__ == "Cylinder":
            turn = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
            ring = np.column_stack([np.cos(turn), np.sin(turn)]) * radius / np.cos(np.pi / 16)
            return np.concatenate([np.column_stack([ring, np.full(16, z)]) for z in (-half, half)])
        to = (0.0, 0.0, half) if half else None
        kind = Shape("capsule", (0.0, 0.0, -half), to, radius) if to else Shape(
            "sphere", (0.0, 0.0, 0.0), radius_m=radius
        )  # fmt: skip
        return kind.corners()
    vertices = getattr(geometry, "vertices", None)
    return None if vertices is None else np.array(vertices(), dtype=np.float64)


def _fewer(corners: Array) -> Array:
    """Where many corners are, those of a plainer solid that holds them all.

    It is what lies behind the planes that touch the solid in evenly spread directions.
    """
    if len(corners) <= _CORNERS_N:
        return corners
    ways = np.concatenate([UNIT_BALL, np.eye(3), -np.eye(3)])
    ways /= np.linalg.norm(ways, axis=1)[:, None]
    reach = (corners @ ways.T).max(axis=0) + 1e-4
    halves = np.column_stack([ways, -reach])
    try:
        outer = HalfspaceIntersection(halves, corners.mean(axis=0)).intersections
        return np.asarray(outer[ConvexHull(outer).vertices])
    except QhullError:
        return corners


def _sliding(
    limits: RobotLimits, urdf: Path, solid: set[str]
) -> dict[str, tuple[float, float, float]]:
    """Fingers that slide: the direction, in the link's frame, of half the opening."""
    full = pin.buildModelFromUrdf(str(urdf))
    data = full.createData()
    ways: dict[str, tuple[float, float, float]] = {}
    for finger in limits.fingers:
        joint = full.getJointId(finger.name)
        if "P" not in full.joints[joint].shortname():
            continue
        q = pin.neutral(full)
        pin.forwardKinematics(full, data, q)
        closed = data.oMi[joint].copy()
        q[full.joints[joint].idx_q] = 1.0
        pin.forwardKinematics(full, data, q)
        way = (closed.inverse() * data.oMi[joint]).translation * np.sign(
            finger.open - finger.closed
        )
        for frame in full.frames:
            if frame.parentJoint == joint and frame.name in solid:
                x, y, z = (float(v) for v in np.round(frame.placement.rotation.T @ way, 6))
                ways[frame.name] = (x, y, z)
    return ways


def _needless(
    shapes: ArmShapes, kinematics: Kinematics, parent: dict[str, int]
) -> list[tuple[str, str]]:
    limits, model = kinematics.limits, kinematics.model
    last = model.njoints - 1
    solids = Solids(
        model,
        limits.tool_frame,
        shapes,
        Room(0.0, 0.0, 0.0, 0.0, -1.0, -1.0),
        Surroundings((), None, limits.gripper.max_opening_m, -1.0),
        solids_of(shapes),
    )
    rng = np.random.default_rng(0)
    joints = limits.joints
    low = np.maximum(joints.lower_rad, -np.pi)
    high = np.minimum(joints.upper_rad, np.pi)
    at = [
        solids.gaps(q) for q in (limits.home_rad, *rng.uniform(low, high, (_SAMPLES_N, len(low))))
    ]
    needless = []
    names = list(shapes.links)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            near = abs(parent[a] - parent[b]) <= 1 or min(parent[a], parent[b]) >= last
            gap_m = np.array([gaps.get((a, b), np.inf) for gaps in at])
            touch = gap_m[0] <= 0 or np.mean(gap_m[1:] <= 0) > _HALF_TOUCHES
            if near or touch or gap_m.max() <= _ALWAYS_NEAR_M:
                needless.append((a, b))
    return needless
