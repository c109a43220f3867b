"""The wanted object first, what is beside it next, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from robot.errors import SensorError
from robot.geometry import grasp_rotation
from robot.planning.ranking import Ranked
from robot.planning.target import Target, at_pixel
from robot.types import (
    CameraIntrinsics,
    GraspCandidate,
    HeightMap,
    Look,
    ObjectState,
    Pose,
    RgbdFrame,
)

UPRIGHT = np.array([0, 0, 0, 1.0])


def thing(number: int, name: str, x: float, y: float = 0.0) -> ObjectState:
    X = Pose("world", "obj", np.array([x, y, 0.03]), UPRIGHT)
    return ObjectState(number, name, X, np.array([0.05, 0.05, 0.06]), 0.9, False, 0.0)


def look(*objects: ObjectState) -> Look:
    cells = np.zeros((4, 4), np.float32)
    heights = HeightMap(np.zeros(2), 0.01, cells, np.ones((4, 4), bool), 0.0)
    return Look(objects, heights, 0.0, "camera")


def grips(*numbers: int) -> list[Ranked]:
    X = Pose.from_matrix("world", "grasp", grasp_rotation(0.0), (0.5, 0.0, 0.03))
    return [Ranked(GraspCandidate(X, 0.04, 0.08, 1.0, n, 0.0)) for n in numbers]


TABLE = look(
    thing(1, "box", 0.40), thing(2, "ball", 0.50), thing(3, "box", 0.60), thing(4, "ball", 0.75)
)


def order(target: Target, ranked: list[Ranked]) -> list[int]:
    return [r.candidate.object_id for r in target.order(ranked, TABLE)]


def test_its_own_grips_first_then_those_beside_it() -> None:
    at = Target(position_m=np.array([0.505, 0.0, 0.0]))
    assert order(at, grips(4, 3, 1, 2)) == [2, 1, 3] or order(at, grips(4, 3, 1, 2)) == [2, 3, 1]
    assert order(at, grips(4)) == []


def test_a_class_means_the_surest_one_and_stays_with_it() -> None:
    balls = Target(class_name="ball")
    assert order(balls, grips(4, 2))[0] == 2
    moved = look(thing(7, "ball", 0.75), thing(8, "ball", 0.52))
    found = balls.find(moved)
    assert found is not None and found.object_id == 8


def test_what_is_not_seen_is_not_replaced_by_another() -> None:
    gone = Target(position_m=np.array([0.3, 0.25, 0.0]))
    assert gone.find(TABLE) is None and order(gone, grips(1, 2)) == []
    assert Target(class_name="cylinder").find(TABLE) is None


def test_a_pixel_is_a_point() -> None:
    camera = CameraIntrinsics(32, 24, 40.0, 40.0, 15.5, 11.5)
    X = Pose.from_matrix("world", "cam", grasp_rotation(0.0), (0.5, 0.0, 0.9))
    depth = np.full((24, 32), 0.8, np.float32)
    depth[0, 0] = 0.0
    frame = RgbdFrame("cam", 0.0, np.zeros((24, 32, 3), np.uint8), depth, camera, X)
    point = at_pixel(frame, 20, 6)
    local = X.rotation.T @ (point - X.position_m)
    assert np.allclose(local[:2] / local[2] * 40.0 + [15.5, 11.5], [20, 6])
    assert np.isclose(local[2], 0.8, atol=1e-6)
    with pytest.raises(SensorError, match="nothing at pixel 0,0"):
        at_pixel(frame, 0, 0)
    with pytest.raises(SensorError, match="outside the image"):
        at_pixel(frame, 40, 3)
