"""``steadyhand look`` over a simulated scene, over its files, and over what is wrong with files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from steadyhand import cli

VIEWS = ("overhead", "wrist")


def call(capfd, *arguments: object) -> tuple[int, str, str]:
    """Runs the command line here: exit code, standard output, standard error."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return int(stop.value.code or 0), out, err


def one_json(answer: tuple[int, str, str]) -> dict:
    code, out, err = answer
    assert code == 0, err
    (line,) = out.splitlines()
    return json.loads(line)


def assert_one_line(answer: tuple[int, str, str], *words: str) -> None:
    code, out, err = answer
    assert (code, out) == (2, ""), (code, out)
    (line,) = err.splitlines()
    assert line.startswith("steadyhand: ")
    for word in words:
        assert word in line, (word, line)


def arguments(folder: Path, *views: str) -> list[str]:
    out = ["look"]
    for name in views:
        out += [str(folder / f"{name}.png"), "--depth", str(folder / f"{name}_depth.npy")]
        out += ["--camera", str(folder / f"{name}.yaml")]
    return [*out, "--json", "--out", str(folder / "drawn.png")]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> tuple[Path, dict]:
    """Four objects seen by both cameras, saved as files, and what the look at them said."""
    folder = tmp_path_factory.mktemp("look")
    out, saved = folder / "live.png", folder / "views"
    words = ["look", "--live-sim", "--n-objects", "4", "--seed", "2", "--json"]
    lines: list[str] = []
    patch = pytest.MonkeyPatch()
    patch.setattr("typer.echo", lines.append)
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--save", str(saved), "--out", str(out)])
    patch.undo()
    assert not stop.value.code
    return saved, json.loads(lines[0])


@pytest.fixture
def views(simulated, tmp_path) -> Path:
    """A copy of the saved views, to be spoiled."""
    return Path(shutil.copytree(simulated[0], tmp_path / "views"))


def camera(folder: Path, view: str, **values) -> None:
    file = folder / f"{view}.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | values))


def depth(folder: Path, name: str, change) -> None:
    file = folder / f"{name}_depth.npy"
    np.save(file, change(np.load(file)))


