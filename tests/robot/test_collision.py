"""The collision checker against the arm's meshes and against Bullet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pybullet as p
import pybullet_data
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from pybullet_utils.bullet_client import BulletClient

from robot.errors import ConfigError, PlanningError
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.collision import Box, CollisionChecker
from robot.planning.obstacles import columns, tray_walls
from robot.planning.shapes import Shape, load_shapes
from robot.types import HeightMap, Pose

LIMITS = load_limits("panda")
KINEMATICS = Kinematics(LIMITS)
DATA = Path(pybullet_data.getDataPath()) / "franka_panda"
SHAPES = load_shapes(LIMITS.urdf.parent / "panda_collision.yaml")
MESHES = {
    **{f"panda_link{i}": f"link{i}" for i in range(8)},
    "panda_hand": "hand",
    "panda_leftfinger": "finger",
    "panda_rightfinger": "finger",
}
DOWN = KINEMATICS.forward(LIMITS.home_rad).quat_xyzw


@pytest.fixture(name="checker")
def _checker() -> CollisionChecker:
    return CollisionChecker(LIMITS, KINEMATICS)


def joints_at(x: float, y: float, z: float) -> np.ndarray:
    q = KINEMATICS.inverse(Pose("world", "tool0", [x, y, z], DOWN), LIMITS.home_rad)
    assert q is not None
    return q


def hull(link: str) -> trimesh.Trimesh:
    """The convex hull of a link's mesh, which is what Bullet collides."""
    mesh = trimesh.load(DATA / "meshes" / "collision" / f"{MESHES[link]}.obj", force="mesh")
    if link == "panda_rightfinger":
        mesh.apply_transform(np.diag([-1.0, -1.0, 1.0, 1.0]))
    return mesh.convex_hull


