"""How a settled scene is seen before a grasp: by rays through the truth, or through cameras.

Training takes its candidates from here once for each scene, so that a policy learns with the very
errors, gaps and false candidates of the look that it will get, and nothing is rendered while it
learns.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.arm import SimArm
from envs.camera import OVERHEAD, WRIST, X_TOOL0_WRIST, X_WORLD_OVERHEAD, SimCamera
from envs.physics import PhysicsConfig
from envs.truth import TruthPerception
from envs.world import World
from perception.detector import OnnxDetector
from perception.fusion import Fusion
from perception.look import CameraPerception
from perception.scorer import OnnxGraspScorer
from robot.execution.grasp import GraspLoop
from robot.planning.ranking import GraspRanking
from robot.types import Look, Pose


@dataclass(frozen=True)
class Models:
    """What looks through cameras.

    Attributes:
        detector: its ``.onnx`` file.
        scorer: the grasp scorer's, or None for the planner's own order.
    """

    detector: Path
    scorer: Path | None = None


class Sight:
    """Looks at a world whose arm is at home, and puts the candidates in order.

    Args:
        world: what is looked at.
        arm: its arm.
        loop: of the arm.
        physics: the setting whose camera errors are drawn.
        models: look through cameras with these; the truth when None.
    """

    def __init__(
        self,
        world: World,
        arm: SimArm,
        loop: GraspLoop,
        physics: PhysicsConfig,
        models: Models | None,
    ) -> None:
        self._physics = physics
        self._models = models
        self._arm, self._loop = arm, loop
        scorer = None
        if models is not None and models.scorer is not None:
            scorer = OnnxGraspScorer(models.scorer)
        self.ranking = GraspRanking(loop.limits.gripper, scorer)
        if models is None:
            self._truth = TruthPerception(world)
            return
        rng = np.random.default_rng(0)
        self._cameras = (
            SimCamera(world, "overhead", OVERHEAD, lambda: X_WORLD_OVERHEAD, rng),
            SimCamera(world, "wrist", WRIST, self._wrist_pose, rng),
        )
        self._fusion = Fusion()
        self._perception = CameraPerception(
            self._cameras, OnnxDetector(models.detector), self._fusion
        )

    @property
    def facts(self) -> dict[str, Any]:
        """All that its looks depend on besides code and scene."""
        if self._models is None:
            return {"sensing": "truth"}
        files = (self._models.detector, self._models.scorer)
        digests = [None if f is None else hashlib.sha256(f.read_bytes()).hexdigest() for f in files]
        return {"sensing": "camera", "physics": asdict(self._physics), "models": digests}

    def look(self, rng: np.random.Generator) -> Look:
        """One look, with errors of its own."""
        if self._models is None:
            return self._truth.look()
        for camera in self._cameras:
            camera.begin_episode(self._physics, np.random.default_rng(rng.integers(2**63)))
        self._fusion.reset()
        return self._perception.look()

    def _wrist_pose(self) -> Pose:
        q, _, _, _, _ = self._arm.read_arrays()
        return self._loop.kinematics.forward(q) @ X_TOOL0_WRIST
