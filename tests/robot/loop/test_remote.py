"""The other side of the loop's messages, waited for in earnest."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from robot.errors import SafetyError
from robot.loop import messages
from robot.loop import remote as module
from robot.loop.bus import Bus
from robot.loop.link import Link, _framed
from robot.loop.mailbox import Packet
from robot.loop.publisher import ACTION
from robot.loop.remote import RemotePolicy
from robot.loop.typestore import encode


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
    monkeypatch.setattr(module, "_LONGEST_WAIT_S", 0.2)
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
