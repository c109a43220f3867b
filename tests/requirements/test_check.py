"""The check after an installation: silent when all imports work, else one line with the cure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from requirements.check import PACKAGES, advice

SCRIPT = Path(__file__).parents[2] / "requirements/check.py"


def run(*modules: str, env_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": str(env_path)} if env_path else {}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *modules],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("error", "package"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", "libgl1"),
        ("libEGL.so.1: cannot open shared object file: No such file or directory", "libegl1"),
        ("libgthread-2.0.so.0: cannot open shared object file", "libglib2.0-0"),
        ("libstdc++.so.6: version `GLIBCXX_3.4.30' not found", "libstdc++6"),
    ],
)
def test_a_missing_library_is_told_with_its_package(error, package):
    text = advice("cv2", ImportError(error))
    assert text.startswith(
        f"cv2 needs the system library {error.split(':')[0]}; install the package "
    )
    assert text.endswith(f"apt install {package}")


def test_an_unknown_library_is_told_with_the_way_to_find_it():
    text = advice("cv2", ImportError("libodd.so.3: cannot open shared object file"))
    assert text.endswith("apt-file search libodd.so.3")
    assert "libodd" not in PACKAGES


def test_a_module_that_cannot_load_its_library_stops_the_installation(tmp_path):
    (tmp_path / "needy.py").write_text("import ctypes; ctypes.CDLL('libGL.so.987')")
    done = run("sys", "needy", env_path=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needy needs the system library libGL.so.987; install the package libgl1" in done.stderr


def test_a_missing_module_is_told_in_one_line():
    done = run("no_such_module")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot import no_such_module" in done.stderr


def test_what_is_installed_passes():
    done = run()
    assert done.returncode == 0
    assert "steadyhand:" not in done.stderr
