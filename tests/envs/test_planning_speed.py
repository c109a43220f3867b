"""The planning benchmark: seeded scenes, an independent judge, honest sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.planning_judge import Judge, beyond_limits
from envs.planning_scenes import KINDS, PlanningScene, planning_scenes
from envs.planning_speed import PybulletPlanning, measure_planning
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.collision import CollisionChecker
from robot.planning.obstacles import Box
from robot.planning.paths import PathPlanner
from robot.types import Trajectory

LIMITS = load_limits("panda")


@pytest.fixture(scope="module")
def parts():
    kinematics = Kinematics(LIMITS)
    checker = CollisionChecker(LIMITS, kinematics)
    judge = Judge(LIMITS, checker.shapes)
    yield kinematics, checker, judge
    judge.close()


def test_scenes_depend_on_the_seed_alone(parts) -> None:
    kinematics, checker, _ = parts
    first, again = (list(planning_scenes(kinematics, checker, 4, 3)) for _ in range(2))
    assert [scene.kind for scene in first] == list(KINDS)
    for a, b in zip(first, again, strict=True):
        assert a.boxes == b.boxes and np.array_equal(a.goal_rad, b.goal_rad)
        checker.set_scene(None, a.boxes)
        assert checker.is_free(a.start_rad) and checker.is_free(a.goal_rad)
    other = next(planning_scenes(kinematics, checker, 1, 4))
    assert not np.array_equal(other.goal_rad, first[0].goal_rad)


def test_the_judge_sees_a_motion_through_a_wall_and_passes_a_free_one(parts) -> None:
    kinematics, checker, judge = parts
    home = LIMITS.home_rad
    goal = home + np.array([0.9, 0, 0, 0, 0, 0, 0])
    checker.set_scene(None)
    motion = PathPlanner(LIMITS, kinematics, checker).to_joints(home, goal)
    x, y, z = kinematics.forward(0.5 * (home + goal)).position_m
    wall = Box((float(x), float(y), float(z)), (0.3, 0.03, 0.3), 0.45, "wall")
    free = judge.drive(PlanningScene("free", (), home, goal), motion)
    assert free.touched == "" and free.off_rad < 0.01 and free.beyond == 0
    assert judge.drive(PlanningScene("free", (wall,), home, goal), motion).touched


def test_what_the_peer_prints_is_not_the_benchmarks_output(parts, capsys) -> None:
    pytest.importorskip("pybullet_planning")
    kinematics, checker, judge = parts
    scene = next(planning_scenes(kinematics, checker, 1, 3))
    at = tuple(kinematics.forward(scene.goal_rad).position_m)
    walled = replace(scene, boxes=(*scene.boxes, Box(at, (0.1, 0.1, 0.1))))
    judge.set_up(walled)
    peer = PybulletPlanning(judge)
    capsys.readouterr()
    assert peer.plan(walled, 0, 0.5) is None  # it warns that its goal is in collision
    assert capsys.readouterr().out == ""


def test_samples_beyond_a_limit_are_counted() -> None:
    time = np.arange(4) / 240.0
    q = np.tile(LIMITS.home_rad, (4, 1))
    v, a = np.zeros((4, 7)), np.zeros((4, 7))
    assert beyond_limits(Trajectory(time, q, v, a), LIMITS) == 0
    v[1, 0] = 1.01 * LIMITS.joints.velocity_rad_s[0]
    assert beyond_limits(Trajectory(time, q, v, a), LIMITS) == 1
    a[3, 2] = 1.01 * LIMITS.joints.jerk_rad_s3[2] / 240.0
    assert beyond_limits(Trajectory(time, q, v, a), LIMITS) == 2


@pytest.mark.slow
def test_all_scenes_are_solved_without_touching_anything() -> None:
    done: list[int] = []
    alone = measure_planning(LIMITS, 4, 1, 2.0, alone=True)
    assert alone["executed"] == 4 and alone["collisions"] == alone["limit_violations"] == 0
    assert alone["peer_plan_ms"] is None and alone["motion_ratio"] is None
    result = measure_planning(LIMITS, 8, 1, 2.0, done.append)
    assert done == list(range(1, 9))
    assert result["solved_share"] == 1.0 and result["solved_of_any"] == 1.0
    assert result["collisions"] == 0 and result["limit_violations"] == 0
    assert 1.0 <= result["motion_ratio"] < 1.5
    assert set(result["by_kind"]) == set(KINDS)
