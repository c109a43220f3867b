"""Object sets: what can lie on the table, and which objects may be trained on.

``train`` and ``test`` split pybullet_data's 1000 ``random_urdfs`` as bullet3's
``kuka_diverse_object_gym_env.py`` does: folders whose number ends in 0 are for testing. Number 168
is left out because its mesh holds only NaN vertices. ``primitives`` are boxes, cylinders and balls
that fit the gripper. ``validation`` is the tenth of ``train`` whose number ends in 5: what is
trained on the others is chosen by these, never by ``test``. Anything else is a glob of URDF files.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robot.errors import SteadyhandError

if TYPE_CHECKING:
    import trimesh

CLASSES = ("box", "cylinder", "ball", "irregular")
SETS = ("train", "test", "validation", "primitives")
GRIPPER_OPENING_M = 0.08
LARGEST_M = 0.30
"""No edge of an object may be longer, or it would not fit the look and the tray."""
_BROKEN = 168
_VALIDATION_DIGIT = "5"


@dataclass(frozen=True, slots=True)
class ObjectModel:
    """What to load: a URDF file, or a primitive of ``class_name`` with ``dimensions_m``.

    Attributes:
        name: unique within its set.
        class_name: one of ``CLASSES``.
        urdf: the file, or None for a primitive.
        dimensions_m: a primitive's full extents: box (x, y, z), cylinder (d, d, height),
            ball (d, d, d). None for a URDF.
    """

    name: str
    class_name: str
    urdf: Path | None = None
    dimensions_m: tuple[float, float, float] | None = None


def object_set(spec: str) -> tuple[ObjectModel, ...]:
    """The models that ``spec`` names: one of ``SETS``, or a glob of ``*.urdf`` files.

    Raises:
        SteadyhandError: no file matches, or one does not load or is too large for the gripper.
    """
    if spec in ("train", "test"):
        return _random_urdfs(test=spec == "test")
    if spec == "validation":
        return tuple(m for m in _random_urdfs(test=False) if is_validation(m))
    if spec == "primitives":
        return primitives(np.random.default_rng(7), 60)
    paths = sorted(Path(p) for p in glob.glob(spec, recursive=True))  # noqa: PTH207 (absolute globs)
    if not paths:
        raise SteadyhandError(
            f"objects: {spec!r} is none of {', '.join(SETS)} and matches no URDF file"
        )
    return tuple(from_urdf(path) for path in paths)


def is_validation(model: ObjectModel) -> bool:
    """Whether a train object is kept apart to choose by."""
    return model.name.endswith(_VALIDATION_DIGIT)


def _random_urdfs(test: bool) -> tuple[ObjectModel, ...]:
    import pybullet_data

    root = Path(pybullet_data.getDataPath()) / "random_urdfs"
    numbers = [n for n in range(1000) if (n % 10 == 0) == test and n != _BROKEN]
    return tuple(
        ObjectModel(f"{n:03d}", "irregular", root / f"{n:03d}" / f"{n:03d}.urdf") for n in numbers
    )


def primitives(rng: np.random.Generator, count: int) -> tuple[ObjectModel, ...]:
    """``count`` boxes, cylinders and balls in turn, each narrower than the gripper somewhere."""
    models = []
    for i in range(count):
        kind = CLASSES[i % 3]
        if kind == "box":
            dims = (rng.uniform(0.025, 0.065), rng.uniform(0.03, 0.14), rng.uniform(0.025, 0.10))
        elif kind == "cylinder":
            d = rng.uniform(0.025, 0.065)
            dims = (d, d, rng.uniform(0.03, 0.14))
        else:
            d = rng.uniform(0.03, 0.065)
            dims = (d, d, d)
        models.append(ObjectModel(f"{kind}_{i:02d}", kind, dimensions_m=dims))
    return tuple(models)


def from_urdf(path: Path) -> ObjectModel:
    """A model of a user's own URDF, checked for what would fail later.

    Raises:
        SteadyhandError: the file does not load, holds NaN, or is too large for the gripper.
    """
    kind, extents, solid = _measure(path)
    size = " x ".join(f"{v:.3f}" for v in extents)
    if max(extents) > LARGEST_M:
        raise SteadyhandError(
            f"{path}: the object is {size} m; no edge may be longer than {LARGEST_M} m "
            "(is its mesh in millimetres? set the scale in the URDF)"
        )
    if solid and min(extents) > GRIPPER_OPENING_M:
        raise SteadyhandError(
            f"{path}: the object is too large for the gripper: it is {size} m and convex, "
            f"and the fingers open {GRIPPER_OPENING_M} m"
        )
    return ObjectModel(path.stem, kind, path)


def _measure(path: Path) -> tuple[str, tuple[float, float, float], bool]:
    """(class, extents of the tightest box in m, nothing of it is narrower) of a URDF."""
    import trimesh  # here: it takes a second, and only a user's own files need it

    from envs.bullet import pybullet, silenced

    if not path.is_file():
        raise SteadyhandError(f"{path}: no such URDF file")
    client = pybullet.connect(pybullet.DIRECT)
    try:
        try:
            with silenced():
                body = pybullet.loadURDF(str(path.resolve()), physicsClientId=client)
        except pybullet.error as error:
            raise SteadyhandError(
                f"{path}: Bullet cannot load this URDF (is it XML with one <robot>, and do its "
                "mesh files exist beside it?)"
            ) from error
        if pybullet.getNumJoints(body, physicsClientId=client):
            raise SteadyhandError(f"{path}: has joints; an object must be one rigid link")
        shapes = pybullet.getCollisionShapeData(body, -1, physicsClientId=client)
        if not shapes:
            raise SteadyhandError(f"{path}: has no collision geometry, so it cannot be gripped")
        meshes = [_shape_mesh(shape, path) for shape in shapes]
    finally:
        pybullet.disconnect(client)
    points = np.concatenate([mesh.vertices for mesh, _ in meshes])
    _, box = trimesh.bounds.oriented_bounds(points)
    extents = sorted(float(v) for v in box)
    kind = meshes[0][1] if len(meshes) == 1 else "irregular"
    # Pieces are loaded as convex hulls, so only what consists of one convex piece is solid.
    solid = len(meshes) == 1 and meshes[0][0].body_count == 1
    return kind, (extents[0], extents[1], extents[2]), solid


def _shape_mesh(shape: Sequence, path: Path) -> tuple[trimesh.Trimesh, str]:
    import trimesh

    from envs.bullet import pybullet

    _, _, kind, dims, file, position, quat = shape[:7]
    if kind == pybullet.GEOM_BOX:
        mesh, name = trimesh.creation.box(dims), "box"
    elif kind == pybullet.GEOM_SPHERE:
        mesh, name = trimesh.creation.icosphere(radius=dims[0]), "ball"
    elif kind in (pybullet.GEOM_CYLINDER, pybullet.GEOM_CAPSULE):
        mesh, name = trimesh.creation.cylinder(radius=dims[1], height=dims[0]), "cylinder"
    elif kind == pybullet.GEOM_MESH:
        mesh = trimesh.load(file.decode(), force="mesh", process=False)
        mesh.apply_scale(np.asarray(dims, dtype=float))
        name = "irregular"
    else:
        raise SteadyhandError(f"{path}: collision geometry of kind {kind} is not supported")
    if not len(mesh.vertices) or not np.isfinite(mesh.vertices).all():
        raise SteadyhandError(f"{path}: its collision mesh is empty or holds NaN vertices")
    transform = trimesh.transformations.quaternion_matrix([quat[3], quat[0], quat[1], quat[2]])
    transform[:3, 3] = position
    mesh.apply_transform(transform)
    return mesh, name


def drop_quaternion(rng: np.random.Generator) -> np.ndarray:
    """A uniformly random unit quaternion, xyzw (Shoemake 1992)."""
    u, v, w = rng.random(3)
    a, b = math.sqrt(1 - u), math.sqrt(u)
    return np.array(
        [
            a * math.sin(2 * math.pi * v),
            a * math.cos(2 * math.pi * v),
            b * math.sin(2 * math.pi * w),
            b * math.cos(2 * math.pi * w),
        ]
    )
