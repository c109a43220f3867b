"""The wheel for the robot: what is in it, what it needs, and that it works on its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from policies.bundle.format import Bundle, shipped
from policies.edge.runtime import EdgePolicy

ROOT = Path(__file__).parents[2]
#: What only the part that moves the arm needs; the wheel's core must do without.
BLOCKED = ("pinocchio", "eigenpy", "coal", "ompl", "ruckig", "scipy", "rosbags", "mcap", "onnx",
           "zstandard", "torch", "pybullet", "gymnasium", "typer", "rich", "prometheus_client",
           "trimesh", "envs")  # fmt: skip


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edge_build", ROOT / "requirements/edge/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """``steadyhand-edge`` where nothing but the core's packages can be imported."""
    code = (
        "import sys\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {BLOCKED!r}:\n"
        "            raise ModuleNotFoundError(f'{name} is blocked', name=name)\n"
        "sys.meta_path.insert(0, Wall())\n"
        "from steadyhand.edge_main import main\n"
        "main(sys.argv[1:])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, input=text, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_the_wheel_holds_what_its_roots_import_and_no_more(build: ModuleType) -> None:
    found = build.modules()
    assert {"policies.edge.live", "policies.bundle.verify", "robot.safety.supervisor",
            "perception.fusion", "steadyhand.edge_main"} <= set(found)  # fmt: skip
    for name in found:
        assert not name.startswith(build.NEVER)
    assert "steadyhand.cli" not in found and "policies.bundle.fuzz" not in found
    names = {line.split(">=")[0] for line in build.requirements(build.CORE)}
    assert names == {"numpy", "onnxruntime", "opencv-python-headless", "pyyaml"}


def test_the_core_acts_without_the_rest(tmp_path: Path) -> None:
    done = program("info", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert set(facts["models"]) == {"policy", "policy_fp32", "detector", "scorer"}
    rows = Bundle.load(shipped()).reference()["policy/in/observation"][:3]
    done = program("act", text="\n".join(json.dumps(r.tolist()) for r in rows))
    assert done.returncode == 0, done.stderr
    actions = np.array([json.loads(line) for line in done.stdout.splitlines()])
    policy = EdgePolicy(shipped())
    assert np.abs(actions - np.stack([policy.act(r) for r in rows])).max() < 1e-6
    done = program("act", text="[1, 2]")
    assert done.returncode == 2 and "expected an observation of shape" in done.stderr
    done = program("verify", str(tmp_path))
    assert done.returncode == 2 and "cannot be read as a bundle" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_core_verifies_and_loads_live_models() -> None:
    done = program("verify", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True
    done = program("bench", "--calls", "200", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["policy_us"]["p50"] > 0 and facts["peak_mb"] < 250


@pytest.mark.slow
def test_the_wheel_works_in_a_fresh_environment(build: ModuleType, tmp_path: Path) -> None:
    wheel = build.build(tmp_path / "dist")
    assert wheel.stat().st_size < 12e6
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "policies/bundle/shipped/models/detector.onnx" in names
    assert not [n for n in names if n.startswith(("envs", "perception/training", "tests"))]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    binary = tmp_path / "venv" / "bin"
    subprocess.run([binary / "pip", "install", "-q", wheel], check=True)

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert json.loads(run(binary / "steadyhand-edge", "verify", "--json"))["ok"]
    facts = json.loads(run(binary / "steadyhand-edge", "bench", "--json"))
    assert facts["bundle"].startswith(str(tmp_path)) and facts["peak_mb"] < 250
    clock = "import time; t = time.process_time(); import policies.edge.live; "
    clock += "print(time.process_time() - t)"
    assert min(float(run(binary / "python", "-c", clock)) for _ in range(5)) < 0.4
