"""How the loader's messages name types, values and near misses, each on one short line."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin


def describe(hint: Any) -> str:
    """A type in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + listing([str(arg) for arg in args])
    if origin in (Union, types.UnionType):
        return " or ".join(describe(arg) for arg in args)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return f"a list, each {describe(args[0])}"
        return f"a list of {len(args)} ({', '.join(describe(arg) for arg in args)})"
    names = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}
    names |= {Path: "a path", type(None): "null"}
    return names.get(hint, "a section with keys")


def show(value: Any) -> str:
    """A value as YAML would write it, cut to one short line."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def listing(names: Iterable[str]) -> str:
    """Names one after the other."""
    return ", ".join(names)


def suggestion(name: str, names: Sequence[str], cutoff: float = 0.6) -> str:
    """`` (did you mean X?)``, or nothing where no name is near."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return f" (did you mean {near[0]}?)" if near else ""
