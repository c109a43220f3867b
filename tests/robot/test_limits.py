"""The Panda's limits are Franka's, and a wrong file is refused in one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.load import find
from robot.errors import ConfigError
from robot.limits import load_limits


def test_the_panda_has_frankas_published_limits():
    limits = load_limits("panda")
    joints = limits.joints
    np.testing.assert_array_equal(
        joints.upper_rad, [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]
    )
    np.testing.assert_array_equal(
        joints.lower_rad, [-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]
    )
    np.testing.assert_array_equal(joints.velocity_rad_s, [2.175] * 4 + [2.61] * 3)
    np.testing.assert_array_equal(joints.acceleration_rad_s2, [15, 7.5, 10, 12.5, 15, 20, 20])
    np.testing.assert_array_equal(joints.jerk_rad_s3, joints.acceleration_rad_s2 * 500)
    np.testing.assert_array_equal(joints.torque_nm, [87] * 4 + [12] * 3)
    assert limits.cartesian.velocity_m_s == 1.7
    assert limits.cartesian.angular_velocity_rad_s == 2.5
    assert limits.gripper.max_opening_m == 0.08
    assert limits.gripper.max_force_n == 70.0
    assert "Franka" in limits.source


def test_limits_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="read-only"):
        load_limits().joints.velocity_rad_s[0] = 99.0


def test_contains_judges_each_joint():
    limits = load_limits()
    assert limits.joints.contains(limits.home_rad)
    for joint in range(7):
        outside = limits.home_rad.copy()
        outside[joint] = limits.joints.upper_rad[joint] + 1e-6
        assert not limits.joints.contains(outside)


@pytest.fixture
def robot_file(tmp_path: Path):
    """Writes the Panda's file with one text replaced, its URDF beside it."""
    (tmp_path / "panda.urdf").write_text(find("robot", "panda").with_suffix(".urdf").read_text())

    def write(old: str, new: str) -> Path:
        text = find("robot", "panda").read_text()
        assert old in text
        path = tmp_path / "mine.yaml"
        path.write_text(text.replace(old, new))
        return path

    return write


def test_an_own_file_is_read_by_its_path(robot_file):
    limits = load_limits(robot_file("max_force_n: 70.0", "max_force_n: 30.0"))
    assert limits.gripper.max_force_n == 30.0
    assert limits.urdf.parent.name != "robot"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_force_n: 70.0", "max_force: 70.0", "max_force"),
        ("max_force_n: 70.0", "max_force_n: 0.0", "gripper: opening, force and speed"),
        ("velocity_rad_s: [2.175, ", "velocity_rad_s: [", "velocity_rad_s: expected 7 numbers"),
        ("velocity_rad_s: [2.175", "velocity_rad_s: [-2.175", "velocity_rad_s: must be above 0"),
        ("upper_rad: [2.8973", "upper_rad: [-2.9", "lower_rad: must be below"),
        ("home_rad: [0.0", "home_rad: [3.0", "home_rad: lies outside"),
        ("workspace_min_m: [-0.25", "workspace_min_m: [0.9", "workspace_min_m: must be below"),
        ("urdf: panda.urdf", "urdf: gone.urdf", "urdf: no such file"),
        ("lower_rad: [-2.8973", "lower_rad: [minus", "lower_rad"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_field(robot_file, old, new, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_limits(robot_file(old, new))
    assert "mine.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_robot_lists_the_choices():
    with pytest.raises(ConfigError, match="panda"):
        load_limits("pandaa")
