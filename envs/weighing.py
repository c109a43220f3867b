"""Boxes of known mass, lifted and weighed: how good the estimate of a payload is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.objects import ObjectModel
from envs.physics import PhysicsConfig
from envs.station import Station
from envs.world import TRAY
from robot.errors import SteadyhandError
from robot.execution.grasp import GraspLoopConfig
from robot.execution.scripted import ScriptedPolicy
from robot.execution.weigh import tare, weigh
from robot.limits import RobotLimits
from robot.payload import PayloadEstimator

_BOX_M = (0.04, 0.05, 0.06)
_AT_M = (0.5, 0.0, 0.031)
_HIGHER_M = 0.12


def weigh_boxes(
    limits: RobotLimits, masses_kg: Sequence[float], seed: int = 0
) -> list[dict[str, Any]]:
    """Tare the empty arm once, then lift a box of each mass and weigh it.

    Returns:
        For each mass its estimate, kg, and the torque left unexplained, N·m.

    Raises:
        SteadyhandError: a box was not lifted.
    """
    # By the clock an arm that lags would stop a little too low; the pick ends where it is high
    # enough.
    policy = ScriptedPolicy(GraspLoopConfig().lift_m + _HIGHER_M)
    station = Station(policy, PhysicsConfig(gripper_force_n=60.0), "truth", limits=limits)
    try:
        player, picker = station.player, station.picker
        estimator = PayloadEstimator(station.loop.kinematics)
        _empty(station, seed)
        picker.checker.set_scene(None, TRAY.walls)
        left = tare(player, picker.paths, estimator, np.random.default_rng(seed))
        rows = []
        for mass in masses_kg:
            _empty(station, seed)
            body = station.world.add(
                ObjectModel("box", "box", None, _BOX_M), _AT_M, (0.0, 0.0, 0.0, 1.0)
            )
            station.world.dynamics(body, mass=mass)
            station.world.step(60)
            picker.begin_episode(seed)
            attempt = picker.grasp(picker.look())
            if not attempt.held:
                why = "; ".join(attempt.reasons)
                raise SteadyhandError(
                    f"a box of {mass} kg was not lifted: {attempt.outcome}"
                    + (f": {why}" if why else "")
                )
            payload = weigh(player, estimator)
            rows.append(
                {
                    "mass_kg": mass,
                    "estimate_kg": round(payload.mass_kg, 5),
                    "residual_nm": round(payload.residual_nm, 5),
                    "tare_residual_nm": round(left, 5),
                }
            )
        return rows
    finally:
        station.close()


def _empty(station: Station, seed: int) -> None:
    station.world.reset()
    station.arm.configure(0, station.physics.gripper_force_n)
    station.arm.reset()
    station.world.step(2)  # until then motors read what they did before
    station.picker.begin_episode(seed)
