"""One URDF out of an arm's, its gripper's, and the frames that a robot's YAML adds.

What is written holds absolute paths of meshes, so that any reader finds them, and lies in a cache
folder named after its content.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import os
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robot.errors import ConfigError

_SCHEME = "package://"


@dataclass(frozen=True)
class Frame:
    """A frame fixed to a link.

    Attributes:
        on: the link.
        at_m: its origin in the link's frame.
        rpy_rad: turns about the link's x, y, z, in this order, as URDF has it.
    """

    on: str
    at_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rpy_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Hand:
    """A gripper with a URDF of its own, and where it is screwed on.

    Attributes:
        urdf: relative to the robot's file, or ``package://NAME/...``.
        flange: where its root link sits.
    """

    urdf: Path
    flange: Frame


def found(file: Path | str, beside: Path) -> Path:
    """Where a file is: beside another one, or ``package://NAME/...`` wherever NAME is.

    A package is looked for in the folders above ``beside``, among installed Python packages, and
    in their shared data.

    Raises:
        ConfigError: the package is not there.
    """
    text = str(file).replace("package:/", _SCHEME).replace(":///", "://")  # Path drops a slash
    if not text.startswith(_SCHEME):
        path = Path(text.removeprefix("file://"))
        return path if path.is_absolute() else beside.parent / path
    name, _, rest = text.removeprefix(_SCHEME).partition("/")
    places = [parent / name for parent in beside.resolve().parents]
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is not None:
        places += [Path(p) for p in spec.submodule_search_locations or ()]
    places += [Path(p) / "cmeel.prefix" / "share" / name for p in sys.path]
    for place in places:
        if (place / rest).exists():
            return place / rest
    raise ConfigError(f"{beside}: {text}: no package {name!r} with this file is installed")


def read_urdf(path: Path) -> ET.Element:
    """The root of a URDF, mesh paths made absolute where the meshes are found.

    Raises:
        ConfigError: no such file, or not a URDF.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such URDF")
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ConfigError(f"{path}: not readable as XML: {error}") from error
    if root.tag != "robot":
        raise ConfigError(f"{path}: not a URDF: expected <robot>, found <{root.tag}>")
    for mesh in root.iter("mesh"):
        try:
            mesh.set("filename", str(found(mesh.get("filename", ""), path).resolve()))
        except ConfigError:
            continue  # motions can be planned without; the check names it
    return root


def composed(
    name: str,
    urdf: Path,
    joints: Sequence[tuple[str, float, float]],
    mount_m: tuple[float, float, float],
    hand: Hand | None,
    tool: Frame | None,
    tool_frame: str,
) -> Path:
    """Write one URDF of all parts, and say where.

    Args:
        name: of the robot.
        urdf: the arm's.
        joints: names and limits, rad, of the arm's joints; endless ones become revolute.
        mount_m: where the arm's root stands in the world.
        hand: a gripper with its own URDF.
        tool: where the tool frame is, if the URDF has none.
        tool_frame: what it is called.

    Raises:
        ConfigError: a file, a link or a joint is missing.
    """
    root = read_urdf(urdf)
    root.set("name", name)
    if hand is not None:
        part = read_urdf(hand.urdf)
        taken = {e.get("name") for e in root if e.tag in ("link", "joint")}
        both = [
            e.get("name") for e in part if e.tag in ("link", "joint") and e.get("name") in taken
        ]
        if both:
            raise ConfigError(f"{hand.urdf}: {both[0]!r} is also a name in {urdf}")
        base = _root_link(part, hand.urdf)
        root.extend(e for e in part if e.tag in ("link", "joint", "material"))
        _fix(root, base, hand.flange, urdf)
    by_name = {e.get("name"): e for e in root if e.tag == "joint"}
    for joint, low, high in joints:
        element = by_name.get(joint)
        if element is None:
            known = ", ".join(n for n, e in by_name.items() if e.get("type") != "fixed" and n)
            raise ConfigError(f"{urdf}: no joint {joint!r}; movable ones: {known}")
        element.set("type", "revolute")
        limit = element.find("limit")
        limit = ET.SubElement(element, "limit") if limit is None else limit
        limit.attrib.update({"lower": repr(low), "upper": repr(high)})
        limit.attrib.setdefault("effort", "0")
        limit.attrib.setdefault("velocity", "0")
    links = {e.get("name") for e in root if e.tag == "link"}
    if tool is not None:
        # A URDF's own frame of this name may sit elsewhere; the YAML decides.
        for element in [e for e in root if _is_tool(e, tool_frame)]:
            root.remove(element)
        ET.SubElement(root, "link", name=tool_frame)
        _fix(root, tool_frame, tool, urdf)
    elif tool_frame not in links:
        raise ConfigError(f"{urdf}: no link {tool_frame!r}; say with `tool` where it is")
    if any(mount_m):
        base = _root_link(root, urdf)
        ET.SubElement(root, "link", name="mount")
        _fix(root, base, Frame("mount", mount_m), urdf)
    return _written(name, root)


def is_composed(path: Path) -> bool:
    """Whether :func:`composed` wrote this file, so that more may be kept beside it."""
    return path.parent.parent == _cache()


def _cache() -> Path:
    return Path(tempfile.gettempdir()) / f"steadyhand-{os.environ.get('USER', 'user')}"


def _is_tool(element: ET.Element, tool_frame: str) -> bool:
    child = element.find("child")
    return (element.tag == "link" and element.get("name") == tool_frame) or (
        child is not None and child.get("link") == tool_frame
    )


def _root_link(root: ET.Element, path: Path) -> str:
    children = {e.get("link") for e in root.iter("child")}
    roots = [e.get("name", "") for e in root.findall("link") if e.get("name") not in children]
    if len(roots) != 1:
        raise ConfigError(f"{path}: expected one link without a parent, found {roots}")
    return roots[0]


def _fix(root: ET.Element, child: str, frame: Frame, path: Path) -> None:
    if frame.on not in {e.get("name") for e in root.findall("link")}:
        known = ", ".join(e.get("name", "") for e in root.findall("link"))
        raise ConfigError(f"{path}: no link {frame.on!r}; there are {known}")
    joint = ET.SubElement(root, "joint", name=f"{child}_fixed_to_{frame.on}", type="fixed")
    ET.SubElement(
        joint,
        "origin",
        xyz=" ".join(map(repr, frame.at_m)),
        rpy=" ".join(map(repr, frame.rpy_rad)),
    )
    ET.SubElement(joint, "parent", link=frame.on)
    ET.SubElement(joint, "child", link=child)


def _written(name: str, root: ET.Element) -> Path:
    text = ET.tostring(copy.deepcopy(root), encoding="utf-8")
    folder = _cache() / hashlib.sha256(text).hexdigest()[:16]
    path = folder / f"{name}.urdf"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{os.getpid()}.part"
        part.write_bytes(text)
        part.replace(path)
    return path
