"""A real tiny run leaves its figures in MLflow, in TensorBoard, and for ``runs`` to compare."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from configs.load import find, load
from policies.learning.tracking import STORE_VARIABLE, Tracking, store_of
from policies.runs import Run, differing, find_runs, flat
from policies.storage import read_json, replace_json
from robot.errors import SteadyhandError
from steadyhand import runs, train
from steadyhand.pipeline import Pipeline, TrainingConfig

SHIPPED = Path(__file__).parents[2] / "policies" / "bundle" / "shipped"
TINY = [
    "task.bank_size=4",
    "task.physics=nominal",
    "task.objects=primitives",
    "demos.episodes=4",
    "bc.clone.epochs=2",
    "bc.rounds=1",
    "bc.episodes=2",
    "ppo.steps=64",
    "ppo.rollout_steps=32",
    "ppo.batch_size=32",
    "ppo.guards.critic_warmup_steps=32",
    "ppo.measure.evaluate_every=64",
    "ppo.measure.evaluation_episodes=2",
    "ppo.measure.final_episodes=2",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run, tracked where MLflow is installed."""
    root = tmp_path_factory.mktemp("tracked")
    train.ppo(root / "run", set_=TINY, workers=0, tracking=str(root / "store"))
    return root / "run"


@pytest.fixture(scope="module")
def client(trained):
    tracking = pytest.importorskip("mlflow.tracking")
    uri = store_of(trained, str(trained.parent / "store"))
    return tracking.MlflowClient(uri, uri)


def record_of(client, run: Path):
    return client.get_run(read_json(run / "tracking.json")["run_id"])


def test_mlflow_holds_parameters_curves_files_and_final_figures(client, trained):
    record = record_of(client, trained)
    config = read_json(trained / "run.json")["config"]
    assert record.data.params == {k: str(v) for k, v in flat(config).items()}
    assert record.data.tags["config_hash"] == read_json(trained / "run.json")["config_hash"]
    assert record.info.status == "FINISHED"
    result = read_json(trained / "ppo" / "result.json")
    steps = [(m.step, m.value) for m in client.get_metric_history(record.info.run_id, "ppo/score")]
    assert steps == [(row["steps"], row["score"]) for row in result["history"]]
    loss = client.get_metric_history(record.info.run_id, "bc/validation_loss")
    assert [m.step for m in loss] == [1, 2, 3, 4]  # two rounds of two epochs
    final = record.data.metrics
    assert final["final/ppo.after"] == result["after"]
    assert [final["final/ppo.gain.low"], final["final/ppo.gain.high"]] == result["interval"]
    kept = {f.path for f in client.list_artifacts(record.info.run_id, "ppo")}
    assert {"ppo/result.json", "ppo/network.pt"} <= kept


def test_tensorboard_holds_the_curves(trained):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for stage, name, steps in (("bc", "train_loss", [1, 2, 3, 4]), ("ppo", "score", [0, 64])):
        found = EventAccumulator(str(trained / stage / "tensorboard")).Reload()
        assert [point.step for point in found.Scalars(name)] == steps


def test_a_resumed_run_goes_on_in_its_record_and_bundles_are_registered(client, trained):
    before = record_of(client, trained).info.run_id
    for _ in range(2):
        with Tracking(trained, str(trained.parent / "store")) as record:
            record.bundle(SHIPPED)
    assert record_of(client, trained).info.run_id == before
    versions = client.search_model_versions("name='steadyhand'")
    assert sorted(int(v.version) for v in versions) == [1, 2]
    assert {v.run_id for v in versions} == {before}
    source = Path(versions[0].source.removeprefix("file://"))
    assert (source / "manifest.json").read_bytes() == (SHIPPED / "manifest.json").read_bytes()


def test_a_run_that_fails_is_marked_so(client, tmp_path):
    with (
        pytest.raises(ValueError, match="broken"),
        Tracking(tmp_path / "run", client.tracking_uri) as record,
    ):
        record.curves("bc", 1, {"loss": 0.5, "event": "a word"}, board=False)
        raise ValueError("broken")
    found = record_of(client, tmp_path / "run")
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"bc/loss": 0.5}


