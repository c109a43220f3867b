"""The verbs about demonstrations, from recording to another format and back."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from policies.bundle.format import shipped
from policies.demos.dataset import load_demonstrations
from policies.demos.record import RecordConfig, record
from policies.evaluation.specs import EnvSpec
from policies.evaluation.subjects import EXPERT, Subject
from robot.errors import SteadyhandError
from robot.execution.action import ACTION
from robot.observation import SIZE
from steadyhand import cli

ENV = EnvSpec("Steadyhand/GraspSingle-v0", {"objects": "primitives", "physics": "nominal"})


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demos") / "set"
    record(root, ENV, EXPERT, RecordConfig(episodes=3, workers=0))
    return root


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run a verb in this process; exit code, standard output and standard error."""
    if not cli.app.registered_commands:
        cli._register()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "_register", lambda: None)
        with pytest.raises(SystemExit) as stop:
            cli.main([str(a) for a in arguments])
    told = capsys.readouterr()
    return int(stop.value.code or 0), told.out, told.err


def test_the_joints_of_an_episode_are_recorded(demos: Path) -> None:
    read = load_demonstrations(demos)
    assert read.spec.privileged_names == tuple(f"joint_position.{i}" for i in range(7))
    assert read.privileged is not None and np.abs(read.privileged).max() < 3.8


def test_info_tells_and_draws(
    demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "demos", "info", demos, "--plot", tmp_path / "set.svg")
    assert (code, err) == (0, "")
    for word in (
        "episodes",
        "length_mean",
        "success_rate",
        "action vx",
        "tool_position.2",
        "rad/s",
    ):
        assert word in out, word
    drawn = ET.parse(tmp_path / "set.svg").getroot()
    texts = {t.text for t in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"action opening", "joint_position.6"} <= texts
    assert any("3 episodes" in (t or "") for t in texts)
    told = json.loads(call(capsys, "demos", "info", demos, "--json")[1])
    read = load_demonstrations(demos)
    assert told["success_rate"] == 1.0 and told["episodes"] == 3
    by_name = {r["name"]: r for r in told["ranges"]}
    assert by_name["action vz"]["max"] == pytest.approx(float(read.action[:, 2].max()))
    assert by_name["joint_position.0"]["unit"] == "rad"


@pytest.mark.parametrize(("form", "name"), (("robomimic", "set.hdf5"), ("minari", "set")))
def test_there_and_back_on_the_command_line(
    demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, name: str
) -> None:
    there, back = tmp_path / "there" / name, tmp_path / "back"
    assert call(capsys, "demos", "convert", demos, there, "--format", form)[0] == 0
    code, out, _ = call(
        capsys, "demos", "convert", there, back, "--format", "lerobot",
        "--env", "Steadyhand/GraspSingle-v0", "--json",
    )  # fmt: skip
    assert code == 0 and json.loads(out)["episodes"] == 3
    a, b = load_demonstrations(demos), load_demonstrations(back)
    assert np.array_equal(a.observation, b.observation) and a.facts == b.facts
    code, out, err = call(capsys, "demos", "convert", demos, there, "--format", form)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and "exists already" in err


def test_an_episode_is_dropped(
    demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    call(capsys, "demos", "convert", demos, copy, "--format", "lerobot")
    code, out, _ = call(capsys, "demos", "drop", copy, 1, "--json")
    assert (code, json.loads(out)["dropped"]) == (0, 1)
    assert load_demonstrations(copy).episodes == 2
    code, _, err = call(capsys, "demos", "drop", copy, 5)
    assert code == 2 and "has no episode 5, only 0 to 1" in err
    assert json.loads(call(capsys, "demos", "drop", copy, "--bad", "--json")[1])["dropped"] == 0


def test_without_h5py_the_extra_is_named(
    demos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    for form, name in (("robomimic", "set.hdf5"), ("minari", "set")):
        code, out, err = call(capsys, "demos", "convert", demos, tmp_path / name, "--format", form)
        assert (code, out) == (2, "")
        assert err == "steadyhand: this verb needs h5py: pip install 'steadyhand[train]'\n"
    assert not list(tmp_path.iterdir())


def test_keys_drive_the_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keys").write_text("F\nf\n<enter>\nW\n")
    options = ("--objects", "primitives", "--keys", tmp_path / "keys", "--json")
    code, out, err = call(capsys, "demos", "teleop", "--out", tmp_path / "set", *options)
    assert (code, err) == (0, "") and json.loads(out)["episodes"] == 1
    assert load_demonstrations(tmp_path / "set").action[0, 2] == np.float32(0.8)


def test_a_bundle_and_a_policy_demonstrate(tmp_path: Path) -> None:
    from policies.learning.network import NetworkConfig, PolicyNetwork

    actor = Subject("bundle", shipped()).actor()
    record(tmp_path / "set", ENV, actor, RecordConfig(episodes=1, workers=0))
    source = load_demonstrations(tmp_path / "set").facts[0]["source"]
    assert source == actor.label and source.startswith("bundle:shipped:int8:")
    network = PolicyNetwork(NetworkConfig(hidden=(8,)), np.zeros(SIZE), np.ones(SIZE), len(ACTION))
    network.save(tmp_path / "network.pt")
    untrained = Subject("policy", tmp_path / "network.pt").actor()
    config = RecordConfig(episodes=1, workers=0, max_attempts_per_episode=1.0)
    with pytest.raises(SteadyhandError, match=r"policy:network\.pt:\w+ succeeded in only 0 of 1"):
        record(tmp_path / "other", ENV, untrained, config)
