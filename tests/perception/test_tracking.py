from __future__ import annotations

import numpy as np

from perception.fusion import Fusion
from perception.tracking import Tracker, TrackerConfig
from robot.geometry import quat_from_axis_angle
from robot.types import ObjectState, Pose
from tests.perception.blocks import Block, look


def _state(x=0.5, y=0.0, yaw=0.0, size=(0.10, 0.05, 0.04)):
    turn = quat_from_axis_angle(np.array([0.0, 0.0, 1.0]), yaw)
    pose = Pose("world", "object", np.array([x, y, size[2] / 2]), turn)
    return ObjectState(-1, "box", pose, np.array(size), 0.9, False, 0.0)


def _moving(*states):
    tracker = Tracker(TrackerConfig())
    return [tracker.update([state])[0].moving for state in states]


def test_what_is_shifted_as_a_whole_moves():
    assert _moving(_state(), _state(x=0.515)) == [False, True]
    assert _moving(_state(yaw=0.7), _state(x=0.511, y=0.01, yaw=0.7)) == [False, True]


def test_what_shows_another_side_does_not_move():
    # Its far end comes into view: the box grows by 40 mm, so its middle is 20 mm further on.
    longer = _state(x=0.52, size=(0.14, 0.05, 0.04))
    assert _moving(_state(), longer, _state()) == [False, False, False]


def test_a_still_object_seen_again_and_again_through_noise_is_still_and_keeps_its_number():
    rng = np.random.default_rng(3)
    blocks = [
        Block((0.45, 0.10), (0.12, 0.05, 0.04), yaw=0.5),
        Block((0.47, 0.02), (0.07, 0.05, 0.06), yaw=-0.3),
        Block((0.60, -0.12), (0.05, 0.05, 0.05)),
    ]
    fusion, moving, numbers = Fusion(), 0, set()
    for step in range(12):
        views = [look(blocks, v, 0.2 * step, rng, 0.004) for v in ("overhead", "wrist")]
        objects, _ = fusion.update([frame for frame, _ in views], [found for _, found in views])
        moving += sum(state.moving for state in objects)
        numbers |= {state.object_id for state in objects}
    assert moving == 0
    assert numbers == {0, 1, 2}
