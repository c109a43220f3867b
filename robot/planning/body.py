"""Which points in space belong to the arm itself: what cameras should not take for an object."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.planning.mesh_shapes import arm_shapes
from robot.planning.shapes import Shape

Array = NDArray[np.float64]


class ArmBody:
    """The solids of an arm, to tell its own points from others.

    Args:
        limits: of the arm; its solids stand beside its URDF.
        kinematics: of the same arm; only its model is used.
    """

    def __init__(self, limits: RobotLimits, kinematics: Kinematics) -> None:
        self._shapes = arm_shapes(limits, kinematics)
        self._model = kinematics.model
        self._data = self._model.createData()

    def covers(
        self, points_m: Array, q: Array, opening_m: float, margin_m: float = 0.01
    ) -> NDArray[np.bool_]:
        """(n,) whether world points (n, 3) m lie within ``margin_m`` of the arm.

        Args:
            points_m: to be judged.
            q: joints (n,) rad.
            opening_m: of the fingers.
            margin_m: the solids are so much larger.
        """
        pin.framesForwardKinematics(self._model, self._data, q)
        out = np.zeros(len(points_m), dtype=bool)
        for link, shapes in self._shapes.links.items():
            place = self._data.oMf[self._model.getFrameId(link)]
            local = (points_m - place.translation) @ place.rotation
            if link in self._shapes.fingers:
                local -= np.array(self._shapes.fingers[link]) * 0.5 * opening_m
            for shape in shapes:
                out |= _within(shape, local, margin_m)
        return out


def _within(shape: Shape, points_m: Array, margin_m: float) -> NDArray[np.bool_]:
    apart = points_m - np.array(shape.at_m)
    if shape.points_m is not None:
        faces = ConvexHull(np.array(shape.points_m)).equations
        return np.asarray((apart @ faces[:, :3].T + faces[:, 3] <= margin_m).all(axis=1))
    if shape.size_m is not None:
        half = 0.5 * np.array(shape.size_m) + margin_m
        return np.asarray((np.abs(apart) <= half).all(axis=1))
    if shape.to_m is not None:
        axis = np.array(shape.to_m) - np.array(shape.at_m)
        along = np.clip(apart @ axis / max(float(axis @ axis), 1e-12), 0.0, 1.0)
        apart = apart - along[:, None] * axis
    reach = (shape.radius_m or 0.0) + margin_m
    return np.asarray((apart**2).sum(axis=1) <= reach**2)
