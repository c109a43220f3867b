"""``steadyhand scenes`` and ``bench perception``, and what ``export --keep-fp32`` leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import onnx
import pytest

from policies.bundle.format import shipped
from robot.errors import SteadyhandError
from steadyhand.export import _fp32_of, fp32_beside
from tests.steadyhand.test_look import assert_one_line, call, one_json


def test_a_set_is_written_resumed_and_shown(tmp_path, capfd):
    words = ("scenes", "--objects", "validation", "--seed", 4, "--json")
    out = tmp_path / "set"
    first = one_json(call(capfd, *words, "--out", out, "--count", 1, "--workers", 0))
    assert (first["scenes"], first["images"]) == (1, 2)
    shard = out / "scenes" / "000000.json"
    made = shard.stat().st_mtime_ns
    again = one_json(call(capfd, *words, "--out", out, "--count", 2, "--workers", 1))
    assert (again["scenes"], again["images"]) == (2, 4)
    assert again["objects"] >= first["objects"]
    assert shard.stat().st_mtime_ns == made
    sheet = cv2.imread(again["contact_sheet"])
    assert sheet.shape[1] == 4 * 640 + 3 * 6
    other = ("scenes", "--objects", "validation", "--seed", 5, "--out", out, "--count", 2)
    assert_one_line(call(capfd, *other, "--workers", 0), "already holds another set", "seed")


@pytest.fixture
def trained(tmp_path) -> Path:
    """A detector's folder as training leaves it; the file called fp32 only says that it is."""
    int8 = tmp_path / "detector.onnx"
    shutil.copy(shipped() / "models" / "detector.onnx", int8)
    annotated(int8, tmp_path / "detector_fp32.onnx", precision="fp32")
    return int8


def annotated(source: Path, target: Path, **metadata: str) -> None:
    model = onnx.load(str(source))
    for item in model.metadata_props:
        item.value = metadata.get(item.key, item.value)
    onnx.save(model, str(target))


def test_the_fp32_detector_is_found_only_where_it_is_the_same_one(trained, tmp_path):
    fp32 = tmp_path / "detector_fp32.onnx"
    assert _fp32_of(trained) == fp32.read_bytes()
    assert fp32_beside(tmp_path / "my-bundle") == tmp_path / "my-bundle_detector_fp32.onnx"
    annotated(trained, fp32, config_hash="another")
    with pytest.raises(SteadyhandError, match=r"another training \(another\)"):
        _fp32_of(trained)
    fp32.unlink()
    with pytest.raises(SteadyhandError, match=r"detector_fp32\.onnx: --keep-fp32 needs"):
        _fp32_of(trained)


def test_detectors_are_timed_side_by_side(trained, capfd):
    words = ("bench", "perception", "--images", 2, "--rounds", 1, "--json")
    fp32 = trained.with_name("detector_fp32.onnx")
    result = one_json(call(capfd, *words, "--fp32", fp32))
    assert result["missing"] == {}
    for name in ("int8", "fp32", "torchvision"):
        assert 0 < result[f"{name}_ms"]["p50"] <= result[f"{name}_ms"]["p99"]
    assert result["torchvision_over_int8"] > 1.5
    assert 0.2 < result["fp32_over_int8"] < 5.0  # here both are the same graph
    alone = one_json(call(capfd, *words))
    assert alone["fp32_ms"] is None
    assert "--keep-fp32" in alone["missing"]["fp32"]
    assert_one_line(call(capfd, *words, "--fp32", trained), "is an int8 detector")
