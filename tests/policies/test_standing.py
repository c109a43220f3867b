"""What a running loop is asked for from outside."""

from __future__ import annotations

import numpy as np
import pytest

from policies.standing import asked_place
from robot.errors import ConfigError
from robot.loop import messages
from robot.loop.mailbox import Mailbox, Packet
from robot.loop.topics import TARGET
from robot.loop.typestore import encode
from robot.types import Pose


def target(frame: str, x: float) -> Packet:
    pose = Pose("world", "target", np.array([0.0, -0.1, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    message = messages.pose_stamped(pose, 0.0)
    message.header.frame_id = frame
    message.pose.position.x = x
    return Packet(TARGET, message.__msgtype__, 0.0, encode(message))


def test_of_many_targets_the_newest_counts():
    asked = Mailbox()
    for n in range(40):
        assert asked.put(target("world", 0.01 * n))
    packet = asked.get()
    assert packet is not None and asked.get() is None
    np.testing.assert_allclose(asked_place(packet.message), [0.39, -0.1])


@pytest.mark.parametrize("frame", ["", "world", "base_link", "panda_link0"])
def test_a_target_in_the_arms_own_frame_is_taken(frame):
    assert asked_place(target(frame, 0.5).message).tolist() == [0.5, -0.1]


@pytest.mark.parametrize(
    ("frame", "x", "match"), [("camera_link", 0.5, "camera_link"), ("world", np.nan, "nan")]
)
def test_a_target_elsewhere_or_nowhere_is_refused(frame, x, match):
    with pytest.raises(ConfigError, match=match):
        asked_place(target(frame, x).message)
