"""What an arm is made of: the table multiplies out to its kinematics, the masses to its torques."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.load import find
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.structure import dh_parameters, link_masses

ARMS = ("panda", "iiwa14", "xarm6")


@pytest.mark.parametrize(
    ("name", "mount_m"),
    [*((name, None) for name in ARMS), ("iiwa14", (0.0, 0.2, 0.0)), ("iiwa14", (-0.6, 0.1, 0.3))],
)
def test_dh_rows_multiply_out_to_the_tool(
    name: str, mount_m: tuple[float, float, float] | None, tmp_path: Path
) -> None:
    file: str | Path = name
    if mount_m is not None:
        source = find("robot", name)
        text = source.read_text().replace("[-0.1, 0.0, 0.0]", str(list(mount_m)))
        gripper = "parallel_gripper.urdf"
        file = tmp_path / f"{name}.yaml"
        file.write_text(text.replace(gripper, str(source.parent / gripper)))
    kinematics = Kinematics(load_limits(file))
    first, rows, last = dh_parameters(kinematics)
    joints = kinematics.limits.joints
    rng = np.random.default_rng(0)
    for _ in range(20):
        q = rng.uniform(joints.lower_rad, joints.upper_rad)
        X = first
        for row, angle in zip(rows, q, strict=True):
            X = X @ row.matrix(angle)
        assert np.abs(X @ last - kinematics.forward_matrix(q)).max() < 1e-9


def test_the_pandas_rows_are_the_makers() -> None:
    first, rows, _ = dh_parameters(Kinematics(load_limits("panda")))
    assert np.allclose(first, np.eye(4))
    # Franka's table; a row may come with x or z the other way round.
    assert np.allclose([abs(r.a_m) for r in rows], [0, 0, 0, 0.0825, 0.0825, 0, 0.088])
    assert np.allclose([abs(r.d_m) for r in rows][:6], [0.333, 0, 0.316, 0, 0.384, 0])
    assert np.allclose([abs(np.sin(r.alpha_rad)) for r in rows], [0, 1, 1, 1, 1, 1, 1], atol=1e-9)


@pytest.mark.parametrize("name", ARMS)
def test_masses_explain_the_gravity_torques(name: str) -> None:
    """The torque about each joint is that of all weights beyond it, added up one by one."""
    import pinocchio as pin

    limits = load_limits(name)
    kinematics = Kinematics(limits)
    model, data = kinematics.model, kinematics.model.createData()
    q = limits.home_rad + 0.3
    pin.forwardKinematics(model, data, q)
    expected = np.zeros(limits.joints.count)
    for joint in range(1, model.njoints):
        J = pin.computeJointJacobian(model, data, q, joint)[:3]
        R = data.oMi[joint].rotation
        lever = model.inertias[joint].lever
        omega = pin.computeJointJacobian(model, data, q, joint)[3:]
        at_centre = R @ (J + np.cross(omega.T, lever).T)
        expected -= at_centre.T @ np.array([0, 0, -9.81 * model.inertias[joint].mass])
    assert np.abs(kinematics.gravity_torque(q) - expected).max() < 1e-6
    assert all(link.mass_kg >= 0 for link in link_masses(limits))
