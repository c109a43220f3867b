"""Declared obstacles: they count on the way to a grasp, and when they appear on the way."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from robot.errors import PlanningError
from robot.geometry import grasp_rotation
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.collision import CollisionChecker
from robot.planning.hulls import UNIT_BALL
from robot.planning.mesh_shapes import arm_shapes, shapes_from_urdf
from robot.planning.obstacles import Box
from robot.planning.paths import PathPlanner
from robot.planning.scene import SceneModel
from robot.types import GraspCandidate, HeightMap, Look, Pose

LIMITS = load_limits("panda")
KINEMATICS = Kinematics(LIMITS)
HOME = LIMITS.home_rad


def candidate(x: float, y: float, z: float, width_m: float = 0.04) -> GraspCandidate:
    X = Pose.from_matrix("world", "grasp", grasp_rotation(0.0), (x, y, z))
    return GraspCandidate(X, width_m, 0.08, 1.0, 0, 0.0)


def above(x: float, y: float, z: float) -> np.ndarray:
    q = KINEMATICS.inverse(Pose.from_matrix("world", "tool0", grasp_rotation(0.0), (x, y, z)), HOME)
    assert q is not None
    return q


def scene(*declared: Box) -> SceneModel:
    return SceneModel(CollisionChecker(LIMITS, KINEMATICS), (), declared)


def test_a_wall_beside_the_object_forbids_the_grasp_and_a_far_one_does_not() -> None:
    near = Box((0.5, 0.075, 0.06), (0.3, 0.012, 0.12), name="wall")
    far = Box((0.5, 0.20, 0.06), (0.3, 0.012, 0.12), name="wall")
    grip, q = candidate(0.5, 0.0, 0.02), above(0.5, 0.0, 0.12)
    with pytest.raises(PlanningError, match=r"grasp at .* hits wall"):
        scene(near).check_line(KINEMATICS, grip, q, 0.22)
    scene(far).check_line(KINEMATICS, grip, q, 0.22)


def test_a_low_board_forbids_the_lift() -> None:
    board = Box((0.5, 0.0, 0.45), (0.3, 0.3, 0.02), name="board")
    with pytest.raises(PlanningError, match="hits board"):
        scene(board).check_line(KINEMATICS, candidate(0.5, 0.0, 0.02), above(0.5, 0, 0.12), 0.22)


def test_a_grip_on_a_wall_is_known_as_such() -> None:
    around = scene(Box((0.5, 0.2, 0.06), (0.4, 0.012, 0.12), name="wall"))
    places = np.array([[0.5, 0.2, 0.1], [0.5, 0.21, 0.13], [0.5, 0.1, 0.1], [0.5, 0.2, 0.3]])
    assert around.is_part(places).tolist() == [True, True, False, False]


def test_what_is_declared_counts_where_no_camera_saw_it() -> None:
    heights, seen = np.full((60, 60), 0.01, np.float32), np.zeros((60, 60), bool)
    heights[30, 30] = 0.3
    grid = HeightMap(np.array([0.4, -0.1]), 0.005, heights, seen, 0.0)
    look = Look((), grid, 0.0, "camera")
    wall = Box((0.55, 0.05, 0.06), (0.052, 0.022, 0.12), name="wall")
    board = Box((0.45, 0.0, 0.4), (0.05, 0.05, 0.02), name="board")
    drawn = scene(wall, board).drawn_on(look).height_map
    covered = np.zeros((60, 60), bool)
    covered[25:36, 28:33] = True
    np.testing.assert_array_equal(drawn.seen, covered)
    assert drawn.height_m[30, 30] == heights[30, 30]
    rest = covered.copy()
    rest[30, 30] = False
    np.testing.assert_allclose(drawn.height_m[rest], 0.12)
    np.testing.assert_array_equal(drawn.height_m[~covered], heights[~covered])
    assert grid.height_m[25, 28] == np.float32(0.01)  # the look itself stays as it was
    assert scene(board).drawn_on(look) is look


def test_what_appears_is_seen_on_the_rest_of_a_motion_only_where_it_hits() -> None:
    around = scene()
    paths = PathPlanner(LIMITS, KINEMATICS, around._checker)
    around.show(None)
    motion = paths.to_joints(HOME, above(0.5, 0.3, 0.2)).position_rad
    assert around.ahead(motion) is None
    around.appear(Box((0.5, -0.4, 0.1), (0.1, 0.1, 0.2), name="far"))
    assert around.ahead(motion) is None
    around.appear(Box((0.48, 0.28, 0.2), (0.08, 0.08, 0.4), name="pole"))
    assert "pole" in str(around.ahead(motion))


def test_unseen_cells_are_filled_when_asked_for() -> None:
    heights = np.zeros((60, 60), np.float32)
    seen = np.ones((60, 60), bool)
    seen[20:40, 20:40] = False
    look = Look((), HeightMap(np.array([0.35, -0.15]), 0.005, heights, seen, 0.0), 0.0, "truth")
    around = scene()
    around.show(look)
    assert around._checker.boxes == ()
    around.unseen_m = 0.12
    around.show(look)
    assert max(box.size_m[2] for box in around._checker.boxes) == pytest.approx(0.12)


def test_hulls_answer_as_all_solids_do() -> None:
    """A quick yes of the hulls is never wrong: whatever they call free is free for all solids."""
    checker = CollisionChecker(LIMITS, KINEMATICS)
    checker.set_scene(None, [Box((0.45, 0.1, 0.2), (0.1, 0.1, 0.4))])
    hulls, solids = checker._solids(0), checker._solids(1)
    rng = np.random.default_rng(0)
    free = 0
    for _ in range(300):
        q = rng.uniform(LIMITS.joints.lower_rad, LIMITS.joints.upper_rad)
        if hulls.free(q):
            free += 1
            assert solids.free(q)
    assert free > 30


def test_the_ball_inside_its_polyhedron() -> None:
    from scipy.spatial import ConvexHull

    assert np.abs(ConvexHull(UNIT_BALL).equations[:, 3]).min() >= 1 - 1e-9


@pytest.mark.parametrize("name", ["iiwa14", "xarm6"])
def test_solids_out_of_meshes_hold_the_meshes(name: str) -> None:
    import pinocchio as pin

    limits = load_limits(name)
    kinematics = Kinematics(limits)
    shapes = arm_shapes(limits, kinematics)
    geometry = pin.buildGeomFromUrdf(kinematics.model, str(limits.urdf), pin.GeometryType.COLLISION)
    from scipy.spatial import ConvexHull

    link = "lbr_iiwa_link_3" if name == "iiwa14" else "link3"
    solid = next(
        o for o in geometry.geometryObjects if kinematics.model.frames[o.parentFrame].name == link
    )
    X = kinematics.model.frames[solid.parentFrame].placement.inverse() * solid.placement
    points = np.array(solid.geometry.vertices()) @ X.rotation.T + X.translation
    hull = ConvexHull(np.array(shapes.links[link][0].points_m)).equations
    out = (points @ hull[:, :3].T + hull[:, 3]).max()
    assert out < 1e-3
    assert not CollisionChecker(limits, kinematics).contacts(limits.home_rad)


def _disc(name: str, height_m: float, at_m: tuple[float, float]) -> str:
    shape = '<cylinder radius="0.05" length="0.04"/>'
    return (
        f'<link name="{name}"><collision><origin xyz="{at_m[0]} {at_m[1]} {height_m}"/>'
        f"<geometry>{shape}</geometry></collision></link>"
    )


def test_links_that_turn_close_beside_each_other_are_not_checked(tmp_path: Path) -> None:
    """A disc 1 cm above another one on the same axis is so in every posture; one aside is not."""
    from types import SimpleNamespace

    import pinocchio as pin

    links = [_disc("base", 0.0, (0, 0)), _disc("one", 0.02, (0.2, 0))]
    links += [
        _disc("two", 0.05, (0, 0)),
        _disc("three", 0.05, (0, 0.2)),
        _disc("four", 0.1, (0, 0)),
    ]
    names = ["base", "one", "two", "three", "four"]
    joints = [
        f'<joint name="{b}_joint" type="revolute"><parent link="{a}"/><child link="{b}"/>'
        '<axis xyz="0 0 1"/><limit lower="-3" upper="3" effort="1" velocity="1"/></joint>'
        for a, b in itertools.pairwise(names)
    ]
    file = tmp_path / "discs.urdf"
    file.write_text(f'<robot name="discs">{"".join(links + joints)}</robot>')
    model = pin.buildModelFromUrdf(str(file))
    limits = SimpleNamespace(
        urdf=file, name="discs", tool_frame="four", fingers={}, home_rad=np.zeros(4),
        joints=SimpleNamespace(lower_rad=np.full(4, -3.0), upper_rad=np.full(4, 3.0)),
        gripper=SimpleNamespace(max_opening_m=0.0),
    )  # fmt: skip
    shapes = shapes_from_urdf(limits, SimpleNamespace(model=model, limits=limits))
    assert ("base", "two") in shapes.ignored
    assert {("base", "three"), ("one", "three"), ("one", "four")} <= set(shapes.checked_pairs())


def test_gaps_close_where_links_touch() -> None:
    checker = CollisionChecker(LIMITS, KINEMATICS)
    solids = checker._solids(1)
    rng = np.random.default_rng(3)
    touching = 0
    for _ in range(60):
        q = rng.uniform(LIMITS.joints.lower_rad, LIMITS.joints.upper_rad)
        closed = {f"{a} hits {b}" for (a, b), gap_m in solids.gaps(q).items() if gap_m <= 0}
        own = {text for text in solids.contacts(q) if "table" not in text}
        assert closed == own
        touching += bool(own)
    assert touching > 3
