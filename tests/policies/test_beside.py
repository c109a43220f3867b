"""The whole loop, in processes of its own, in simulated time: picks, repeats, replays, recovers."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
from mcap.reader import make_reader

from policies.beside import Beside, LoopStopped
from policies.beside_parts import LoopSetup
from policies.bundle.format import shipped
from policies.replaying import Replay
from robot.errors import RecordingError
from robot.loop import messages
from robot.loop.publisher import ACTION, JOINT_STATES, OBJECTS
from robot.loop.reading import read_recording
from robot.loop.recorder import Recorder
from robot.loop.topics import ESTOP, PICK_ACTION, WATCHED, feedback_topic
from robot.loop.typestore import decode
from robot.safety.config import SafetyConfig, Zone
from robot.safety.estop import EStop

SETUP = LoopSetup(shipped(), objects="primitives", n_objects=2, pace="sim", seed=5)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two runs with the same seed."""
    folder = tmp_path_factory.mktemp("loop")
    results = []
    for name in ("a", "b"):
        with Beside(SETUP, folder / f"{name}.mcap") as beside:
            results.append(beside.run(picks=1))
    return folder, results


@pytest.mark.slow
def test_a_pick_goes_through_every_process_into_the_tray(recorded):
    _, (result, _) = recorded
    assert result["picks"] == 1 and result["successes"] == 1 and result["put_away"] == 1
    assert result["stopped"] is None and result["recording_failed"] is None
    assert result["control"]["ticks"] > 1000 and result["control"]["images_used"] > 0


@pytest.mark.slow
def test_the_cells_own_settings_reach_planner_controller_and_recording(tmp_path):
    zone = Zone((0.45, 0.36, -0.1), (0.85, 0.75, 0.6), "the door")
    own = replace(SETUP, safety=SafetyConfig(keep_out=(zone,), off=("sensor",)))
    with Beside(own, tmp_path / "a.mcap") as beside:
        assert beside.picker.around.closed == (zone.box,)
        assert beside.run(picks=1)["picks"] == 1
    recording = read_recording(tmp_path / "a.mcap")
    told = json.loads(recording.metadata["safety"])
    assert told["keep_out"][0]["name"] == "the door" and told["off"] == ["sensor"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_recording_byte_for_byte(recorded):
    folder, _ = recorded
    first, second = (
        [(m.topic, m.stamp_s, m.data) for m in read_recording(folder / f"{n}.mcap").messages]
        for n in "ab"
    )
    assert len(first) == len(second) > 500
    different = {x[0] for x, y in zip(first, second, strict=True) if x != y}
    assert not different


@pytest.mark.slow
def test_a_recording_fed_back_gives_exactly_the_same(recorded):
    folder, _ = recorded
    report = Replay(folder / "a.mcap", shipped()).run()
    assert report.differences == 0, report.topics
    for topic in (ACTION, OBJECTS, "/perception/watched", "/perception/detections/wrist"):
        assert report.topics[topic].compared > 0, topic


@pytest.mark.slow
def test_a_changed_output_is_told(recorded):
    """A recording in which one action was altered does not pass for the same."""
    folder, _ = recorded
    source = read_recording(folder / "a.mcap")
    altered = Recorder(folder / "c.mcap", metadata=source.metadata)
    changed = 0
    for m in source.messages:
        data = m.data
        if m.topic == ACTION and not changed:
            changed = 1
            data = bytes([*data[:-1], data[-1] ^ 1])
        altered.write_encoded(m.topic, m.type_name, data, m.stamp_s)
    altered.close()
    report = Replay(folder / "c.mcap", shipped()).run()
    assert report.differences == 1 and report.topics[ACTION].different == 1


@pytest.mark.slow
def test_other_readers_open_it_and_states_come_in_order(recorded):
    folder, _ = recorded
    with (folder / "a.mcap").open("rb") as stream:
        types = {s.name for s, _, _ in make_reader(stream).iter_messages()}
    wanted = {
        "sensor_msgs/msg/JointState", "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo",
        "vision_msgs/msg/Detection3DArray", "geometry_msgs/msg/TwistStamped",
        "trajectory_msgs/msg/JointTrajectory", "diagnostic_msgs/msg/DiagnosticArray",
        "tf2_msgs/msg/TFMessage",
    }  # fmt: skip
    assert wanted <= types
    told = read_recording(folder / "a.mcap", {feedback_topic(PICK_ACTION), JOINT_STATES})
    stamps = [m.stamp_s for m in told.messages]
    assert stamps == sorted(stamps)
    states = [
        decode(m.data, m.type_name).feedback.state for m in told.messages if m.topic != JOINT_STATES
    ]
    assert states[:4] == ["look", "approach", "descend", "close"]
    assert states[-4:] == ["lift", "check hold", "carry", "home"]


@pytest.mark.slow
def test_a_bundle_that_changes_meanwhile_ends_the_run_halted(tmp_path):
    root = tmp_path / "bundle"
    shutil.copytree(shipped(), root)
    with Beside(replace(SETUP, bundle=root), tmp_path / "a.mcap") as beside:
        model = root / "models" / "policy.onnx"
        data = bytearray(model.read_bytes())
        data[100] ^= 0xFF
        model.write_bytes(data)
        result = beside.run(picks=2)
    assert result["picks"] == 1
    assert "integrity" in result["stopped"] and "policy.onnx" in result["stopped"]


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_leaves_a_readable_recording(tmp_path):
    path = tmp_path / "a.mcap"
    with Beside(SETUP, path) as beside:
        os.kill(beside.processes.pid("perception"), signal.SIGKILL)
        with pytest.raises(LoopStopped, match="perception"):
            beside.run(picks=1)
    assert read_recording(path).complete


@pytest.mark.slow
def test_an_emergency_stop_by_signal_comes_through_whatever_the_process_is_about(tmp_path):
    path = tmp_path / "a.mcap"
    with Beside(SETUP, path) as beside, EStop(beside.estop):
        with beside.arm._states._lock, beside.bus._lock:
            os.kill(os.getpid(), signal.SIGUSR1)
        result = beside.run(picks=1)
    assert "SIGUSR1" in result["stopped"] and result["picks"] == 0
    assert [m.decode().data for m in read_recording(path, {ESTOP}).messages] == ["signal SIGUSR1"]


def test_a_recording_without_images_cannot_be_fed_back(tmp_path):
    Recorder(tmp_path / "a.mcap").close()
    with pytest.raises(RecordingError, match="steadyhand loop"):
        Replay(tmp_path / "a.mcap", shipped())


def test_a_recording_with_a_setup_of_another_version_cannot_be_fed_back(tmp_path):
    Recorder(tmp_path / "a.mcap", metadata={"loop": '{"pace": "sim", "wings": 2}'}).close()
    with pytest.raises(RecordingError, match="wings"):
        Replay(tmp_path / "a.mcap", shipped())


def test_an_output_whose_images_the_recorder_missed_is_not_missing(tmp_path):
    setup = {"pace": "sim", "objects": "primitives"}
    recorder = Recorder(tmp_path / "a.mcap", metadata={"loop": json.dumps(setup)})
    objects = messages.detection_3d_array([], 1.0)
    for topic in (OBJECTS, WATCHED):
        recorder.write(topic, objects, 1.0)
    recorder.close()
    report = Replay(tmp_path / "a.mcap", shipped()).run()
    assert report.differences == 0
