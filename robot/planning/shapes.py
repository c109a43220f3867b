"""The arm as a few simple solids, read from ``configs/robot/<name>_collision.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from configs.load import load
from robot.errors import ConfigError
from robot.planning.hulls import UNIT_BALL, convex

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """One solid, placed in the frame of its link.

    Attributes:
        kind: a capsule from ``at_m`` to ``to_m``; a sphere about ``at_m``; a box about ``at_m``
            with its edges along the link's axes; or the convex hull of ``points_m``.
        at_m: (3,) m.
        to_m: (3,) the other end of a capsule's axis, m.
        radius_m: of a capsule or sphere.
        size_m: (3,) full edge lengths of a box, m.
        points_m: corners of a hull, seen from ``at_m``.
    """

    kind: Literal["capsule", "sphere", "box", "hull"]
    at_m: tuple[float, float, float]
    to_m: tuple[float, float, float] | None = None
    radius_m: float | None = None
    size_m: tuple[float, float, float] | None = None
    points_m: tuple[tuple[float, float, float], ...] | None = None

    def __post_init__(self) -> None:
        needs = {
            "capsule": ("to_m", "radius_m"),
            "sphere": ("radius_m",),
            "box": ("size_m",),
            "hull": ("points_m",),
        }
        for field in ("to_m", "radius_m", "size_m", "points_m"):
            if (getattr(self, field) is not None) != (field in needs[self.kind]):
                want = " and ".join(needs[self.kind])
                raise ConfigError(f"{field}: a {self.kind} is given by at_m and {want}")
        sizes = [*(self.size_m or ()), *([] if self.radius_m is None else [self.radius_m])]
        if self.points_m is not None:
            if len(self.points_m) < 4:
                raise ConfigError(f"a hull needs at least 4 points, got {len(self.points_m)}")
        elif min(sizes) <= 0:
            raise ConfigError(f"a {self.kind}'s sizes must be above 0 m, got {sizes}")

    def geometry(self) -> tuple[coal.CollisionGeometry, pin.SE3]:
        """The solid and its placement in the link's frame."""
        at = np.array(self.at_m)
        if self.size_m is not None:
            return coal.Box(*self.size_m), pin.SE3(np.eye(3), at)
        if self.points_m is not None:
            return convex(np.array(self.points_m)), pin.SE3(np.eye(3), at)
        if self.to_m is None:
            return coal.Sphere(self.radius_m), pin.SE3(np.eye(3), at)
        axis = np.array(self.to_m) - at
        length = float(np.linalg.norm(axis))
        turn = pin.Quaternion.FromTwoVectors(np.array([0.0, 0.0, 1.0]), axis / max(length, 1e-9))
        rotation = turn.matrix() if length > 1e-6 else np.eye(3)
        return coal.Capsule(self.radius_m, length), pin.SE3(rotation, at + 0.5 * axis)

    def corners(self) -> Array:
        """(n, 3) points in the link's frame whose convex hull holds the solid, m.

        Round solids are held by polyhedra at most 10 % wider.
        """
        at = np.array(self.at_m)
        if self.points_m is not None:
            return at + np.array(self.points_m)
        if self.size_m is not None:
            signs = np.stack(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5]), axis=-1)
            return np.asarray(at + signs.reshape(-1, 3) * np.array(self.size_m))
        around = (self.radius_m or 0.0) * UNIT_BALL
        ends = [at] if self.to_m is None else [at, np.array(self.to_m)]
        return np.concatenate([end + around for end in ends])


@dataclass(frozen=True)
class ArmShapes:
    """All solids of one arm.

    Attributes:
        source: how the solids were found.
        links: link (a frame of the arm's URDF, in the order of the chain) to its solids.
        fingers: each finger's link, and the (3,) unit direction in that link's frame in which it
            moves by half the opening; at rest the fingers are closed.
        hand: links that may come close to the table, fingers included.
        ignored: pairs of links whose solids need no check: neighbours, and pairs that never meet.
        on_table: links that stand on the table or cannot reach it: not checked against it.
    """

    source: str
    links: dict[str, tuple[Shape, ...]]
    fingers: dict[str, tuple[float, float, float]]
    hand: tuple[str, ...]
    ignored: tuple[tuple[str, str], ...] = ()
    on_table: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = [*self.fingers, *self.hand, *self.on_table, *(n for p in self.ignored for n in p)]
        unknown = [name for name in named if name not in self.links]
        if unknown:
            known = ", ".join(self.links)
            raise ConfigError(f"no link {unknown[0]!r} among links; known: {known}")

    def finger_ways(self, opening_m: float) -> dict[str, tuple[coal.CollisionGeometry, pin.SE3]]:
        """For each finger a box, in its link's frame, that holds it from closed to so far open."""
        out = {}
        for link, way in self.fingers.items():
            closed = np.concatenate([shape.corners() for shape in self.links[link]])
            both = np.concatenate([closed, closed + 0.5 * opening_m * np.array(way)])
            low, high = both.min(axis=0), both.max(axis=0)
            out[link] = coal.Box(*(high - low)), pin.SE3(np.eye(3), 0.5 * (low + high))
        return out

    def checked_pairs(self) -> list[tuple[str, str]]:
        """Pairs of links that must not meet."""
        ignored = {frozenset(pair) for pair in self.ignored}
        names = list(self.links)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        return [pair for pair in pairs if frozenset(pair) not in ignored]


def load_shapes(path: Path) -> ArmShapes:
    """Read an arm's solids.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    return load(ArmShapes, path)
