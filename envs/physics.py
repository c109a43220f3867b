"""The two physics settings, nominal and hard, and what is drawn from them for an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from configs.load import bounded, find, load
from envs.arm import SimArm
from envs.world import World
from robot.errors import ConfigError

PhysicsName = Literal["nominal", "hard"]


@dataclass(frozen=True)
class DepthNoiseConfig:
    """Errors of a depth camera.

    Attributes:
        sigma_m: standard deviation of the spatially correlated noise at 1 m, m.
        distance_power: the deviation grows with distance to this power (0: constant; stereo: 2).
        correlation_px: correlation length of the noise, px.
        grazing_dropout_deg: surfaces seen at more than this angle from their normal drop out with
            rising probability; 90 switches it off.
    """

    sigma_m: float = bounded(0.003, 0.0, 0.1)
    distance_power: float = bounded(0.0, 0.0, 3.0)
    correlation_px: float = bounded(6.0, 0.5, 50.0)
    grazing_dropout_deg: float = bounded(90.0, 30.0, 90.0)


@dataclass(frozen=True)
class PhysicsConfig:
    """Ranges from which an episode's physics is drawn; None leaves what the object file says.

    Attributes:
        name: of the setting.
        mass_kg: range of an object's mass.
        friction: range of an object's lateral friction.
        gripper_force_n: the most a finger presses.
        camera_position_m: length of the camera pose's error.
        camera_rotation_deg: angle of the camera pose's error.
        latency_ticks: control ticks (1/240 s) from a command to the motors.
        depth_noise: errors of the depth cameras.
    """

    name: str = "nominal"
    mass_kg: tuple[float, float] | None = None
    friction: tuple[float, float] | None = None
    gripper_force_n: float = bounded(40.0, 1.0, 70.0)
    camera_position_m: float = bounded(0.0, 0.0, 0.1)
    camera_rotation_deg: float = bounded(0.0, 0.0, 10.0)
    latency_ticks: int = bounded(0, 0, 48)
    depth_noise: DepthNoiseConfig = DepthNoiseConfig()


def physics(name: str) -> PhysicsConfig:
    """The frozen setting ``nominal`` or ``hard`` from ``configs/protocol/``."""
    if name not in get_args(PhysicsName):
        raise ConfigError(f"physics: expected {' or '.join(get_args(PhysicsName))}, got {name!r}")
    return load(PhysicsConfig, find("protocol", f"physics_{name}"))


def apply_physics(
    config: PhysicsConfig, world: World, arm: SimArm, rng: np.random.Generator
) -> None:
    """Draw mass and friction for every object in the world and set the gripper's force limit."""
    for body_id in world.bodies:
        if config.mass_kg is not None:
            world.dynamics(body_id, mass=float(rng.uniform(*config.mass_kg)))
        if config.friction is not None:
            world.dynamics(body_id, lateralFriction=float(rng.uniform(*config.friction)))
    arm.configure(config.latency_ticks, config.gripper_force_n)
