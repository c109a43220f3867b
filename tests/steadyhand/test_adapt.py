"""``steadyhand train adapt``: the whole verb on a few frames, and what is wrong with its input."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import yaml

from perception.coco import CocoWriter
from perception.frames import FileCamera
from tests.perception.blocks import look
from tests.steadyhand.test_look import assert_one_line, call, one_json

pytest.importorskip("torch")

from tests.perception.test_adapt import BLOCKS, CLASSES, dark, weights, written  # noqa: F401

TINY = (
    "rounds=1", "epochs=1", "batch=4", "warmup_steps=2", "int8.images=2", "pseudo.sure=0.3",
)  # fmt: skip


def frames_from_files(folder) -> None:
    """The set ``frames`` as a user makes it from own images."""
    writer = CocoWriter(folder / "frames", CLASSES)
    for name in ("overhead", "wrist"):
        frame = dark(look(BLOCKS, name)[0])
        k, pose = frame.intrinsics, frame.X_world_cam
        cv2.imwrite(str(folder / f"{name}.png"), frame.rgb[..., ::-1])
        depth = np.rint(frame.depth_m * 1000).astype(np.uint16)
        cv2.imwrite(str(folder / f"{name}_depth.png"), depth)
        place = {"position_m": pose.position_m.tolist(), "quat_xyzw": pose.quat_xyzw.tolist()}
        camera = {"width_px": 320, "height_px": 240, "fx_px": k.fx_px, "fy_px": k.fy_px,
                  "cx_px": k.cx_px, "cy_px": k.cy_px, "X_world_cam": place}  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(camera))
        files = (folder / f"{name}.png", folder / f"{name}_depth.png", folder / f"{name}.yaml")
        writer.add_unlabelled(FileCamera(*files).read(), 0)
    writer.close({})


def test_a_run_says_in_json_what_it_gained(weights, tmp_path, capfd):  # noqa: F811
    frames_from_files(tmp_path)
    for name, change in (("labelled", dark), ("replay", lambda frame: frame)):
        written(tmp_path / name, 2, change)
    words = ["train", "adapt", "--weights", weights.parent, "--out", tmp_path / "out", "--json"]
    for name in ("frames", "labelled", "replay"):
        words += [f"--{name}", tmp_path / name]
    words += [part for value in TINY for part in ("--set", value)]
    result = one_json(call(capfd, *words))
    assert result["new_look"]["images"] == 4
    assert set(result["new_look"]["gain"]) == {"ap", "ap_ci95", "ap_int8", "ap_int8_ci95"}
    assert json.loads((tmp_path / "out" / "adapt.json").read_text())["fp32"] == result["fp32"]
    other = [*words, "--set", "epochs=2"]
    assert_one_line(call(capfd, *other), "holds a run with config_hash", "another --out")


def test_bad_input_is_one_line_and_leaves_no_folder(weights, tmp_path, capfd):  # noqa: F811
    written(tmp_path / "frames", 1, dark)
    out = tmp_path / "out"
    good = {"--frames": tmp_path / "frames", "--weights": weights, "--out": out}
    cases = (
        ({"--frames": tmp_path / "none"}, ("none", "no such file")),
        ({"--weights": tmp_path / "none.pt"}, ("none.pt", "no such file")),
        ({"--weights": tmp_path / "frames" / "instances.json"}, ("not a detector's weights",)),
        ({"--labelled": tmp_path / "frames"}, ("--labelled", "folder of --frames")),
        ({"--set": "epoch=2"}, ("epoch", "epochs")),
        ({"--set": "pseudo.sure=2"}, ("pseudo.sure", "out of range")),
    )
    for change, expected in cases:
        words = [part for pair in {**good, **change}.items() for part in pair]
        assert_one_line(call(capfd, "train", "adapt", *words), *expected)
    assert not out.exists()
