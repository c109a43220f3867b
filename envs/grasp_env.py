"""Gymnasium environments for the policy's part of a pick: descend, close, lift, hold.

Ids: ``Steadyhand/GraspSingle-v0`` and ``Steadyhand/GraspClutter-v0``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.bank import SceneBank
from envs.camera import Light, look_at, render
from envs.objects import object_set
from envs.panda import SimPanda
from envs.physics import apply_physics
from envs.physics import physics as physics_setting
from envs.scene import DropConfig
from envs.world import TIME_STEP_S, World, WorldConfig
from robot import observation
from robot.errors import ConfigError
from robot.execution.action import ACTION
from robot.execution.grasp import TICKS, GraspLoop, Outcome
from robot.geometry import grasp_rotation
from robot.limits import load_limits
from robot.safety.supervisor import SafetyConfig, Supervisor
from robot.types import (
    CameraIntrinsics,
    GraspCandidate,
    GripperState,
    JointState,
    ObjectState,
    Pose,
    RobotState,
    VerdictLevel,
)

SUCCESS_HEIGHT_M = 0.15
HOLD_TICKS = 240


class GraspEnv(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Grasp a settled object from its pre-grasp.

    Task:
        The arm stands 0.10 m above a grasp candidate. The policy moves the hand in the grasp
        frame's axes and sets the opening, 20 times a second, until the robot's own readings say
        that the object is held at the top of the lift (or that it is not).

    Randomizations:
        Object and its resting pose (from a bank of settled scenes), which of the best candidates,
        the start's error, mass, friction, gripper force and latency after ``physics``, and the
        candidate's error after ``candidate_noise_m`` and ``candidate_noise_deg``.

    Success:
        All of the object is at least 0.15 m above the table, 1 s after the lift.

    Args:
        objects: object set, see :func:`envs.objects.object_set`.
        n_objects: in the scene.
        physics: ``nominal``, ``hard`` or ``mixed`` (either, episode by episode).
        candidate_noise_m: standard deviation of the candidate's position error.
        candidate_noise_deg: standard deviation of its yaw error.
        bank_size: number of settled scenes.
        bank_seed: which bank; use different ones for training and for validation.
        top_k: an episode takes one of so many best candidates.
        drop_area_m: edge of the square over which objects were dropped.
        render_mode: None or ``rgb_array``.
        tick_hz: rate of physics and control. Policies are made for 240 Hz and 12 ticks a step.
        ticks: of one policy step.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium's name)

    def __init__(
        self,
        objects: str = "train",
        n_objects: int = 1,
        physics: str = "nominal",
        candidate_noise_m: float = 0.0,
        candidate_noise_deg: float = 0.0,
        bank_size: int = 1000,
        bank_seed: int = 0,
        top_k: int = 3,
        drop_area_m: float = 0.3,
        render_mode: str | None = None,
        tick_hz: float = 240.0,
        ticks: int = TICKS,
    ) -> None:
        if physics not in ("nominal", "hard", "mixed"):
            raise ConfigError(f"physics: expected nominal, hard or mixed, got {physics!r}")
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: expected rgb_array or None, got {render_mode!r}")
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (observation.SIZE,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (len(ACTION),), np.float32)
        self._names = ["nominal", "hard"] if physics == "mixed" else [physics]
        self._noise_m = candidate_noise_m
        self._noise_rad = np.radians(candidate_noise_deg)
        self._bank_size = bank_size
        self._top_k = top_k
        self.limits = load_limits("panda")
        tick_s, self._ticks = 1.0 / tick_hz, ticks
        self.world = World(WorldConfig(tick_s=tick_s))
        self.arm = SimPanda(self.world, self.limits)
        self.loop = GraspLoop.make(self.limits, tick_s=tick_s)
        self.supervisor = Supervisor(self.limits, self.loop.kinematics, SafetyConfig(tick_s=tick_s))
        self.bank = SceneBank(
            self.world,
            self.arm,
            self.loop,
            object_set(objects),
            n_objects,
            DropConfig(area_m=drop_area_m),
            bank_seed,
            top_k,
        )
        self._settings = {name: physics_setting(name) for name in self._names}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; ``options={"scene": n}`` picks the scene of that number."""
        super().reset(seed=seed)
        rng = self.np_random
        wanted = (options or {}).get("scene")
        number = int(rng.integers(self._bank_size)) if wanted is None else int(wanted)
        scene = self.bank.scene(number)
        for _ in range(self._bank_size):
            if scene.grasps:
                break
            # Nothing to grasp from above there: the next scene.
            number = (number + 1) % self._bank_size
            scene = self.bank.scene(number)
        bodies = self.bank.put(scene)
        name = self._names[int(rng.integers(len(self._names)))]
        self.arm.reset()
        apply_physics(self._settings[name], self.world, self.arm, rng)
        candidate, q = scene.grasps[int(rng.integers(min(self._top_k, len(scene.grasps))))]
        obj = next((o for o in scene.objects if o.object_id == candidate.object_id), None)
        self._bodies = bodies
        candidate, obj = self._disturbed(candidate, obj, rng)
        self.arm.reset(q, candidate.opening_m)
        opening_m, _ = self.arm.read_fingers()
        self.loop.begin(candidate, obj, q, opening_m, self.world.time_s)
        self.supervisor.reset(q)
        gripped = scene.models[max(candidate.object_id, 0)].name
        self._info = {"scene": number, "physics": name, "object": gripped}
        return self._observe(), dict(self._info)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One policy step: 12 control ticks, unless told otherwise."""
        grip = self.loop.act(action)
        q, qd = self.loop.references(self._ticks)
        state = self._state()
        q, qd, verdict = self.supervisor.filter(state, q, qd, self.world.time_s)
        if verdict.level is not VerdictLevel.OK:
            self.loop.servo.follow(q[-1])
        self._run(q, qd, grip.opening_m, grip.force_n)
        obs = self._observe()
        outcome = self.loop.outcome(self.world.time_s)
        halted = verdict.level is VerdictLevel.HALT
        done = halted or outcome not in (Outcome.RUNNING, Outcome.TIMEOUT)
        truncated = outcome is Outcome.TIMEOUT and not done
        success = False
        if outcome is Outcome.HELD and not halted:
            success = self._held_through(grip.opening_m, grip.force_n)
        info = dict(self._info)
        if done or truncated:
            info["is_success"] = success
            info["outcome"] = "halted" if halted else outcome.value
            if outcome is Outcome.HELD and not success:
                info["outcome"] = "dropped"
        reward = 1.0 if success else -0.01
        return obs, reward, done, truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        """(240, 320, 3) uint8 from beside the table, or None without a render mode."""
        if self.render_mode is None:
            return None
        eye = np.array([1.15, -0.55, 0.55])
        pose = look_at("view", eye, np.array([0.4, 0.0, 0.15]), upright=True)
        intrinsics = CameraIntrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
        rgb, _, _ = render(self.world, intrinsics, pose.rotation, eye, Light())
        return rgb

    def close(self) -> None:
        """Disconnect from Bullet."""
        self.world.close()

    def _observe(self) -> NDArray[np.float32]:
        # Kept for the supervisor: nothing moves before the next step.
        self._reading = self.arm.read_arrays()
        return self.loop.observe(self._reading[0], self._reading[1], self.world.time_s)

    def _state(self) -> RobotState:
        q, qd, effort, opening, force = self._reading
        return RobotState(
            self.world.time_s, JointState(q, qd, effort), GripperState(opening, force)
        )

    def _run(
        self, q: NDArray[np.float64], qd: NDArray[np.float64], opening_m: float, force_n: float
    ) -> None:
        self.loop.feel(self.arm.follow(q, qd, opening_m, force_n))

    def _held_through(self, opening_m: float, force_n: float) -> bool:
        self.loop.brake()
        step_s = self._ticks * self.world.config.tick_s
        for _ in range(round(HOLD_TICKS * TIME_STEP_S / step_s)):
            self._run(*self.loop.references(self._ticks), opening_m, force_n)
        return any(self.world.aabb(b)[0][2] >= SUCCESS_HEIGHT_M for b in self._bodies)

    def _disturbed(
        self, candidate: GraspCandidate, obj: ObjectState | None, rng: np.random.Generator
    ) -> tuple[GraspCandidate, ObjectState | None]:
        """The candidate and the object as a camera might have seen them: off by one error."""
        if self._noise_m == 0 and self._noise_rad == 0:
            return candidate, obj
        shift = rng.normal(0.0, self._noise_m, 3)
        turn = rng.normal(0.0, self._noise_rad)
        pose = candidate.X_world_grasp
        x_axis = pose.rotation[:, 0]
        yaw = float(np.arctan2(x_axis[1], x_axis[0])) + turn
        position = pose.position_m + shift
        floor_m = self.limits.gripper.fingertip_beyond_tool_m + 0.001
        position[2] = max(position[2], floor_m)
        moved = GraspCandidate(
            Pose.from_matrix("world", "grasp", grasp_rotation(yaw), position),
            candidate.width_m,
            candidate.opening_m,
            candidate.score,
            candidate.object_id,
            candidate.stamp_s,
        )
        if obj is None:
            return moved, None
        X = obj.X_world_obj
        seen = Pose(X.parent, X.child, X.position_m + shift, X.quat_xyzw)
        return moved, ObjectState(
            obj.object_id, obj.class_name, seen, obj.dimensions_m, obj.confidence, False, 0.0
        )
