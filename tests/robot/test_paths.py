"""Paths: free by Bullet's judgement, within limits, repeatable, and honest when there is none."""

from __future__ import annotations

import time

import numpy as np
import pybullet as p
import pybullet_data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pybullet_utils.bullet_client import BulletClient

from robot import geometry
from robot.errors import PlanningError
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.collision import Box, CollisionChecker
from robot.planning.obstacles import tray_walls
from robot.planning.paths import PathConfig, PathPlanner
from robot.planning.timing import Curve
from robot.planning.tool_speed import fastest
from robot.safety.config import Zone
from robot.types import Pose, Trajectory

LIMITS = load_limits("panda")
KINEMATICS = Kinematics(LIMITS)
HOME = LIMITS.home_rad
DOWN = KINEMATICS.forward(HOME).quat_xyzw
WALL = Box((0.50, 0.0, 0.20), (0.40, 0.04, 0.40), name="wall")
TRAY = tray_walls((0.15, -0.48), (0.36, 0.26), 0.06)


def pose(x: float, y: float, z: float, yaw: float = 0.0) -> Pose:
    return Pose.from_matrix("world", "tool0", geometry.grasp_rotation(yaw), [x, y, z])


def joints_at(x: float, y: float, z: float) -> np.ndarray:
    q = KINEMATICS.inverse(pose(x, y, z), HOME)
    assert q is not None
    return q


def planner(boxes=(), seed: int = 0, **config) -> PathPlanner:
    checker = CollisionChecker(LIMITS, KINEMATICS)
    checker.set_scene(None, boxes)
    return PathPlanner(LIMITS, KINEMATICS, checker, seed, PathConfig(**config))


def check_motion(t: Trajectory, config: PathConfig, rate: float = 240.0) -> None:
    joints, slack = LIMITS.joints, 1 + 1e-4
    assert joints.contains(t.position_rad, 1e-9)
    assert (np.abs(t.velocity_rad_s) <= joints.velocity_rad_s * config.velocity_scale * slack).all()
    top = joints.acceleration_rad_s2 * config.acceleration_scale * slack
    assert (np.abs(t.acceleration_rad_s2) <= top).all()
    jerk = np.abs(np.diff(t.acceleration_rad_s2, axis=0)) * rate
    assert (jerk <= joints.jerk_rad_s3 * config.jerk_scale * slack).all()
    assert not t.velocity_rad_s[[0, -1]].any()


class Judge:
    """Bullet's arm among boxes: says whether its meshes touch anything."""

    def __init__(self, boxes) -> None:
        self.client = BulletClient(p.DIRECT)
        self.client.setAdditionalSearchPath(pybullet_data.getDataPath())
        self.arm = self.client.loadURDF("franka_panda/panda.urdf", useFixedBase=True)
        self.bodies = [
            self.client.createMultiBody(
                0,
                self.client.createCollisionShape(
                    p.GEOM_BOX, halfExtents=[0.5 * float(v) for v in box.size_m]
                ),
                basePosition=list(box.center_m),
                baseOrientation=[0, 0, np.sin(box.yaw_rad / 2), np.cos(box.yaw_rad / 2)],
            )
            for box in [*boxes, Box((0.6, 0, -0.5), (1.0, 2.0, 0.998), name="table")]
        ]

    def touches(self, q: np.ndarray) -> bool:
        for i in range(7):
            self.client.resetJointState(self.arm, i, float(q[i]))
        for i in (9, 10):
            self.client.resetJointState(self.arm, i, 0.04)
        own = ((-1, 4), (-1, 5), (-1, 6), (-1, 8), (0, 5), (1, 8), (4, 8))
        return any(self.client.getClosestPoints(self.arm, b, 0.0) for b in self.bodies) or any(
            self.client.getClosestPoints(self.arm, self.arm, 0.0, a, b) for a, b in own
        )


