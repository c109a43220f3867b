"""Imports run strictly downward, and the runtime half loads neither torch nor a simulator."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Bottom to top: a room may import what stands before it, and itself.
ROOMS = ("configs", "robot", "perception", "envs", "policies", "steadyhand")

# The loader raises the house's own error; the file with the error base imports nothing.
EXCEPTIONS = {("configs", "robot.errors")}

LEARNING = {"torch", "torchvision", "torchaudio", "stable_baselines3"}
SIMULATION = {"pybullet", "pybullet_data", "pybullet_utils", "gymnasium"}


@dataclass(frozen=True)
class Rule:
    """What no module under ``folder`` may import, but for those under ``unless``."""

    folder: str
    never: frozenset[str]
    unless: tuple[str, ...] = ()

    def covers(self, module: str) -> bool:
        return within(module, self.folder) and not any(within(module, u) for u in self.unless)


RULES = (
    Rule("configs", frozenset(LEARNING | SIMULATION)),
    Rule("robot", frozenset(LEARNING | SIMULATION)),
    Rule("perception", frozenset(SIMULATION)),
    Rule("perception", frozenset(LEARNING), unless=("perception.training",)),
    Rule("envs", frozenset(LEARNING)),
    Rule(
        "policies",
        frozenset(LEARNING),
        unless=("policies.learning", "policies.compression"),
    ),
    Rule("policies.edge", frozenset(SIMULATION | {"envs"})),
    Rule("policies.bundle", frozenset(SIMULATION | {"envs"})),
)

RUNTIME = ("configs", "robot", "perception", "policies.edge", "policies.bundle")
NOT_RUNTIME = ("perception.training",)
NEVER_LOADED = LEARNING | SIMULATION - {"pybullet_data", "pybullet_utils"}


def within(module: str, folder: str) -> bool:
    return module == folder or module.startswith(folder + ".")


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    return {module_name(f): f for room in ROOMS for f in sorted((ROOT / room).rglob("*.py"))}


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of every import: at the top, in functions, for types only, by name.

    ``from a import b`` gives ``a.b``, because ``b`` may be a module.
    """
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level else []
            parts = parts[: len(parts) - (node.level - 1)] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else ""
            name = function.id if isinstance(function, ast.Name) else name
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    found = []
    room = module.split(".")[0]
    above = ROOMS[ROOMS.index(room) + 1 :]
    for line, name in imports(source, module, is_package):
        top = name.split(".")[0]
        allowed = any(within(module, a) and within(name, b) for a, b in EXCEPTIONS)
        if top in above and not allowed:
            found.append(f"{module}:{line} imports {name}, which stands above {room}")
        if top == "tests":
            found.append(f"{module}:{line} imports {name}")
        for rule in RULES:
            if rule.covers(module) and top in rule.never:
                found.append(f"{module}:{line} imports {name}, never allowed in {rule.folder}")
    return found


def test_the_rooms_exist_and_hold_modules():
    found = modules()
    for room in ROOMS:
        assert room in found, f"{room}/__init__.py is missing"
        folders = {f.parent for f in (ROOT / room).rglob("*.py")}
        missing = [str(d.relative_to(ROOT)) for d in folders if not (d / "__init__.py").exists()]
        assert not missing, f"folders without __init__.py: {missing}"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downward(room):
    found = [
        line
        for module, file in modules().items()
        if within(module, room)
        for line in violations(file.read_text(encoding="utf-8"), module, file.stem == "__init__")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "caught"),
    [
        ("robot.limits", "from configs.load import load", False),
        ("robot.limits", "import perception.camera", True),
        ("robot.limits", "from perception import camera", True),
        ("robot.limits", "def f():\n    import torch.nn as nn", True),
        ("robot.limits", "import pybullet_data", True),
        ("robot.limits", "import importlib\nimportlib.import_module('envs.world')", True),
        ("robot.limits", "if TYPE_CHECKING:\n    from envs.world import World", True),
        ("robot.loop.nodes", "from ..types import Pose", False),
        ("robot.limits", "from . import torch", False),  # a module of its own by that name
        ("robot.limits", "from tests.robot import x", True),
        ("configs.load", "from robot.errors import ConfigError", False),
        ("configs.load", "from robot.types import Pose", True),
        ("perception.detector", "import torch", True),
        ("perception.training.detector", "import torch", False),
        ("perception.training.detector", "import gymnasium", True),
        ("envs.world", "import pybullet, gymnasium", False),
        ("envs.world", "from torch import nn", True),
        ("envs.world", "from policies.edge import runtime", True),
        ("policies.learning.ppo", "import stable_baselines3, torch, envs.grasp_env", False),
        ("policies.demos.record", "import torch", True),
        ("policies.demos.record", "import envs.grasp_env", False),
        ("policies.edge.runtime", "import envs.grasp_env", True),
        ("policies.bundle.card", "import gymnasium", True),
        ("steadyhand.cli", "import torch, pybullet, policies.bundle", False),
    ],
)
def test_the_walk_itself_catches_what_it_should(module, source, caught):
    assert bool(violations(source, module)) is caught


def test_the_runtime_half_loads_neither_torch_nor_a_simulator():
    names = [
        name
        for name in modules()
        if any(within(name, folder) for folder in RUNTIME)
        and not any(within(name, folder) for folder in NOT_RUNTIME)
    ]
    assert len(names) > 10
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"loaded = sorted(set(sys.modules) & {NEVER_LOADED | {'envs', 'onnx'}!r})\n"
        "sys.exit('loaded: ' + ', '.join(loaded) if loaded else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
