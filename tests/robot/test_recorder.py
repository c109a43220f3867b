from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader as BagReader

from robot.errors import RecordingError
from robot.loop import publisher
from robot.loop.log import RunLog
from robot.loop.messages import string
from robot.loop.publisher import PublisherConfig
from robot.loop.reading import read_recording
from robot.loop.recorder import Recorder, RecorderConfig
from robot.loop.typestore import decode
from robot.types import (
    OK,
    CameraIntrinsics,
    Detection,
    GraspCandidate,
    GripperCommand,
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
    Wrench,
)

TICK_S = 1 / 240
SLOW = SafetyVerdict(VerdictLevel.SCALE, 0.4, "joint 2 near its limit")
HALT = SafetyVerdict(VerdictLevel.HALT, 0.0, "NaN in the command")


def state(k: int) -> RobotState:
    q = np.sin(0.01 * k + np.arange(7))
    wrench = Wrench("tool0", [0.0, 0.0, -0.01 * k], [0, 0, 0])
    return RobotState(k * TICK_S, JointState(q, 0.1 * q, 10 * q), GripperState(0.05, 3.0), wrench)


def look_frame(stamp_s: float = 0.0) -> RgbdFrame:
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    pose = Pose("world", "overhead_color_optical_frame", [0.95, 0, 0.9], [1, 0, 0, 0])
    depth = np.full((48, 64), 0.8, np.float32)
    return RgbdFrame(
        "overhead", stamp_s, rgb, depth, CameraIntrinsics(64, 48, 60, 60, 32, 24), pose
    )


def drive(log: RunLog, ticks: int, first: int = 0) -> None:
    """Ticks of a pick with one look, one plan and one result."""
    tool = Pose("world", "tool0", [0.4, 0, 0.5], [1, 0, 0, 0])
    for k in range(first, first + ticks):
        phase = "approach" if k < first + ticks // 2 else "descend"
        log.state(
            k * TICK_S,
            state(k),
            np.full(7, 0.1),
            OK,
            phase,
            gripper=GripperCommand(0.08, 40),
            X_world_tool=tool,
        )
        if k == first + 3:
            frame = look_frame(k * TICK_S)
            where = Pose("world", "object_0", [0.5, 0, 0.02], [0, 0, 0, 1])
            thing = ObjectState(0, "box", where, [0.06, 0.04, 0.04], 0.9, False, frame.stamp_s)
            log.look([frame], [[Detection((3, 4, 20, 10), 0.9, "box")]], [thing])
            grasp = GraspCandidate(where, 0.04, 0.08, 0.8, 0, frame.stamp_s)
            path = Trajectory(np.arange(9) * TICK_S, *[np.zeros((9, 7))] * 3)
            log.plan([grasp, grasp], path, grasp)
    log.policy(np.arange(4, dtype=np.float32), np.ones(5, np.float32))
    log.event("lifted")
    log.pick(PickResult(True, "success", 0, 2.0), "box")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "recording.mcap"
    recorder = Recorder(path, RecorderConfig(chunk_bytes=16384), {"seed": "7", "commit": "abc"})
    with recorder:
        drive(RunLog(recorder), 2400)
    assert recorder.failed is None
    assert recorder.bytes_written == path.stat().st_size
    return path


def test_mcap_reads_it_with_index_and_schemas(whole):
    with whole.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        counts = {
            summary.channels[i].topic: n
            for i, n in summary.statistics.channel_message_counts.items()
        }
        assert reader.get_header().profile == "ros2"
        assert all(s.encoding == "ros2msg" for s in summary.schemas.values())
        assert all(c.message_encoding == "cdr" for c in summary.channels.values())
        seen = 0
        for schema, channel, message in reader.iter_messages(topics=["/joint_states"]):
            got = decode(message.data, schema.name)
            k = round(message.log_time * 1e-9 / TICK_S)
            assert np.array_equal(got.position[:7], np.sin(0.01 * k + np.arange(7)))
            assert channel.topic == "/joint_states"
            seen += 1
    assert seen == counts["/joint_states"] == 600  # 10 s at 60 Hz
    assert counts["/joint_command"] == counts["/gripper_command"] == counts["/wrench"] == 600
    assert counts["/phase"] == 2 and counts["/picks"] == counts["/events"] == 1
    assert counts["/tf"] == 601  # the tool at 60 Hz, and the camera once
    assert 10 <= counts["/diagnostics"] <= 12  # an unchanged verdict once a second


def test_rosbags_reads_it(whole):
    with BagReader(whole) as bag:
        types = {c.topic: c.msgtype for c in bag.connections}
        for connection, _, data in bag.messages():
            decode(data, connection.msgtype)
    assert types["/perception/objects"] == "vision_msgs/msg/Detection3DArray"
    assert types["/camera/overhead/color/compressed"] == "sensor_msgs/msg/CompressedImage"
    assert types["/plan/trajectory"] == "trajectory_msgs/msg/JointTrajectory"
    assert types["/diagnostics"] == "diagnostic_msgs/msg/DiagnosticArray"


