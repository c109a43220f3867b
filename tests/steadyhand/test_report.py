from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.errors import SteadyhandError
from robot.limits import load_limits
from robot.loop.log import RunLog
from robot.loop.recorder import Recorder
from robot.types import (
    OK,
    CameraIntrinsics,
    Detection,
    GraspCandidate,
    GripperState,
    JointState,
    ObjectState,
    PickResult,
    Pose,
    RgbdFrame,
    RobotState,
    SafetyVerdict,
    Trajectory,
    VerdictLevel,
)
from steadyhand.charts import Line, line_chart, nice_ticks, thin
from steadyhand.report import write_report
from steadyhand.video import VideoWriter

VOID = {"meta", "link", "img", "br", "input"}
PROVENANCE = {"version": "0.1.0", "commit": "3f2c1ab", "seed": 4, "config_hash": "a1b2c3"}


class Page(HTMLParser):
    """Checks that tags close in order, and collects references and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action", "poster"):
                self.references.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def run(log: RunLog, outcomes=((True, "success"), (False, "slipped")), halt: bool = False) -> None:
    rng = np.random.default_rng(0)
    k = 0
    for number, (success, category) in enumerate(outcomes):
        rgb = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        eye = Pose("world", "overhead_color_optical_frame", [0.95, 0, 0.9], [1, 0, 0, 0])
        depth = np.full((48, 64), 0.8, np.float32)
        frame = RgbdFrame(
            "overhead", k / 240, rgb, depth, CameraIntrinsics(64, 48, 60, 60, 32, 24), eye
        )
        where = Pose("world", f"object_{number}", [0.5, 0.1, 0.02], [0, 0, 0, 1])
        thing = ObjectState(number, "cylinder", where, [0.08, 0.04, 0.05], 0.9, False, k / 240)
        log.look([frame], [[Detection((5, 6, 20, 12), 0.87, "cylinder")]], [thing])
        grasp = GraspCandidate(where, 0.04, 0.08, 0.7, number, k / 240)
        log.plan([grasp], Trajectory(np.arange(3) / 240, *[np.zeros((3, 7))] * 3), grasp)
        for phase in ("approach", "descend", "carry"):
            for _ in range(160):
                verdict = OK
                if phase == "carry" and number == 0 and k % 160 < 20:
                    verdict = SafetyVerdict(VerdictLevel.SCALE, 0.5, "tool speed near its limit")
                if halt and phase == "carry" and number == len(outcomes) - 1:
                    verdict = SafetyVerdict(VerdictLevel.HALT, 0.0, "NaN in the command")
                q = np.sin(k / 100 + np.arange(7))
                state = RobotState(k / 240, JointState(q, q, 5 * q), GripperState(0.05, 20.0))
                log.state(k / 240, state, q + 0.001, verdict, phase)
                k += 1
        detail = "" if success else "<lost> & dropped"
        log.pick(PickResult(success, category, number, 2.0, detail), "cylinder")


def result(objects: int, cleared: int, attempts: int) -> dict[str, object]:
    return {
        "objects": objects,
        "cleared": cleared,
        "attempts": attempts,
        "success_rate": cleared / max(attempts, 1),
        "cleared_rate": cleared / max(objects, 1),
        "wall_s": 12.34,
    }


def write(tmp_path: Path, log: RunLog, outcome: dict[str, object], **more) -> tuple[str, Page]:
    path = tmp_path / "report.html"
    write_report(path, log, outcome, PROVENANCE, **more)
    text = path.read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    return text, Page(text)


def test_a_whole_report_stands_alone_and_tells_everything(tmp_path):
    with VideoWriter(tmp_path / "video.mp4", 10, (64, 48)) as video:
        for _ in range(5):
            video.write(np.zeros((48, 64, 3), np.uint8))
    with Recorder(tmp_path / "recording.mcap") as recorder:
        log = RunLog(recorder)
        run(log)
        log.event("bin is half full")
    text, page = write(
        tmp_path,
        log,
        result(2, 1, 2),
        config={"run": {"n_objects": 2}},
        video=tmp_path / "video.mp4",
        recording=recorder,
        limits=load_limits("panda"),
    )
    assert all(r.startswith("data:") for r in page.references)
    assert not re.search(r"https?://|@import|url\(", text)
    assert text.count("data:image/jpeg;base64,") == 2 and "data:video/mp4;base64," in text
    for told in (
        "1 of 2 objects put away",
        "slipped",
        "cylinder",
        "<lost> & dropped",
        "slowed",
        "/perception/objects",
        "vision_msgs/msg/Detection3DArray",
        "3f2c1ab",
        "a1b2c3",
        "n_objects",
        "% of the limit",
        "tool speed near its limit",
        "bin is half full",
        "12.3 s",
    ):
        assert told in page.text, told
    assert "<lost>" not in text
    assert page.tags.count("video") == 1


def test_charts_carry_the_numbers_that_were_logged(tmp_path):
    log = RunLog()
    run(log)
    text, _ = write(tmp_path, log, result(2, 1, 2))
    charts = [json.loads(m) for m in re.findall(r'application/json">(.*?)</script>', text)]
    series = log.series()
    positions = charts[0]
    assert [line["label"] for line in positions["lines"]] == [f"J{i}" for i in range(1, 8)]
    assert np.allclose(positions["t"], series.time_s, atol=1e-3)
    for i, line in enumerate(positions["lines"]):
        assert np.allclose(line["v"], series.position_rad[:, i], rtol=1e-3)
    verdict = next(c for c in charts if c["lines"][0]["label"] == "allowed speed")
    assert min(verdict["lines"][0]["v"]) == 50
    tracking = next(c for c in charts if c["unit"] == "mrad")
    assert np.allclose(tracking["lines"][0]["v"], 1.0, atol=1e-3)


@pytest.mark.parametrize(
    ("outcomes", "counts", "halt", "words"),
    [
        ((), (0, 0, 0), False, "The table was empty: nothing to do"),
        (((True, "success"),), (1, 1, 1), False, "Table cleared"),
        (((True, "success"),) * 2, (2, 2, 2), False, "Table cleared: all 2 objects put away"),
        (((False, "missed"),) * 2, (3, 0, 2), False, "0 of 3 objects put away"),
        (((True, "success"), (False, "halted")), (3, 1, 2), True, "Halted with 1 of 3"),
    ],
)
def test_the_outcome_in_words(tmp_path, outcomes, counts, halt, words):
    log = RunLog()
    run(log, outcomes, halt)
    _, page = write(tmp_path, log, result(*counts))
    assert words in page.text
    assert ("no halt" in page.text) != halt
    if outcomes and all(success for success, _ in outcomes):
        assert "None: every attempt succeeded" in page.text


def test_a_recording_that_failed_is_told(tmp_path):
    recorder = Recorder(tmp_path / "r.mcap")
    recorder.fail("the disk is full")
    _, page = write(tmp_path, RunLog(), result(0, 0, 0), recording=recorder)
    assert "The recording stopped early: the disk is full." in page.text


def test_names_from_outside_cannot_break_the_page(tmp_path):
    log = RunLog()
    log.phase('</script><b onload="x">', 0.0)
    log.phase("b", 1.0)
    log.event("<i>&amp;", 2.0)
    log.pick(PickResult(False, '"><img src=x>', -1, 0.5, "</td>"), "</table>")
    text, page = write(tmp_path, log, {"objects": 1, "note": "</pre><h1>"})
    assert page.tags.count("img") == 0 and page.tags.count("h1") == 1
    assert "<i>" not in text


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(SteadyhandError, match="report.html: cannot be written"):
        write_report(tmp_path / "report.html", RunLog(), result(0, 0, 0), PROVENANCE)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@settings(max_examples=200, deadline=None)
@given(low=st.floats(-1e4, 1e4), span=st.floats(1e-3, 1e5), about=st.integers(2, 10))
def test_ticks_are_few_round_and_inside(low, span, about):
    high = low + span
    ticks = nice_ticks(low, high, about)
    assert len(ticks) <= about + 1
    step = span * 1e-6
    assert all(low - step <= t <= high + step for t in ticks)
    if len(ticks) > 1:
        assert len({round((b - a) / span, 6) for a, b in pairwise(ticks)}) == 1


def test_thinning_keeps_a_single_peak():
    t = np.arange(20000) / 20
    values = np.sin(t / 50)
    values[12345] = 40.0
    flat = np.full(20000, np.nan)
    kept_t, (kept, gaps) = thin(t, [values, flat])
    assert len(kept_t) == len(kept) == 700
    assert kept.max() == 40.0 and np.isnan(gaps).all()
    assert abs(kept_t[int(np.argmax(kept))] - t[12345]) < 2.0


def test_gaps_and_constants_are_drawn():
    t = np.arange(4.0)
    gap = Line("a", np.array([1.0, np.nan, 2.0, 3.0]), "red")
    path = re.search(r'class="line" d="([^"]*)"', line_chart("x", "m", t, [gap])).group(1)
    assert path.count("M") == 2 and path.count("L") == 1
    flat = line_chart("x", "m", t, [Line("a", np.zeros(4), "red")])
    assert "nan" not in flat.lower() and "inf" not in flat.lower()
    empty = line_chart("x", "m", np.zeros(0), [Line("a", np.zeros(0), "red")])
    assert "Nothing was sampled" in empty
