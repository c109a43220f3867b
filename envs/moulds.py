"""Loads object files into Bullet; what is loaded again is made of the same shapes.

Bullet keeps some 70 kB of each URDF that it ever loaded, also when its body is long gone. Bodies of
shapes that are there already cost it 3 kB, and move and look the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from envs.bullet import pybullet, silenced
from robot.errors import SteadyhandError

_UPRIGHT = (0.0, 0.0, 0.0, 1.0)


class _Mould(NamedTuple):
    body: dict[str, Any]
    dynamics: dict[str, Any]
    solids: Any


class Moulds:
    """What was loaded in one client, by file.

    Args:
        client: Bullet's.
    """

    def __init__(self, client: int) -> None:
        self._kw = {"physicsClientId": client}
        self._known: dict[Path, _Mould | None] = {}

    def load(self, urdf: Path, position_m: Sequence[float], quat_xyzw: Sequence[float]) -> int:
        """A body with its base frame at a pose in the world; returns its id.

        Raises:
            SteadyhandError: Bullet cannot load the file.
        """
        mould = self._known.get(urdf)
        if mould is None:
            body = self._from_file(urdf, position_m, quat_xyzw)
            if urdf not in self._known:
                self._known[urdf] = self._taken_from(body)
            return body
        body = pybullet.createMultiBody(
            **mould.body,
            basePosition=list(position_m),
            baseOrientation=list(quat_xyzw),
            **self._kw,
        )
        pybullet.changeDynamics(body, -1, **mould.dynamics, **self._kw)
        return int(body)

    def solids(self, urdf: Path | None, body: int) -> Any:
        """A body's ``getCollisionShapeData``, which forgets what a shape was made from."""
        mould = None if urdf is None else self._known.get(urdf)
        if mould is not None:
            return mould.solids
        return pybullet.getCollisionShapeData(body, -1, **self._kw)

    def _from_file(self, urdf: Path, position_m: Sequence[float], quat: Sequence[float]) -> int:
        flags = pybullet.URDF_ENABLE_CACHED_GRAPHICS_SHAPES
        try:
            with silenced():
                body = pybullet.loadURDF(
                    str(urdf), list(position_m), list(quat), flags=flags, **self._kw
                )
        except pybullet.error as error:
            raise SteadyhandError(f"{urdf}: Bullet cannot load this URDF") from error
        return int(body)

    def _taken_from(self, body: int) -> _Mould | None:
        """None where it is more than one mesh that lies in its own frame, seen as it is felt."""
        solids = pybullet.getCollisionShapeData(body, -1, **self._kw)
        looks = pybullet.getVisualShapeData(body, **self._kw)
        if pybullet.getNumJoints(body, **self._kw) or len(solids) != 1 or len(looks) != 1:
            return None
        mass, friction, inertia, at, turned, *_ = info = pybullet.getDynamicsInfo(
            body, -1, **self._kw
        )
        *_, bounce, rolling, spinning, damping, stiffness, _, margin = info
        _, _, kind, scale, file, solid_at, solid_turned = solids[0]
        _, _, seen_kind, seen_scale, seen_file, seen_at, seen_turned, rgba, *_ = looks[0]
        plain = (at, turned) == (solid_at, solid_turned) == (seen_at, seen_turned)
        plain = plain and (at, turned) == ((0.0, 0.0, 0.0), _UPRIGHT)
        meshes = kind == seen_kind == pybullet.GEOM_MESH and mass > 0.0
        if not (plain and meshes and damping < 0.0 and stiffness < 0.0):
            return None
        shapes = {
            "baseCollisionShapeIndex": pybullet.createCollisionShape(
                kind, fileName=file.decode(), meshScale=scale, **self._kw
            ),
            "baseVisualShapeIndex": pybullet.createVisualShape(
                kind, fileName=seen_file.decode(), meshScale=seen_scale, rgbaColor=rgba, **self._kw
            ),
        }
        dynamics = {
            "localInertiaDiagonal": inertia,
            "lateralFriction": friction,
            "rollingFriction": rolling,
            "spinningFriction": spinning,
            "restitution": bounce,
            "collisionMargin": margin,
        }
        return _Mould({"baseMass": mass, **shapes}, dynamics, solids)
