"""Joint states of other robots, and messages that hold nothing, do not disturb the loop's own."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the extra ros2: pip install 'steadyhand[ros2]'")

from robot.dds.plant import relay_cameras
from robot.dds.port import DdsConfig, DdsPort
from robot.dds.robot import newest_with
from robot.loop import messages
from robot.loop.bus import Bus
from robot.loop.images import camera_info
from robot.loop.publisher import JOINT_STATES, TF, camera_topics
from robot.loop.topics import EXPOSURE, STOP
from robot.loop.typestore import encode
from robot.types import CameraIntrinsics, GripperState, JointState, Pose, RgbdFrame, RobotState

DOMAIN = 100 + (os.getpid() + 7) % 100
STATE = "sensor_msgs/msg/JointState"
OURS = {*messages.PANDA_JOINTS, *messages.PANDA_FINGERS}


def state(stamp_s: float, ours: bool = True) -> bytes:
    told = RobotState(stamp_s, JointState(*np.zeros((3, 7))), GripperState(0.05, 1.0))
    message = messages.joint_state(told)
    if not ours:
        message.name = [f"wheel{i}" for i in range(9)]
    return encode(message)


def test_the_newest_state_of_this_arm_counts_whoever_spoke_since():
    message = newest_with(OURS, [state(1.0), state(2.0), state(3.0, ours=False)])
    assert message.header.stamp.sec == 2
    assert newest_with(OURS, [state(3.0, ours=False)]) is None


def test_the_relay_takes_what_is_usual_in_ros():
    bus, port = Bus("cameras"), DdsPort(DdsConfig(domain_id=DOMAIN, depth=0))
    box = bus.subscribe([EXPOSURE])
    failed: list[BaseException] = []

    def run() -> None:
        try:
            relay_cameras(bus, ["wrist"], DdsConfig(domain_id=DOMAIN), "planning")
        except BaseException as error:
            failed.append(error)

    info = camera_topics("wrist", exact=True)[2]
    lens = CameraIntrinsics(64, 48, 50.0, 50.0, 32.0, 24.0)
    X = Pose("world", "wrist", np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    rgb, depth = np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32)
    seen = RgbdFrame("wrist", 0.0, rgb, depth, lens, X)
    tf = messages.tf([], 0.0)
    for topic, kind in ((JOINT_STATES, STATE), (TF, tf.__msgtype__)):
        port.advertise(topic, kind)
    port.advertise(info, "sensor_msgs/msg/CameraInfo")
    thread = threading.Thread(target=run)
    thread.start()
    packet, n, end = None, 0, time.monotonic() + 30.0
    while packet is None and not failed and time.monotonic() < end:
        n += 1
        port.publish(TF, tf.__msgtype__, encode(tf))
        port.publish(JOINT_STATES, STATE, state(0.01 * n))
        port.publish(JOINT_STATES, STATE, state(0.01 * n, ours=False))
        frame = replace(seen, stamp_s=0.01 * n)
        port.publish(info, "sensor_msgs/msg/CameraInfo", encode(camera_info(frame)))
        time.sleep(0.01)
        packet = box.get()
    bus.publish(STOP, messages.string("end"), 0.0)
    thread.join(10.0)
    port.close()
    assert not failed
    assert packet is not None and set(packet.message.name) == OURS
