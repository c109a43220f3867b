"""``canary`` and ``drift`` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from policies.bundle.format import Bundle, shipped
from policies.edge.runtime import EdgePolicy
from robot.loop.log import RunLog
from robot.loop.recorder import Recorder
from robot.types import PickResult
from steadyhand.cli import main


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main([str(a) for a in arguments])
    done = capsys.readouterr()
    return int(left.value.code or 0), done.out, done.err


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A run of the shipped policy over its own reference observations, with two picks."""
    file = tmp_path / "recording.mcap"
    policy = EdgePolicy(shipped())
    with Recorder(file) as recorder:
        log = RunLog(recorder)
        for k, row in enumerate(Bundle.load(shipped()).reference()["policy/in/observation"]):
            log.now_s = k / 20
            log.policy(row, policy.act(row))
        log.pick(PickResult(True, "success", 1, 3.0))
        log.pick(PickResult(False, "missed", 1, 3.0))
    return file


def test_drift_of_a_recording(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    code, out, err = call(capsys, "drift", recording, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["steps"] == 256 and found["findings"] == []
    assert found["picks"] == 2 and found["success_rate"] == 0.5
    assert found["action_difference"] < 1e-5 and len(found["numbers"]) == 25
    code, out, _ = call(capsys, "drift", recording)
    assert code == 0 and "nothing drifted" in out
    (recording.parent / "none.mcap").write_bytes(b"no")
    code, _, err = call(capsys, "drift", recording.parent / "none.mcap")
    assert code == 2 and "not an MCAP recording" in err and err.count("\n") == 1


def test_canary_over_a_recording(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    code, out, err = call(capsys, "canary", shipped(), shipped(), recording, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["steps"] == 256 and found["failures"] == 0
    assert found["max_difference"] == 0.0 and found["shadow_us"] > 0


def test_a_bundle_is_signed_and_its_signature_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(shipped(), bundle)
    key, other = tmp_path / "robot.key", tmp_path / "other.key"
    key.write_bytes(bytes(range(32)))
    other.write_bytes(bytes(range(1, 33)))
    code, _, err = call(capsys, "verify", bundle, "--sign")
    assert code == 2 and "--sign needs --key" in err
    code, _, err = call(capsys, "verify", bundle, "--key", key)
    assert code == 2 and "no signature" in err
    code, _, err = call(capsys, "verify", bundle, "--key", key, "--sign")
    assert code == 0, err
    code, out, _ = call(capsys, "verify", bundle, "--key", key, "--json")
    assert code == 0 and json.loads(out)["checks"][-1]["name"] == "signature"
    code, _, err = call(capsys, "verify", bundle, "--key", other)
    assert code == 2 and "another key" in err
