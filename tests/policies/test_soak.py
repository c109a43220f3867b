"""Picking for long: what is held, and what was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.evaluation.soak import recording_problem, soak
from robot.errors import SteadyhandError
from robot.loop.messages import string
from robot.loop.recorder import Recorder


def recorded(path: Path) -> Recorder:
    with Recorder(path) as recorder:
        for k in range(300):
            recorder.write("/events", string(f"message {k}"), 0.01 * k)
    return recorder


def test_a_recording_that_was_cut_is_told(tmp_path: Path) -> None:
    recorder = recorded(tmp_path / "a.mcap")
    assert recording_problem(recorder) is None
    data = recorder.path.read_bytes()
    recorder.path.write_bytes(data[: len(data) // 2])
    assert recording_problem(recorder) == "it has no end"


def test_every_run_is_recorded_read_back_and_removed(tmp_path: Path) -> None:
    seen: list[float] = []
    result = soak(2.0, tmp_path / "soak", seed=3, on_run=seen.append)
    assert result["runs"] == len(seen) >= 1
    assert seen[-1] >= 2.0 and not result["broken_recordings"]
    assert result["late"]["memory_mb"] > 50 and result["late"]["handles"] > 0
    assert not list((tmp_path / "soak").iterdir())


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SteadyhandError, match="file"):
        soak(1.0, tmp_path / "file" / "soak")
