"""Building one scene: a cluttered table seen by both cameras, with labels and truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from envs.arm import SimArm
from envs.camera import (
    OVERHEAD,
    WRIST,
    X_TOOL0_WRIST,
    X_WORLD_OVERHEAD,
    Light,
    noisy_depth,
    render,
)
from envs.objects import (
    CLASSES,
    ObjectModel,
    drop_quaternion,
    is_validation,
    object_set,
    primitives,
)
from envs.physics import PhysicsConfig, PhysicsName, physics
from envs.scene import settle
from envs.synthesis import looks
from envs.synthesis.distractors import distract
from envs.synthesis.scene import Scene, View
from envs.synthesis.truth import vertices
from envs.world import TRAY, World
from perception.camera import project
from perception.coco import run_length
from perception.oriented_box import oriented_box
from robot import geometry
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.types import CameraIntrinsics, Pose, RgbdFrame

# (3, 3) rotation and (3,) m.
PoseError = tuple[NDArray[np.float64], NDArray[np.float64]]

VIEWS = ("overhead", "wrist")


@dataclass(frozen=True)
class ScenesConfig:
    """The distribution of scenes and what counts as visible; frozen in ``configs/protocol``.

    Attributes:
        objects: fewest and most objects on the table.
        primitive_share: chance that an object is a box, cylinder or ball.
        distractors: fewest and most things that are nothing to grasp: cards that lie flat, and
            boxes and drums too wide for any gripper of this size. They get no label.
        area_m: smallest and largest edge of the square over which a scene's objects are dropped.
        drop_m: lowest and highest drop height, m.
        settle_s: the longest a scene may take to come to rest.
        tray_share: chance that a scene has one or two objects in the tray.
        arm_away_share: chance that the arm is not at its look pose but anywhere over the table.
        look_jitter_rad: standard deviation of the joints around the look pose.
        overhead_shift_m, overhead_turn_deg: standard deviation of the overhead camera's pose.
        hard_share: chance that depth noise and calibration errors are those of hard physics.
        default_look_share: chance that a scene is rendered with the simulator's own look.
        least_visible_px: an object with fewer visible pixels is marked ``iscrowd``: COCO's way to
            say that a detection there is neither asked for nor wrong.
        least_visible_share: so is one of whose convex outline less is visible.
    """

    objects: tuple[int, int] = bounded((1, 12), 0, 20)
    primitive_share: float = bounded(0.4, 0.0, 1.0)
    distractors: tuple[int, int] = bounded((0, 3), 0, 10)
    area_m: tuple[float, float] = bounded((0.2, 0.4), 0.0, 1.0)
    drop_m: tuple[float, float] = bounded((0.02, 0.2), 0.0, 1.0)
    settle_s: float = bounded(1.5, 0.0, 10.0)
    tray_share: float = bounded(0.15, 0.0, 1.0)
    arm_away_share: float = bounded(0.35, 0.0, 1.0)
    look_jitter_rad: float = bounded(0.05, 0.0, 0.5)
    overhead_shift_m: float = bounded(0.02, 0.0, 0.2)
    overhead_turn_deg: float = bounded(1.5, 0.0, 20.0)
    hard_share: float = bounded(0.3, 0.0, 1.0)
    default_look_share: float = bounded(0.2, 0.0, 1.0)
    least_visible_px: int = bounded(60, 1, 10_000)
    least_visible_share: float = bounded(0.25, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """A table that was laid out, and how it is to look.

    Attributes:
        instances: bodies of the objects to their numbers in masks and labels.
        arm_rad: (7,) joints.
        light: over the scene.
        physics: whose depth noise and calibration errors the cameras have.
        style: textures; None keeps the simulator's own look.
    """

    instances: dict[int, int]
    arm_rad: NDArray[np.float64]
    light: Light
    physics: PhysicsConfig
    style: looks.Style | None


def scene_models(objects: str) -> tuple[tuple[ObjectModel, ...], int]:
    """The irregular models that ``objects`` names, and a seed for the primitives beside them.

    ``train`` leaves a tenth of the train objects to ``validation``; any other name is one that
    ``envs.objects.object_set`` knows.
    """
    if objects in ("train", "validation"):
        chosen = objects == "validation"
        models = object_set("train")
        picked = tuple(m for m in models if is_validation(m) == chosen)
        return picked, 11 if chosen else 10
    return object_set(objects), 12


class SceneMaker:
    """Builds scenes in a world of its own; the same seed and number give the same scene.

    Args:
        config: the distribution.
        objects: ``train``, ``validation``, ``test``, ``primitives`` or a glob of URDF files.
        seed: of the whole set.
    """

    def __init__(self, config: ScenesConfig, objects: str, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._models, shape_seed = scene_models(objects)
        self._shapes = primitives(np.random.default_rng(shape_seed), 300)
        names: tuple[PhysicsName, ...] = ("nominal", "hard")
        self._physics = {name: physics(name) for name in names}
        self.world = World()
        limits = load_limits("panda")
        self._arm = SimArm(self.world, limits)
        self._kinematics = Kinematics(limits)
        self._home = np.asarray(limits.home_rad, dtype=np.float64)

    def close(self) -> None:
        """Frees the world."""
        self.world.close()

    def scene(self, number: int) -> Scene:
        """The ``number``-th scene of the set."""
        rng = np.random.default_rng([self.seed, number])
        return self.shoot(number, self.lay(rng), rng)

    def lay(self, rng: np.random.Generator) -> Setting:
        """A new table in the world: objects settled, the arm at its place, light and look drawn."""
        world, config = self.world, self.config
        world.reset()
        # Objects settle under the arm at home, then the arm moves without physics.
        self._arm.reset(self._home)
        plain = bool(rng.random() < config.default_look_share)
        distractors = distract(world, config.distractors, rng)
        self._scatter(rng)
        for body in world.bodies:
            # A plain look keeps the colour of a file; primitives always need one.
            if (not plain and rng.random() < 0.6) or world.bodies[body].model.urdf is None:
                world.colour(body, [*looks.random_colour(rng).tolist(), 1.0])
        arm_rad = self._arm_pose(rng)
        self.move_arm(arm_rad)
        light = Light() if plain else self._light(rng)
        hard = self._physics["hard" if rng.random() < config.hard_share else "nominal"]
        things = [body for body in world.bodies if body not in distractors]
        instances = {body: i for i, body in enumerate(things, start=1)}
        return Setting(instances, arm_rad, light, hard, None if plain else self._style(rng))

    def move_arm(self, joints_rad: NDArray[np.float64]) -> None:
        """Puts the arm, and with it the wrist camera, at (7,) rad without physics."""
        self._arm.reset(joints_rad)

    def shoot(
        self,
        number: int,
        setting: Setting,
        rng: np.random.Generator,
        errors: Sequence[PoseError] | None = None,
    ) -> Scene:
        """What the cameras see of the table as it now is.

        Args:
            number: of the scene.
            setting: what ``lay`` gave.
            rng: for camera poses and noise.
            errors: each camera's calibration error; drawn anew if None.
        """
        truths = {body: self._truth(body, i) for body, i in setting.instances.items()}
        views = []
        for index, (name, intrinsics, believed) in enumerate(self._cameras(rng)):
            error = errors[index] if errors else self.calibration_error(setting, rng)
            views.append(self._view(name, intrinsics, believed, error, setting, truths, rng))
        return Scene(number, tuple(views), tuple(truths.values()))

    def calibration_error(self, setting: Setting, rng: np.random.Generator) -> PoseError:
        """How far a camera stands from where the robot believes it: a turn and a shift in m."""
        shift = rng.normal(size=3)
        shift *= setting.physics.camera_position_m / np.linalg.norm(shift)
        axis = rng.normal(size=3)
        axis *= np.radians(setting.physics.camera_rotation_deg) / np.linalg.norm(axis)
        return _small_turn(axis), shift

    # Contents -------------------------------------------------------------------------------

    def _scatter(self, rng: np.random.Generator) -> None:
        config, world = self.config, self.world
        half = 0.5 * rng.uniform(*config.area_m)
        drop_m = rng.uniform(*config.drop_m)
        spots = [(0.5, 0.0, half)] * int(rng.integers(config.objects[0], config.objects[1] + 1))
        if rng.random() < config.tray_share:
            spots += [(*TRAY.centre_m, 0.06)] * int(rng.integers(1, 3))
        for x, y, reach in spots:
            shape = rng.random() < config.primitive_share or not self._models
            pool = self._shapes if shape else self._models
            model = pool[int(rng.integers(len(pool)))]
            px, py = np.array([x, y]) + rng.uniform(-reach, reach, 2)
            body = world.add(model, (px, py, 0.5), drop_quaternion(rng))
            lower, upper = world.aabb(body)
            top = max(
                (float(world.aabb(b)[1][2]) for b in world.bodies if b != body and _near(
                    world.aabb(b), lower, upper)),
                default=0.0,
            )  # fmt: skip
            pose = world.pose(body)
            lift = np.array([0.0, 0.0, top + drop_m - lower[2]])
            world.place(body, pose.position_m + lift, pose.quat_xyzw)
            world.step(60)
        settle(world, config.settle_s)
        for body in list(world.bodies):
            x, y, z = world.pose(body).position_m
            if z < -0.01 or not (-0.2 < x < 1.0 and abs(y) < 0.7):
                world.remove(body)

    def _arm_pose(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Joints of the arm while the cameras look."""
        if rng.random() < self.config.arm_away_share:
            position = rng.uniform([0.30, -0.30, 0.38], [0.62, 0.30, 0.55])
            lean = rng.normal(0.0, 0.08, 3)
            rotation = geometry.matrix_from_quat(
                geometry.quat_from_axis_angle(lean, float(np.linalg.norm(lean)))
            ) @ geometry.grasp_rotation(float(rng.uniform(-0.8, 0.8)))
            target = Pose.from_matrix("world", "tool0", rotation, position)
            q = self._kinematics.inverse(target, self._home)
            if q is not None:
                return np.asarray(q)
        return self._home + rng.normal(0.0, self.config.look_jitter_rad, 7)

    def _cameras(self, rng: np.random.Generator) -> list[tuple[str, CameraIntrinsics, Pose]]:
        turn = rng.normal(0.0, np.radians(self.config.overhead_turn_deg), 3)
        shift = rng.normal(0.0, self.config.overhead_shift_m, 3)
        overhead = X_WORLD_OVERHEAD.rotation @ _small_turn(turn)
        q = self._arm.read_arrays()[0]
        wrist = self._kinematics.forward(q) @ X_TOOL0_WRIST
        fixed = X_WORLD_OVERHEAD.position_m + shift
        return [
            ("overhead", OVERHEAD, Pose.from_matrix("world", "overhead", overhead, fixed)),
            ("wrist", WRIST, wrist),
        ]

    def _light(self, rng: np.random.Generator) -> Light:  # another look changes these three
        return looks.random_light(rng)

    def _style(self, rng: np.random.Generator) -> looks.Style:
        return looks.Style(rng)

    def _measured(
        self,
        exact_m: NDArray[np.float32],
        intrinsics: CameraIntrinsics,
        setting: Setting,
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        return noisy_depth(exact_m, intrinsics, setting.physics.depth_noise, rng)

    def _truth(self, body: int, instance: int) -> dict[str, Any]:
        model = self.world.bodies[body].model
        centre, yaw, dims = oriented_box(vertices(self.world, body))
        return {
            "instance": instance,
            "object": model.name,
            "category_id": CLASSES.index(model.class_name) + 1,
            "position_m": centre.tolist(),
            "yaw_rad": yaw,
            "dimensions_m": dims.tolist(),
        }

    # Images ---------------------------------------------------------------------------------

    def _view(
        self,
        name: str,
        intrinsics: CameraIntrinsics,
        believed: Pose,
        error: PoseError,
        setting: Setting,
        truths: dict[int, dict[str, Any]],
        rng: np.random.Generator,
    ) -> View:
        turn, shift = error
        rotation = believed.rotation @ turn
        eye = believed.position_m + shift
        rgb, exact, bodies = render(self.world, intrinsics, rotation, eye, setting.light)
        actual = Pose.from_matrix("world", name, rotation, eye)
        if setting.style is not None:
            rgb = setting.style.apply(rgb, exact, bodies, self.world, intrinsics, actual, rng)
        depth = self._measured(exact, intrinsics, setting, rng)
        mask = np.zeros(bodies.shape, np.uint8)
        labels = []
        for body, truth in truths.items():
            visible = bodies == body
            label = self._label(visible, body, intrinsics, actual)
            if label is not None:
                mask[visible] = truth["instance"]
                labels.append({**truth, **label})
        frame = RgbdFrame(name, self.world.time_s, rgb, depth, intrinsics, believed)
        return View(frame, mask, labels)

    def _label(
        self, visible: NDArray[np.bool_], body: int, intrinsics: CameraIntrinsics, actual: Pose
    ) -> dict[str, Any] | None:
        area = int(visible.sum())
        if not area:
            return None
        pixels, depth = project(vertices(self.world, body), intrinsics, actual)
        if (depth <= 0.02).any():
            return None
        outline = cv2.contourArea(cv2.convexHull(pixels.astype(np.float32)))
        share = min(1.0, area / max(outline, 1.0))
        config = self.config
        seen = area >= config.least_visible_px and share >= config.least_visible_share
        rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
        x, y = int(columns[0]), int(rows[0])
        return {
            "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
            "area": area,
            "iscrowd": int(not seen),
            "visible_share": round(share, 3),
            "segmentation": run_length(visible),
        }


def _small_turn(vector_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    angle = float(np.linalg.norm(vector_rad))
    if angle < 1e-12:
        return np.eye(3)
    return geometry.matrix_from_quat(geometry.quat_from_axis_angle(vector_rad, angle))


def _near(box: tuple[Any, Any], lower: Any, upper: Any) -> bool:
    low, high = box
    return bool((low[:2] < upper[:2]).all() and (high[:2] > lower[:2]).all())
