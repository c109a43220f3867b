"""What goes into a bundle beside its models: limits, recorded references, the card's text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.load import find
from perception.session import open_session
from robot.errors import SteadyhandError
from robot.limits import load_limits


def robot_files(name_or_path: str | Path = "panda") -> dict[str, bytes]:
    """``limits.yaml`` and the robot's URDF beside it, so that the bundle stands alone.

    Args:
        name_or_path: as for ``robot.limits.load_limits``.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith((".yaml", ".yml")) else find("robot", text)
    limits = load_limits(path)
    if limits.urdf.parent != path.parent:
        raise SteadyhandError(f"{path}: its URDF must lie beside it to go into a bundle")
    files = {"limits.yaml": path.read_bytes(), limits.urdf.name: limits.urdf.read_bytes()}
    solids = limits.urdf.parent / f"{limits.name}_collision.yaml"
    if solids.is_file():
        files[solids.name] = solids.read_bytes()
    return files


def record_reference(
    models: Mapping[str, bytes],
    inputs: Mapping[str, Mapping[str, NDArray[Any]]],
    expected: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Run each model on recorded inputs, for ``verify_bundle`` to compare with elsewhere.

    Args:
        models: ONNX bytes by role.
        inputs: for each role its inputs by name, as in ``{"policy": {"observation": x}}``.
        expected: outputs that stand for a model's own: what torch gave, so that every later
            verification compares with torch and not with an earlier run of the same graph.
    """
    expected = expected or {}
    out: dict[str, NDArray[Any]] = {}
    for role, arrays in inputs.items():
        if role not in models:
            raise SteadyhandError(f"reference: there is no model for the role {role!r}")
        session = open_session(models[role], role)
        names = [o.name for o in session.get_outputs()]
        values = session.run(names, dict(arrays))
        out |= {f"{role}/in/{k}": np.asarray(v) for k, v in arrays.items()}
        given = expected.get(role, {})
        out |= {
            f"{role}/out/{k}": np.asarray(given.get(k, v))
            for k, v in zip(names, values, strict=True)
        }
    return out


def card_markdown(card: Mapping[str, Any], title: str = "Steadyhand bundle") -> str:
    """The card for people: every section of ``card.json`` as a heading and a table."""
    lines = [f"# {title}", ""]
    for section, content in card.items():
        lines += [f"## {_words(section)}", ""]
        if isinstance(content, Mapping):
            flat = _flatten(content)
            lines += ["| what | figure |", "| --- | --- |"]
            lines += [f"| {_words(k)} | {_text(v)} |" for k, v in flat.items()]
        elif isinstance(content, list):
            lines += [f"- {_text(v)}" for v in content]
        else:
            lines.append(_text(content))
        lines.append("")
    return "\n".join(lines)


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            out |= _flatten(value, f"{name}, ")
        else:
            out[name] = value
    return out


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_text(v) for v in value)
    return str(value).replace("|", "\\|").replace("\n", " ")