def test_own_reader_and_metadata(whole):
    recording = read_recording(whole)
    assert recording.complete and recording.note == ""
    assert recording.metadata == {"seed": "7", "commit": "abc"}
    ((_, objects),) = recording.of(publisher.OBJECTS)
    assert objects.detections[0].results[0].hypothesis.class_id == "box"
    ((_, action),) = recording.of(publisher.ACTION)
    assert np.array_equal(action.data, np.ones(5, np.float32))
    only = read_recording(whole, topics=["/phase"])
    assert [m.data for _, m in only.of("/phase")] == ["approach", "descend"]
    assert set(only.topics) == {"/phase"}


@pytest.mark.parametrize("share", [0.5, 0.1, 0.9, 0.999])
def test_a_cut_recording_reads_up_to_its_last_finished_chunk(whole, tmp_path, share):
    data = whole.read_bytes()
    cut = tmp_path / "cut.mcap"
    size = int(len(data) * share)
    cut.write_bytes(data[:size])
    with whole.open("rb") as stream:
        chunks = make_reader(stream).get_summary().chunk_indexes
    finished = [c for c in chunks if c.chunk_start_offset + c.chunk_length <= size]
    expected_end_s = max(c.message_end_time for c in finished) * 1e-9

    recording = read_recording(cut)
    assert not recording.complete
    assert recording.note.startswith("cut off: read ")
    assert recording.chunks == len(finished) >= 1
    assert recording.end_s == pytest.approx(expected_end_s, abs=1e-9)
    assert recording.metadata["seed"] == "7"
    full = read_recording(whole).messages[: len(recording.messages)]
    assert [m.data for m in recording.messages] == [m.data for m in full]


def test_a_flipped_byte_is_noticed(whole, tmp_path):
    data = bytearray(whole.read_bytes())
    with whole.open("rb") as stream:
        chunk = make_reader(stream).get_summary().chunk_indexes[3]
    data[chunk.chunk_start_offset + chunk.chunk_length // 2] ^= 0x10
    bad = tmp_path / "bad.mcap"
    bad.write_bytes(data)
    recording = read_recording(bad)
    assert not recording.complete and recording.chunks == 3
    assert recording.note.startswith("damaged after ")


@pytest.mark.parametrize("content", [b"", b"abc", b"no recording at all, but long enough"])
def test_what_is_no_recording_is_named(tmp_path, content):
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"other\.bin: not an MCAP recording"):
        read_recording(path)
    with pytest.raises(RecordingError, match=r"gone\.mcap"):
        read_recording(tmp_path / "gone.mcap")


