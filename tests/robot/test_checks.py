"""What an arm's files lack is said at once, each in a line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.load import find
from robot.checks import check_robot
from robot.errors import ConfigError, SteadyhandError
from robot.fingers import FingerMap
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.mesh_shapes import shapes_from_urdf

GRIPPER = find("robot", "iiwa14").parent / "parallel_gripper.urdf"


def arm_of(tmp_path: Path, urdf: str, name: str = "own") -> Path:
    """The iiwa's YAML with another URDF in the arm's place."""
    text = find("robot", "iiwa14").read_text()
    file = tmp_path / f"{name}.urdf"
    file.write_text(urdf)
    (tmp_path / "parallel_gripper.urdf").write_text(GRIPPER.read_text())
    path = tmp_path / f"{name}.yaml"
    path.write_text(
        text.replace("package://pybullet_data/kuka_iiwa/model.urdf", file.name).replace(
            "name: iiwa14", f"name: {name}"
        )
    )
    return path


def kuka() -> str:
    import importlib.util

    spec = importlib.util.find_spec("pybullet_data")
    folder = Path(next(iter(spec.submodule_search_locations))) / "kuka_iiwa"
    return (folder / "model.urdf").read_text().replace('"meshes/', f'"{folder}/meshes/')


@pytest.mark.parametrize("name", ["panda", "iiwa14", "xarm6"])
def test_the_shipped_arms_lack_nothing(name: str) -> None:
    assert check_robot(name) == []


def test_a_complete_arm_of_ones_own_lacks_nothing(tmp_path: Path) -> None:
    assert check_robot(arm_of(tmp_path, kuka())) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("link_3.stl", "nowhere.stl", "nowhere.stl is missing"),
        ('lower="-2.09439510239" upper="2.09439510239"', "", "has no limits"),
        ('<mass value="2.7"/>', '<mass value="0"/>', "link lbr_iiwa_link_4: has no mass"),
        ('<inertia ixx="0.03"', '<inertia ixx="-0.03"', "link lbr_iiwa_link_4: its inertia"),
        ("<robot", "<robt", "not readable as XML"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = kuka()
    assert old in text
    problems = check_robot(arm_of(tmp_path, text.replace(old, new)))
    assert any(said in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gripper_left_joint: {closed: 0.0, open: 0.04}",
         "gripper_left_joint: {closed: 0.0, open: 0.3}", "open at 0.3 is outside"),
        ("max_opening_m: 0.08", "max_opening_m: 0.2", "come 0.080 m apart"),
        ("gripper_left_joint: {closed: 0.0, open: 0.04}",
         "gripper_left_joint: {closed: 0.04, open: 0.04}", "open and closed are the same"),
        ("closed: 0.0, open: 0.04", "closed: 0.04, open: 0.0", "come -0.080 m apart"),
        ("at_m: [0.0, 0.0, 0.1447]}", "at_m: [0.0, 0.0, 0.1447], rpy_rad: [0.0, 0.0, 1.5708]}",
         "close along tool0's x axis"),
        ("mount_m: [-0.1", "mount_m: [-2.1", "outside of the workspace"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = arm_of(tmp_path, kuka())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    problems = check_robot(path)
    assert any(said in problem for problem in problems), problems


def test_an_impossible_inertia_and_a_missing_mesh_are_both_told(tmp_path: Path) -> None:
    text = kuka().replace("link_3.stl", "nowhere.stl")
    text = text.replace('<inertia ixx="0.03"', '<inertia ixx="0.9"')
    problems = check_robot(arm_of(tmp_path, text))
    assert any("nowhere.stl" in problem for problem in problems), problems
    assert any("above the sum of the others" in problem for problem in problems), problems


def test_an_unknown_gripper_joint_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = arm_of(tmp_path, kuka())
    path.write_text(path.read_text().replace("gripper_left_joint:", "left_claw:"))
    with pytest.raises(ConfigError, match="no joint 'left_claw'.*gripper_right_joint"):
        load_limits(path)
    assert any("left_claw" in problem for problem in check_robot(path))


def test_an_unknown_arm_joint_and_an_unknown_flange(tmp_path: Path) -> None:
    path = arm_of(tmp_path, kuka())
    good = path.read_text()
    path.write_text(good.replace("lbr_iiwa_joint_4,", "elbow,").replace("\n          lbr", " lbr"))
    with pytest.raises(ConfigError, match="elbow"):
        load_limits(path)
    path.write_text(good.replace("on: lbr_iiwa_link_7", "on: hand"))
    with pytest.raises(ConfigError, match="no link 'hand'"):
        load_limits(path)


def test_an_arm_is_known_where_its_simulator_is_not_installed(tmp_path: Path) -> None:
    source = find("robot", "panda")
    path = tmp_path / "panda.yaml"
    text = source.read_text()
    assert "package://pybullet_data/" in text
    path.write_text(text.replace("package://pybullet_data/", "package://no_such_package/"))
    (tmp_path / "panda.urdf").write_text((source.parent / "panda.urdf").read_text())
    limits = load_limits(path)
    assert limits.simulated_urdf == limits.urdf


def test_a_bare_urdf_is_checked_alone(tmp_path: Path) -> None:
    file = tmp_path / "arm.urdf"
    file.write_text(kuka())
    assert check_robot(file) == []
    file.write_text(kuka().replace('<mass value="2.7"/>', '<mass value="0"/>'))
    assert len(check_robot(file)) == 1
    with pytest.raises(SteadyhandError, match="no such file"):
        check_robot(tmp_path / "none.urdf")


def test_an_arm_without_collision_geometry_says_so(tmp_path: Path) -> None:
    import re

    bare = re.sub(r"<collision>.*?</collision>", "", kuka(), flags=re.DOTALL)
    gripper = re.sub(r"<collision>.*?</collision>", "", GRIPPER.read_text(), flags=re.DOTALL)
    path = arm_of(tmp_path, bare)
    (tmp_path / "parallel_gripper.urdf").write_text(gripper)
    limits = load_limits(path)
    with pytest.raises(ConfigError, match="no collision geometry"):
        shapes_from_urdf(limits, Kinematics(limits))
    assert any("collision geometry" in problem for problem in check_robot(path))


@pytest.mark.parametrize("name", ["panda", "iiwa14", "xarm6"])
def test_openings_and_joints_go_back_and_forth(name: str) -> None:
    fingers = FingerMap(load_limits(name))
    for share in (0.0, 0.2, 0.5, 0.9, 1.0):
        opening = share * fingers.max_opening_m
        first, second, *_ = fingers.positions(opening)
        assert abs(fingers.reading(first, second, 0.0, 0.0)[0] - opening) < 2e-4
        # Virtual work: the force times the tips' way is the torque times the joints' way.
        torque = -fingers.closing[0] * -1.0
        other = torque * fingers.closing[1] / fingers.closing[0]
        assert fingers.reading(first, second, torque, other)[1] > 0


def test_the_xarms_stroke_is_its_makers() -> None:
    """UFACTORY gives 84 mm; the cranks' geometry alone gives it within 5 mm."""
    import pinocchio as pin

    limits = load_limits("xarm6")
    model = pin.buildModelFromUrdf(str(limits.urdf))
    data = model.createData()
    apart = []
    for share in (0.0, 1.0):
        q = pin.neutral(model)
        for finger in limits.fingers:
            joint = model.joints[model.getJointId(finger.name)]
            q[joint.idx_q] = finger.closed + share * (finger.open - finger.closed)
        pin.forwardKinematics(model, data, q)
        left, right = (model.getJointId(f"{side}_finger_joint") for side in ("left", "right"))
        apart.append(np_norm(data.oMi[left].translation - data.oMi[right].translation))
    assert abs(apart[1] - apart[0] - 0.084) < 0.005


def np_norm(vector) -> float:
    return float((vector @ vector) ** 0.5)
