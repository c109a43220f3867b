"""``steadyhand robot info|check|weigh``: what an arm is made of, and what its files lack."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer

from robot.errors import ConfigError
from steadyhand.console import ERR, Json, Robot, Seed, emit


def info(robot: Robot = "panda", json: Json = False) -> None:
    """Masses, inertias, Denavit-Hartenberg parameters, limits and gravity torques of an arm."""
    from robot.kinematics import Kinematics
    from robot.limits import load_limits
    from robot.structure import dh_parameters, link_masses

    limits = load_limits(robot)
    kinematics = Kinematics(limits)
    first, rows, last = dh_parameters(kinematics)
    gravity = kinematics.gravity_torque(limits.home_rad)
    masses = link_masses(limits)
    joints = limits.joints
    result: dict[str, Any] = {
        "robot": limits.name,
        "source": limits.source,
        "urdf": str(limits.urdf),
        "joints": joints.count,
        "mass_kg": round(sum(m.mass_kg for m in masses), 4),
        "links": [
            {
                "joint": m.name,
                "mass_kg": round(m.mass_kg, 5),
                "centre_m": np.round(m.centre_m, 5).tolist(),
                "inertia_kg_m2": np.round(m.inertia_kg_m2, 7).tolist(),
            }
            for m in masses
        ],
        "first_frame_in_world": np.round(first, 6).tolist(),
        "dh_craig": [
            {
                "a_m": round(row.a_m, 6),
                "alpha_rad": round(row.alpha_rad, 6),
                "d_m": round(row.d_m, 6),
                "theta_rad": round(row.theta_rad, 6),
            }
            for row in rows
        ],
        "tool_from_last_frame": np.round(last, 6).tolist(),
        "home_rad": limits.home_rad.tolist(),
        "gravity_torque_at_home_nm": np.round(gravity, 4).tolist(),
        "torque_nm": joints.torque_nm.tolist(),
        "velocity_rad_s": joints.velocity_rad_s.tolist(),
        "acceleration_rad_s2": joints.acceleration_rad_s2.tolist(),
        "jerk_rad_s3": joints.jerk_rad_s3.tolist(),
        "gripper": {
            "max_opening_m": limits.gripper.max_opening_m,
            "max_force_n": limits.gripper.max_force_n,
            "joints": [finger.name for finger in limits.fingers],
        },
    }
    emit(result, json, f"{limits.name}: {joints.count} joints, {result['mass_kg']} kg")


def check(
    file: Annotated[str, typer.Argument(help="A robot's YAML file, its name, or a URDF.")],
    json: Json = False,
) -> None:
    """Say what is missing in an arm's files; ends with 2 where something is."""
    from robot.checks import check_robot

    problems = check_robot(file)
    shown = {"file": file, "ok": not problems}
    emit({**shown, "problems": problems} if json else shown, json, f"{file}: checked")
    if problems:
        for problem in problems:
            ERR.print(f"  {problem}", highlight=False, soft_wrap=True)
        count = len(problems)
        raise ConfigError(f"{file}: {count} problem{'s' * (count > 1)}; the first: {problems[0]}")


def weigh(
    robot: Robot = "panda",
    mass: Annotated[str, typer.Option(help="Masses to lift, kg, with commas between.")] = (
        "0.1,0.2,0.5,1,2"
    ),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Lift boxes of known mass in simulation and weigh them by the joints' torques."""
    from envs.weighing import weigh_boxes
    from robot.limits import load_limits

    try:
        masses = [float(part) for part in mass.split(",")]
    except ValueError:
        raise ConfigError(f"mass: expected numbers with commas between, got {mass!r}") from None
    if not masses or min(masses) <= 0:
        raise ConfigError(f"mass: expected masses above 0 kg, got {mass!r}")
    rows = weigh_boxes(load_limits(robot), masses, seed)
    worst = max(abs(row["estimate_kg"] / row["mass_kg"] - 1.0) for row in rows)
    emit({"robot": robot, "boxes": rows, "worst_error": round(worst, 4), "seed": seed}, json,
         f"{robot}: {len(rows)} boxes weighed")  # fmt: skip