def test_equal_runs_give_equal_files(tmp_path):
    for name in ("a", "b"):
        with Recorder(tmp_path / name, metadata={"seed": "1"}) as recorder:
            drive(RunLog(recorder), 480)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_process_killed_while_recording_leaves_finished_chunks(tmp_path):
    path = tmp_path / "killed.mcap"
    code = f"""
        import os, signal
        from pathlib import Path
        from robot.loop.messages import string
        from robot.loop.recorder import Recorder, RecorderConfig
        recorder = Recorder(Path({str(path)!r}), RecorderConfig(chunk_bytes=4096))
        for k in range(1000):
            recorder.write("/events", string(f"event {{k}} " + "x" * 100), 0.1 * k)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    recording = read_recording(path)
    assert not recording.complete
    assert 900 <= len(recording.messages) < 1000
    assert recording.messages[-1].decode().data.startswith(f"event {len(recording.messages) - 1} ")


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits and signals as on Linux")
def test_a_full_disk_stops_the_recording_once_and_nothing_else(tmp_path):
    """The kernel refuses every byte beyond 100 kB, as a full disk does."""
    path = tmp_path / "full.mcap"
    code = f"""
        import logging, resource
        from pathlib import Path
        import numpy as np
        from robot.loop.log import RunLog
        from robot.loop.recorder import Recorder, RecorderConfig
        from robot.types import *
        logging.basicConfig(format="%(levelname)s %(message)s")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        rng = np.random.default_rng(0)
        with Recorder(Path({str(path)!r}), RecorderConfig(chunk_bytes=16384)) as recorder:
            log = RunLog(recorder)
            ticks = 0
            for k in range(6000):
                q = rng.normal(size=7)
                reading = RobotState(k / 240, JointState(q, q, q), GripperState(0.05, 1.0))
                log.state(k / 240, reading, q, OK, "carry")
                ticks += 1
            log.event("still going")
        print(ticks, len(log.series().time_s), recorder.failed, sep="|")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    ticks, samples, reason = run.stdout.strip().split("|")
    assert (int(ticks), int(samples)) == (6000, 500)
    assert reason == "File too large"
    assert run.stderr.count("WARNING") == 1 and "full.mcap stopped" in run.stderr
    assert path.stat().st_size <= 100_000
    recording = read_recording(path)
    assert not recording.complete and recording.chunks >= 2
    assert {"/joint_states", "/joint_command", "/phase"} <= set(recording.topics)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_is_full_from_the_start_is_said_at_once():
    with pytest.raises(RecordingError, match="/dev/full: the disk is full"):
        Recorder(Path("/dev/full"))


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
def test_a_disk_that_takes_nothing_leaves_no_empty_recording(tmp_path):
    path = tmp_path / "none.mcap"
    code = f"""
        import resource
        from pathlib import Path
        from robot.loop.recorder import Recorder, RecordingError
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            Recorder(Path({str(path)!r}))
        except RecordingError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == f"{path}: File too large"
    assert not path.exists()


def test_a_folder_that_is_missing_is_said_at_once(tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere/x\.mcap: No such file"):
        Recorder(tmp_path / "nowhere" / "x.mcap")


def test_a_topic_of_two_types_stops_the_recording_without_raising(tmp_path, caplog):
    with Recorder(tmp_path / "x.mcap") as recorder, caplog.at_level(logging.WARNING):
        assert recorder.write("/events", string("one"), 0.0)
        log = RunLog(recorder)
        assert not recorder.write("/events", state(0), 0.1)
        assert not recorder.write("/events", string("two"), 0.2)
        drive(log, 24)
    assert recorder.failed and len(caplog.records) == 1


def test_verdicts_between_samples_are_not_lost_and_changes_are_recorded_at_once(tmp_path):
    path = tmp_path / "v.mcap"
    with Recorder(path) as recorder:
        log = RunLog(recorder)
        for k in range(240):
            verdict = SLOW if 50 <= k < 53 else HALT if k >= 200 else OK
            log.state(k * TICK_S, state(k), None, verdict, "carry")
    series = log.series()
    assert series.time_s.shape == (20,) and series.position_rad.shape == (20, 7)
    assert np.isnan(series.command_rad).all()
    assert (series.level == 1).sum() == 1 and series.scale[series.level == 1] == 0.4
    assert (series.level[-3:] == 2).all() and (series.scale[-3:] == 0).all()
    spans = [(s.verdict, round(s.start_s / TICK_S), round(s.end_s / TICK_S)) for s in log.verdicts]
    assert spans == [(SLOW, 50, 52), (HALT, 200, 239)]
    told = [(t, m.status[0].level) for t, m in read_recording(path).of("/diagnostics")]
    changes = [(round(t / TICK_S), level) for t, level in told]
    assert {(50, 1), (53, 0), (200, 2)} <= set(changes)


def test_the_log_alone_needs_no_recorder_and_keeps_phases_looks_plans_and_picks():
    log = RunLog()
    drive(log, 480)
    drive(log, 480, first=480)
    assert [s.name for s in log.phases] == ["approach", "descend"] * 2
    assert log.phases[0].end_s == pytest.approx(log.phases[1].start_s)
    assert log.duration_s == pytest.approx(959 * TICK_S)
    assert [look.camera for look in log.looks] == ["overhead"] * 2
    assert log.plans[0].candidates == 2 and log.plans[0].duration_s == pytest.approx(8 * TICK_S)
    assert log.picks[1].class_name == "box"
    assert log.picks[1].start_s == pytest.approx(log.picks[1].end_s - 2.0)
    assert log.events[0][1] == "lifted"
    assert RunLog().series().position_rad.shape[0] == 0


def test_a_tick_is_cheap(tmp_path):
    readings = [state(k) for k in range(4800)]
    q = np.zeros(7)
    best = np.inf
    for attempt in range(3):  # of the processor, and the best of three: the machine may be busy
        with Recorder(tmp_path / f"{attempt}.mcap") as recorder:
            log = RunLog(recorder)
            start = time.process_time()
            for k, reading in enumerate(readings):
                log.state(k * TICK_S, reading, q, OK, "carry")
            best = min(best, (time.process_time() - start) / len(readings))
    assert best < 60e-6  # measured: 15 us, of which most is every fourth tick's messages


@pytest.mark.parametrize(("kind", "topics"), [("exact", 3), ("none", 0), ("compact", 3)])
def test_image_choices(tmp_path, kind, topics):
    with Recorder(tmp_path / "i.mcap") as recorder:
        RunLog(recorder, PublisherConfig(images=kind)).look([look_frame()], [[]], [])
    recording = read_recording(tmp_path / "i.mcap")
    assert sum(t.startswith("/camera/") for t in recording.topics) == topics
    assert "/perception/detections/overhead" in recording.topics
