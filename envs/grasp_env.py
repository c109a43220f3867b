"""Gymnasium environments for the policy's part of a pick: descend, close, lift, hold.

Ids: ``Steadyhand/GraspSingle-v0`` and ``Steadyhand/GraspClutter-v0``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from configs.load import find, load
from envs.arm import SimArm
from envs.bank import SceneBank
from envs.camera import Light, look_at, render
from envs.critic import TRUTH, CriticView
from envs.disturbance import (
    Disturbance,
    DisturbanceConfig,
    Slip,
    SlipConfig,
    misjudged,
    mistake,
)
from envs.objects import object_set
from envs.perception_model import ModelledWatch, PerceptionModelConfig
from envs.physics import apply_physics
from envs.physics import physics as physics_setting
from envs.scene import DropConfig
from envs.sight import Models, Sight
from envs.world import TIME_STEP_S, World, WorldConfig
from robot import observation
from robot.errors import ConfigError
from robot.execution.action import ACTION
from robot.execution.grasp import TICKS, GraspLoop, GraspLoopConfig, Outcome
from robot.limits import load_limits
from robot.planning.reach import reachable
from robot.safety.suite import for_batches
from robot.safety.supervisor import Supervisor
from robot.types import (
    CameraIntrinsics,
    GraspCandidate,
    GripperState,
    JointState,
    ObjectState,
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
        candidate's error after ``candidate_noise_m`` and ``candidate_noise_deg``. In a share
        ``disturbed`` of the episodes the object is moved while the hand approaches and the
        candidate is off, as the protocol of that name has it; in a share ``slips`` of the others it
        falls once out of the fingers. The object's state is what the model
        of perception makes of it.

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
        disturbed: share of the episodes that are disturbed.
        slips: share of the others in which the object slips out of the fingers, once; to go back
            for it takes a longer ``timeout_s``.
        detector: an ``.onnx`` file; candidates, object states and heights then come from a look
            through the cameras at each scene, made once, with the camera errors of its physics.
            They come from the truth when None.
        scorer: the grasp scorer's file, to put those candidates in order.
        with_truth: append ``TRUTH`` to the observation, for a critic that sees more than the policy
            may.
        step_cost: taken from the reward for each step that does not end in success. It presses for
            time: a cost of 0.01 makes 40 steps saved worth as much as 40 % of success.
        timeout_s: longest time the policy may act; a person needs more than a policy.
        render_mode: None, ``rgb_array``, or ``human``: Bullet's window (needs a display).
        tick_hz: rate of physics and control. Policies are made for 240 Hz and 12 ticks a step.
        ticks: of one policy step.
    """

    metadata = {  # noqa: RUF012 (Gymnasium's name)
        "render_modes": ["rgb_array", "human"],
        "render_fps": 20,
    }

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
        disturbed: float = 0.0,
        slips: float = 0.0,
        detector: str | None = None,
        scorer: str | None = None,
        with_truth: bool = False,
        step_cost: float = 0.01,
        timeout_s: float = GraspLoopConfig.timeout_s,
        render_mode: str | None = None,
        tick_hz: float = 240.0,
        ticks: int = TICKS,
    ) -> None:
        if physics not in ("nominal", "hard", "mixed"):
            raise ConfigError(f"physics: expected nominal, hard or mixed, got {physics!r}")
        if render_mode not in (None, "rgb_array", "human"):
            raise ConfigError(
                f"render_mode: expected rgb_array, human or None, got {render_mode!r}"
            )
        self.render_mode = render_mode
        self._with_truth = with_truth
        size = observation.SIZE + (sum(n for _, n in TRUTH) if with_truth else 0)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (len(ACTION),), np.float32)
        self._names = ["nominal", "hard"] if physics == "mixed" else [physics]
        self._noise_m = candidate_noise_m
        self._noise_rad = np.radians(candidate_noise_deg)
        self._bank_size = bank_size
        self._top_k = top_k
        self._disturbed_share, self._slips_share = disturbed, slips
        self._step_cost = step_cost
        self._disturbance = load(DisturbanceConfig, find("protocol", "disturbance"))
        self.limits = load_limits("panda")
        tick_s, self._ticks = 1.0 / tick_hz, ticks
        self.world = World(WorldConfig(tick_s=tick_s), gui=render_mode == "human")
        self.arm = SimArm(self.world, self.limits)
        self.loop = GraspLoop.make(self.limits, GraspLoopConfig(timeout_s=timeout_s), tick_s=tick_s)
        self.privileged_names = tuple(
            f"joint_position.{i}" for i in range(self.limits.joints.count)
        )
        self.supervisor = Supervisor(self.limits, self.loop.kinematics, for_batches(tick_s))
        self._settings = {name: physics_setting(name) for name in self._names}
        self._critic = CriticView(self.world, self.arm)
        seen_by = None
        if detector is not None:
            seen_by = Models(Path(detector), None if scorer is None else Path(scorer))
        # The truth looks the same under any physics.
        sights = self._names if seen_by is not None else self._names[:1]
        banks = {
            name: SceneBank(
                self.world,
                self.arm,
                self.loop,
                object_set(objects),
                n_objects,
                DropConfig(area_m=drop_area_m),
                bank_seed,
                top_k,
                Sight(self.world, self.arm, self.loop, self._settings[name], seen_by),
            )
            for name in sights
        }
        self._banks = {name: banks.get(name, banks[sights[0]]) for name in self._names}
        errors = PerceptionModelConfig()
        if seen_by is not None:  # a real look brings its own
            errors = replace(errors, position_m=0.0, yaw_deg=0.0, dimension_m=0.0)
        self._watch = ModelledWatch(self.world, errors)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; ``options={"scene": n}`` picks the scene of that number."""
        super().reset(seed=seed)
        rng = self.np_random
        name = self._names[int(rng.integers(len(self._names)))]
        bank = self._banks[name]
        wanted = (options or {}).get("scene")
        number = int(rng.integers(self._bank_size)) if wanted is None else int(wanted)
        scene = bank.scene(number)
        for _ in range(self._bank_size):
            if scene.grasps:
                break
            # Nothing to grasp from above there: the next scene.
            number = (number + 1) % self._bank_size
            scene = bank.scene(number)
        bodies = bank.put(scene)
        self.arm.reset()
        apply_physics(self._settings[name], self.world, self.arm, rng)
        candidate, q = scene.grasps[int(rng.integers(min(self._top_k, len(scene.grasps))))]
        obj = next((o for o in scene.objects if o.object_id == candidate.object_id), None)
        self._bodies = bodies
        gripped = scene.models[max(candidate.object_id, 0)].name
        share = self._disturbed_share
        disturbed = obj is not None and share > 0.0 and bool(rng.random() < share)
        self._info = {"scene": number, "physics": name, "object": gripped, "disturbed": disturbed}
        self._info["slips"] = False
        if obj is not None and disturbed:
            candidate, obj, q = self._disturb(candidate, obj, q, rng)
        else:
            candidate, obj = self._seen(candidate, obj, rng)
        self.arm.reset(q, candidate.opening_m)
        opening_m, _ = self.arm.read_fingers()
        around = self.loop.around(scene.heights, candidate)
        self.loop.begin(candidate, obj, q, opening_m, self.world.time_s, around)
        share = self._slips_share
        if not disturbed and share > 0.0 and bool(rng.random() < share):
            body = bodies[max(candidate.object_id, 0)]
            self.world.before_tick = Slip(SlipConfig(), self.world, self.arm, body, rng).advance
            self._info["slips"] = True
        self._critic.begin(bodies[max(candidate.object_id, 0)], candidate, scene.truths)
        if obj is not None and disturbed:
            self._watch.begin(None, obj, self.world.time_s)
        self.supervisor.reset(q)
        return self._observe(), self._told()

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
        info = self._told()
        if done or truncated:
            info["is_success"] = success
            info["outcome"] = "halted" if halted else outcome.value
            if outcome is Outcome.HELD and not success:
                info["outcome"] = "dropped"
        reward = 1.0 if success else -self._step_cost
        return obs, reward, done, truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        """(240, 320, 3) uint8 from beside the table; None where a window or nobody looks."""
        if self.render_mode != "rgb_array":
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
        if self._info["disturbed"]:
            seen = self._watch.read(self.world.time_s)
            if seen is not None:
                self.loop.track(seen)
        # Kept for the supervisor: nothing moves before the next step.
        self._reading = self.arm.read_arrays()
        seen_by_policy = self.loop.observe(self._reading[0], self._reading[1], self.world.time_s)
        if not self._with_truth:
            return seen_by_policy
        return np.concatenate([seen_by_policy, self._critic.read(self.loop)])

    def _told(self) -> dict[str, Any]:
        """Scene, physics and object, and the joints (n,) rad: recorded, never shown to a policy."""
        return {**self._info, "privileged": np.array(self._reading[0], dtype=np.float32)}

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

    def _disturb(
        self,
        candidate: GraspCandidate,
        obj: ObjectState,
        q: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> tuple[GraspCandidate, ObjectState, NDArray[np.float64]]:
        """A wrong candidate with the joints above it, and an object that will be moved."""
        body = self._bodies[candidate.object_id]
        wrong = misjudged(candidate, *mistake(self._disturbance, rng), self._lowest_m)
        found = reachable(self.loop, wrong, q)
        if found is not None:
            wrong, q = found
        disturbance = Disturbance(self._disturbance, self.world, body, rng)
        self.world.before_tick = disturbance.advance
        obj = self._watch.seen(replace(obj, object_id=body), rng)
        return wrong, obj, q

    def _seen(
        self, candidate: GraspCandidate, obj: ObjectState | None, rng: np.random.Generator
    ) -> tuple[GraspCandidate, ObjectState | None]:
        """The candidate and the object as cameras might have seen them; some errors are shared."""
        if self._noise_m == 0 and self._noise_rad == 0:
            return candidate, obj
        shift = rng.normal(0.0, self._noise_m, 3)
        turn = rng.normal(0.0, self._noise_rad)
        moved = misjudged(candidate, shift, turn, self._lowest_m)
        if obj is None:
            return moved, None
        X = obj.X_world_obj
        shared = replace(obj, X_world_obj=X.turned(0.0, X.position_m, X.position_m + shift))
        return moved, self._watch.seen(shared, rng)

    @property
    def _lowest_m(self) -> float:
        return self.limits.gripper.fingertip_beyond_tool_m + 0.001
