"""Recipes: each step does what it says, in torch and in the graph that comes out."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from configs.load import find
from perception.session import open_session
from perception.training.rounding import Rounding, affine
from policies.bundle.format import Bundle
from policies.bundle.verify import verify_bundle
from policies.compression.fit import error, fit, twin
from policies.compression.frontier import RULE, Final, Point, choice, front, markdown, plot
from policies.compression.low_rank import factored
from policies.compression.prune import importance, prune, sparsity
from policies.compression.quantize import QuantizeConfig
from policies.compression.recipe import (
    DistillConfig,
    FitConfig,
    LowRankConfig,
    PruneConfig,
    QatConfig,
    Recipe,
    Step,
    load_recipe,
)
from policies.compression.sweep import variant_folder
from policies.compression.variant import compress, write_variant
from policies.demos.dataset import Demonstrations
from policies.edge.runtime import EdgePolicy
from policies.learning.clone import IGNORED_STD
from policies.learning.network import NetworkConfig, PolicyNetwork
from robot.errors import ConfigError, SteadyhandError

QUICK = FitConfig(epochs=4, batch_size=128, learning_rate=3e-3)


@pytest.fixture(scope="module")
def taught(reach_demos: Demonstrations) -> PolicyNetwork:
    """A network that has learned the reach demonstrations well enough to have structure."""
    torch.manual_seed(0)
    x = reach_demos.observation
    network = PolicyNetwork(
        NetworkConfig(hidden=(64, 64)), x.mean(0), x.std(0) + 0.05, reach_demos.action.shape[1]
    )
    config = FitConfig(epochs=30, batch_size=128, learning_rate=3e-3, noise=0.0, label_weight=1.0)
    fit(network, network, reach_demos, config, network.raw)
    return network


def recipe(*steps: Step) -> Recipe:
    return Recipe("", steps)


def test_every_shipped_recipe_reads() -> None:
    files = sorted(Path(find("compress", "ptq")).parent.glob("*.yaml"))
    recipes = [load_recipe(f) for f in files]
    assert len({r.digest for r in recipes}) == len(files) >= 15
    assert all(r.about and r.steps for r in recipes)
    kinds = {step.kind for r in recipes for step in r.steps}
    assert kinds == {"distill", "prune", "low_rank", "qat", "ptq"}


def test_a_recipe_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("steps:\n  - ptq: {}\n  - prune: {}\n")
    with pytest.raises(ConfigError, match="ptq makes the policy int8 and must be the last"):
        load_recipe(file)
    file.write_text("steps:\n  - {ptq: {}, prune: {}}\n")
    with pytest.raises(ConfigError, match="a step is one of distill, prune"):
        load_recipe(file)
    file.write_text("steps:\n  - prune: {share: 2}\n")
    with pytest.raises(ConfigError, match="share"):
        load_recipe(file)


def test_channels_that_do_nothing_go_first(
    taught: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    """Dead channels are added to a network; pruning just their share must change nothing."""
    wide = PolicyNetwork(
        NetworkConfig(hidden=(96, 96)),
        taught.normalizer.mean.numpy(),
        taught.normalizer.std.numpy(),
        taught.action_size,
    )
    keep = [torch.randperm(96, generator=torch.Generator().manual_seed(i))[:64] for i in (1, 2)]
    with torch.no_grad():
        for layer in wide.linears():
            layer.weight.zero_()
            layer.bias.zero_()
        (a, b, c), (x, y, z) = wide.linears(), taught.linears()
        a.weight[keep[0]], a.bias[keep[0]] = x.weight, x.bias
        b.weight[keep[1][:, None], keep[0]], b.bias[keep[1]] = y.weight, y.bias
        c.weight[:, keep[1]], c.bias[:] = z.weight, z.bias
    assert error(taught, reach_demos, wide.raw) < 1e-6
    still = FitConfig(epochs=0)
    for by in ("weight", "gradient", "activation"):
        config = PruneConfig(share=1 / 3, by=by, rounds=2, fit=still)
        small = prune(wide, wide, reach_demos, config)
        assert small.config.hidden == (64, 64)
        assert error(wide, reach_demos, small.raw) < 1e-6, by


def test_single_weights_stay_zero_through_learning(
    taught: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    config = PruneConfig(share=0.8, structure="unstructured", rounds=3, fit=QUICK)
    before = [p.clone() for p in taught.parameters()]
    thin = prune(taught, taught, reach_demos, config)
    assert sparsity(thin) == pytest.approx(0.8, abs=0.002)
    bare = prune(
        taught,
        taught,
        reach_demos,
        PruneConfig(share=0.8, structure="unstructured", rounds=1, fit=FitConfig(epochs=0)),
    )
    assert error(taught, reach_demos, thin.raw) < 0.5 * error(taught, reach_demos, bare.raw)
    assert all(torch.equal(a, b) for a, b in zip(before, taught.parameters(), strict=True))


def test_importances_differ_and_see_what_they_should(
    taught: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    scores = {
        by: importance(taught, reach_demos, by) for by in ("weight", "gradient", "activation")
    }
    for rows in scores.values():
        assert [r.shape for r in rows] == [m.weight.shape for m in taught.linears()]
        assert all((r >= 0).all() for r in rows)
    # The fourth number of this environment's observation never varies: it is normalized to zero.
    assert float(scores["activation"][0][:, 3].max()) == 0.0
    assert float(scores["gradient"][0][:, 3].max()) == 0.0
    assert float(scores["weight"][0][:, 3].max()) > 0.0


def test_a_layer_of_low_rank_is_found_out() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(60, 50)
    with torch.no_grad():
        a, b = (torch.randn(s, generator=generator) for s in ((50, 5), (5, 60)))
        layer.weight.copy_(a @ b)
    x = torch.randn(40, 60, generator=generator)
    norm = x.pow(2).mean(0).sqrt()
    first, second = factored(layer, norm, LowRankConfig(energy=0.999999))
    assert first.out_features == 5
    assert torch.allclose(second(first(x)), layer(x), atol=1e-3)
    full = nn.Linear(60, 50)
    assert factored(full, norm, LowRankConfig(energy=1.0)) == [full]  # two would be larger
    cut = factored(full, norm, LowRankConfig(energy=1.0, rank=7))
    assert cut[0].out_features == 7


def test_rounding_is_what_the_graph_does(
    taught: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    """The trained ranges reach ONNX Runtime, which then computes what torch did while learning."""
    # 7 bits: with 8 a processor without VNNI may saturate a sum, which torch does not imitate.
    qat = QatConfig(float_layers=(), reduce_range=True, fit=QUICK, max_mean_error=0.2)
    variant = compress(taught, reach_demos, recipe(Step(qat=qat)))
    assert variant.acts == "int8"
    graph = onnx.load_from_string(variant.acting)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {n.op_type for n in graph.graph.node}
    x = reach_demos.observation[:500]
    ours = open_session(variant.acting, "int8").run(None, {"observation": x})[0]
    layers = variant.network.linears()
    rounding = Rounding(layers, reduce_range=True)
    variant.network.eval()
    names = [n.input[0] for n in graph.graph.node if n.op_type in ("Gemm", "MatMul")]
    initial = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    for i, name in enumerate(names):
        base = name.removesuffix("_DequantizeLinear_Output")
        scale, zero = float(initial[f"{base}_scale"]), int(initial[f"{base}_zero_point"])
        rounding._ranges[i] = (-zero * scale, (127 - zero) * scale)
    with torch.no_grad():
        theirs = variant.network(torch.from_numpy(x)).numpy()
    rounding.remove()
    plain = variant.network(torch.from_numpy(x)).detach().numpy()
    assert np.abs(ours - theirs).mean() < 0.1 * np.abs(plain - theirs).mean()


def test_training_with_rounding_beats_rounding_afterwards(
    taught: PolicyNetwork, reach_demos: Demonstrations
) -> None:
    """At 7 bits, weights shrunk so that one outlier a channel spoils the grid."""
    coarse = PolicyNetwork(
        taught.config,
        taught.normalizer.mean.numpy(),
        taught.normalizer.std.numpy(),
        taught.action_size,
    )
    coarse.load_state_dict(taught.state_dict())
    with torch.no_grad():
        coarse.linears()[1].weight[:, 0] = 12.0  # an outlier in every channel
        coarse.linears()[0].weight[0] = 0.0
        coarse.linears()[0].bias[0] = -1.0  # of a channel that is never on
    layers = coarse.linears()

    def rounded_error(network: PolicyNetwork) -> float:
        rounding = Rounding(network.linears()[1:2], reduce_range=True)
        network.eval()
        try:
            return error(coarse, reach_demos, network.raw)
        finally:
            rounding.remove()

    before = rounded_error(twin(coarse))
    student = PolicyNetwork(
        coarse.config,
        coarse.normalizer.mean.numpy(),
        coarse.normalizer.std.numpy(),
        coarse.action_size,
    )
    student.load_state_dict(coarse.state_dict())
    rounding = Rounding(student.linears()[1:2], reduce_range=True)
    fit(student, coarse, reach_demos, QUICK, student.raw)
    student.eval()
    after = error(coarse, reach_demos, student.raw)
    rounding.remove()
    assert len(layers) == 3 and after < 0.7 * before


@pytest.mark.parametrize("way", ["dynamic", "entropy", "percentile"])
def test_the_ends_stay_fp32_whatever_the_calibration(
    taught: PolicyNetwork, reach_demos: Demonstrations, way: str
) -> None:
    ptq = QuantizeConfig(calibration=way, outputs=False, max_mean_error=0.5)
    variant = compress(taught, reach_demos, recipe(Step(ptq=ptq)))
    graph = onnx.load_from_string(variant.acting)
    kinds = [n.op_type for n in graph.graph.node]
    if way == "dynamic":
        assert kinds.count("MatMulInteger") == 1 and kinds.count("MatMul") == 2
    else:
        assert kinds.count("QuantizeLinear") == 1  # the input of the layer between
    assert sum(t.data_type == onnx.TensorProto.INT8 for t in graph.graph.initializer) >= 1


def test_scale_and_zero_point_are_the_graphs() -> None:
    scale, zero = affine(-1.0, 3.0)
    assert scale == pytest.approx(4 / 255) and zero == round(255 / 4)
    assert affine(2.0, 3.0) == (pytest.approx(3 / 255), 0)  # the range always holds 0
    assert affine(-1.0, 3.0, True)[0] == pytest.approx(4 / 127)


def test_a_student_is_small_and_close(
    taught: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path
) -> None:
    distill = DistillConfig(
        hidden=(12, 12), fit=FitConfig(epochs=60, batch_size=128, learning_rate=5e-3)
    )
    variant = compress(taught, reach_demos, recipe(Step(distill=distill)))
    count = sum(p.numel() for p in variant.network.parameters())
    assert count < 0.1 * sum(p.numel() for p in taught.parameters())
    assert error(taught, reach_demos, variant.network.raw) < 0.1
    assert variant.acts == "fp32"
    bundle = write_variant(variant, tmp_path / "b", recipe(Step(distill=distill)), {})
    assert [c for c in verify_bundle(tmp_path / "b") if not c.ok] == []
    names = reach_demos.spec.observation_names
    acting = EdgePolicy(bundle, "fp32", names=names)
    with torch.no_grad():
        x = reach_demos.observation[7]
        assert acting.act(x) == pytest.approx(
            variant.network(torch.from_numpy(x[None]))[0].numpy(), abs=1e-5
        )


@pytest.mark.parametrize("teacher", [False, True])
def test_what_the_policy_ignores_is_no_part_of_a_variant(
    taught: PolicyNetwork, reach_demos: Demonstrations, tmp_path: Path, teacher: bool
) -> None:
    blind = copy.deepcopy(taught)
    blind.normalizer.std[3] = IGNORED_STD
    grasp = replace(reach_demos, spec=replace(reach_demos.spec, env={}))
    network, path = blind, None
    if teacher:  # which sees less than the network at hand
        path = tmp_path / "network.pt"
        blind.save(path)
        network = taught
    distill = DistillConfig(hidden=(32, 32), teacher=path, fit=QUICK)
    variant = compress(network, grasp, recipe(Step(distill=distill)))
    assert variant.network.observation_size == 3
    assert variant.demos.spec.observation_names == reach_demos.spec.observation_names[:3]
    assert error(blind, grasp, lambda x: variant.network.raw(x[:, :3])) < 0.3
    assert variant_folder(tmp_path, "s", recipe(), taught) != variant_folder(
        tmp_path, "s", recipe(), blind
    )


def test_steps_follow_each_other(taught: PolicyNetwork, reach_demos: Demonstrations) -> None:
    steps = (
        Step(prune=PruneConfig(share=0.25, rounds=1, fit=QUICK)),
        Step(low_rank=LowRankConfig(energy=0.95, fit=QUICK)),
        Step(qat=QatConfig(fit=QUICK, max_mean_error=0.3)),
    )
    variant = compress(taught, reach_demos, recipe(*steps))
    rows = variant.figures["steps"]
    assert [r["step"] for r in rows] == ["prune", "low_rank", "qat"]
    assert rows[0]["parameters"] > rows[1]["parameters"] == rows[2]["parameters"]
    with pytest.raises(ConfigError, match="channels must go before low_rank"):
        compress(taught, reach_demos, recipe(steps[1], steps[0]))
    strict = Step(qat=QatConfig(fit=FitConfig(epochs=0), max_mean_error=0.0))
    with pytest.raises(SteadyhandError, match="differ from fp32"):
        compress(taught, reach_demos, recipe(strict))


def point(
    name: str, success: float, size: int, p50: float, low: float = 0.0, high: float = 0.0
) -> Point:
    ci = (success - 0.02, min(1.0, success + 0.02))
    acts = "fp32" if name in ("fp32", "student") else "int8"
    return Point(
        name, "a <b>", acts, success, ci, 0.0, (low, high), 200, size, p50, 2 * p50, 1.0, 9, 0.0
    )


def test_the_choice_follows_its_rule() -> None:
    points = [
        point("fp32", 0.97, 300_000, 10.0),
        point("int8", 0.97, 110_000, 8.0, -0.015),
        point("student", 0.96, 30_000, 4.0, -0.03),  # too much may be lost
        point("slow", 0.97, 100_000, 20.0, -0.01),
        point("bad", 0.90, 120_000, 9.0, -0.1, -0.04),
    ]
    lows = {"int8": -0.015, "student": -0.03, "slow": -0.01}

    def decide(name: str) -> Final:
        return Final(name, (0.96, 0.97), -0.01, lows[name], 0.01, 1000)

    for max_loss, chosen, tried in (
        (0.02, "int8", ["student", "int8"]),
        (0.05, "student", ["student"]),
        (0.0, "fp32", ["student", "int8", "slow"]),  # bad is surely worse, and not tried
    ):
        name, finals = choice(points, max_loss, decide)
        assert name == chosen and [final.name for final in finals] == tried
    name, finals = choice(points, 0.05, decide, quantized=True)
    assert name == "int8" and [final.name for final in finals] == ["int8"]
    assert set(front(points)) == {"int8", "student", "slow"}
    rule = RULE.format(which="int8 ", loss=0.02)
    text = markdown(points, "int8", rule, [decide("student"), decide("int8")])
    assert "| int8 **chosen** | int8 | 97.0 %" in text and "of the int8 variants" in text
    assert "at most 2.0% below" in text
    assert "- int8: 96.0 %, fp32 97.0 %; -1.0 points (-1.5 to +1.0) on 1000 fresh pairs" in text
    picture = plot(points, "int8")
    names = {p.name for p in points}
    import xml.etree.ElementTree as ElementTree

    root = ElementTree.fromstring(picture)
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == len(points)
    crowd = ElementTree.fromstring(plot([*points, *points, *points], "int8"))
    labels = [t for t in crowd.iter("{http://www.w3.org/2000/svg}text") if t.text in names]
    places = {(t.get("x"), t.get("y")) for t in labels}
    assert len(places) == len(labels) == 3 * len(points)  # none is written over another


def test_compress_writes_a_bundle_that_verifies(
    capsys: pytest.CaptureFixture[str],
    reach_root: Path,
    reach_demos: Demonstrations,
    tmp_path: Path,
) -> None:
    from steadyhand.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        done = capsys.readouterr()
        return int(left.value.code or 0), done.out, done.err

    run = tmp_path / "run"
    (run / "bc").mkdir(parents=True)
    (run / "demos").symlink_to(reach_root)
    torch.manual_seed(0)
    x = reach_demos.observation
    PolicyNetwork(NetworkConfig(hidden=(32, 32)), x.mean(0), x.std(0), 2).save(
        run / "bc" / "network.pt"
    )
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "about: a small one\nsteps:\n"
        "  - prune: {share: 0.5, rounds: 1, fit: {epochs: 1}}\n"
        "  - qat: {float_layers: [], fit: {epochs: 1}, max_mean_error: 0.5}\n"
    )
    code, out, err = call("compress", run, "--recipe", recipe, "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made["acts"] == "int8" and [s["step"] for s in made["steps"]] == ["prune", "qat"]
    assert [c for c in verify_bundle(Path(made["bundle"])) if not c.ok] == []
    card = Bundle.load(made["bundle"]).card
    assert card["recipe"]["about"] == "a small one"
    assert card["steps"][0]["parameters"] < sum(
        p.numel() for p in PolicyNetwork.load(run / "bc" / "network.pt").parameters()
    )
    for arguments, words in (
        ((tmp_path,), "holds no trained policy"),
        ((run,), "name a recipe"),
        ((run, "--recipe", "nonsense"), "no configuration 'nonsense'"),
        ((run, "--sweep", "--set", "episodes=x"), "episodes"),
    ):
        code, _, err = call("compress", *arguments)
        assert code == 2 and words in err, err
    code, _, err = call("compress", run, "--sweep", "--recipe", recipe)
    assert code == 2 and "measures grasps" in err
