"""What is missing in an arm's files: everything at once, one line each."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from configs.load import find, load
from robot.errors import SteadyhandError
from robot.fingers import FingerMap, fingertips, tips_apart
from robot.kinematics import Kinematics
from robot.limits import RobotFile, RobotLimits, load_limits
from robot.model_files import found, read_urdf
from robot.planning.collision import CollisionChecker

_LIGHTEST_KG = 1e-6
_INERTIA_SLACK = 1.2  # a link of UFACTORY's own file is 16 % over
_OPENING_SLACK = 0.1
_TOLERANCE = 1e-6


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
        return urdf_problems(path)
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
    try:
        limits = load_limits(path)
        problems += finger_problems(limits)
        if not problems:  # what the arm does can only be said of a whole one
            problems += motion_problems(limits)
    except SteadyhandError as error:
        problems.append(str(error))
    return list(dict.fromkeys(problems))


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
            package = name.removeprefix("package://").partition("/")[0]
            where = (
                f": no folder {package!r} with it lies beside the URDF or above, and no such "
                "package is installed"
            )
            problems.append(
                f"{path.name}: mesh {name or '(no filename)'} is missing"
                + (where if name.startswith("package://") else "")
            )
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
    least, middle, most = np.linalg.eigvalsh(full)
    if least <= 0:
        return [f"{path.name}: link {name}: its inertia is not that of a body (must be positive)"]
    if most > (least + middle) * _INERTIA_SLACK:
        return [
            f"{path.name}: link {name}: its inertia is not that of a body (no principal moment is "
            f"above the sum of the others: {least:.3g}, {middle:.3g}, {most:.3g})"
        ]
    return []


def finger_problems(limits: RobotLimits) -> list[str]:
    """What is wrong with how far the gripper's joints go."""
    problems = []
    joints = {j.get("name"): j.find("limit") for j in read_urdf(limits.urdf).findall("joint")}
    for finger in limits.fingers:
        limit = joints.get(finger.name)
        if limit is None:
            continue
        low, high = (float(limit.get(end, 0)) for end in ("lower", "upper"))
        for which, value in (("closed", finger.closed), ("open", finger.open)):
            if low < high and not low - _TOLERANCE <= value <= high + _TOLERANCE:
                problems.append(
                    f"{limits.name}: fingers: {finger.name}: {which} at {value:g} is outside of "
                    f"the URDF's [{low:g}, {high:g}]"
                )
    if problems:
        return problems
    FingerMap(limits)  # it says itself what is wrong
    opens_m = tips_apart(limits, 1.0) - tips_apart(limits, 0.0)
    told_m = limits.gripper.max_opening_m
    if abs(opens_m - told_m) > _OPENING_SLACK * told_m:
        problems.append(
            f"{limits.name}: gripper: max_opening_m is {told_m:g}, but from closed to open the "
            f"fingertips come {opens_m:.3f} m apart"
        )
    return problems


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
    x, y, z = tool[:3, :3].T @ _closing_axis(limits)
    if abs(y) < 0.9:
        axis = "xyz"[int(np.argmax(np.abs([x, y, z])))]
        problems.append(
            f"{limits.name}: tool: the fingers close along {limits.tool_frame}'s {axis} axis; z "
            "must be the approach, with y along the closing direction"
        )
    at = tool[:3, 3]
    if (at < limits.workspace_min_m).any() or (at > limits.workspace_max_m).any():
        problems.append(
            f"{limits.name}: home_rad: {limits.tool_frame} is at {np.round(at, 2).tolist()} m "
            "there, outside of the workspace; it should look from about (0.38, 0, 0.50)"
        )
    return problems


def _closing_axis(limits: RobotLimits) -> np.ndarray:
    """(3,) world direction from one fingertip to the other, at home."""
    first, second = fingertips(limits, 1.0)
    way = np.asarray(second - first)
    return way / max(float(np.linalg.norm(way)), 1e-9)
