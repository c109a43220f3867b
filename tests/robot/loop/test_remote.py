"""The other side of the loop's messages, waited for in earnest."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from robot.errors import SafetyError
from robot.execution.grasp import GraspLoop
from robot.limits import load_limits
from robot.loop import messages
from robot.loop import remote as module
from robot.loop.bus import Bus
from robot.loop.control import SafetyNode
from robot.loop.link import Link, _framed
from robot.loop.mailbox import Packet
from robot.loop.publisher import ACTION
from robot.loop.remote import RemoteArm, RemotePolicy
from robot.loop.typestore import encode
from robot.planning.obstacles import Box, columns
from robot.types import HeightMap

LIMITS = load_limits("panda")


def action(stamp_s: float) -> bytes:
    message = messages.float_array(np.arange(5, dtype=np.float32), "action")
    return _framed(Packet(ACTION, message.__msgtype__, stamp_s, encode(message)))


def test_in_lock_step_an_answer_that_comes_in_parts_is_waited_for():
    here, there = Link.pair()
    bus = Bus("control")
    bus.attach("policy", Link(here, "policy"))
    policy = RemotePolicy(bus, lambda: 2.0, lockstep=True)
    policy.ask(np.zeros(3, np.float32))

    def answer() -> None:
        for part in (data := action(2.0))[:20], data[20:]:
            there.sendall(part)
            time.sleep(0.05)

    thread = threading.Thread(target=answer)
    thread.start()
    got = policy.answer()
    thread.join()
    assert got is not None and got.tolist() == [0, 1, 2, 3, 4]


def test_a_policy_that_does_not_answer_or_is_gone_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.2)
    here, there = Link.pair()
    bus = Bus("control")
    bus.attach("policy", Link(here, "policy"))
    policy = RemotePolicy(bus, lambda: 2.0, lockstep=True)
    began = time.monotonic()
    with pytest.raises(SafetyError, match="policy: no answer within"):
        policy.answer()
    assert time.monotonic() - began > 0.19
    there.close()
    with pytest.raises(SafetyError, match="policy is gone"):
        policy.answer()


def test_the_controller_keeps_away_from_what_planning_says_always_stands_there():
    bus, loop = Bus("both"), GraspLoop.make(LIMITS)
    seen: list[list[Box]] = []
    node = SafetyNode(SimpleNamespace(see=seen.append), bus)
    arm = RemoteArm(bus, loop, lambda: None)
    wall = Box((0.5, -0.4, 0.05), (0.3, 0.01, 0.1), 0.3, "tray wall 1")
    height = np.zeros((20, 20), np.float32)
    height[5:9, 5:9] = 0.06
    told = columns(HeightMap(np.array([0.4, -0.1]), 0.01, height, height >= 0, 0.0))
    assert told
    for boxes in ([wall], [wall, *told], [wall]):
        arm.see(boxes)
    node.answer(0.0)
    assert len(seen) == 1 and len(seen[0]) == 1
    (got,) = seen[0]
    assert got.name == wall.name and got.center_m == wall.center_m and got.size_m == wall.size_m
    assert got.yaw_rad == pytest.approx(wall.yaw_rad)
    arm.see([])
    node.answer(0.0)
    assert seen[1:] == [[]]
