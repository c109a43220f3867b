"""Evaluations: resumable, the same with any number of workers, and clear when they cannot start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from policies.evaluation.grasping import DEPTH, GraspSetup, evaluate_grasp
from policies.evaluation.protocols import protocol
from policies.evaluation.rollouts import episode_seeds
from policies.evaluation.subjects import Subject
from robot.errors import SteadyhandError

SETUP = GraspSetup(Subject("expert"), "single", "primitives", "truth", "nominal")
N, SEED = 4, 3


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[dict, Path]:
    """A finished evaluation in this process, and its file."""
    file = tmp_path_factory.mktemp("evaluation") / "sub" / "episodes.jsonl"
    return evaluate_grasp(SETUP, N, SEED, workers=0, out=file), file


def test_the_result_has_what_the_json_promises(whole):
    result, file = whole
    asked = (
        "protocol protocol_hash objects sensing physics subject episodes successes success_rate "
        "ci95 failures seed"
    )
    assert set(asked.split()) <= set(result)
    json.dumps(result)
    assert result["protocol_hash"] == protocol("single").digest
    assert (result["subject"], result["sensing"], result["seed"]) == ("expert", "truth", SEED)
    assert result["episodes"] == N
    assert result["success_rate"] == result["successes"] / N
    low, high = result["ci95"]
    assert 0 <= low <= result["success_rate"] <= high <= 1
    assert result["successes"] + sum(result["failures"].values()) == N
    assert [row["episode"]["seed"] for row in rows(file)] == list(episode_seeds(SEED, 0, N))


def test_two_workers_give_what_this_process_gives(whole, tmp_path):
    result, file = whole
    other = tmp_path / "two.jsonl"
    assert evaluate_grasp(SETUP, N, SEED, workers=2, out=other) == result
    assert rows(other) == rows(file)


@pytest.mark.parametrize("cut", [1, 25])
def test_a_cut_last_line_is_run_again_and_nothing_else(whole, tmp_path, cut):
    result, file = whole
    resumed = tmp_path / "cut.jsonl"
    resumed.write_bytes(file.read_bytes()[:-cut])
    kept = rows(file)[: N - (cut > 1)]  # without its line break alone a line is still whole
    size = resumed.stat().st_size
    reported = []
    assert evaluate_grasp(SETUP, N, SEED, 0, resumed, lambda r: reported.append(r.seed)) == result
    assert sorted(reported) == sorted(episode_seeds(SEED, 0, N))
    added = resumed.read_bytes()[size:].decode().split()
    assert len(resumed.read_text().splitlines()) == N + (cut > 1)
    assert (not added) == (cut == 1)
    # What was added can be read: a third time nothing is run.
    size = resumed.stat().st_size
    assert evaluate_grasp(SETUP, N, SEED, 0, resumed) == result
    assert resumed.stat().st_size == size
    assert rows_that_parse(resumed)[: len(kept)] == kept


def rows_that_parse(file: Path) -> list[dict]:
    out = []
    for line in file.read_text().splitlines():
        try:
            out.append(json.loads(line))
        except ValueError:
            continue
    return out


def test_more_episodes_run_only_the_new_ones_and_fewer_run_none(whole, tmp_path):
    _, file = whole
    more = tmp_path / "more.jsonl"
    more.write_bytes(file.read_bytes())
    assert evaluate_grasp(SETUP, N - 2, SEED, 0, more)["episodes"] == N - 2
    assert more.read_bytes() == file.read_bytes()
    assert evaluate_grasp(SETUP, N + 1, SEED, 0, more)["episodes"] == N + 1
    assert more.read_bytes().startswith(file.read_bytes())
    assert len(rows(more)) == N + 1


def test_what_ran_under_other_conditions_does_not_count(whole, tmp_path):
    _, file = whole
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(file.read_text().replace('"nominal"', '"hard"'))
    evaluate_grasp(SETUP, 1, SEED, 0, mixed)
    assert len(rows(mixed)) == N + 1


def test_other_files_under_the_same_name_are_another_subject(tmp_path):
    """A policy trained anew in its old folder must not inherit the old one's episodes."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "network.pt").write_bytes(b"one")
    setup = GraspSetup(Subject("policy", run), "single", "primitives", "truth")
    before = setup.facts()
    (run / "network.pt").write_bytes(b"two")
    assert setup.facts() != before
    assert {**setup.facts(), "subject_hash": ""} == {**before, "subject_hash": ""}


def test_without_a_detector_depth_alone_and_one_camera_do():
    setup = GraspSetup(Subject("scripted"), "single", "primitives", "camera", detector=DEPTH)
    both = evaluate_grasp(setup, 2, SEED, workers=0)
    one = evaluate_grasp(replace(setup, views=1), 2, SEED, workers=0)
    assert (both["detector_hash"], both["views"], one["views"]) == ("depth", 2, 1)
    assert both["successes"] + one["successes"] >= 2


def test_the_scripted_baseline_runs_through_the_same_code():
    result = evaluate_grasp(
        GraspSetup(Subject("scripted"), "single", "primitives", "truth", "hard"), 2, 0, 0
    )
    assert (result["subject"], result["physics"], result["episodes"]) == ("scripted", "hard", 2)


EXPERT_BY_CAMERA = GraspSetup(Subject("expert"), objects="primitives", sensing="camera")
NO_DETECTOR = GraspSetup(Subject("scripted"), objects="primitives")
NO_OBJECTS = GraspSetup(Subject("scripted"), objects="none/*.urdf", sensing="truth")
NO_BUNDLE = GraspSetup(Subject("bundle", Path("nowhere")), objects="primitives", sensing="truth")


@pytest.mark.parametrize(
    ("setup", "message", "workers"),
    [
        (EXPERT_BY_CAMERA, "sees the truth", 0),
        (NO_DETECTOR, "needs a detector", 0),
        (NO_OBJECTS, "matches no", 0),
        (NO_OBJECTS, "matches no", 2),
        (NO_BUNDLE, "nowhere", 0),
    ],
)
def test_what_cannot_start_says_why_in_one_line(setup, message, workers, capfd, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(SteadyhandError, match=message) as caught:
        evaluate_grasp(setup, 3, 0, workers, out)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err
    assert not out.exists()
