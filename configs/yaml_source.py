"""YAML text as plain values, with the place in the file where each value stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from robot.errors import ConfigError

MAX_VALUES = 50_000

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: ``1e-3`` is a number, ``no`` is text, ``1:30`` and dates are text."""


# YAML 1.1, which PyYAML speaks, reads 1e-3 as text, on and off as booleans and 1:30 as 90.
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"^(?:{_pattern})$"), _first)


class Origins:
    """Which line or override each value came from.

    Args:
        source: what to name when a value has no place of its own.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._places: dict[str, str] = {}

    def place(self, where: str, origin: str) -> None:
        """``where`` (dotted, as ``a.b[1]``) stands at ``origin``.

        Raises:
            ConfigError: there are far more values than any file of ours has; a few lines of
                aliases of aliases would unfold to billions.
        """
        if len(self._places) >= MAX_VALUES:
            raise ConfigError(f"{origin}: unfolds to more than {MAX_VALUES} values")
        self._places[where] = origin

    def replace(self, where: str, origin: str) -> None:
        """``where`` and all below it now come from ``origin``."""
        below = (where + ".", where + "[")
        self._places = {key: old for key, old in self._places.items() if not key.startswith(below)}
        self._places[where] = origin

    def of(self, where: str) -> str:
        """The origin of ``where`` or of the nearest thing that holds it."""
        while where:
            if where in self._places:
                return self._places[where]
            where = where[: max(where.rfind("."), where.rfind("["), 0)]
        return self._source


def read_yaml(path: Path) -> tuple[dict[str, Any], Origins]:
    """The mapping in ``path`` ({} for an empty file) and where its values stand.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML, or not a mapping; a key is double.
    """
    origins = Origins(str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror}") from error
    data = _parse(text, str(path), origins)
    if data is None:
        return {}, origins
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, got a {_kind_of(data)}")
    return data, origins


def parse_override(override: str) -> tuple[list[str], Any]:
    """``"a.b=1"`` as ``(["a", "b"], 1)``.

    The value is a plain YAML scalar taken as it stands, so that ``*.urdf`` and ``#5`` are text; one
    that opens with a bracket, a brace or a quote is YAML as a whole.
    """
    name, equals, text = override.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"override {override!r}: expected KEY=VALUE or SECTION.KEY=VALUE")
    text = text.strip()
    if text.startswith(("[", "{", '"', "'")):
        label = f"override {override!r}"
        return keys, _parse(text, label, Origins(label))
    loader = _Loader("")
    try:
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        return keys, loader.construct_object(yaml.ScalarNode(tag, text))
    finally:
        loader.dispose()


def _parse(text: str, label: str, origins: Origins) -> Any:
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigError(_syntax(error, label, text)) from error
    try:
        node = loader.get_single_node()
        return None if node is None else _construct(loader, node, "", label, origins, ())
    except yaml.YAMLError as error:
        raise ConfigError(_syntax(error, label, text)) from error
    except RecursionError as error:
        raise ConfigError(f"{label}: nested too deeply") from error
    finally:
        loader.dispose()


def _construct(
    loader: _Loader,
    node: yaml.Node,
    where: str,
    label: str,
    origins: Origins,
    above: tuple[yaml.Node, ...],
) -> Any:
    """The value of ``node``; its line goes into ``origins``."""
    origin = f"{label}:{node.start_mark.line + 1}"
    if where:
        origins.place(where, origin)
    if any(node is outer for outer in above):
        raise ConfigError(f"{origin}: {where}: an alias that holds itself")
    above = (*above, node)
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = f"{label}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{line}: a key must be plain text")
            key = str(key_node.value)
            path = f"{where}.{key}" if where else key
            if key in result:
                raise ConfigError(f"{line}: {path}: the key stands here a second time")
            result[key] = _construct(loader, value_node, path, label, origins, above)
            origins.place(path, line)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [
            _construct(loader, item, f"{where}[{i}]", label, origins, above)
            for i, item in enumerate(node.value)
        ]
    try:
        return loader.construct_object(node)
    except (ValueError, TypeError) as error:  # as ``!!int abc``
        raise ConfigError(f"{origin}: {where}: {error}") from error


def _syntax(error: yaml.YAMLError, label: str, text: str) -> str:
    line, problem = 0, str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        problem = ", ".join(part for part in (error.problem, error.context) if part)
    elif isinstance(error, yaml.reader.ReaderError):
        line = text[: int(error.position)].count("\n") + 1
        problem = f"the character {error.character!r} is not allowed"
    place = f"{label}:{line}" if line else label
    return " ".join(f"{place}: not valid YAML: {problem}".split())


def _kind_of(data: Any) -> str:
    return "list" if isinstance(data, list) else f"single value: {str(data)[:40]!r}"
