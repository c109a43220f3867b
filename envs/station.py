"""A simulated work cell: world, arm, cameras, perception and the picker, put together once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.arm import SimArm
from envs.camera import (
    OVERHEAD,
    WRIST,
    X_TOOL0_WRIST,
    X_WORLD_OVERHEAD,
    SimCamera,
)
from envs.clock import SimClock
from envs.disturbance import (
    Disturbance,
    DisturbanceConfig,
    Slip,
    SlipConfig,
    misjudged,
    mistake,
)
from envs.objects import ObjectModel
from envs.physics import PhysicsConfig, apply_physics
from envs.scene import DropConfig, drop
from envs.truth import TruthPerception, TruthWatch
from envs.world import TRAY, World
from perception.fusion import Fusion
from perception.look import CameraPerception
from perception.watch import CameraWatch
from robot.errors import ConfigError
from robot.execution.acting import Acting, Asked, AtOnce, Watched
from robot.execution.grasp import GraspLoop
from robot.execution.pick import PickConfig, Picker
from robot.execution.player import Player
from robot.interface import Detector, GraspScorer, Perception, Policy, Watch
from robot.limits import RobotLimits, load_limits
from robot.loop.log import RunLog
from robot.planning.body import ArmBody
from robot.planning.obstacles import Box
from robot.safety.novelty import Novelty
from robot.safety.supervisor import SafetyConfig, Supervisor
from robot.types import Pose

Sensing = Literal["camera", "truth"]
_HANGS_M = 0.1


class Station:
    """An arm at its table, ready to pick.

    Args:
        policy: acts in the policy's part of a pick.
        physics: the setting.
        sensing: ``camera`` (needs a detector) or ``truth``.
        detector: finds objects in images.
        log: gets every event.
        gui: open Bullet's window.
        limits: the arm's, from a bundle say; the Panda's own when None.
        scorer: rates grasp candidates, where there is one.
        views: cameras that look; 1 is the fixed one alone.
        watches: whether the object is seen anew while the policy acts.
        safety: what the supervisor allows; all monitors on when None.
        novelty: tells where the policy sees what it has not seen before; None says nothing.
    """

    def __init__(
        self,
        policy: Policy,
        physics: PhysicsConfig,
        sensing: Sensing,
        detector: Detector | None = None,
        log: RunLog | None = None,
        gui: bool = False,
        limits: RobotLimits | None = None,
        scorer: GraspScorer | None = None,
        views: int = 2,
        watches: bool = False,
        safety: SafetyConfig | None = None,
        novelty: Novelty | None = None,
    ) -> None:
        self.physics = physics
        self.limits = limits or load_limits("panda")
        self.world = World(gui=gui, arm=self.limits.simulated_urdf)
        self.arm = SimArm(self.world, self.limits)
        self.loop = GraspLoop.make(self.limits)
        rng = np.random.default_rng(0)
        self.cameras = (
            SimCamera(self.world, "overhead", OVERHEAD, lambda: X_WORLD_OVERHEAD, rng),
            SimCamera(self.world, "wrist", WRIST, self._wrist_pose, rng),
        )
        self.perception: Perception
        self.fusion: Fusion | None = None
        watch: Watch | None = None
        if sensing == "truth":
            self.perception = TruthPerception(self.world)
            watch = TruthWatch(self.world)
        elif detector is None:
            raise ConfigError("sensing: camera needs a detector; give a bundle, or sense the truth")
        else:
            self.fusion = Fusion()
            self.perception = CameraPerception(self.cameras[:views], detector, self.fusion)
            self._body = ArmBody(self.limits, self.loop.kinematics)
            watch = CameraWatch(self.cameras[:views], self._own)
        self.clock = SimClock(self.world)
        safety = safety or SafetyConfig()
        player = Player(
            self.arm,
            self.clock,
            Supervisor(self.limits, self.loop.kinematics, safety),
            self.loop,
            log,
        )
        self.player = player
        self._policy, self._novelty = policy, novelty
        self.acting = Acting(player, self._asked(policy), watch if watches else None)
        self.picker = Picker(
            self.limits,
            player,
            self.loop,
            self.perception,
            self.acting,
            config=PickConfig(tray=TRAY),
            scorer=scorer,
            log=log,
        )
        self.picker.around.closed = tuple(zone.box for zone in safety.keep_out)
        player.blocked = self.picker.around.ahead
        self.slip: Slip | None = None

    def begin(
        self,
        models: Sequence[ObjectModel],
        drop_config: DropConfig,
        seed: int,
        disturbance: DisturbanceConfig | None = None,
        obstacles: Sequence[Box] = (),
        slip: SlipConfig | None = None,
    ) -> int:
        """A new episode: drop ``models``, draw the physics, bring the arm home.

        With a ``disturbance`` the first object is disturbed as soon as the policy acts, and the
        candidate is off; with a ``slip`` it slips away once it is lifted. ``obstacles`` stand on
        the table, and the planner knows them; those that hang above it are put there when the
        objects lie.

        Returns:
            How many times an object had to be dropped again.
        """
        rng = np.random.default_rng(seed)
        self.world.reset()
        self.arm.configure(0, self.physics.gripper_force_n)
        self.arm.reset()
        hanging = [box for box in obstacles if box.center_m[2] - 0.5 * box.size_m[2] > _HANGS_M]
        for box in obstacles:
            if box not in hanging:
                self.world.fix(box)
        redrawn = drop(self.world, models, drop_config, rng)
        for box in hanging:
            self.world.fix(box)
        self.picker.around.declared = tuple(obstacles)
        apply_physics(self.physics, self.world, self.arm, rng)
        self.arm.reset()
        for camera in self.cameras:
            camera.begin_episode(self.physics, np.random.default_rng(rng.integers(2**63)))
        if self.fusion is not None:
            self.fusion.reset()
        self.picker.begin_episode(seed)
        self.picker.misjudge = None
        if disturbance is not None:
            self._disturb(disturbance, np.random.default_rng((seed, 11)))
        self.slip = None
        if slip is not None:
            first = next(iter(self.world.bodies))
            self.slip = Slip(slip, self.world, self.arm, first, np.random.default_rng((seed, 12)))
            self.world.before_tick = self.slip.advance
        return redrawn

    def _disturb(self, config: DisturbanceConfig, rng: np.random.Generator) -> None:
        shift, turn = mistake(config, rng)
        lowest_m = self.limits.gripper.fingertip_beyond_tool_m + 0.001
        self.picker.misjudge = lambda c: misjudged(c, shift, turn, lowest_m)
        disturbance = Disturbance(config, self.world, next(iter(self.world.bodies)), rng)

        def happen() -> None:
            if self.player.phase == "grasp":
                disturbance.advance()

        self.world.before_tick = happen

    @property
    def policy(self) -> Policy:
        """Who acts in the policy's part; another may take its place."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        self.acting.policy = self._asked(policy)

    def close(self) -> None:
        """Disconnect from Bullet."""
        self.world.close()

    def _asked(self, policy: Policy) -> Asked:
        asked = AtOnce(policy)
        if self._novelty is None:
            return asked
        return Watched(asked, self._novelty, self.player.supervisor.signals)

    def _own(self, points_m: NDArray[np.float64]) -> NDArray[np.bool_]:
        q, _, _, opening_m, _ = self.arm.read_arrays()
        return self._body.covers(points_m, q, opening_m)

    def _wrist_pose(self) -> Pose:
        q, _, _, _, _ = self.arm.read_arrays()
        return self.loop.kinematics.forward(q) @ X_TOOL0_WRIST
