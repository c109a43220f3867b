"""The training configurations, and the whole chain at the smallest scale."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.load import digest, find, load
from perception.scorer import OnnxGraspScorer
from policies.bundle.contents import record_reference
from policies.bundle.format import Bundle
from policies.bundle.verify import verify_bundle
from robot.errors import ConfigError, SteadyhandError
from robot.observation import SIZE
from steadyhand import train
from steadyhand.packing import scorer_inputs
from steadyhand.pipeline import Pipeline, TrainingConfig, seeded


@pytest.mark.parametrize("budget", ["quick", "full"])
def test_the_budgets_load(budget):
    config = load(TrainingConfig, find("train", budget))
    assert {"candidate_age", "patch"} <= set(config.bc.clone.ignored)
    assert config.task.objects == "train"


def test_a_typo_names_the_field_and_what_is_meant():
    with pytest.raises(ConfigError, match=r"bc\.clone\.epoch.*epochs"):
        load(TrainingConfig, find("train", "full"), ["bc.clone.epoch=3"])
    with pytest.raises(ConfigError, match="epochs"):
        load(TrainingConfig, find("train", "full"), ["bc.clone.epochs=0"])


def test_test_objects_cannot_be_trained_on():
    with pytest.raises(SteadyhandError, match="test objects"):
        load(TrainingConfig, find("train", "full"), ["task.objects=test"])


def test_a_folder_of_another_run_is_refused(tmp_path):
    first = load(TrainingConfig, find("train", "quick"))
    Pipeline(tmp_path / "run", first, lambda _: None).begin()
    Pipeline(tmp_path / "run", first, lambda _: None).begin()
    other = load(TrainingConfig, find("train", "quick"), ["seed=3"])
    assert digest(other) != digest(first)
    with pytest.raises(SteadyhandError, match="another configuration"):
        Pipeline(tmp_path / "run", other, lambda _: None).begin()


def test_a_run_from_before_a_setting_existed_goes_on(tmp_path):
    config = load(TrainingConfig, find("train", "quick"))
    Pipeline(tmp_path, config, lambda _: None).begin()
    begun = json.loads((tmp_path / "run.json").read_text())
    del begun["config"]["detector"]["frozen_stages"]
    begun["config_hash"] = digest(begun["config"])
    (tmp_path / "run.json").write_text(json.dumps(begun))
    Pipeline(tmp_path, config, lambda _: None).begin()
    other = load(TrainingConfig, find("train", "quick"), ["detector.frozen_stages=2"])
    with pytest.raises(SteadyhandError, match="another configuration"):
        Pipeline(tmp_path, other, lambda _: None).begin()


def test_only_the_detector_trains_in_several_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    for verb in (train.scorer, train.bc, train.ppo, train.everything):
        with pytest.raises(ConfigError, match="only train detector runs in several"):
            verb(tmp_path / "run")
    # Who does not lead leaves the folder to the one who does.
    Pipeline(tmp_path / "run", load(TrainingConfig), lambda _: None).begin()
    assert not (tmp_path / "run").exists()


ROOT = Path(__file__).parents[2]
TINY = [
    "task.bank_size=4",
    "task.physics=nominal",
    "demos.episodes=4",
    "demos.workers=0",
    "bc.clone.epochs=2",
    "bc.rounds=1",
    "bc.episodes=2",
    "bc.workers=0",
    "ppo.steps=64",
    "ppo.workers=0",
    "ppo.rollout_steps=32",
    "ppo.batch_size=32",
    "ppo.guards.critic_warmup_steps=32",
    "ppo.measure.evaluate_every=64",
    "ppo.measure.evaluation_episodes=2",
    "ppo.measure.final_episodes=2",
]

FEW_TRIALS = [
    "trials.objects=[1.0]",
    "trials.best_n=2",
    "trials.wide_n=1",
    "trials.poor_n=0",
    "trials.shifted_n=2",
    "trial_scenes_n=3",
    "validation_trial_scenes_n=2",
    "scorer.epochs=2",
    "scorer.batch=8",
]


def test_cloning_and_ppo_run_through_and_resume(tmp_path):
    config = load(TrainingConfig, find("train", "quick"), TINY)
    said: list[str] = []
    pipeline = Pipeline(tmp_path / "run", config, said.append)
    pipeline.begin()
    network = pipeline.policy.improve()
    assert (network.observation_size, network.action_size) == (SIZE, 5)
    assert any(line.startswith("ppo:") for line in said)
    said.clear()
    again = Pipeline(tmp_path / "run", config, said.append).policy.improve()
    assert said == []  # everything was there
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert (a == b).all()


@pytest.mark.slow
def test_train_all_goes_from_nothing_to_a_bundle_that_verifies(tmp_path):
    """The whole chain as a user starts it, the detector included, at the smallest scale."""
    run = tmp_path / "run"
    tiny = [
        *TINY,
        *FEW_TRIALS,
        "scenes_n=4",
        "validation_scenes_n=2",
        "detector.epochs=1",
        "detector.batch=2",
        "detector.network.stage_channels=[16,16,32,32]",
        "detector.network.pyramid_channels=16",
        "detector.network.head_channels=32",
        "detector_int8.images=2",
        "proof_episodes_n=10",  # of fewer the interval is wider than its bound
    ]

    def steadyhand(stage: str) -> dict[str, object]:
        command = [sys.executable, "-m", "steadyhand.cli", "train", stage, "--out", str(run)]
        command += ["--workers", "0", "--json"]
        command += [part for pair in tiny for part in ("--set", pair)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    steadyhand("detector")
    file = run / "detector" / "detector.onnx"
    assert file.stat().st_size > 100_000
    # After four steps it sees nothing, and export asks for a detection to refer to.
    shutil.copy(ROOT / "policies/bundle/shipped/models/detector.onnx", file)
    assert steadyhand("all")["bundle"] == str(run / "bundle")
    assert all(check.ok for check in verify_bundle(run / "bundle"))
    proof = json.loads((run / "bundle" / "proofs.json").read_text())
    assert proof["nominal"]["int8"]["episodes"] == 10
    assert proof["ships"] in ("ppo", "clone")

    recipe = tmp_path / "student.yaml"
    recipe.write_text(
        "about: a small one\nsteps:\n  - distill: {hidden: [16], fit: {epochs: 1}}\n"
        "  - ptq: {float_layers: [], max_mean_error: 1.0}\n"
    )
    export = [sys.executable, "-m", "steadyhand.cli", "export", str(run), "--stage", "bc"]
    export += ["--out", str(tmp_path / "small"), "--episodes", "10", "--workers", "0"]
    done = subprocess.run(
        [*export, "--recipe", str(recipe)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    # So little learning may lose episodes; then nothing is written, and it says so.
    if done.returncode == 0:
        card = json.loads((tmp_path / "small" / "card.json").read_text())
        assert card["origin"]["recipe"]["name"] == "student"
        assert card["proof"]["hard"]["int8_minus_trained"]["episodes"] == 10
        sizes = [len(Bundle.load(p).model("policy")) for p in (tmp_path / "small", run / "bundle")]
        assert sizes[0] < sizes[1]
    else:
        assert "fewer episodes than" in done.stderr and not (tmp_path / "small").exists()
    recipe.write_text("steps:\n  - distill: {hidden: [16], fit: {epochs: 1}}\n")
    done = subprocess.run(
        [*export, "--recipe", str(recipe)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2 and "its last step must be ptq or qat" in done.stderr


def test_the_scorer_stage_tries_learns_exports_and_resumes(tmp_path):
    few = ["trials.objects=[1.0]", "trials.best_n=2", "trials.wide_n=1", "trials.poor_n=0",
           "trials.shifted_n=2", "trial_scenes_n=3", "validation_trial_scenes_n=2",
           "scorer.epochs=2", "scorer.batch=8"]  # fmt: skip
    config = load(TrainingConfig, find("train", "quick"), few)
    said: list[str] = []
    pipeline = Pipeline(tmp_path / "run", config, said.append, workers=1)
    file = pipeline.scorer()
    assert OnnxGraspScorer(file).metadata["kind"] == "steadyhand-grasp-scorer"
    assert {"scorer.json", "reliability.svg"} <= {p.name for p in file.parent.iterdir()}
    assert said[-1].startswith("scorer:")
    model = {"scorer": file.read_bytes()}
    arrays = record_reference(model, {"scorer": scorer_inputs()})
    found = arrays["scorer/out/probability"]
    assert found.shape == (16,) and ((found > 0) & (found < 1)).all()
    said.clear()
    assert Pipeline(tmp_path / "run", config, said.append).scorer() == file
    assert said == []


def test_the_seed_reaches_every_stage():
    config = load(TrainingConfig, find("train", "quick"))
    other = seeded(config, 5, workers=1)
    for a, b in (
        (config, other),
        (config.detector, other.detector),
        (config.scorer, other.scorer),
        (config.demos, other.demos),
        (config.bc, other.bc),
        (config.bc.clone, other.bc.clone),
        (config.ppo, other.ppo),
    ):
        assert a.seed != b.seed
    assert other.demos.workers == other.bc.workers == other.ppo.workers == 1
    assert seeded(config, 0, config.demos.workers) == config
