"""A bundle is whole or refused, whatever was done to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.bundle.contents import card_markdown, record_reference, robot_files
from policies.bundle.format import Bundle, write_bundle
from policies.bundle.manifest import NAME, BundleError, Manifest, entry_of
from policies.bundle.reading import array_bytes
from policies.bundle.verify import verify_bundle
from policies.compression.quantize import QuantizeConfig, quantize_policy
from policies.edge.metadata import PolicyMetadata, robot_observation
from policies.edge.runtime import EdgePolicy
from policies.learning.export import export_onnx
from policies.learning.network import NetworkConfig, PolicyNetwork
from robot.errors import SteadyhandError
from robot.execution.action import ACTION

OBSERVATION, UNITS = robot_observation()


def content(seed: int = 0) -> dict:
    torch.manual_seed(seed)
    n = len(OBSERVATION)
    network = PolicyNetwork(NetworkConfig(hidden=(64, 64)), np.zeros(n), np.ones(n), len(ACTION))
    network.head.weight.data.mul_(10)
    metadata = PolicyMetadata(
        OBSERVATION,
        ACTION,
        UNITS,
        action_scale={"linear_m_s": 0.25, "yaw_rad_s": 1.5, "opening_m": 0.08},
        frames={"observation": "grasp", "action": "grasp"},
        config_hash="abc",
    )
    fp32 = export_onnx(network, metadata)
    x = np.random.default_rng(0).normal(size=(400, n)).astype(np.float32)
    int8, _ = quantize_policy(fp32, x, QuantizeConfig(samples=200))
    models = {"policy": int8, "policy_fp32": fp32}
    files = robot_files()
    card = {"made": {"episodes": 3, "success_rate": 0.96812}, "notes": ["a | b"]}
    return {
        "models": models,
        "limits_yaml": files.pop("limits.yaml"),
        "card": card,
        "card_text": card_markdown(card),
        "reference": record_reference(
            models, {r: {"observation": x[:50]} for r in ("policy", "policy_fp32")}
        ),
        "created_from": {"git_commit": "0" * 40, "config_hash": "abc"},
        "extra": files,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("bundle") / "one"
    parts = content()
    write_bundle(root, **parts)
    return root, parts


@pytest.fixture
def bundle(made: tuple[Path, dict], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "copy"))


def test_a_good_bundle_passes_every_check(bundle: Path) -> None:
    checks = verify_bundle(bundle)
    assert [c.name for c in checks if not c.ok] == []
    assert {"integrity", "size", "policy reference", "policy_fp32 bad input"} <= {
        c.name for c in checks
    }
    loaded = Bundle.load(bundle)
    assert loaded.card["made"]["episodes"] == 3
    assert "| success rate | 0.9681 |" in (bundle / "CARD.md").read_text()
    x = loaded.reference()["policy/in/observation"][0]
    for precision, role in (("int8", "policy"), ("fp32", "policy_fp32")):
        action = EdgePolicy(loaded, precision).act(x)
        expected = loaded.reference()[f"{role}/out/action"][0]
        assert np.abs(action - expected).max() < (1e-5 if precision == "fp32" else 0.05)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_flipped_bit_is_refused(made: tuple[Path, dict], data: st.DataObject) -> None:
    root = made[0]
    files = sorted(p for p in root.rglob("*") if p.is_file())
    file = data.draw(st.sampled_from(files))
    original = file.read_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(original)
    changed[at] ^= 1 << bit
    try:
        file.write_bytes(bytes(changed))
        with pytest.raises(BundleError) as caught:
            Bundle.load(root)
    finally:
        file.write_bytes(original)
    assert "\n" not in str(caught.value)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_cut_or_grown_or_missing_file_is_refused(
    made: tuple[Path, dict], data: st.DataObject
) -> None:
    root = made[0]
    file = data.draw(st.sampled_from(sorted(p for p in root.rglob("*") if p.is_file())))
    original = file.read_bytes()
    how = data.draw(st.sampled_from(["cut", "grown", "missing", "empty"]))
    try:
        if how == "missing":
            file.unlink()
        else:
            cut = original[: data.draw(st.integers(0, len(original) - 1))]
            file.write_bytes({"cut": cut, "grown": original + b" ", "empty": b""}[how])
        with pytest.raises(BundleError):
            Bundle.load(root)
        assert [c.name for c in verify_bundle(root)] == ["integrity"]
    finally:
        file.write_bytes(original)


def _rewrite(root: Path, change: object) -> None:
    """Change the manifest and give it a valid digest again."""
    content = json.loads((root / NAME).read_bytes())
    change(content)  # type: ignore[operator]
    content.pop("self_sha256")
    from policies.bundle.manifest import _canonical, _self_digest

    (root / NAME).write_bytes(_canonical({**content, "self_sha256": _self_digest(content)}))


def _outside(content: dict) -> None:
    content["files"]["../evil"] = {"size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "version 2 is not supported"),
        (lambda c: c.update(version=True), "malformed"),  # equal to 1, and no number
        (lambda c: c.update(kind="zip"), "is no manifest"),
        (_outside, "not a path inside the bundle"),
        (lambda c: c["files"].update({"/etc/passwd": c["files"]["CARD.md"]}), "not a path inside"),
        (lambda c: c["roles"].pop("policy"), "no file has the role 'policy'"),
        (lambda c: c["roles"].update(brain="CARD.md"), "unknown role 'brain'"),
        (lambda c: c["roles"].update(policy="models/x.onnx"), "which is not listed"),
        (lambda c: c["files"].pop("limits.yaml"), "limits.yaml is not listed"),
        (lambda c: c["files"]["CARD.md"].update(size=13_000_000), "at most 12 MB"),
        (lambda c: c.update(files=[]), "is malformed"),
    ],
)
def test_a_wrong_manifest_is_refused(bundle: Path, change: object, message: str) -> None:
    _rewrite(bundle, change)
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle)


def test_what_is_not_a_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        Bundle.load(tmp_path / "nowhere")
    (bundle / "models" / "more.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"models/more.onnx is not listed"):
        Bundle.load(bundle)
    (bundle / "models" / "more.onnx").unlink()
    card = (bundle / "CARD.md").read_bytes()
    (tmp_path / "elsewhere").write_bytes(card)
    (bundle / "CARD.md").unlink()
    (bundle / "CARD.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="is a link"):
        Bundle.load(bundle)


def _replace(root: Path, path: str, data: bytes) -> None:
    """Put another file in, with a manifest that agrees."""
    (root / path).write_bytes(data)
    entry = entry_of(data)

    def change(content: dict) -> None:
        content["files"][path] = {"size": entry.size, "sha256": entry.sha256}

    _rewrite(root, change)


def test_verify_finds_another_model_behind_good_digests(bundle: Path) -> None:
    other = content(seed=5)["models"]
    _replace(bundle, "models/policy_fp32.onnx", other["policy_fp32"])
    failed = {c.name: c.detail for c in verify_bundle(bundle) if not c.ok}
    assert set(failed) == {"policy_fp32 reference", "int8 error"}
    assert "differs from the reference" in failed["policy_fp32 reference"]


def test_verify_names_a_model_for_another_robot(bundle: Path) -> None:
    n = len(OBSERVATION)
    network = PolicyNetwork(NetworkConfig(hidden=(8,)), np.zeros(n), np.ones(n), len(ACTION))
    names = ("wrong", *OBSERVATION[1:])
    model = export_onnx(network, PolicyMetadata(names, ACTION, UNITS))
    _replace(bundle, "models/policy_fp32.onnx", model)
    failed = {c.name: c.detail for c in verify_bundle(bundle) if not c.ok}
    assert "observation 'wrong' is none of those" in failed["policy_fp32 metadata"]


def test_pickles_and_broken_models_run_nothing(bundle: Path) -> None:
    evil = np.array([print], dtype=object)
    import io

    stream = io.BytesIO()
    np.savez(stream, **{"policy|in|observation": evil})
    _replace(bundle, "reference.npz", stream.getvalue())
    failed = {c.name: c.detail for c in verify_bundle(bundle) if not c.ok}
    assert "is not a whole archive of arrays" in failed["reference"]
    _replace(bundle, "models/policy.onnx", b"\x08\x07nonsense")
    failed = {c.name: c.detail for c in verify_bundle(bundle) if not c.ok}
    assert "is not a whole ONNX model" in failed["integrity"]


def test_a_model_with_data_outside_is_refused(bundle: Path) -> None:
    import onnx

    model = onnx.load(bundle / "models/policy_fp32.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret.bin")
    _replace(bundle, "models/policy_fp32.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match="refers to data outside"):
        Bundle.load(bundle)


def _tree(root: Path) -> Iterator[tuple[str, bytes]]:
    for p in sorted(root.rglob("*")):
        if p.is_file():
            yield p.relative_to(root).as_posix(), p.read_bytes()


def test_writing_is_all_or_nothing(made: tuple[Path, dict], bundle: Path, tmp_path: Path) -> None:
    before = dict(_tree(bundle))
    parts = made[1]
    too_large = {**parts, "extra": {"big.bin": bytes(13_000_000)}}
    with pytest.raises(BundleError, match="at most 12 MB"):
        write_bundle(bundle, **too_large)
    with pytest.raises(BundleError, match="no file has the role 'policy'"):
        write_bundle(bundle, **{**parts, "models": {"policy_fp32": b"x"}})
    assert dict(_tree(bundle)) == before
    write_bundle(bundle, **{**parts, "created_from": {"git_commit": "1" * 40}})
    assert Bundle.load(bundle).manifest.created_from["git_commit"] == "1" * 40
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(BundleError, match="is no bundle; it is not overwritten"):
        write_bundle(tmp_path / "mine", **parts)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


def test_slots_for_scorer_and_proofs(made: tuple[Path, dict], tmp_path: Path) -> None:
    parts = dict(made[1])
    models = {**parts["models"], "scorer": parts["models"]["policy_fp32"]}
    x = np.zeros((2, len(OBSERVATION)), dtype=np.float32)
    reference = {
        **parts["reference"],
        **record_reference(models, {"scorer": {"observation": x}}),
    }
    parts |= {
        "models": models,
        "reference": reference,
        "extra": {**parts["extra"], "proofs.json": b"{}"},
    }
    bundle = write_bundle(tmp_path / "two", **parts)
    assert bundle.manifest.roles["proofs"] == "proofs.json"
    checks = {c.name: c.ok for c in verify_bundle(tmp_path / "two")}
    assert checks["scorer reference"] and all(checks.values())


def test_the_detectors_reference_is_compared_by_overlap() -> None:
    from policies.bundle.verify import _same_detections

    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]], dtype=np.float32)
    expected = {"boxes_xyxy_px": boxes, "scores": np.array([0.9, 0.8, 0.2], dtype=np.float32)}
    moved = {"boxes_xyxy_px": boxes + 0.3, "scores": np.array([0.85, 0.7, 0.3], dtype=np.float32)}
    assert "2 of 2" in _same_detections(moved, expected)
    wrong = {**moved, "boxes_xyxy_px": boxes + 8}
    with pytest.raises(SteadyhandError, match="of 2 reference detections 2 are missed"):
        _same_detections(wrong, expected)


def test_manifest_bytes_are_canonical() -> None:
    entry = entry_of(b"x")
    names = ("limits.yaml", "card.json", "CARD.md", "reference.npz", "a.onnx")
    manifest = Manifest(dict.fromkeys(names, entry), {"policy": "a.onnx", "policy_fp32": "a.onnx"})
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data, "m") == manifest
    with pytest.raises(BundleError, match="its form differs"):
        Manifest.from_bytes(data.replace(b"  ", b"   ", 1), "m")
    assert array_bytes({"a/b": np.zeros(2)})
