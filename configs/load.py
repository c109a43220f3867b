"""The one loader: a YAML file and ``a.b=value`` overrides into a checked frozen dataclass.

Defaults stand in the dataclass alone; YAML and overrides only replace them. Whatever does not fit
(an unknown key, a wrong type, a value out of range) is a ``ConfigError`` of one line that names the
file and line or the override, the field, the value, and what would be right.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from configs.digest import as_dict, completed, digest
from configs.wording import describe, listing, show, suggestion
from configs.yaml_source import Origins, parse_override, read_yaml
from robot.errors import ConfigError, SteadyhandError

__all__ = ["as_dict", "bounded", "completed", "digest", "find", "load"]

T = TypeVar("T")


def bounded(default: T, lo: float | None, hi: float | None) -> T:
    """A dataclass field with ``default`` whose value must lie in ``[lo, hi]``.

    Args:
        default: a number, a tuple of numbers (each is checked), or None for an optional field.
        lo: the smallest value allowed, or None for no lower bound; in the field's unit.
        hi: the largest value allowed, or None for no upper bound; in the field's unit.

    Raises:
        ConfigError: the default itself lies outside.
    """
    metadata = {"min": lo, "max": hi}
    for number in _numbers(default):
        problem = _range_problem(number, metadata)
        if problem:
            raise ConfigError(f"bounded(): the default {show(number)} {problem}")
    return dataclasses.field(default=default, metadata=metadata)


def load(cls: type[T], path: Path | str | None = None, overrides: Sequence[str] = ()) -> T:
    """Builds ``cls`` from its defaults, then ``path``, then ``overrides`` (the last one wins).

    Args:
        cls: a dataclass; its fields may be bool, int, float, str, Path, Literal, tuples, dicts with
            text keys, further dataclasses, and any of these or None.
        path: a YAML file with one mapping; an empty file changes nothing.
        overrides: texts like ``"servo.gain=2.5"`` or ``"camera.position_m=[0, 0, 1]"``.

    Raises:
        ConfigError: a file, key or value is wrong.
    """
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise TypeError(f"load() needs a dataclass, got {cls!r}")
    data, origins = read_yaml(Path(path)) if path is not None else ({}, Origins(cls.__name__))
    for override in overrides:
        _merge(data, override, origins)
    return cast("T", _Builder(cls, origins).section(cls, data, "", dataclasses.MISSING))


def find(room: str, name: str) -> Path:
    """The shipped file ``configs/<room>/<name>.yaml``.

    Raises:
        ConfigError: there is none; the message lists the choices.
    """
    root = Path(__file__).parent
    rooms = sorted({file.parent.name for file in root.glob("*/*.yaml")})
    if room not in rooms:
        raise ConfigError(
            f"configs: no folder {room!r}{suggestion(room, rooms)}; choose {listing(rooms)}"
        )
    names = sorted(file.stem for file in (root / room).glob("*.yaml"))
    if name not in names:
        raise ConfigError(
            f"configs/{room}: no configuration {name!r}{suggestion(name, names)}; "
            f"choose {listing(names)}"
        )
    return root / room / f"{name}.yaml"


class _Builder:
    """Turns plain data into dataclasses, and knows where each value came from."""

    def __init__(self, cls: type, origins: Origins) -> None:
        self.origins = origins
        self.known = list(_leaves(cls, ""))

    def fail(self, where: str, problem: str) -> ConfigError:
        parts = [self.origins.of(where), where, problem]
        return ConfigError(" ".join(": ".join(part for part in parts if part).split()))

    def section(self, cls: type, data: Any, where: str, base: Any) -> Any:
        """``cls`` from ``data``; the rest comes from ``base``, else from ``cls``."""
        if data is None:  # a key whose lines are all commented out
            data = {}
        if not isinstance(data, dict):
            raise self.fail(where, f"expected a section with keys, got {show(data)}")
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
        for key in data:
            if key not in fields:
                raise self.unknown(key, where, fields)
        hints = get_type_hints(cls, include_extras=True)
        values: dict[str, Any] = {}
        for name, item in fields.items():
            path = f"{where}.{name}" if where else name
            default = _default(item) if base is dataclasses.MISSING else getattr(base, name)
            if name in data:
                values[name] = self.value(hints[name], data[name], path, item.metadata, default)
            elif default is not dataclasses.MISSING:
                values[name] = default
            else:
                kind = f"{cls.__name__}.{name} has no default"
                raise self.fail(path, f"missing; {kind}, expected {describe(hints[name])}")
        try:
            return cls(**values)
        except (SteadyhandError, ValueError) as error:
            raise self.fail(where, str(error)) from error

    def unknown(self, key: str, where: str, fields: Iterable[str]) -> ConfigError:
        """Says which key was meant, wherever in the tree it stands."""
        path = f"{where}.{key}" if where else key
        names = list(fields)
        hint = suggestion(key, names)
        if not hint:
            elsewhere = [known for known in self.known if known.split(".")[-1] == key]
            hint = suggestion(key, elsewhere[:1], cutoff=0.0)
        return self.fail(path, f"unknown key{hint}; known keys: {listing(names) or 'none'}")

    def value(self, hint: Any, value: Any, where: str, bounds: Mapping[str, Any], base: Any) -> Any:
        """``value`` as the type ``hint`` asks."""
        origin, args = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return self.value(args[0], value, where, bounds, base)
        if origin in (Union, types.UnionType):
            return self.union(args, value, where, bounds, base)
        if origin is Literal:
            if any(value == arg and type(value) is type(arg) for arg in args):
                return value
            texts = [str(arg) for arg in args]
            near = suggestion(value, texts) if isinstance(value, str) else ""
            raise self.fail(where, f"got {show(value)}{near}; choose {listing(texts)}")
        if dataclasses.is_dataclass(hint):
            start = base if isinstance(base, cast("type", hint)) else dataclasses.MISSING
            return self.section(cast("type", hint), value, where, start)
        if origin is tuple:
            return self.items(hint, args, value, where, bounds)
        if origin is dict and isinstance(value, dict):
            none = dataclasses.MISSING
            keyed = {key: (f"{where}.{key}", item) for key, item in value.items()}
            return {k: self.value(args[1], v, path, bounds, none) for k, (path, v) in keyed.items()}
        if hint is Any:
            return value
        result = _scalar(hint, value)
        if result is dataclasses.MISSING:
            quote = " (put text in quotes)" if hint is str and value is not None else ""
            raise self.fail(where, f"expected {describe(hint)}, got {show(value)}{quote}")
        problem = next((p for n in _numbers(result) if (p := _range_problem(n, bounds))), "")
        if problem:
            raise self.fail(where, f"{show(value)} {problem}")
        return result

    def union(
        self, args: Sequence[Any], value: Any, where: str, bounds: Mapping[str, Any], base: Any
    ) -> Any:
        if value is None and type(None) in args:
            return None
        choices = [arg for arg in args if arg is not type(None)]
        if len(choices) == 1:
            return self.value(choices[0], value, where, bounds, base)
        # The exact type first, so that 1 stays an int in ``float | int``.
        for choice in sorted(choices, key=lambda choice: choice is not type(value)):
            try:
                return self.value(choice, value, where, bounds, base)
            except ConfigError as error:
                if choice is type(value):
                    raise  # of the right type but out of range: that is the message to show
                last = error
        if isinstance(value, dict):
            raise last
        kinds = " or ".join(describe(arg) for arg in args)
        raise self.fail(where, f"expected {kinds}, got {show(value)}")

    def items(
        self, hint: Any, args: Sequence[Any], value: Any, where: str, bounds: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise self.fail(where, f"expected {describe(hint)}, got {show(value)}")
        if len(args) == 2 and args[1] is Ellipsis:
            args = [args[0]] * len(value)
        elif args == ((),):  # how Python 3.10 spells tuple[()]
            args = []
        if len(args) != len(value):
            raise self.fail(where, f"expected {describe(hint)}, got {len(value)}: {show(value)}")
        none = dataclasses.MISSING
        return tuple(
            self.value(arg, item, f"{where}[{i}]", bounds, none)
            for i, (arg, item) in enumerate(zip(args, value, strict=True))
        )


def _scalar(hint: Any, value: Any) -> Any:
    """``value`` as a ``hint``, or MISSING where it is not one; never loses information."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        hint is float and is_number and abs(value) <= sys.float_info.max
    ):  # False for NaN and infinity too
        return float(value)
    if hint is int and is_number and (isinstance(value, int) or value.is_integer()):
        return int(value)  # 1e6 is how a step count is written
    if hint is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    if hint is type(None) and value is None:
        return None
    if hint in (bool, str) and type(value) is hint:
        return value
    if hint not in (bool, int, float, str, Path, type(None)) and get_origin(hint) is not dict:
        raise TypeError(f"configs.load does not know how to read a field of type {hint}")
    return dataclasses.MISSING