def test_free_way_is_a_straight_line() -> None:
    plan = planner(TRAY)
    goal = joints_at(0.55, 0.15, 0.12)
    t = plan.to_joints(HOME, goal)
    check_motion(t, plan.config)
    assert np.array_equal(t.position_rad[0], HOME) and np.array_equal(t.position_rad[-1], goal)
    way = (goal - HOME) / np.linalg.norm(goal - HOME)
    off = t.position_rad - HOME
    assert np.abs(off - (off @ way)[:, None] * way).max() < 1e-9
    assert t.duration_s < 2.0


@given(st.integers(0, 10_000), st.floats(0.10, 0.25), st.floats(0.40, 0.55))
@settings(max_examples=8)
def test_wall_forces_a_free_detour(seed: int, z: float, x: float) -> None:
    boxes = [WALL, *TRAY]
    plan = planner(boxes, seed)
    start, goal = joints_at(x, -0.25, z), joints_at(x, 0.25, z)
    t = plan.to_joints(start, goal)
    check_motion(t, plan.config)
    assert np.array_equal(t.position_rad[0], start) and np.array_equal(t.position_rad[-1], goal)
    judge = Judge(boxes)
    middle = [start + (goal - start) * k for k in np.linspace(0, 1, 50)]
    assert any(judge.touches(q) for q in middle), "the straight line should have been blocked"
    assert not any(judge.touches(q) for q in t.position_rad)
    assert not any(plan.checker.in_collision(q) for q in t.position_rad)


def test_same_seed_same_path_whatever_was_asked_before() -> None:
    start, goal = joints_at(0.45, -0.25, 0.15), joints_at(0.45, 0.25, 0.15)
    first = planner([WALL], seed=7)
    a = first.to_joints(start, goal)
    first.to_joints(goal, joints_at(0.5, 0.3, 0.3))
    b = first.to_joints(start, goal)
    c = planner([WALL], seed=7).to_joints(start, goal)
    d = planner([WALL], seed=8).to_joints(start, goal)
    assert np.array_equal(a.position_rad, b.position_rad)
    assert np.array_equal(a.position_rad, c.position_rad)
    assert a.position_rad.shape != d.position_rad.shape or not np.array_equal(
        a.position_rad, d.position_rad
    )


def test_goal_in_the_wall_names_the_pair() -> None:
    plan = planner([WALL])
    with pytest.raises(PlanningError, match=r"goal: panda_\w+ hits wall"):
        plan.to_joints(HOME, joints_at(0.5, 0.0, 0.2))


def test_goal_out_of_limits_names_the_joint() -> None:
    goal = HOME.copy()
    goal[3] = 0.1
    with pytest.raises(PlanningError, match="goal: joint 4 at 0.1"):
        planner().to_joints(HOME, goal)
    with pytest.raises(PlanningError, match="start: expected 7 finite"):
        planner().to_joints(np.full(7, np.nan), HOME)


def test_running_out_of_time_says_what_is_in_the_way() -> None:
    """Half a millisecond pays for a dozen checks, the shortest way round takes hundreds."""
    start, goal = joints_at(0.50, -0.25, 0.10), joints_at(0.50, 0.25, 0.10)
    plan = planner([WALL], planning_time_s=0.0005)
    begun = time.monotonic()
    with pytest.raises(
        PlanningError, match=r"^no path within 0.0005 s; straight there: panda_\w+ hits wall$"
    ):
        plan.to_joints(start, goal)
    assert time.monotonic() - begun < 2.0


def test_contact_at_the_start_may_be_left_but_not_sought() -> None:
    beside = Box((0.5, 0.0, 0.05), (0.06, 0.088, 0.10), name="object")  # between the fingers
    start = joints_at(0.5, 0.0, 0.06)
    plan = planner([beside])
    assert plan.checker.in_collision(start) is not None
    up = plan.straight(start, pose(0.5, 0.0, 0.25), 0.2)
    assert KINEMATICS.forward(up.position_rad[-1]).position_m[2] == pytest.approx(0.25, abs=5e-4)
    away = plan.to_joints(up.position_rad[-1], HOME)
    check_motion(away, plan.config)
    with pytest.raises(PlanningError, match="hits object"):
        plan.straight(up.position_rad[-1], pose(0.5, 0.0, 0.06), 0.2)
    assert plan.straight(up.position_rad[-1], pose(0.5, 0.0, 0.06), 0.2, check=False).duration_s > 0


