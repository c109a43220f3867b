"""A bank of settled scenes with their grasp candidates, made on first use and kept.

Dropping, settling, looking and planning take far longer than putting objects back where they came
to rest, so training visits each scene many times. Processes share what they made on disk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.objects import ObjectModel
from envs.panda import SimPanda
from envs.scene import DropConfig, drop
from envs.settled import SceneStore, SettledScene
from envs.truth import TruthPerception
from envs.world import World
from robot.execution.grasp import GraspLoop
from robot.planning.grasps import GraspPlanner
from robot.planning.reach import reachable
from robot.types import GraspCandidate, ObjectState

Array = NDArray[np.float64]


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
    """

    def __init__(
        self,
        world: World,
        arm: SimPanda,
        loop: GraspLoop,
        models: Sequence[ObjectModel],
        n_objects: int,
        drop_config: DropConfig,
        seed: int,
        keep_n: int,
    ) -> None:
        self._world = world
        self._arm = arm
        self._loop = loop
        self._models = models
        self._n_objects = n_objects
        self._drop = drop_config
        self._seed = seed
        self._keep_n = keep_n
        self._planner = GraspPlanner(loop.limits.gripper)
        self._perception = TruthPerception(world)
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
        look = self._perception.look()
        index = {body: i for i, body in enumerate(world.bodies)}
        grasps: list[tuple[GraspCandidate, Array]] = []
        for candidate in self._planner.propose(look, rng):
            if len(grasps) == self._keep_n:
                break
            found = reachable(self._loop, candidate, self._loop.limits.home_rad)
            if found is not None:
                chosen, q = found
                grasps.append((_renamed(chosen, index), q))
        return SettledScene(
            tuple(world.bodies[b].model for b in index),
            tuple(world.pose(b) for b in index),
            tuple(_renamed_object(o, index) for o in look.objects),
            tuple(grasps),
        )


def _renamed(candidate: GraspCandidate, index: dict[int, int]) -> GraspCandidate:
    # Stamped 0: in an episode the look is made at its start.
    return GraspCandidate(
        candidate.X_world_grasp,
        candidate.width_m,
        candidate.opening_m,
        candidate.score,
        index.get(candidate.object_id, -1),
        0.0,
    )


def _renamed_object(obj: ObjectState, index: dict[int, int]) -> ObjectState:
    return ObjectState(
        index[obj.object_id],
        obj.class_name,
        obj.X_world_obj,
        obj.dimensions_m,
        obj.confidence,
        False,
        0.0,
    )
