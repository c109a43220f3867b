"""A configuration as plain values, and the short hash that names its content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast


def as_dict(cfg: Any) -> dict[str, Any]:
    """``cfg`` as plain JSON values: dataclasses become dicts, tuples lists, paths text."""
    return cast("dict[str, Any]", _plain(cfg))


def digest(cfg: Any) -> str:
    """Twelve hex digits that name the content of ``cfg``; ``1`` and ``1.0`` count as equal."""
    text = json.dumps(_canonical(_plain(cfg)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def completed(known: Mapping[str, Any], default: Any) -> dict[str, Any]:
    """``known``, as :func:`as_dict` gave it once, with the fields that it lacks.

    So a configuration that was written before a field existed equals one where it is at its
    default.

    Args:
        known: plain values.
        default: a dataclass of the same kind, whose values stand in.
    """
    out = dict(known)
    for field in dataclasses.fields(default):
        value = getattr(default, field.name)
        if field.name not in out:
            out[field.name] = _plain(value)
        elif dataclasses.is_dataclass(value) and isinstance(out[field.name], Mapping):
            out[field.name] = completed(out[field.name], value)
    return out


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.as_posix() if isinstance(value, Path) else value


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value