@given(
    st.floats(0.38, 0.60), st.floats(-0.2, 0.2), st.floats(0.05, 0.35),
    st.floats(0.38, 0.60), st.floats(-0.2, 0.2), st.floats(0.05, 0.35),
    st.floats(-0.6, 0.6), st.floats(0.02, 0.6),
)  # fmt: skip
@settings(max_examples=25)
def test_straight_lines_are_straight(x0, y0, z0, x1, y1, z1, yaw, speed) -> None:
    plan = planner()
    start = joints_at(x0, y0, z0)
    target = pose(x1, y1, z1, yaw)
    t = plan.straight(start, target, speed, check=False)
    check_motion(t, plan.config)
    a, b = np.array([x0, y0, z0]), np.array([x1, y1, z1])
    poses = [KINEMATICS.forward(q) for q in t.position_rad[:: max(1, len(t.time_s) // 40)]]
    points = np.array([X.position_m for X in poses])
    way = (b - a) / max(np.linalg.norm(b - a), 1e-9)
    off = points - a
    assert np.linalg.norm(off - (off @ way)[:, None] * way, axis=1).max() < 5e-4
    end = KINEMATICS.forward(t.position_rad[-1])
    assert np.linalg.norm(end.position_m - b) < 5e-4
    assert np.linalg.norm(geometry.rotation_vector(end.rotation @ target.rotation.T)) < 2e-3
    tilt = [np.arccos(np.clip(-X.rotation[2, 2], -1, 1)) for X in poses]
    assert max(tilt) < 3e-3, "the hand must point down all the way"
    moved = np.diff([KINEMATICS.tool_position(q) for q in t.position_rad], axis=0) * 240
    if len(moved):
        assert np.linalg.norm(moved, axis=1).max() <= speed * 1.001


def test_line_out_of_reach_says_where() -> None:
    with pytest.raises(PlanningError, match=r"straight line: .* at \d+ %"):
        planner().straight(HOME, pose(1.2, 0.0, 0.3))


def test_already_there() -> None:
    plan = planner()
    assert plan.to_joints(HOME, HOME).duration_s == 0
    assert plan.straight(HOME, KINEMATICS.forward(HOME)).duration_s == 0


def test_slower_is_slower() -> None:
    plan = planner()
    goal = joints_at(0.5, 0.2, 0.2)
    fast, slow = plan.to_joints(HOME, goal), plan.to_joints(HOME, goal, speed_scale=0.5)
    assert slow.duration_s == pytest.approx(2 * fast.duration_s, rel=0.02)
    with pytest.raises(PlanningError, match="speed_scale"):
        plan.to_joints(HOME, goal, speed_scale=0.0)


def test_a_stretched_arm_keeps_within_the_speed_of_the_tool() -> None:
    """All of it turns about the first joint: the joint's own limit would allow 2 m/s and more."""
    q_from = np.array([-1.5, 1.2, 0.0, -0.6, 0.0, 1.8, 0.8])
    q_to = q_from + 3.0 * np.eye(7)[0]
    plan = planner(velocity_scale=1.0)
    t = plan.to_joints(q_from, q_to)
    pairs = zip(t.position_rad, t.velocity_rad_s, strict=True)
    fastest = max(np.linalg.norm((KINEMATICS.jacobian(q) @ qd)[:3]) for q, qd in pairs)
    assert 1.2 < fastest < LIMITS.cartesian.velocity_m_s
    turned = abs(t.velocity_rad_s[:, 0]).max() / LIMITS.joints.velocity_rad_s[0]
    assert turned < 0.95


def test_to_pose_reaches_the_tray_with_a_held_box() -> None:
    plan = planner(TRAY)
    plan.checker.attach_box((0.04, 0.06, 0.08), Pose("tool0", "object", [0, 0, 0.02], [0, 0, 0, 1]))
    t = plan.to_pose(joints_at(0.5, 0.1, 0.25), pose(0.15, -0.48, 0.18))
    end = KINEMATICS.forward(t.position_rad[-1])
    assert np.linalg.norm(end.position_m - [0.15, -0.48, 0.18]) < 5e-4
    assert not any(plan.checker.first_contact(q) for q in t.position_rad)
    with pytest.raises(PlanningError, match="no joints reach"):
        plan.to_pose(HOME, pose(1.5, 0.0, 0.3))


def test_out_of_a_narrow_place_soon_and_the_same_way_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where RRTConnect tries tens of thousands of postures, LBKPIECE needs few."""
    from envs.planning_scenes import planning_scenes
    from robot.planning import search

    checker = CollisionChecker(LIMITS, KINEMATICS)
    scenes = list(planning_scenes(KINEMATICS, checker, 147, 5))
    asked: list[int] = []
    connect = search.connect

    def counted(start, goal, free, *rest, **options):
        asked.append(0)

        def one_more(q):
            asked[-1] += 1
            return free(q)

        return connect(start, goal, one_more, *rest, **options)

    monkeypatch.setattr(search, "connect", counted)
    for number in (82, 122, 146):
        scene = scenes[number]
        assert scene.kind == "shelf"
        plan = planner(scene.boxes, number)
        asked.clear()
        motion = plan.to_joints(scene.start_rad, scene.goal_rad)
        check_motion(motion, plan.config)
        assert sum(asked[:2]) < 4000
        again = plan.to_joints(scene.start_rad, scene.goal_rad)
        np.testing.assert_array_equal(motion.position_rad, again.position_rad)


def test_before_a_closed_zone_the_tool_can_stop() -> None:
    """As fast towards it as the monitor lets it; where there is none, or none ahead, faster."""
    zone = Zone((0.45, 0.36, -0.1), (0.85, 0.75, 0.6), "corner")
    low, high = np.array(zone.min_m), np.array(zone.max_m)
    ends = [np.array([a, 0.9, 0.0, -0.8, 0.0, 1.7, 0.8]) for a in (-0.6, 0.3)]
    s = np.linspace(0.0, 1.0, 201)

    def sweep(q_from: np.ndarray, q_to: np.ndarray) -> Curve:
        way = np.tile(q_to - q_from, (len(s), 1))
        return Curve(s, q_from + s[:, None] * (q_to - q_from), way, 0.0 * way)

    curve = sweep(*ends)
    q, dq, *_ = curve.evaluate(s)
    tools = np.array([KINEMATICS.forward(a).position_m for a in q])
    ways = np.array([KINEMATICS.jacobian(a)[:3] @ b for a, b in zip(q, dq, strict=True)])
    sides = np.where(tools < low, 1.0, -1.0)
    gap = sides * np.maximum(np.maximum(low - tools, tools - high), 0)
    distance = np.linalg.norm(gap, axis=1)
    closing = (gap * ways).sum(axis=1) / distance
    lets = np.sqrt(2 * 2.0 * (distance - 0.005))
    heedless = fastest(KINEMATICS, curve, 0.0, 1.0, [])
    heeding = fastest(KINEMATICS, curve, 0.0, 1.0, [zone.box])
    assert (heedless * closing > lets).any()
    assert (heeding * closing <= lets).all() and heeding > 0.3 * heedless
    away = sweep(*ends[::-1])
    assert fastest(KINEMATICS, away, 0.0, 1.0, [zone.box]) == pytest.approx(
        fastest(KINEMATICS, away, 0.0, 1.0, [])
    )