def distance(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Signed distance from points (n, 3) to a solid, negative inside."""
    local = points - np.array(shape.at_m)
    if shape.size_m is not None:
        q = np.abs(local) - 0.5 * np.array(shape.size_m)
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0)
    axis = np.array(shape.to_m or shape.at_m) - np.array(shape.at_m)
    t = np.clip(local @ axis / max(axis @ axis, 1e-12), 0, 1)
    return np.linalg.norm(local - t[:, None] * axis, axis=1) - shape.radius_m


def surface(shape: Shape, n: int = 1500) -> np.ndarray:
    """Points on a solid's surface."""
    rng = np.random.default_rng(0)
    if shape.size_m is not None:
        u = rng.uniform(-1, 1, (n, 3))
        u[np.arange(n), rng.integers(0, 3, n)] = rng.choice([-1, 1], n)
        return np.array(shape.at_m) + 0.5 * u * np.array(shape.size_m)
    a, b = np.array(shape.at_m), np.array(shape.to_m or shape.at_m)
    way = rng.normal(size=(n, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    points = a + rng.uniform(0, 1, (n, 1)) * (b - a) + shape.radius_m * way
    ends = np.where((way @ (b - a) > 0)[:, None], b, a) + shape.radius_m * way
    both = np.vstack([points, ends])
    return both[np.abs(distance(shape, both)) < 1e-6]


@pytest.mark.parametrize("link", list(MESHES))
def test_solids_hold_the_mesh_and_little_more(link: str) -> None:
    mesh, shapes = hull(link), SHAPES.links[link]
    points = np.vstack([mesh.vertices, trimesh.sample.sample_surface(mesh, 4000, seed=2)[0]])
    outside = np.min([distance(s, points) for s in shapes], axis=0)
    assert outside.max() <= 5e-4, "the mesh sticks out of the solids"

    skin = []
    for k, shape in enumerate(shapes):
        own = surface(shape)
        others = [distance(s, own) for j, s in enumerate(shapes) if j != k]
        skin.append(own[np.min(others, axis=0) > 1e-4] if others else own)
    skin = np.vstack(skin)
    height = (skin @ mesh.face_normals.T) - (mesh.face_normals * mesh.triangles[:, 0]).sum(axis=1)
    _, excess, _ = trimesh.proximity.closest_point_naive(mesh, skin[height.max(axis=1) > 0])
    # Capsules fit the rims of flat flanges worst; the base only matters to the folded arm.
    mean, most, top = (0.018, 0.040, 0.06) if link == "panda_link0" else (0.011, 0.021, 0.032)
    assert np.mean(excess) < mean
    assert np.percentile(excess, 95) < most
    assert excess.max() < top


def test_home_is_free_and_the_table_is_not(checker: CollisionChecker) -> None:
    assert checker.in_collision(LIMITS.home_rad) is None
    low = checker.in_collision(joints_at(0.5, 0, 0.0))
    assert low is not None and "finger" in low and low.endswith("hits table")


def test_hand_may_come_down_to_the_clearance_given(checker: CollisionChecker) -> None:
    tip = joints_at(0.5, 0.0, 0.030)  # the fingers' ends are 7.5 mm lower
    assert checker.in_collision(tip, allow_hand_below_m=0.02) is None
    assert "table" in checker.in_collision(tip, allow_hand_below_m=0.025)
    assert checker.in_collision(tip) is None, "the clearance of one call must not stay"


def test_opening_decides_what_fits_between(checker: CollisionChecker) -> None:
    q = joints_at(0.5, 0.0, 0.05)
    checker.set_scene(None, [Box((0.5, 0.0, 0.04), (0.02, 0.05, 0.08), name="block")])
    assert checker.in_collision(q, hand_opening=0.08) is None
    assert "block" in checker.in_collision(q, hand_opening=0.05)
    assert checker.in_collision(q) is None, "the opening of one call must not stay"
    checker.set_hand(0.05)
    assert "block" in checker.first_contact(q)
    checker.set_hand()
    assert checker.first_contact(q) is None


def test_room_is_more_than_free(checker: CollisionChecker) -> None:
    """3 mm are left to the fingers: free, but without room."""
    q = joints_at(0.5, 0.0, 0.10)
    left = 0.04 + 0.0266 + checker.config.scene_margin_m + 0.003
    checker.set_scene(None, [Box((0.5, left + 0.1, 0.06), (0.3, 0.2, 0.12), name="block")])
    assert checker.first_contact(q) is None
    assert not checker.has_room(q)
    checker.set_scene(None, [Box((0.5, left + 0.3, 0.06), (0.3, 0.2, 0.12), name="block")])
    assert checker.has_room(q)


def test_fast_check_agrees_with_the_list_of_contacts(checker: CollisionChecker) -> None:
    checker.set_scene(None, [*tray_walls((0.15, -0.48), (0.36, 0.26), 0.06),
                             Box((0.5, 0.1, 0.1), (0.1, 0.2, 0.2), yaw_rad=0.5)])  # fmt: skip
    checker.attach_box((0.05, 0.1, 0.05), Pose("tool0", "object", [0, 0, 0.03], [0, 0, 0, 1]))
    rng = np.random.default_rng(1)
    qs = rng.uniform(LIMITS.joints.lower_rad, LIMITS.joints.upper_rad, (1000, 7))
    free = [checker.is_free(q) for q in qs]
    assert free == [not checker.contacts(q) for q in qs]
    assert 100 < sum(free) < 900
    assert all(not checker.has_room(q) for q, ok in zip(qs, free, strict=True) if not ok)


def test_arm_does_not_pass_through_itself(checker: CollisionChecker) -> None:
    folded = np.array([0.0, -1.0, 0.0, -3.0, 0.0, 0.1, 0.785])
    contact = checker.in_collision(folded)
    assert contact is not None and "table" not in contact


def test_links_keep_a_little_apart() -> None:
    limits = load_limits("xarm6")
    checker = CollisionChecker(limits, Kinematics(limits))
    nearly = np.array([-0.371, 0.237, -1.914, -3.055, 2.849, -1.733])  # 0.3 mm; Bullet: they touch
    assert checker.in_collision(nearly) == "link3 hits right_outer_knuckle"
    assert checker.is_free(limits.home_rad)


def test_tray_wall_is_named(checker: CollisionChecker) -> None:
    checker.set_scene(None, tray_walls((0.5, 0.0), (0.2, 0.2), 0.2))
    assert "tray wall" in checker.in_collision(joints_at(0.5, 0.09, 0.1))
    assert checker.in_collision(joints_at(0.5, 0.0, 0.35)) is None


def test_held_box_collides_but_not_with_the_hand(checker: CollisionChecker) -> None:
    q = joints_at(0.5, 0.0, 0.10)
    X = Pose("tool0", "object", [0, 0, 0.0], [0, 0, 0, 1])
    checker.attach_box((0.03, 0.06, 0.12), X)
    assert checker.in_collision(q) is None
    assert checker.in_collision(joints_at(0.5, 0.0, 0.05)) == "held object hits table"
    checker.set_scene(None, [Box((0.52, 0.0, 0.03), (0.02, 0.1, 0.06), name="block")])
    assert checker.in_collision(q) == "held object hits block"
    checker.detach()
    assert checker.in_collision(q) is None


def test_bad_questions_are_refused(checker: CollisionChecker) -> None:
    with pytest.raises(PlanningError, match="tool0"):
        checker.attach_box((0.1, 0.1, 0.1), Pose("world", "object", [0, 0, 0], [0, 0, 0, 1]))
    with pytest.raises(PlanningError, match="3 lengths"):
        checker.attach_box((0.1, -0.1, 0.1), Pose("tool0", "o", [0, 0, 0], [0, 0, 0, 1]))
    with pytest.raises(PlanningError, match="above 0"):
        Box((0, 0, 0), (0.1, 0.0, 0.1))
    with pytest.raises(ConfigError, match="capsule is given by"):
        Shape("capsule", (0, 0, 0), radius_m=0.1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.002, 0.005, 0.01]))
@settings(max_examples=30)
def test_columns_hold_every_high_cell(seed: int, objects: int, resolution: float) -> None:
    rng = np.random.default_rng(seed)
    height = rng.normal(0, 0.001, (60, 45)).astype(np.float32)
    for _ in range(objects):
        i, j = rng.integers(0, 60), rng.integers(0, 45)
        height[i : i + rng.integers(1, 20), j : j + rng.integers(1, 20)] += rng.uniform(0, 0.15)
    origin = np.array([0.35, -0.15])
    scene = HeightMap(origin, resolution, height, np.ones(height.shape, bool), 0.0)
    boxes = columns(scene, similar_m=0.02)
    x = origin[0] + resolution * np.arange(60)[:, None] + np.zeros((60, 45))
    y = origin[1] + resolution * np.arange(45)[None, :] + np.zeros((60, 45))
    tops = np.zeros((60, 45))
    for box in boxes:
        inside = box.covers(x, y)
        top = box.center_m[2] + 0.5 * box.size_m[2]
        assert (tops[inside] == 0).all(), "boxes overlap"
        tops[inside] = top
        assert top <= height[inside].max() + 1e-6, "higher than anything below it"
    high = height > 0.01
    assert (tops[high] >= height[high] - 1e-6).all()
    assert not columns(scene, cleared=(Box((0.5, 0, 0), (2, 2, 1)),))


def test_height_map_stands_in_the_way(checker: CollisionChecker) -> None:
    height = np.zeros((60, 60), np.float32)
    height[28:32, 28:32] = 0.08
    scene = HeightMap([0.35, -0.15], 0.005, height, np.ones((60, 60), bool), 0.0)
    checker.set_scene(scene)
    assert "column at (0." in checker.in_collision(joints_at(0.5, 0.0, 0.08), hand_opening=0.0)
    assert checker.in_collision(joints_at(0.5, 0.0, 0.12)) is None
    checker.set_scene(None)
    assert checker.in_collision(joints_at(0.5, 0.0, 0.08)) is None


@pytest.fixture(name="bullet", scope="module")
def _bullet():
    """Bullet's own arm and the boxes of the test below: an independent judge."""
    client = BulletClient(p.DIRECT)
    client.setAdditionalSearchPath(pybullet_data.getDataPath())
    arm = client.loadURDF("franka_panda/panda.urdf", useFixedBase=True)
    half = [0.02, 0.15, 0.2]
    shape = client.createCollisionShape(p.GEOM_BOX, halfExtents=half)
    wall = client.createMultiBody(0, shape, basePosition=[0.45, 0.1, 0.2])
    yield client, arm, wall
    client.disconnect()


def bullet_pose(client: BulletClient, arm: int, q: np.ndarray, opening: float = 0.08) -> None:
    for i in range(7):
        client.resetJointState(arm, i, float(q[i]))
    for i in (9, 10):
        client.resetJointState(arm, i, opening / 2)


def test_free_is_free_for_bullet_too(checker: CollisionChecker, bullet) -> None:
    """Whatever we call free, Bullet's meshes must not touch; and we must not call all taken."""
    client, arm, wall = bullet
    checker.set_scene(None, [Box((0.45, 0.1, 0.2), (0.04, 0.30, 0.40), name="wall")])
    rng = np.random.default_rng(5)
    low, high = LIMITS.joints.lower_rad, LIMITS.joints.upper_rad
    counts = {"both": 0, "only ours": 0, "neither": 0}
    for _ in range(1500):
        q = rng.uniform(low, high)
        ours = {c for c in checker.contacts(q) if not c.endswith("hits table")}
        bullet_pose(client, arm, q)
        touching = {c[3] for c in client.getClosestPoints(arm, wall, 0.0) if c[3] >= 1}
        # Links 2 apart or more, without the pairs of neighbours that always overlap.
        for a, b in ((-1, 4), (-1, 5), (-1, 6), (-1, 8), (0, 4), (0, 5), (1, 8), (4, 8)):
            if client.getClosestPoints(arm, arm, 0.0, a, b):
                touching.add(("self", a, b))
        if touching:
            assert ours, f"Bullet touches {touching} where we see nothing at {q.tolist()}"
        key = "both" if touching else ("only ours" if ours else "neither")
        counts[key] += 1
    assert counts["both"] > 50 and counts["neither"] > 700
    assert counts["only ours"] < 0.20 * 1500, counts
