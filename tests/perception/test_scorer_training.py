"""The scorer learns a rule from trials, resumes, is calibrated, and exports to what it is."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from perception.coco import DatasetError
from perception.scorer import OnnxGraspScorer
from perception.session import ModelError
from perception.training.calibration import (
    Platt,
    area_under_curve,
    figures,
    fit_platt,
    reliability,
    reliability_svg,
)
from perception.trials import SceneTrials
from robot.geometry import grasp_rotation
from robot.types import GraspCandidate, HeightMap, Pose

torch = pytest.importorskip("torch")

from perception.training.scorer import (  # noqa: E402
    Samples,
    ScorerNetwork,
    ScorerTrainConfig,
    load_network,
    samples_of,
    train_scorer,
)
from perception.training.scorer_compress import (  # noqa: E402
    ScorerCompressConfig,
    compress_scorer,
)
from perception.training.scorer_export import (  # noqa: E402
    DIAGRAM,
    MODEL,
    REPORT,
    CalibratedScorer,
    export_onnx,
    export_scorer,
    parity,
)

CONFIG = ScorerTrainConfig(channels=(8, 8, 8), hidden=24, epochs=8, batch=32, dropout=0.0)
STEP = 0.0025


def bar(rng: np.random.Generator) -> SceneTrials:
    """A bar along x, and grips at all angles: across it they hold, along it they do not."""
    height = np.zeros((100, 100), np.float32)
    height[20:80, 44:56] = rng.uniform(0.03, 0.06)
    grid = HeightMap(np.zeros(2), STEP, height, np.ones_like(height, dtype=bool), 0.0)
    grips, outcomes = [], []
    for _ in range(10):
        yaw = rng.uniform(-np.pi, np.pi)
        at = (rng.uniform(0.1, 0.15), 0.124, 0.02)
        pose = Pose.from_matrix("world", "grasp", grasp_rotation(float(yaw)), at)
        grips.append(GraspCandidate(pose, 0.03, 0.07, float(rng.normal()), -1, 0.0))
        # A tenth of the outcomes is luck, so that no honest probability is 0 or 1.
        good = (abs(np.sin(yaw)) < 0.5) ^ (rng.random() < 0.1)
        outcomes.append("held" if good else "missed")
    return SceneTrials(grid, tuple(grips), tuple(outcomes), ("planned",) * 10, ("bar",))


@pytest.fixture(scope="module")
def sets() -> tuple[Samples, Samples]:
    rng = np.random.default_rng(0)
    made = [bar(rng) for _ in range(100)]
    return samples_of(made[:60]), samples_of(made[60:])


@pytest.fixture(scope="module")
def trained(sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("scorer")
    return out, train_scorer(sets[0], out, CONFIG, sets[1])


def test_it_learns_the_rule_on_scenes_it_has_not_seen(trained):
    rows = [json.loads(line) for line in (trained[0] / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == CONFIG.epochs
    # With a tenth of luck nobody does better than about 0.9.
    assert rows[-1]["validation_auc"] > 0.8
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_an_interrupted_run_becomes_the_same_network(sets, trained, tmp_path):
    assert train_scorer(sets[0], tmp_path, CONFIG, stop_after_epochs=3) is None
    again, _ = load_network(train_scorer(sets[0], tmp_path, CONFIG))
    for a, b in zip(load_network(trained[1])[0].parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ModelError, match="another folder"):
        train_scorer(sets[0], tmp_path, replace(CONFIG, hidden=8))


def test_the_export_computes_what_torch_does_and_says_how_good_it_is(sets, trained, tmp_path):
    report = export_scorer(trained[1], tmp_path, sets[1], "0" * 40)
    assert report["parity"] < 1e-5
    scorer = OnnxGraspScorer(tmp_path / MODEL)
    assert scorer.metadata["git_commit"] == "0" * 40
    written = json.loads((tmp_path / REPORT).read_text())["calibration"]
    assert written["calibrated"]["n"] == len(sets[1])
    assert written["calibrated"]["ece"] < 0.15  # a bin holds 40 trials
    assert written["calibrated"]["auc"] > 0.8 > written["analytic_auc"]
    ET.fromstring((tmp_path / DIAGRAM).read_text())
    rng = np.random.default_rng(5)
    trials = bar(rng)
    found = scorer.score(trials.height_map, trials.candidates)
    assert found.shape == (10,) and ((found >= 0) & (found <= 1)).all()
    across = [abs(np.sin(np.arctan2(*c.X_world_grasp.rotation[1::-1, 0]))) < 0.4
              for c in trials.candidates]  # fmt: skip
    assert found[across].mean() > found[np.logical_not(across)].mean() + 0.3
    assert scorer.score(trials.height_map, ()).shape == (0,)


def test_the_default_network_is_small_and_other_weights_are_refused(tmp_path):
    count = sum(p.numel() for p in ScorerNetwork(ScorerTrainConfig()).parameters())
    assert count < 150_000
    with pytest.raises(ModelError, match="no such file"):
        load_network(tmp_path / "weights.pt")
    torch.save({"network": {}}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="not a scorer's weights"):
        load_network(tmp_path / "weights.pt")
    with pytest.raises(DatasetError, match="not one scene"):
        samples_of([])


def test_a_number_that_is_not_finite_counts_as_no_chance(sets, trained):
    module = CalibratedScorer(load_network(trained[1])[0], Platt(1.2, -0.3)).eval()
    model = export_onnx(module, "abc")
    scorer = OnnxGraspScorer(model)
    number = sets[1].number[:3].copy()
    number[1, 0] = np.nan
    found = scorer.run(sets[1].patch[:3], number)
    assert found[1] == 0.0 and (found[[0, 2]] > 0).all()
    other = CalibratedScorer(module.network, Platt(2.0, 1.0)).eval()
    with pytest.raises(ModelError, match="differ by"):
        parity(other, model, sets[1])


def test_platt_finds_the_scaling_that_made_the_outcomes():
    rng = np.random.default_rng(1)
    logit = rng.normal(0, 2, 20_000)
    held = rng.random(20_000) < Platt(0.5, 0.8)(logit)
    found = fit_platt(logit, held)
    assert (found.slope, found.offset) == pytest.approx((0.5, 0.8), abs=0.06)
    assert figures(found(logit), held).ece < 0.02 < figures(Platt()(logit), held).ece
    # No failure at all must not give an infinite slope.
    sure = fit_platt(logit[:50], np.ones(50, dtype=bool))
    assert np.isfinite([sure.slope, sure.offset]).all()


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(2)
    score, held = rng.integers(0, 8, 200).astype(float), rng.random(200) < 0.6
    pairs = score[held][:, None] - score[~held][None]
    expected = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    assert area_under_curve(score, held) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(area_under_curve(score, np.ones(200, dtype=bool)))


def test_figures_by_hand():
    probability, held = np.array([0.2, 0.2, 0.8, 0.8]), np.array([False, True, True, True])
    found = figures(probability, held)
    assert found.brier == pytest.approx((0.04 + 0.64 + 0.04 + 0.04) / 4)
    assert found.base_rate == 0.75 and found.n == 4
    assert sum(count for _, _, count in reliability(probability, held)) == 4
    assert figures(np.zeros(0), np.zeros(0, dtype=bool)).n == 0
    root = ET.fromstring(reliability_svg(probability, held, "a < b"))
    assert len(root.findall(".//{*}circle")) == len(reliability(probability, held))


@pytest.mark.parametrize("method", ["ptq", "qat"])
def test_an_int8_scorer_orders_as_the_other_does(sets, trained, method):
    import onnx

    config = ScorerCompressConfig(
        method=method, samples=300, epochs=2, max_auc_loss=0.02, reduce_range=True
    )
    model, report = compress_scorer(trained[1], *sets, config, "0" * 40)
    assert report["bytes"] < report["fp32_bytes"]
    assert report["difference"]["mean"] < 0.05
    assert abs(report["int8"]["auc"] - report["fp32"]["auc"]) < 0.02
    scorer = OnnxGraspScorer(model)
    assert scorer.metadata["precision"] == "int8"
    kinds = {n.op_type for n in onnx.load_from_string(model).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= kinds


def test_an_int8_scorer_that_loses_too_much_is_refused(sets, trained):
    """Ranges taken from empty trials cut off all that there is to see."""
    data = sets[0]
    empty = replace(data, patch=np.zeros_like(data.patch), number=np.zeros_like(data.number))
    with pytest.raises(ModelError, match="int8 loses"):
        compress_scorer(trained[1], empty, sets[1], ScorerCompressConfig(samples=100))
