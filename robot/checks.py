"""What is missing in an arm's files: everything at once, one line each."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from configs.load import find, load
from robot.errors import SteadyhandError
from robot.kinematics import Kinematics
from robot.limits import RobotFile, RobotLimits, load_limits
from robot.model_files import found, read_urdf
from robot.planning.collision import CollisionChecker

_LIGHTEST_KG = 1e-6


def check_robot(name_or_path: str | Path) -> list[str]:
    """Problems of a robot's YAML file and of the URDFs that it names, or of a bare URDF.

    Args:
        name_or_path: the name of a file in ``configs/robot/``, an own YAML file, or a URDF.

    Returns:
        One line each; an empty list where nothing is missing.

    Raises:
        SteadyhandError: there is no such file.
    """
    text = str(name_or_path)
    if text.endswith((".urdf", ".xml")):
        path = Path(text)
        if not path.is_file():
            raise SteadyhandError(f"{path}: no such file")
        return [*urdf_problems(path), f"{path.name}: has no YAML file beside it yet: see the docs"]
    path = Path(text) if text.endswith((".yaml", ".yml")) else find("robot", text)
    try:
        file = load(RobotFile, path)
    except SteadyhandError as error:
        return [str(error)]
    problems: list[str] = []
    parts = [file.urdf] if file.hand is None else [file.urdf, file.hand.urdf]
    # Where the simulator has a model of its own, the first need not have meshes.
    solids = path.parent / f"{file.name}_collision.yaml"
    for part in parts:
        try:
            where = found(part, path)
            problems += urdf_problems(where, needs_solids=not solids.is_file())
        except SteadyhandError as error:
            problems.append(str(error))
    if problems:
        return problems
    try:
        limits = load_limits(path)
        problems += motion_problems(limits)
    except SteadyhandError as error:
        problems.append(str(error))
    return problems


def urdf_problems(path: Path, needs_solids: bool = True) -> list[str]:
    """What a URDF lacks: meshes, limits, inertias, collision geometry."""
    try:
        root = read_urdf(path)
    except SteadyhandError as error:
        return [str(error)]
    problems = []
    for mesh in root.iter("mesh"):
        name = mesh.get("filename", "")
        if not Path(name).is_file():
            problems.append(f"{path.name}: mesh {name or '(no filename)'} is missing")
    moved = {}
    for joint in root.findall("joint"):
        child = joint.find("child")
        if joint.get("type") == "fixed" or child is None:
            continue
        moved[child.get("link")] = joint.get("name")
        limit = joint.find("limit")
        if joint.get("type") in ("revolute", "prismatic") and (
            limit is None or float(limit.get("lower", 0)) >= float(limit.get("upper", 0))
        ):
            problems.append(f"{path.name}: joint {joint.get('name')}: has no limits (lower, upper)")
    solid = 0
    for link in root.findall("link"):
        solid += len(link.findall("collision"))
        if link.get("name") in moved:
            problems += _inertia_problems(path, link)
    if needs_solids and not solid:
        problems.append(f"{path.name}: no link has collision geometry, so nothing can be avoided")
    return list(dict.fromkeys(problems))


def _inertia_problems(path: Path, link: ET.Element) -> list[str]:
    name = link.get("name")
    mass, inertia = link.find("inertial/mass"), link.find("inertial/inertia")
    if mass is None or float(mass.get("value", 0)) < _LIGHTEST_KG:
        return [f"{path.name}: link {name}: has no mass"]
    if inertia is None:
        return [f"{path.name}: link {name}: has no inertia"]
    values = {k: float(inertia.get(k, 0)) for k in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")}
    full = np.array(
        [
            [values["ixx"], values["ixy"], values["ixz"]],
            [values["ixy"], values["iyy"], values["iyz"]],
            [values["ixz"], values["iyz"], values["izz"]],
        ]
    )
    if np.linalg.eigvalsh(full).min() <= 0:
        return [f"{path.name}: link {name}: its inertia is not that of a body (must be positive)"]
    return []


def motion_problems(limits: RobotLimits) -> list[str]:
    """What planning needs and the files do not give."""
    kinematics = Kinematics(limits)
    checker = CollisionChecker(limits, kinematics)
    problems = [f"{limits.name}: home_rad: {c}" for c in sorted(checker.contacts(limits.home_rad))]
    tool = kinematics.forward_matrix(limits.home_rad)
    if tool[2, 2] > -0.99:
        problems.append(
            f"{limits.name}: home_rad: {limits.tool_frame} must point straight down there; its z "
            f"axis is {np.round(tool[:3, 2], 2).tolist()}"
        )
    across = abs(float(tool[:3, 2] @ _closing_axis(limits, kinematics)))
    if across > 0.1:
        problems.append(
            f"{limits.name}: tool: the fingers close along {limits.tool_frame}'s z axis; it must "
            "be the approach, with y along the closing direction"
        )
    return problems


def _closing_axis(limits: RobotLimits, kinematics: Kinematics) -> np.ndarray:
    """(3,) world direction from one fingertip to the other, at home."""
    import pinocchio as pin

    model = pin.buildModelFromUrdf(str(limits.urdf))
    data = model.createData()
    q = pin.neutral(model)
    for name, value in zip(limits.joint_names, limits.home_rad, strict=True):
        q[model.joints[model.getJointId(name)].idx_q] = value
    for finger in limits.fingers:
        q[model.joints[model.getJointId(finger.name)].idx_q] = finger.open
    pin.forwardKinematics(model, data, q)
    first, second = (data.oMi[model.getJointId(f.name)].translation for f in limits.fingers[:2])
    way = np.asarray(second - first)
    return way / max(float(np.linalg.norm(way)), 1e-9)
