"""ROS 2 on the wire: names, types, payloads; our own end and another vendor's."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the extra ros2: pip install 'steadyhand[ros2]'")

from robot.dds.bridge import Bridge
from robot.dds.port import DdsConfig, DdsPort
from robot.dds.types import dds_name, dds_topic, dds_type, ros_name, ros_topic
from robot.errors import SteadyhandError
from robot.loop import messages
from robot.loop.mailbox import Packet
from robot.loop.publisher import JOINT_STATES
from robot.loop.topics import ESTOP, TARGET, TOPICS
from robot.loop.typestore import decode, encode
from robot.types import GripperState, JointState, RobotState

STATE = "sensor_msgs/msg/JointState"
DOMAIN = 100 + os.getpid() % 100  # tests that run side by side must not hear each other


def state(n: int, rng: np.random.Generator) -> bytes:
    joints = JointState(*rng.normal(size=(3, 7)))
    return encode(messages.joint_state(RobotState(n / 240, joints, GripperState(0.05, 1.0))))


def until(done, timeout_s: float = 30.0) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def port():
    made = DdsPort(DdsConfig(domain_id=DOMAIN, depth=0))
    yield made
    made.close()


def test_names_are_those_that_ros_2_uses_on_the_wire():
    assert dds_topic("/joint_states") == "rt/joint_states"
    assert ros_topic("rt/joint_states") == "/joint_states"
    assert ros_topic("rq/add_two_intsRequest") is None
    assert dds_name(STATE) == "sensor_msgs::msg::dds_::JointState_"
    assert ros_name("sensor_msgs::msg::dds_::JointState_") == STATE
    assert ros_name("DCPSParticipant") is None


def test_every_topic_of_the_loop_has_a_plain_final_struct():
    for stated in TOPICS.values():
        made = dds_type(stated.type_name)
        assert made.__idl_typename__.replace(".", "::") == dds_name(stated.type_name)
        assert made.__idl_annotations__.get("extensibility", "final") == "final"


def test_a_message_crosses_as_it_was_and_is_found_by_name(port):
    reader = port.subscribe("/here", STATE)
    sent = [state(n, np.random.default_rng(n)) for n in range(20)]
    port.advertise("/here", STATE)
    assert until(lambda: port.matched("/here") > 0)
    for data in sent:
        port.publish("/here", STATE, data)
    got: list[bytes] = []
    assert until(lambda: got.extend(reader.take()) or len(got) >= 20)
    assert got == sent
    assert port.discover(0.5).get("/here") == STATE


def test_an_interface_that_does_not_exist_is_one_clear_error():
    with pytest.raises(SteadyhandError, match="nosuch0"):
        DdsPort(DdsConfig(domain_id=(DOMAIN + 1) % 232, interface="nosuch0"))


def test_the_bridge_lets_states_out_and_targets_and_stops_in(port):
    came: list[Packet] = []
    bridge = Bridge(came.append, DdsConfig(domain_id=DOMAIN))
    try:
        reader = port.subscribe(JOINT_STATES, STATE)
        port.advertise(ESTOP, TOPICS[ESTOP].type_name)
        assert until(lambda: port.matched(ESTOP) > 0)
        data = state(3, np.random.default_rng(3))
        got: list[bytes] = []

        def heard() -> bool:
            bridge.show(Packet(JOINT_STATES, STATE, 0.0, data))
            bridge.show(Packet("/timing", "diagnostic_msgs/msg/DiagnosticArray", 0.0, b""))
            got.extend(reader.take())
            return bool(got)

        assert until(heard) and set(got) == {data}
        port.publish(ESTOP, TOPICS[ESTOP].type_name, encode(messages.string("a person")))
        assert until(lambda: bool(came))
        assert came[0].topic == ESTOP and came[0].message.data == "a person"
        assert TARGET not in {p.topic for p in came}
    finally:
        bridge.close()


@pytest.fixture(scope="module")
def echo(tmp_path_factory) -> Path:
    """A program on Fast DDS that decodes every JointState and sends it back."""
    compiler = shutil.which("g++")
    if compiler is None or not Path("/usr/include/fastdds/dds").is_dir():
        pytest.skip("Fast DDS is not installed here (Debian: libfastrtps-dev, g++)")
    program = tmp_path_factory.mktemp("echo") / "echo"
    source = Path(__file__).with_name("echo.cpp")
    command = [compiler, "-std=c++17", "-O0", str(source), "-o", str(program)]
    subprocess.run([*command, "-lfastrtps", "-lfastcdr"], check=True)
    return program


def across_and_back(port: DdsPort, echo: Path, count: int, timeout_s: float) -> None:
    rng = np.random.default_rng(0)
    back = port.subscribe("/echo", STATE)
    port.advertise("/joint_states", STATE)
    with subprocess.Popen(
        [str(echo), str(DOMAIN), str(count)], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "ready\n"
            before = port.matched("/joint_states")
            assert until(lambda: port.matched("/joint_states") > before or before > 0, 60)
            sent, got = [], []
            for n in range(count):
                sent.append(state(n, rng))
                port.publish("/joint_states", STATE, sent[-1])
                got += back.take(1000)
            assert until(lambda: got.extend(back.take(1000)) or len(got) >= count, timeout_s)
            assert got == sent
            assert decode(got[-1], STATE).name == [*messages.PANDA_JOINTS, *messages.PANDA_FINGERS]
            assert other.stdout.readline() == f"done {count}\n"
        finally:
            other.kill()


@pytest.mark.slow  # building the program takes its time
def test_another_vendor_reads_every_message_and_sends_it_back(echo):
    alone = DdsPort(DdsConfig(domain_id=DOMAIN, depth=0))
    try:
        across_and_back(alone, echo, 10_000, 600.0)
    finally:
        alone.close()
