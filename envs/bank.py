"""A bank of settled scenes with their grasp candidates, made on first use and kept.

Dropping, settling, looking and planning take far longer than putting objects back where they came
to rest, so training visits each scene many times. Processes share what they made on disk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.arm import SimArm
from envs.objects import ObjectModel
from envs.scene import DropConfig, drop
from envs.settled import SceneStore, SettledScene
from envs.sight import Sight
from envs.truth import TruthPerception
from envs.world import World
from robot.execution.grasp import GraspLoop
from robot.planning.grasps import GraspPlanner
from robot.planning.grips import GraspConfig
from robot.planning.reach import reachable
from robot.types import GraspCandidate, HeightMap, Look, ObjectState

Array = NDArray[np.float64]

_AROUND_M = 0.14
"""Heights are kept so far around the candidates: the patch, and candidates that are off."""
_TRUTHS_N = 48
_APPROACH_S = 2.0


class SceneBank:
    """Scenes by number; the same number is the same scene, whatever happened before.

    Args:
        world: to make them in; its episode is overwritten.
        arm: the world's arm.
        loop: knows the pre-grasp.
        models: the object set.
        n_objects: in each scene.
        drop_config: how they fall.
        seed: of the whole bank.
        keep_n: candidates kept for each scene.
        sight: looks at them.
    """

    def __init__(
        self,
        world: World,
        arm: SimArm,
        loop: GraspLoop,
        models: Sequence[ObjectModel],
        n_objects: int,
        drop_config: DropConfig,
        seed: int,
        keep_n: int,
        sight: Sight,
    ) -> None:
        self._world = world
        self._arm = arm
        self._loop = loop
        self._models = models
        self._n_objects = n_objects
        self._drop = drop_config
        self._seed = seed
        self._keep_n = keep_n
        self._sight = sight
        self._planner = GraspPlanner(loop.limits.gripper, GraspConfig(keep_n=_TRUTHS_N))
        self._truth = TruthPerception(world)
        self._scenes: dict[int, SettledScene] = {}
        self._store = SceneStore.shared(
            models,
            {
                "n_objects": n_objects,
                "drop": drop_config,
                "seed": seed,
                "keep_n": keep_n,
                "world": world.config,
                "loop": loop.config,
                "limits": loop.limits,
                "sight": sight.facts,
            },
        )

    def scene(self, number: int) -> SettledScene:
        """Scene ``number``, made now if nobody did so before."""
        scene = self._scenes.get(number)
        if scene is None and self._store is not None:
            scene = self._store.load(number)
        if scene is None:
            scene = self._make(number)
            if self._store is not None:
                self._store.save(number, scene)
        self._scenes[number] = scene
        return scene

    def put(self, scene: SettledScene) -> list[int]:
        """Reset the world and put a scene into it; returns the objects' body ids."""
        self._world.reset()
        bodies = []
        for model, pose in zip(scene.models, scene.poses, strict=True):
            body = self._world.add(model, pose.position_m, pose.quat_xyzw)
            self._world.place(body, pose.position_m, pose.quat_xyzw)
            bodies.append(body)
        return bodies

    def _make(self, number: int) -> SettledScene:
        rng = np.random.default_rng((self._seed, number))
        world = self._world
        world.reset()
        self._arm.reset()
        wanted = [
            self._models[int(rng.integers(len(self._models)))] for _ in range(self._n_objects)
        ]
        drop(world, wanted, self._drop, rng)
        self._arm.reset()
        truth = self._truth.look()
        truths = self._planner.propose(truth, rng)
        look = self._sight.look(rng)
        places = {body: world.pose(body).position_m[:2] for body in world.bodies}
        index = {body: i for i, body in enumerate(world.bodies)}
        # What a look calls its objects is its own affair: the nearest body is meant.
        bodies = {o.object_id: index[_nearest(o, places)] for o in look.objects} if places else {}
        grasps: list[tuple[GraspCandidate, Array]] = []
        for item in self._sight.ranking.ranked(look, rng):
            if len(grasps) == self._keep_n:
                break
            found = reachable(self._loop, item.candidate, self._loop.limits.home_rad)
            if found is not None:
                chosen, q = found
                grasps.append((_renamed(chosen, bodies), q))
        return SettledScene(
            tuple(world.bodies[b].model for b in index),
            tuple(world.pose(b) for b in index),
            tuple(_renamed_object(o, bodies) for o in look.objects),
            tuple(grasps),
            _around(look, [c for c, _ in grasps]),
            tuple(c.X_world_grasp for c in truths),
        )


def _nearest(obj: ObjectState, places: dict[int, Array]) -> int:
    at = obj.X_world_obj.position_m[:2]
    return min(places, key=lambda body: float(np.linalg.norm(places[body] - at)))


def _around(look: Look, candidates: Sequence[GraspCandidate]) -> HeightMap:
    """The part of the look's height map that lies around the candidates."""
    grid = look.height_map
    if not candidates:
        return HeightMap(grid.origin_m, grid.resolution_m, _flat(), _flat() == 0, 0.0)
    at = np.array([c.X_world_grasp.position_m[:2] for c in candidates])
    ends = np.array([at.min(axis=0) - _AROUND_M, at.max(axis=0) + _AROUND_M])
    cells = grid.cells_at(ends)
    (x0, y0), (x1, y1) = np.clip(cells, 0, np.array(grid.height_m.shape) - 1)
    # Half precision is a tenth of a millimetre at a hand's height, and half the file.
    heights = grid.height_m[x0 : x1 + 1, y0 : y1 + 1].astype(np.float16).astype(np.float32)
    origin = grid.origin_m + grid.resolution_m * np.array([x0, y0])
    return HeightMap(origin, grid.resolution_m, heights, grid.seen[x0 : x1 + 1, y0 : y1 + 1], 0.0)


def _flat() -> NDArray[np.float32]:
    return np.zeros((2, 2), dtype=np.float32)


def _renamed(candidate: GraspCandidate, index: dict[int, int]) -> GraspCandidate:
    # An episode starts at 0, and the look was made before the approach.
    return GraspCandidate(
        candidate.X_world_grasp,
        candidate.width_m,
        candidate.opening_m,
        candidate.score,
        index.get(candidate.object_id, -1),
        -_APPROACH_S,
    )


def _renamed_object(obj: ObjectState, index: dict[int, int]) -> ObjectState:
    return ObjectState(
        index[obj.object_id],
        obj.class_name,
        obj.X_world_obj,
        obj.dimensions_m,
        obj.confidence,
        False,
        -_APPROACH_S,
    )