def test_a_simulated_scene_is_seen_and_drawn(simulated):
    saved, result = simulated
    assert len(result["objects"]) >= 3
    assert "grasp candidate" in result["verdict"]
    assert [view["camera"] for view in result["views"]] == list(VIEWS)
    assert all(view["used"] and view["detections"] for view in result["views"])
    assert result["left_out"] == {}
    ids = {row["id"] for row in result["objects"]}
    scores = [row["score"] for row in result["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert {row["object_id"] for row in result["candidates"]} <= ids | {-1}
    for row in result["objects"]:
        assert 0.25 < row["position_m"][0] < 0.75
        assert min(row["dimensions_m"]) > 0
        assert row["candidates"] == sum(c["object_id"] == row["id"] for c in result["candidates"])
    drawn = cv2.imread(result["out"])
    assert drawn.shape[1] == 2 * 960 + 8
    raw = cv2.imread(str(saved / "overhead.png"))
    assert raw.shape == (240, 320, 3)


def test_the_saved_views_give_the_same_look(simulated, views, capfd):
    again = one_json(call(capfd, *arguments(views, *VIEWS), "--seed", 2))
    for key in ("verdict", "objects", "candidates", "views"):
        assert again[key] == simulated[1][key], key
    assert (views / "drawn.png").stat().st_size > 10_000
    assert not list(views.glob("*.part"))


def test_for_people_there_is_a_list(views, capfd):
    words = [word for word in arguments(views, *VIEWS) if word != "--json"]
    code, out, err = call(capfd, *words)
    assert (code, err) == (0, "")
    assert "grasp candidate" in out
    assert "irregular" in out
    assert "drawn.png" in out.replace("\n", "")


def test_one_view_is_enough_and_says_what_it_does_not_see(views, capfd):
    alone = one_json(call(capfd, *arguments(views, "overhead")))
    assert alone["objects"]
    # From one side the backs of things are hidden.
    assert any(row["partly_seen"] for row in alone["objects"])
    assert all(row["seen_share"] < 1.0 for row in alone["objects"] if row["partly_seen"])


def test_depth_as_png_is_in_its_unit(views, capfd):
    metres = np.load(views / "wrist_depth.npy")
    cv2.imwrite(str(views / "d.png"), np.rint(metres / 1e-4).astype(np.uint16))
    words = ("look", views / "wrist.png", "--depth", views / "d.png", "--camera")
    words += (views / "wrist.yaml", "--json", "--out", views / "drawn.png")
    right = one_json(call(capfd, *words, "--depth-unit", 1e-4))
    whole = one_json(call(capfd, *arguments(views, "wrist")))
    assert len(right["objects"]) == len(whole["objects"])
    # In millimetres the camera would be ten times as far away as it is.
    assert_one_line(call(capfd, *words), "wrist", "m below z = 0", "unit")


def test_an_empty_table_is_a_verdict(tmp_path, capfd):
    words = ("look", "--live-sim", "--n-objects", 0, "--json", "--out", tmp_path / "a.png")
    result = one_json(call(capfd, *words))
    assert result["verdict"] == "nothing on the table"
    assert result["objects"] == result["candidates"] == []
    assert cv2.imread(str(tmp_path / "a.png")) is not None


def test_colour_alone_says_what_that_costs(simulated, views, capfd):
    words = ("look", views / "wrist.png", "--json", "--out", views / "drawn.png")
    result = one_json(call(capfd, *words))
    assert result["verdict"].startswith("colour alone: the detector also needs heights")
    assert result["objects"] == result["candidates"] == []
    found = len(result["views"][0]["detections"])
    assert found <= len(simulated[1]["views"][1]["detections"])


SPOILT = [
    ("no depth anywhere", lambda f: depth(f, "wrist", np.zeros_like), "no pixel has a valid depth"),
    ("NaN", lambda f: depth(f, "wrist", lambda d: d * np.float32("nan")), "valid depth"),
    ("black", lambda f: cv2.imwrite(str(f / "wrist.png"), np.zeros((240, 320, 3))), "all black"),
    ("old", lambda f: camera(f, "wrist", stamp_s=-9.0), "older than the newest one"),
    ("out of step", lambda f: camera(f, "wrist", depth_stamp_s=90.0), "colour and depth are"),
]


@pytest.mark.parametrize(("spoil", "reason"), [s[1:] for s in SPOILT], ids=[s[0] for s in SPOILT])
def test_a_view_that_cannot_be_used_is_left_out_or_is_the_error(views, capfd, spoil, reason):
    spoil(views)
    code, out, err = call(capfd, *arguments(views, *VIEWS))
    assert code == 0, err
    result = json.loads(out)
    assert reason in result["left_out"]["wrist"]
    assert result["objects"]
    (views / "drawn.png").unlink()
    if reason != "older than the newest one":  # alone it is the newest one itself
        assert_one_line(call(capfd, *arguments(views, "wrist")), "wrist", reason)
        assert not (views / "drawn.png").exists()


def test_how_far_apart_views_may_be_can_be_set(views, capfd):
    camera(views, "wrist", stamp_s=-9.0)
    result = one_json(call(capfd, *arguments(views, *VIEWS), "--max-skew", 20))
    assert result["left_out"] == {}


WRONG = [
    (lambda f: camera(f, "wrist", width_px=640, cx_px=300.0), ("wrist.png", "320x240", "640x240")),
    (lambda f: camera(f, "wrist", cx_px=900.0), ("wrist.yaml", "cx_px", "900", "320 px")),
    (lambda f: camera(f, "wrist", focus=1), ("wrist.yaml", "focus", "unknown key")),
    (lambda f: depth(f, "wrist", lambda d: d[::2]), ("wrist_depth.npy", "320x120", "320x240")),
    (lambda f: (f / "wrist.png").write_bytes(b"no image"), ("wrist.png", "not a readable image")),
    (lambda f: (f / "wrist_depth.npy").unlink(), ("wrist_depth.npy", "no such file")),
    (lambda f: camera(f, "wrist", name="overhead"), ("two cameras", "overhead")),
    (lambda f: [camera(f, n, X_world_cam={"position_m": [9, 9, 1.0], "quat_xyzw": [1, 0, 0, 0]})
                for n in VIEWS], ("sees nothing of the table", "X_world_cam")),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), WRONG, ids=[w[1][-1] for w in WRONG])
def test_files_that_are_wrong_are_one_line(views, capfd, spoil, words):
    spoil(views)
    assert_one_line(call(capfd, *arguments(views, *VIEWS)), *words)
    assert not (views / "drawn.png").exists()


def test_another_size_than_the_detectors_is_one_line(views, capfd):
    image = cv2.imread(str(views / "wrist.png"))
    cv2.imwrite(str(views / "wrist.png"), image[::2, ::2])
    depth(views, "wrist", lambda d: d[::2, ::2])
    camera(views, "wrist", width_px=160, height_px=120, cx_px=79.5, cy_px=59.5, fx_px=140.0)
    assert_one_line(call(capfd, *arguments(views, "wrist")), "160x120", "320x240")
