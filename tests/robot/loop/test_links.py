"""Queues and links: sensors may lose what is old, commands nothing, and no sender ever waits."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from robot.loop import bus as bus_module
from robot.loop import messages
from robot.loop.bus import Bus
from robot.loop.link import Link, LinkError
from robot.loop.mailbox import Mailbox, Packet
from robot.loop.process import wanted
from robot.loop.publisher import JOINT_STATES, OBSERVATION, PHASE
from robot.loop.topics import ESTOP, TOPICS, topic
from robot.loop.typestore import message_class

IMAGE = "/camera/overhead/color/image_raw"


def packet(name: str, number: int, size: int = 8) -> Packet:
    return Packet(name, "std_msgs/msg/String", float(number), bytes(size))


def pair() -> tuple[Bus, Bus]:
    a, b = Link.pair()
    here, there = Bus("here"), Bus("there")
    here.attach("there", Link(a, "there"))
    there.attach("here", Link(b, "here"))
    return here, there


def test_every_stated_topic_has_a_type_that_exists_and_a_policy():
    for name, stated in TOPICS.items():
        assert message_class(stated.type_name), name
        assert stated.keep in ("latest", "all", "newest") and stated.depth >= 1, name
    assert topic(IMAGE).keep == "latest"
    assert topic(ESTOP).keep == "all"


def test_the_latest_image_takes_the_place_of_the_one_before():
    box = Mailbox()
    for number in range(5):
        assert box.put(packet(IMAGE, number))
        assert box.put(packet(PHASE, number))
    stamps = [(p.topic, p.stamp_s) for p in iter(box.get, None)]
    assert [s for t, s in stamps if t == IMAGE] == [4.0]
    assert [s for t, s in stamps if t == PHASE] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_full_queue_of_what_must_not_be_lost_says_so_and_loses_nothing():
    box = Mailbox()
    depth = topic(ESTOP).depth
    assert all(box.put(packet(ESTOP, n)) for n in range(depth))
    assert not box.put(packet(ESTOP, depth))
    assert [p.stamp_s for p in iter(box.get, None)] == list(range(depth))


def test_what_is_only_recorded_lets_go_of_its_oldest_and_counts_it():
    box = Mailbox()
    depth = topic(JOINT_STATES).depth
    for n in range(depth + 7):
        box.put(packet(JOINT_STATES, n))
    assert box.lost == 7 and len(box) == depth
    first = box.get()
    assert first is not None and first.stamp_s == 7.0


def test_a_reader_that_sleeps_costs_the_sender_no_time():
    """40 MB of images and states into a link that nobody reads: each send stays short."""
    here, there = pair()
    image = packet(IMAGE, 0, 230_000)
    longest = 0.0
    for n in range(180):
        start = time.thread_time()
        here.pass_on(image if n % 2 else packet(JOINT_STATES, n, 400))
        longest = max(longest, time.thread_time() - start)
    assert longest < 0.02
    box = there.subscribe(lambda name: True)
    while there.pump(0.05) or here.links["there"].waiting:
        here.pump()
    states = [p.stamp_s for p in iter(box.get, None) if p.topic == JOINT_STATES]
    assert states == sorted(states) and len(states) == 90


def test_commands_all_arrive_in_order_through_a_full_socket():
    here, there = pair()
    box = there.subscribe([OBSERVATION])
    got: list[float] = []
    refused = 0
    for n in range(2000):
        try:
            here.pass_on(packet(OBSERVATION, n, 4000))
        except LinkError:
            refused += 1
        if n % 100 == 0:
            there.pump(0.05)
            got += [p.stamp_s for p in iter(box.get, None)]
    while there.pump(0.05) or here.links["there"].waiting:
        here.pump()
        got += [p.stamp_s for p in iter(box.get, None)]
    got += [p.stamp_s for p in iter(box.get, None)]
    assert refused == 0 and got == list(range(2000))


def test_a_link_that_must_not_lose_and_is_not_read_raises():
    here, _there = pair()
    with pytest.raises(LinkError, match="does not read"):
        for n in range(200):
            here.pass_on(packet(ESTOP, n, 200_000))


def test_a_message_crosses_as_it_was(tmp_path):
    here, there = pair()
    box = there.subscribe([OBSERVATION])
    sent = messages.float_array(np.arange(31, dtype=np.float32), "observation")
    here.publish(OBSERVATION, sent, 1.25)
    there.pump(1.0)
    got = box.get()
    assert got is not None and got.stamp_s == 1.25
    np.testing.assert_array_equal(got.message.data, sent.data)


def test_the_end_of_a_process_is_noticed():
    here, there = pair()
    there.close()
    here.pump(0.5)
    assert here.gone == ["there"]
    here.publish(PHASE, messages.string("still fine"), 0.0)


def test_topics_are_wanted_by_name_or_by_how_they_begin():
    want = wanted(("/a", "/camera/*"))
    assert want("/a") and want(IMAGE) and not want("/ab") and not want("/b")


def test_two_threads_publish_while_a_third_pumps():
    here, there = pair()
    box = there.subscribe([PHASE])
    got: list[str] = []

    def send(kind: str) -> None:
        for n in range(100):
            here.publish(PHASE, messages.string(f"{kind}{n}"), 0.0)
            time.sleep(1e-4)

    threads = [threading.Thread(target=send, args=(k,)) for k in "ab"]
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads) or there.pump(0.05) or here.links["there"].waiting:
        there.pump(0.01)
        here.pump()
        got += [p.message.data for p in iter(box.get, None)]
    for kind in "ab":
        assert [g for g in got if g[0] == kind] == [f"{kind}{n}" for n in range(100)]


def test_a_link_that_another_thread_closes_before_it_is_waited_for_is_gone(monkeypatch):
    here, there = pair()
    wait = bus_module.select.select

    def close_first(*args):
        here.links["there"].close()
        return wait(*args)

    monkeypatch.setattr(bus_module.select, "select", close_first)
    assert here.pump(0.1) is False
    assert here.gone == ["there"]
    there.close()
