"""Nothing that is done to a bundle passes, crashes, or makes the reader do anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from policies.bundle.forgery import _field, _graph_parts, _with_graph
from policies.bundle.format import Bundle, shipped
from policies.bundle.fuzz import fuzz
from policies.bundle.graph import OPERATORS, GraphError, read_graph
from policies.bundle.manifest import BundleError
from policies.bundle.tampering import ATTACKS, put, sign
from policies.bundle.verify import verify_bundle
from robot.errors import SteadyhandError


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle without its detector, which takes long to open."""
    root = tmp_path_factory.mktemp("light") / "bundle"
    shutil.copytree(shipped(), root)
    (root / "models/detector.onnx").unlink()

    def without(content: dict) -> None:
        content["roles"].pop("detector")

    import json

    manifest = json.loads((root / "manifest.json").read_text())
    manifest["files"].pop("models/detector.onnx")
    put(root / "manifest.json", json.dumps(manifest).encode())
    sign(root, without)
    return root


def test_hundreds_of_corrupted_copies_are_refused(light: Path) -> None:
    report = fuzz(light, 300, seed=1)
    assert not report.accepted, report.accepted
    assert not report.crashed, report.crashed
    assert not report.acted, report.acted
    assert report.refused == 300 and set(report.cases) == set(ATTACKS)


@pytest.mark.slow
def test_ten_thousand_corrupted_copies_are_refused() -> None:
    report = fuzz(shipped(), 10_000)
    assert report.ok and report.refused == 10_000
    assert report.peak_mb < 1000


def test_the_fuzz_can_fail(light: Path, tmp_path: Path) -> None:
    """An attack that does nothing must be reported as accepted, one that leaks as an act."""
    from policies.bundle import fuzz as module

    def nothing(root: Path, outside: Path, rng: np.random.Generator) -> None:
        pass

    ways = dict(ATTACKS)
    try:
        ATTACKS.clear()
        ATTACKS["nothing"] = nothing
        report = module.fuzz(light, 2)
    finally:
        ATTACKS.clear()
        ATTACKS.update(ways)
    assert len(report.accepted) == 2 and not report.ok
    (tmp_path / "broken").mkdir()
    with pytest.raises(SteadyhandError, match="is not sound itself"):
        fuzz(tmp_path / "broken", 1)


def test_the_graph_reader_agrees_with_onnx() -> None:
    import onnx

    bundle = Bundle.load(shipped())
    for role in ("policy", "policy_fp32", "detector", "scorer"):
        model = bundle.model(role)
        theirs = onnx.load_from_string(model)
        ours = read_graph(model, role)
        assert sum(ours.operators.values()) == len(theirs.graph.node)
        assert set(ours.operators) == {n.op_type for n in theirs.graph.node} <= OPERATORS
        assert ours.inputs == tuple(i.name for i in theirs.graph.input)
        assert ours.outputs == tuple(o.name for o in theirs.graph.output)
        held = sum(int(np.prod(t.dims)) for t in theirs.graph.initializer)
        constants = [
            a.t
            for n in theirs.graph.node
            for a in n.attribute
            if a.type == onnx.AttributeProto.TENSOR
        ]
        assert ours.parameters == held + sum(int(np.prod(t.dims)) for t in constants)
        assert ours.opset == 17


def test_every_forged_graph_is_refused(tmp_path: Path) -> None:
    model = Bundle.load(shipped()).model("policy_fp32")
    rng = np.random.default_rng(0)
    parts = _graph_parts(tmp_path / "outside.bin", rng)
    assert _with_graph(model, b"") and read_graph(_with_graph(model, b""), "same")
    for part in parts:
        with pytest.raises(GraphError, match="same: .") as caught:
            read_graph(_with_graph(model, part), "same")
        assert "\n" not in str(caught.value)
    with pytest.raises(GraphError, match="functions of its own"):
        read_graph(model + _field(25, b""), "same")
    for size in range(0, len(model), 997):
        with pytest.raises(GraphError):
            read_graph(model[:size], "same")


def test_an_alias_bomb_in_the_limits_is_refused_at_once(light: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(light, tmp_path / "bundle"))
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{chr(c)}: &{chr(c)} [{', '.join([f'*{chr(c - 1)}'] * 9)}]" for c in range(98, 112)]
    put(root / "limits.yaml", "\n".join(lines).encode())
    sign(root)
    failed = {c.name: c.detail for c in verify_bundle(root) if not c.ok}
    assert "unfolds to more than" in failed["limits"]


@pytest.mark.parametrize("what", ["fifo", "zero", "folder"])
def test_a_manifest_that_is_no_file_is_refused(light: Path, tmp_path: Path, what: str) -> None:
    root = Path(shutil.copytree(light, tmp_path / "bundle"))
    manifest = root / "manifest.json"
    manifest.unlink()
    if what == "fifo":
        import os

        os.mkfifo(manifest)
    elif what == "zero":
        manifest.symlink_to("/dev/zero")
    else:
        manifest.mkdir()
    with pytest.raises(BundleError):
        Bundle.load(root)
