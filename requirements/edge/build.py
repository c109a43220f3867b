"""Builds the wheel ``steadyhand-edge`` from this tree: the runtime half, and nothing else of it.

    python requirements/edge/build.py [--out dist]

Which modules belong to it is not a list that somebody keeps: it is whatever the roots below import.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("configs", "robot", "perception", "policies", "steadyhand")
ROOTS = ("policies.edge", "policies.bundle.verify", "perception.look", "perception.segmenter",
         "perception.watch", "robot", "steadyhand.edge_main")  # fmt: skip
NEVER = ("envs", "perception.training", "policies.learning", "policies.compression",
         "policies.evaluation", "policies.demos")  # fmt: skip
DATA = ("configs/robot", "configs/safety", "configs/edge", "policies/bundle/shipped")

#: What imports need: of the core, and of the part that moves the arm.
CORE = ("numpy", "onnxruntime", "opencv-python-headless", "pyyaml")
CONTROL = ("coal", "eigenpy", "mcap", "ompl", "pin", "rosbags", "ruckig", "scipy")
METRICS = ("prometheus-client",)


def file_of(module: str) -> Path | None:
    """The file of a module of this tree, or None."""
    base = ROOT.joinpath(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


def imports(file: Path) -> set[str]:
    """Modules of this tree that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ROOMS and file_of(name)}


def modules() -> dict[str, Path]:
    """Everything that the roots need, by name."""
    waiting = []
    for root in ROOTS:
        folder = ROOT.joinpath(*root.split("."))
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        waiting += [
            ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for f in files
        ]
    out: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name in out:
            continue
        if name.startswith(NEVER):
            raise SystemExit(f"edge wheel: the runtime half imports {name}")
        file = file_of(name)
        if file is None:
            continue
        out[name] = file
        parts = name.split(".")
        waiting += [".".join(parts[:i]) for i in range(1, len(parts))]
        waiting += sorted(imports(file))
    return dict(sorted(out.items()))


def requirements(names: tuple[str, ...]) -> list[str]:
    """With the bounds that stand in the tree's own ``pyproject.toml``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = {line.split(">=")[0].strip(): line for line in project["dependencies"]}
    return [bounds[name] for name in names]


def stage(folder: Path) -> None:
    """Copy what belongs into ``folder``, with a ``pyproject.toml`` of its own."""
    found = modules()
    for file in found.values():
        target = folder / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    for name in DATA:
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    for name in ("LICENSE", "requirements/edge/README.md"):
        shutil.copy2(ROOT / name, folder / Path(name).name)
    packages = sorted(n for n, f in found.items() if f.name == "__init__.py")
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (folder / "pyproject.toml").write_text(
        f"""[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "steadyhand-edge"
version = {own["version"]!r}
description = "The half of Steadyhand that runs beside the robot: ONNX Runtime, NumPy, OpenCV."
readme = "README.md"
requires-python = {own["requires-python"]!r}
license = {own["license"]!r}
license-files = ["LICENSE"]
dependencies = {requirements(CORE)!r}

[project.optional-dependencies]
control = {requirements(CONTROL)!r}
metrics = {requirements(METRICS)!r}

[project.scripts]
steadyhand-edge = "steadyhand.edge_main:main"

[tool.setuptools]
include-package-data = false
packages = {packages!r}

[tool.setuptools.package-data]
configs = ["**/*.yaml", "**/*.urdf"]
"policies.bundle" = ["shipped/**"]
""",
        encoding="utf-8",
    )


def build(out: Path) -> Path:
    """The wheel, in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder) / "tree")
        wheels = Path(folder) / "wheels"
        done = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
             "--disable-pip-version-check", "-w", str(wheels), str(Path(folder) / "tree")],
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"edge wheel: pip failed with {done.returncode}")
        (wheel,) = wheels.glob("steadyhand_edge-*.whl")
        return Path(shutil.copy2(wheel, out / wheel.name))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    wheel = build(parser.parse_args().out)
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
