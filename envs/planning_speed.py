"""How fast and how well paths are planned, beside pybullet-planning on the same scenes."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import itertools
import random
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from envs.bullet import silenced
from envs.planning_judge import Judge
from envs.planning_scenes import KINDS, PlanningScene, planning_scenes
from robot.errors import PlanningError
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.planning.collision import CollisionChecker
from robot.planning.paths import PathConfig, PathPlanner
from robot.types import Trajectory

Array = NDArray[np.float64]

Found = TypeVar("Found")

_ENDLESS = 10**9
_AGAIN = 7919


class PybulletPlanning:
    """The peer: ``plan_joint_motion`` of pybullet-planning, as it comes, in the judge's world.

    Its number of iterations is not bounded, so that only time ends its search; after the first
    solution it smooths as it does by default.

    Args:
        judge: whose world it plans in.
    """

    def __init__(self, judge: Judge) -> None:
        with silenced():
            self._pp = importlib.import_module("pybullet_planning")
        for name, module in list(sys.modules.items()):
            if name.startswith("pybullet_planning") and hasattr(module, "CLIENT"):
                vars(module)["CLIENT"] = judge.world.client  # copied at import, everywhere
        self._judge = judge
        limits = judge.limits
        self._joints = [judge.joints[name] for name in limits.joint_names]
        self._limits = {
            joint: (float(low), float(high))
            for joint, low, high in zip(
                self._joints, limits.joints.lower_rad, limits.joints.upper_rad, strict=True
            )
        }
        links = sorted(judge.links.values())
        checked = {frozenset(pair) for pair in judge.checked}
        self._disabled = {
            pair for pair in itertools.product(links, links) if frozenset(pair) not in checked
        }

    def plan(self, scene: PlanningScene, seed: int, longest_s: float) -> list[Array] | None:
        """Joints along a path, or None."""
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (the peer draws from there)
        world = self._judge.world
        with contextlib.redirect_stdout(io.StringIO()):  # its warnings are not this one's result
            path = self._pp.plan_joint_motion(
                world.arm_id,
                self._joints,
                scene.goal_rad.tolist(),
                obstacles=[world.table_id, world.tray_id, *world.fixtures],
                self_collisions=True,
                disabled_collisions=self._disabled,
                custom_limits=self._limits,
                max_time=longest_s,
                max_iterations=_ENDLESS,
            )
        return None if not path else [np.array(q, dtype=np.float64) for q in path]


def measure_planning(
    limits: RobotLimits,
    scenes: int,
    seed: int = 0,
    longest_s: float = 5.0,
    progress: Callable[[int], None] | None = None,
    alone: bool = False,
) -> dict[str, Any]:
    """Plan every scene with each planner, drive what this one found, and sum it up.

    Times are those that a planner had the core: what else runs on the machine does not count.

    The best motion of a scene is the shortest that any planner found in ``longest_s``; this
    planner goes on with further seeds for so long.

    Args:
        limits: of the arm.
        scenes: how many.
        seed: of scenes and planners.
        longest_s: for the peer, and for the search for the best.
        progress: called with the number of scenes done.
        alone: without the other planner, and without the search for the best motion.

    Returns:
        The JSON fields of ``bench planning``.
    """
    kinematics = Kinematics(limits)
    checker = CollisionChecker(limits, kinematics)
    judge = Judge(limits, checker.shapes)
    missing: dict[str, str] = {}
    peer: PybulletPlanning | None = None
    if not alone and importlib.util.find_spec("pybullet_planning"):
        peer = PybulletPlanning(judge)
    elif not alone:
        missing["pybullet_planning"] = "not installed: pip install 'steadyhand[bench]'"
    rows: list[dict[str, Any]] = []
    try:
        questions = planning_scenes(kinematics, checker, scenes, seed)
        for number, scene in enumerate(questions):
            row = _row(scene, limits, kinematics, judge, peer, seed + number, longest_s)
            if not alone:
                _seek_best(row, scene, limits, kinematics, seed + number, longest_s)
            rows.append(row)
            if progress is not None:
                progress(number + 1)
    finally:
        judge.close()
    return {**_summed(rows, peer is not None), "by_kind": _by_kind(rows), "missing": missing}


def _row(
    scene: PlanningScene,
    limits: RobotLimits,
    kinematics: Kinematics,
    judge: Judge,
    peer: PybulletPlanning | None,
    seed: int,
    longest_s: float,
) -> dict[str, Any]:
    checker = CollisionChecker(limits, kinematics)
    checker.set_scene(None, scene.boxes)
    checker.prepare()
    row: dict[str, Any] = {"kind": scene.kind, "lengths": []}
    config = PathConfig(planning_time_s=longest_s)
    own, row["ms"] = _timed(
        lambda n: _planned(PathPlanner(limits, kinematics, checker, seed + n, config), scene),
        longest_s,
    )
    row["solved"] = own is not None
    if own is not None:
        row["length"], row["duration"] = _length(own.position_rad), own.duration_s
        row["verdict"] = judge.drive(scene, own)
    row["peer_solved"] = False
    if peer is not None:
        other = peer

        def ask(n: int) -> list[Array] | None:
            judge.set_up(scene)
            return other.plan(scene, seed + n, longest_s)

        path, row["peer_ms"] = _timed(ask, longest_s)
        row["peer_solved"] = path is not None
        if path is not None:
            row["lengths"].append(_length(np.array([scene.start_rad, *path])))
    row["best_solved"] = row["solved"] or row["peer_solved"]
    return row


def _seek_best(
    row: dict[str, Any],
    scene: PlanningScene,
    limits: RobotLimits,
    kinematics: Kinematics,
    seed: int,
    longest_s: float,
) -> None:
    """Adds the lengths of what further seeds find in so long."""
    checker = CollisionChecker(limits, kinematics)
    ends = time.perf_counter() + longest_s
    patient = PathConfig(planning_time_s=longest_s, shortcut_tries=1000)
    more = 0
    while time.perf_counter() < ends:
        more += 1
        checker.set_scene(None, scene.boxes)
        found = _planned(
            PathPlanner(limits, kinematics, checker, seed + 1000 * more, patient), scene
        )
        if found is not None:
            row["best_solved"] = True
            row["lengths"].append(_length(found.position_rad))
            straight = float(np.linalg.norm(scene.goal_rad - scene.start_rad))
            if row["lengths"][-1] < 1.0001 * straight:
                break


def _timed(plan: Callable[[int], Found | None], longest_s: float) -> tuple[Found | None, float]:
    """What a planner finds, and the milliseconds that it had the core for.

    Planners look at the clock on the wall to give up; where other load took the core away from
    them, they may begin anew until they had it for ``longest_s``.
    """
    began = time.thread_time()
    number, spent, found = 0, 0.0, None
    while found is None and spent < 0.9 * longest_s:
        found = plan(_AGAIN * number)
        spent = time.thread_time() - began
        number += 1
    return found, 1e3 * spent


def _planned(planner: PathPlanner, scene: PlanningScene) -> Trajectory | None:
    try:
        return planner.to_joints(scene.start_rad, scene.goal_rad)
    except PlanningError:
        return None


def _length(q: Array) -> float:
    """Of a polyline in joint space, rad."""
    return float(np.linalg.norm(np.diff(q, axis=0), axis=1).sum())


def _summed(rows: list[dict[str, Any]], with_peer: bool) -> dict[str, Any]:
    n = max(len(rows), 1)
    verdicts = [row["verdict"] for row in rows if row["solved"]]
    any_solved = sum(row["best_solved"] for row in rows)
    ratios = [
        row["length"] / min([row["length"], *row["lengths"]])
        for row in rows
        if row["solved"] and row["lengths"]
    ]
    peer_ms = [row["peer_ms"] for row in rows if "peer_ms" in row]
    return {
        "scenes": len(rows),
        "solved_share": sum(row["solved"] for row in rows) / n,
        "solved_of_any": sum(row["solved"] for row in rows) / max(any_solved, 1),
        "plan_ms": _quantiles([row["ms"] for row in rows]),
        "peer_solved_share": sum(row["peer_solved"] for row in rows) / n if with_peer else None,
        "peer_plan_ms": _quantiles(peer_ms),
        "motion_ratio": float(np.mean(ratios)) if ratios else None,
        "executed": len(verdicts),
        "collisions": sum(bool(v.touched) for v in verdicts),
        "limit_violations": sum(v.beyond for v in verdicts),
        "samples": sum(v.samples for v in verdicts),
        "touched": [v.touched for v in verdicts if v.touched],
    }


def _by_kind(rows: list[dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        if own:
            sums = _summed(own, any("peer_ms" in row for row in own))
            keys = ("scenes", "solved_share", "plan_ms", "peer_solved_share", "peer_plan_ms")
            out[kind] = {key: sums[key] for key in (*keys, "motion_ratio", "collisions")}
    return out


def _quantiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}
