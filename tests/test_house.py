"""The house rules that a machine can check: in code, in the package list, in the lock."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
LIBRARY = ("configs", "robot", "perception", "envs", "policies")
PACKAGES = (*LIBRARY, "steadyhand")
BANNED_CALLS = {"print", "input", "exit", "quit", "sys.exit", "os._exit"}
LONGEST = 360  # "about 300 lines"
LONGER = {"robot/types.py"}  # all nouns stand together, so that one page shows them


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources(rooms: tuple[str, ...]) -> list[Path]:
    return [file for room in rooms for file in sorted((ROOT / room).rglob("*.py"))]


def breaches(source: str) -> list[str]:
    """Lines with an assert, or with a call that belongs to the command line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            found.append(f"{node.lineno}: assert")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BANNED_CALLS:
            found.append(f"{node.lineno}: {ast.unparse(node.func)}()")
    return found


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("assert x", True),
        ("def f():\n    print(1)", True),
        ("import sys; sys.exit(2)", True),
        ("console.print(1); self.exit()", False),
    ],
)
def test_the_walk_itself_catches_what_it_should(source, caught):
    assert bool(breaches(source)) is caught


def test_library_folders_neither_print_nor_exit_nor_assert():
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sources(LIBRARY)
        for line in breaches(file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_a_module_is_one_noun_of_a_readable_length():
    for file in sources(PACKAGES):
        name = file.relative_to(ROOT)
        assert file.stem not in ("utils", "util", "helpers", "helper", "misc"), name
        text = file.read_text(encoding="utf-8")
        lines = text.count("\n")
        assert lines <= LONGEST or name.as_posix() in LONGER, f"{name} has {lines} lines: split it"
        assert ast.get_docstring(ast.parse(text)), f"{name} does not say what it is"


def test_every_package_is_listed_and_tests_are_not():
    folders = {f.parent for f in sources(PACKAGES) if f.name == "__init__.py"}
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(project()["tool"]["setuptools"]["packages"]) == found


def test_every_data_file_in_a_package_is_shipped():
    """A file that is read at run time but not in the wheel works only in a checkout."""
    data = project()["tool"]["setuptools"]["package-data"]
    shipped = {
        file
        for package, patterns in data.items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")).glob(
            pattern + "/*" if pattern.endswith("**") else pattern
        )
    }
    lost = [
        str(file.relative_to(ROOT))
        for room in PACKAGES
        for file in (ROOT / room).rglob("*")
        if file.is_file()
        and "__pycache__" not in file.parts
        and file.suffix not in (".py", ".tmp", ".partial")
        and file not in shipped
    ]
    assert not lost, f"not in pyproject's package-data: {lost}"


def test_the_lock_pins_every_dependency_and_no_path():
    lines = (ROOT / "requirements/lock.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [p for p in pins if not re.fullmatch(r"[\w.-]+==[\w.!]+", p)] == []

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    locked = {plain(pin.split("==")[0]) for pin in pins}
    config = project()["project"]
    extras = config["optional-dependencies"].values()
    wanted = [*config["dependencies"], *(text for extra in extras for text in extra)]
    names = {plain(re.split(r"[\[<>=~! ]", text)[0]) for text in wanted} - {"steadyhand"}
    assert names <= locked, f"not locked: {sorted(names - locked)}"
