"""Grasp trials: candidates tried in the simulator, under what a robot would have to plan with.

A table of objects settles once; both cameras look at it, noise and calibration errors included;
candidates are planned from that look, good, middling and poor ones; each is tried from the same
restored state with mass and friction drawn anew. Only the detector is left out: the boxes are
those of the simulator's own masks. The heights do not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from envs.expert import ExpertPolicy
from envs.grasp_env import HOLD_TICKS, SUCCESS_HEIGHT_M
from envs.objects import primitives
from envs.physics import apply_physics, physics
from envs.scene import DropConfig
from envs.station import Station
from envs.synthesis.maker import scene_models
from perception.fusion import Fusion
from perception.trials import (
    BEST,
    PLANNED,
    POOR,
    SHIFTED,
    SceneTrials,
    yaw_of,
)
from robot.execution.grasp import TICKS, GraspLoopConfig, Outcome
from robot.geometry import grasp_rotation
from robot.planning.grasps import GraspPlanner
from robot.planning.grips import GraspConfig
from robot.planning.ranking import WIDE
from robot.planning.reach import reachable
from robot.safety.suite import for_batches
from robot.safety.supervisor import Supervisor
from robot.types import (
    Detection,
    GraspCandidate,
    GripperState,
    HeightMap,
    JointState,
    Look,
    ObjectState,
    Pose,
    RobotState,
    VerdictLevel,
)

# The fingers have met: whatever was to be held is not between them any more.
_EMPTY_M = 0.0015


@dataclass(frozen=True)
class TrialsConfig:
    """What is tried.

    Attributes:
        objects: share of scenes with one, two, ... objects.
        primitive_share: chance that an object is a box, cylinder or ball.
        area_m: smallest and largest edge of the square over which objects are dropped.
        physics: setting from which masses, friction and camera errors are drawn.
        best_n: tried on each table: the planner's best.
        wide_n: any of all that it could offer, tight grips included.
        poor_n: from beyond its limits.
        shifted_n: planned, then moved and turned away. Of planned grips nine in ten hold; these
            make up for it.
        shift_m: standard deviation of such a shift in the table's plane; half of it in height.
        turn_deg: standard deviation of such a turn.
    """

    objects: tuple[float, ...] = (0.4, 0.25, 0.15, 0.1, 0.05, 0.05)
    primitive_share: float = bounded(0.25, 0.0, 1.0)
    area_m: tuple[float, float] = bounded((0.10, 0.30), 0.0, 1.0)
    physics: Literal["nominal", "hard"] = "hard"
    best_n: int = bounded(1, 0, 1000)
    wide_n: int = bounded(6, 0, 1000)
    poor_n: int = bounded(3, 0, 1000)
    shifted_n: int = bounded(8, 0, 1000)
    shift_m: float = bounded(0.016, 0.0, 0.1)
    turn_deg: float = bounded(40.0, 0.0, 180.0)


# Beyond what the planner would propose, so that the scorer has seen what it must warn of.
_BEYOND = replace(
    WIDE, max_side_deg=75.0, side_weight=WIDE.side_weight * 75 / 60, side_clearance_m=0.0
)


class TrialMaker:
    """Makes scenes of trials in a world of its own; the same seed and number give the same.

    Args:
        config: what is tried.
        objects: ``train`` or ``validation``, as ``scene_models`` splits them, or another set.
        seed: of the whole set.
    """

    def __init__(self, config: TrialsConfig, objects: str, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._models, shape_seed = scene_models(objects)
        self._shapes = primitives(np.random.default_rng(shape_seed), 300)
        # A function of the observation alone, and what the shipped policy was cloned from; it gets
        # the candidate that the cameras gave.
        self._policy = ExpertPolicy(GraspLoopConfig().lift_m)
        self.station = Station(self._policy, physics(config.physics), "truth")
        self._supervisor = Supervisor(
            self.station.limits, self.station.loop.kinematics, for_batches()
        )
        self._fusion = Fusion()
        gripper = self.station.limits.gripper
        self._usual = GraspPlanner(gripper, GraspConfig())
        self._wide = GraspPlanner(gripper, WIDE)
        self._poor = GraspPlanner(gripper, _BEYOND)

    def close(self) -> None:
        """Frees the world."""
        self.station.close()

    def scene(self, number: int) -> SceneTrials:
        """The ``number``-th table with its trials; may hold none where nothing could be tried."""
        rng = np.random.default_rng([self.seed, number])
        look, names = self._table(rng)
        world = self.station.world
        settled = world.save()
        tried: list[GraspCandidate] = []
        outcomes: list[str] = []
        sources: list[str] = []
        try:
            for candidate, source in self._choose(look, rng):
                found = reachable(self.station.loop, candidate, self.station.limits.home_rad)
                if found is None:
                    continue
                chosen, q = found
                obj = next((o for o in look.objects if o.object_id == chosen.object_id), None)
                world.restore(settled)
                outcomes.append(self._try(chosen, obj, look.height_map, q, rng))
                tried.append(chosen)
                sources.append(source)
        finally:
            world.forget(settled)
        return SceneTrials(look.height_map, tuple(tried), tuple(outcomes), tuple(sources), names)

    # Table and look ---------------------------------------------------------------------------

    def _table(self, rng: np.random.Generator) -> tuple[Look, tuple[str, ...]]:
        config, station = self.config, self.station
        share = np.asarray(config.objects) / np.sum(config.objects)
        models = []
        for _ in range(1 + int(rng.choice(len(share), p=share))):
            shape = rng.random() < config.primitive_share or not self._models
            pool = self._shapes if shape else self._models
            models.append(pool[int(rng.integers(len(pool)))])
        area = DropConfig(area_m=float(rng.uniform(*config.area_m)))
        station.begin(models, area, int(rng.integers(2**31)))
        self._fusion.reset()
        frames, boxes = [], []
        for camera in station.cameras:
            frame, bodies = camera.capture()
            frames.append(frame)
            boxes.append(self._boxes(bodies))
        objects, height_map = self._fusion.update(frames, boxes)
        look = Look(tuple(objects), height_map, frames[0].stamp_s, "camera")
        return look, tuple(model.name for model in models)

    def _boxes(self, bodies: NDArray[np.int32]) -> list[Detection]:
        """The boxes that a perfect detector would give, from (H, W) body ids."""
        found = []
        for body, item in self.station.world.bodies.items():
            rows, columns = np.nonzero(bodies == body)
            if len(rows) < 60:  # as few as the detector's labels must have
                continue
            x, y = int(columns.min()), int(rows.min())
            box = (float(x), float(y), float(columns.max() + 1 - x), float(rows.max() + 1 - y))
            found.append(Detection(box, 0.9, item.model.class_name))
        return found

    def _choose(self, look: Look, rng: np.random.Generator) -> list[tuple[GraspCandidate, str]]:
        """Candidates to try, and where each comes from; fewer where the planner offers fewer."""
        config = self.config
        offered = self._wide.propose(look, rng)
        groups = {
            BEST: self._usual.propose(look, rng)[: config.best_n],
            PLANNED: _some(offered, config.wide_n, rng),
            POOR: _some(self._poor.propose(look, rng), config.poor_n, rng),
            SHIFTED: [self._shifted(c, rng) for c in _some(offered, config.shifted_n, rng)],
        }
        return [(candidate, source) for source, group in groups.items() for candidate in group]

    def _shifted(self, candidate: GraspCandidate, rng: np.random.Generator) -> GraspCandidate:
        config = self.config
        deviation = config.shift_m * np.array([1.0, 1.0, 0.5])
        position = candidate.X_world_grasp.position_m + rng.normal(0.0, deviation)
        floor_m = self.station.limits.gripper.fingertip_beyond_tool_m + 0.001
        position[2] = max(position[2], floor_m)
        yaw = yaw_of(candidate) + rng.normal(0.0, np.radians(config.turn_deg))
        pose = Pose.from_matrix("world", "grasp", grasp_rotation(float(yaw)), position)
        return replace(candidate, X_world_grasp=pose)

    # One trial ----------------------------------------------------------------------------------

    def _try(
        self,
        candidate: GraspCandidate,
        obj: ObjectState | None,
        heights: HeightMap,
        q: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> str:
        station, loop = self.station, self.station.loop
        world, arm = station.world, station.arm
        apply_physics(station.physics, world, arm, rng)
        arm.reset(q, candidate.opening_m)
        opening_m, _ = arm.read_fingers()
        around = loop.around(heights, candidate)
        loop.begin(candidate, obj, q, opening_m, world.time_s, around)
        self._supervisor.reset(q)
        self._policy.reset()
        while True:
            joints, speeds, effort, opening, force = arm.read_arrays()
            observation = loop.observe(joints, speeds, world.time_s)
            outcome = loop.outcome(world.time_s)
            if outcome is not Outcome.RUNNING:
                break
            if opening < _EMPTY_M and loop.commanded_opening_m < _EMPTY_M:
                return Outcome.MISSED.value  # known before the lift, which would only take time
            grip = loop.act(self._policy.act(observation))
            targets, velocities = loop.references(TICKS)
            state = RobotState(
                world.time_s, JointState(joints, speeds, effort), GripperState(opening, force)
            )
            targets, velocities, verdict = self._supervisor.filter(
                state, targets, velocities, world.time_s
            )
            if verdict.level is VerdictLevel.HALT:
                return "halted"
            if verdict.level is not VerdictLevel.OK:
                loop.servo.follow(targets[-1])
            self._run(targets, velocities, grip.opening_m, grip.force_n)
        if outcome is not Outcome.HELD:
            return outcome.value
        loop.brake()
        for _ in range(HOLD_TICKS // TICKS):
            self._run(*loop.references(TICKS), grip.opening_m, grip.force_n)
        lowest = max(float(world.aabb(body)[0][2]) for body in world.bodies)
        return "held" if lowest >= SUCCESS_HEIGHT_M else "dropped"

    def _run(
        self, q: NDArray[np.float64], qd: NDArray[np.float64], opening_m: float, force_n: float
    ) -> None:
        station = self.station
        station.loop.feel(station.arm.follow(q, qd, opening_m, force_n))


def _some(
    candidates: list[GraspCandidate], count: int, rng: np.random.Generator
) -> list[GraspCandidate]:
    chosen = rng.permutation(len(candidates))[: max(count, 0)]
    return [candidates[int(i)] for i in chosen]
