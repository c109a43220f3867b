"""The policy's process: what a policy remembers ends with the grasp, in a loop as in a replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from policies.edge.node import PolicyNode
from robot.loop.bus import Bus
from robot.loop.logbook import Logbook
from robot.loop.mailbox import Packet
from robot.loop.publisher import ACTION, OBSERVATION
from robot.loop.reading import read_recording
from robot.loop.recorder import Recorder
from robot.loop.remote import RemotePolicy
from robot.loop.topics import POLICY_BEGIN


class Counting:
    """A policy with a memory: it tells how often it was asked in this grasp."""

    def __init__(self) -> None:
        self.asked = 0

    def reset(self) -> None:
        self.asked = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.asked += 1
        return np.full(1, self.asked, np.float32)


def test_each_grasp_begins_with_a_policy_that_has_forgotten_the_one_before(tmp_path: Path):
    bus, answers, now = Bus("control"), [], [0.0]
    book = Logbook(Recorder(tmp_path / "a.mcap"))
    node = PolicyNode(Counting(), lambda topic, message, stamp_s: answers.append(message.data[0]))
    remote = RemotePolicy(bus, lambda: now[0], lockstep=False)
    bus.tap(node.feed)
    bus.tap(book.take)
    for _ in range(2):
        remote.reset()
        for _ in range(3):
            remote.ask(np.zeros(2, np.float32))
            now[0] += 0.05
    assert answers == [1, 2, 3, 1, 2, 3]
    book.close()

    # The first observation of a grasp has the stamp of its beginning, and still comes after it.
    again: list[float] = []
    node = PolicyNode(Counting(), lambda topic, message, stamp_s: again.append(message.data[0]))
    for m in read_recording(tmp_path / "a.mcap").messages:
        assert m.topic in (POLICY_BEGIN, OBSERVATION, ACTION)
        node.feed(Packet(m.topic, m.type_name, m.stamp_s, m.data))
    assert again == answers