def _merge(data: dict[str, Any], override: str, origins: Origins) -> None:
    """Writes one ``a.b=value`` into ``data``."""
    keys, value = parse_override(override)
    section = data
    for depth, key in enumerate(keys[:-1], start=1):
        inner = section.get(key)
        if inner is None:
            inner = section[key] = {}
        if not isinstance(inner, dict):
            field = ".".join(keys[:depth])
            raise ConfigError(f"override {override!r}: {field} is {show(inner)}, not a section")
        section = inner
    section[keys[-1]] = value
    origins.replace(".".join(keys), f"override {override!r}")


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def _leaves(cls: Any, prefix: str) -> Iterator[str]:
    """Dotted names of all fields below ``cls``."""
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        yield prefix + item.name
        for kind in (hints[item.name], *get_args(hints[item.name])):
            if dataclasses.is_dataclass(kind) and kind is not cls:
                yield from _leaves(kind, f"{prefix}{item.name}.")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _range_problem(value: float, bounds: Mapping[str, Any]) -> str:
    lo, hi = bounds.get("min"), bounds.get("max")
    if (lo is None or value >= lo) and (hi is None or value <= hi):
        return ""
    if lo is None or hi is None:
        return (
            f"is out of range: at least {lo:g}"
            if hi is None
            else f"is out of range: at most {hi:g}"
        )
    return f"is out of range: {lo:g} to {hi:g}"