def test_without_mlflow_training_goes_on_with_one_line(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
    caplog.set_level(logging.INFO, logger="policies.learning.tracking")
    with Tracking(tmp_path / "run", str(tmp_path / "store")) as record:
        record.parameters({"a": 1}, {})
        record.curves("bc", 1, {"loss": 0.5}, board=False)
        record.bundle(SHIPPED)
    assert [r.message for r in caplog.records] == [
        "mlflow is not installed: the run is recorded in its own folder alone"
    ]
    assert not (tmp_path / "store").exists()


def test_a_store_that_fails_stops_the_record_not_the_run(tmp_path, caplog):
    pytest.importorskip("mlflow.tracking")
    (tmp_path / "file").write_text("not a folder")
    with Tracking(tmp_path / "run", str(tmp_path / "file" / "store")) as record:
        record.curves("bc", 1, {"loss": 0.5}, board=False)
    assert [r.message for r in caplog.records if "tracking stops here" in r.message]


def test_where_the_record_is_kept(tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.delenv(STORE_VARIABLE)
    assert store_of(run, None) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store_of(run, "http://host:5000") == "http://host:5000"
    monkeypatch.setenv(STORE_VARIABLE, "http://other")
    assert store_of(run, None) == "http://other"
    assert store_of(run, str(tmp_path / "own")) == f"sqlite:///{tmp_path}/own/mlflow.db"
    assert store_of(run, "none") == "none"


def test_compare_shows_what_differs_and_the_final_figures(trained, capsys):
    other = trained.parent / "other"
    config = load(TrainingConfig, find("train", "quick"), [*TINY, "bc.clone.epochs=3"])
    Pipeline(other, config, lambda _: None).begin()
    replace_json(other / "bundle" / "proofs.json", read_json(SHIPPED / "proofs.json"))
    runs.compare([trained, other], json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["bc.clone.epochs"] == [2, 3]
    assert set(found["config"]) <= {"bc.clone.epochs", "demos.workers", "bc.workers", "ppo.workers"}
    result = read_json(trained / "ppo" / "result.json")
    gain, missing = found["figures"]["ppo.gain"]
    assert gain["ci95"] == result["interval"]
    assert missing is None
    proof = read_json(SHIPPED / "proofs.json")["hard"]["int8"]
    assert found["figures"]["bundle.hard.int8"] == [
        None,
        {"value": proof["success_rate"], "ci95": proof["ci95"]},
    ]
    runs.list_(trained.parent, json=True)
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert [row["run"] for row in listed] == [str(other), str(trained)]
    runs.compare([trained, other])
    assert "bc.clone.epochs" in capsys.readouterr().out


def test_plot_draws_the_curves_of_a_run(trained, tmp_path, capsys):
    out = tmp_path / "figures" / "score.svg"
    runs.plot([f"a & b={trained}", str(trained)], out, reach=0.0, json=True)
    told = json.loads(capsys.readouterr().out)
    frames = sum(
        s["frames"] for s in read_json(trained / "bc/round-1/result.json")["demonstrations"]
    )
    history = read_json(trained / "ppo" / "result.json")["history"]
    assert told["a & b"]["steps_before"] == [frames]
    assert told["a & b"]["reaches"] == [frames + history[0]["steps"]]
    assert told["run"]["last"] == history[-1]["score"]
    root = ElementTree.parse(out).getroot()
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(str(t).startswith("a & b (Wilson") for t in texts)
    means = [e for e in root.iter() if e.get("class") == "mean"]
    assert len(means) == 2 and all(e.get("d").count("L") == len(history) - 1 for e in means)
    for metric in ("bc/train_loss", "ppo/std"):
        runs.plot([str(trained)], out, metric)
        assert "nan" not in out.read_text()
    with pytest.raises(SteadyhandError, match="ends in .svg"):
        runs.plot([str(trained)], tmp_path / "score.png")
    with pytest.raises(SteadyhandError, match="holds no run"):
        runs.plot([str(tmp_path)], out)


def test_what_is_no_run_is_said_so(tmp_path, trained):
    with pytest.raises(SteadyhandError, match="holds no run"):
        runs.compare([trained, tmp_path])
    with pytest.raises(SteadyhandError, match="two runs or more"):
        runs.compare([trained])
    (tmp_path / "run.json").write_text('{"seed": 1}')
    with pytest.raises(SteadyhandError, match="is not a run's file"):
        Run.read(tmp_path)
    assert find_runs(tmp_path) == []
    assert differing([Run.read(trained)] * 2) == {}
