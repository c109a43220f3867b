"""An arm behind DDS as the loop's plant, and its cameras' images brought onto the loop's bus."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from robot.dds.port import DdsConfig, DdsPort
from robot.dds.robot import DdsRobot, DdsRobotConfig, newest_with
from robot.interface import Clock
from robot.loop.bus import Bus
from robot.loop.clock import FollowingClock, PacedClock
from robot.loop.mailbox import Packet
from robot.loop.messages import PANDA_FINGERS, PANDA_JOINTS, time_message
from robot.loop.nouns import stamp_of
from robot.loop.publisher import JOINT_STATES, TF, camera_topics
from robot.loop.topics import EXPOSURE, STOP
from robot.loop.typestore import encode

_STATE = "sensor_msgs/msg/JointState"


class DdsPlant:
    """Implements ``robot.loop.cell.Plant``; the loop's clock follows the arm's stamps.

    Args:
        config: what the arm is called.
        dds: where on the wire.
        shadow: compute and record, command nothing.

    Raises:
        SensorError: the arm is not heard.
    """

    def __init__(self, config: DdsRobotConfig, dds: DdsConfig, shadow: bool) -> None:
        self.robot = DdsRobot(config, dds, shadow)
        self.robot.connect()
        clock = FollowingClock(self.robot.read().stamp_s)
        self.robot.heard = clock.heard
        self.clock: Clock = clock
        self.paced: PacedClock | None = None

    def begin(self, wanted: dict[str, Any]) -> None:
        """The table is as somebody has set it."""

    def expose(self, now_s: float) -> None:
        """Cameras have a pace of their own."""

    def put_away(self) -> int:
        """Nobody knows but the one who looks."""
        return 0

    def close(self) -> None:
        """Leave the arm where it was last commanded."""
        self.robot.close()


def relay_cameras(bus: Bus, cameras: Sequence[str], dds: DdsConfig, boss: str) -> None:
    """Pass images from DDS on to the bus until told to stop.

    Each camera has to publish ``sensor_msgs/Image`` (rgb8; 32FC1, m) and ``CameraInfo`` on the
    loop's own topics, and its pose ``world`` to ``<name>`` on ``/tf``, all with one stamp.

    Args:
        bus: of the process.
        cameras: their names.
        dds: where on the wire.
        boss: without this process there is nothing left to do.
    """
    port = DdsPort(dds)
    kinds = {TF: "tf2_msgs/msg/TFMessage"}
    for camera in cameras:
        colour, depth, info = camera_topics(camera, exact=True)
        kinds |= {colour: "sensor_msgs/msg/Image", depth: "sensor_msgs/msg/Image"}
        kinds[info] = "sensor_msgs/msg/CameraInfo"
    readers = [(topic, kind, port.subscribe(topic, kind)) for topic, kind in kinds.items()]
    states = port.subscribe(JOINT_STATES, _STATE)
    stop = bus.subscribe([STOP])
    joints: Any = None
    exposed_s = -1.0
    while not len(stop) and boss not in bus.gone:
        came = False
        joints = newest_with({*PANDA_JOINTS, *PANDA_FINGERS}, states.take()) or joints
        for topic, kind, reader in readers:
            for data in reader.take():
                came = True
                packet = Packet(topic, kind, 0.0, data)
                message = packet.message
                if topic == TF and not message.transforms:
                    continue
                header = message.transforms[0].header if topic == TF else message.header
                stamp_s = stamp_of(header.stamp)
                if topic != TF and stamp_s > exposed_s and joints is not None:
                    # The joints as they were when the images were taken, as far as is known.
                    exposed_s = stamp_s
                    joints.header.stamp = time_message(stamp_s)
                    bus.pass_on(Packet(EXPOSURE, _STATE, stamp_s, encode(joints)))
                bus.pass_on(Packet(topic, kind, stamp_s, data))
        bus.pump()
        if not came:
            time.sleep(0.005)
    port.close()
