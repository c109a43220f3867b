"""``steadyhand robot``: facts as JSON, problems as one line and exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "steadyhand.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
    )


def test_info_tells_what_an_arm_is_made_of() -> None:
    done = cli("robot", "info", "--robot", "iiwa14", "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    assert facts["joints"] == 7 and len(facts["dh_craig"]) == 7
    assert 15 < facts["mass_kg"] < 30
    assert len(facts["gravity_torque_at_home_nm"]) == 7
    assert facts["source"].startswith("KUKA")


def test_check_passes_a_good_arm_and_names_what_a_bad_one_lacks(tmp_path: Path) -> None:
    good = cli("robot", "check", "panda", "--json")
    assert good.returncode == 0 and json.loads(good.stdout) == {
        "file": "panda",
        "ok": True,
        "problems": [],
    }
    bad = tmp_path / "bad.urdf"
    bad.write_text(
        '<robot name="a"><link name="b"/><link name="c"/><joint name="j" type="revolute">'
        '<parent link="b"/><child link="c"/></joint></robot>'
    )
    done = cli("robot", "check", bad, "--json")
    assert done.returncode == 2
    problems = json.loads(done.stdout)["problems"]
    assert any("joint j: has no limits" in p for p in problems)
    assert any("link c: has no mass" in p for p in problems)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("robot", "info", "--robot", "nobody"), "nobody"),
        (("robot", "check", "none.yaml"), "none.yaml"),
        (("robot", "weigh", "--mass", "a,b"), "expected numbers"),
        (("evaluate", "grasp", "--protocol", "moon"), "cluttered-path"),
        (("run", "--robot", "none.yaml"), "none.yaml"),
    ],
)
def test_bad_input_gets_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
