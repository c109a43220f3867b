"""An emergency stop is sent, whatever the thread that a signal interrupts is about."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from robot.loop import messages
from robot.loop.alarm import Alarm
from robot.loop.bus import Bus
from robot.loop.mailbox import Mailbox, Packet
from robot.loop.publisher import PHASE
from robot.loop.topics import ESTOP
from robot.safety.estop import EStop


@pytest.fixture()
def within_ten_seconds():
    """A handler that hangs must fail, not hang the tests."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_while_its_thread_holds_what_sending_needs_is_sent_all_the_same(
    within_ten_seconds,
):
    bus = Bus("here")
    box = bus.subscribe([ESTOP])
    sent = threading.Event()

    def send(reason: str) -> None:
        bus.publish(ESTOP, messages.string(reason), 0.0)
        sent.set()

    alarm = Alarm(send)
    with EStop(alarm.press):
        with box._lock, bus._lock:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not sent.wait(0.05)
        assert sent.wait(5.0)
    packet = box.get()
    assert packet is not None and "SIGUSR1" in packet.message.data
    alarm.close()
    alarm.press("late")
    assert box.get() is None


def test_what_was_pressed_before_the_end_is_still_sent():
    got: list[str] = []
    alarm = Alarm(got.append)
    for n in range(100):
        alarm.press(str(n))
    alarm.close()
    assert got == [str(n) for n in range(100)]


def test_two_threads_empty_one_mailbox():
    box = Mailbox()
    failed: list[BaseException] = []
    ended = threading.Event()

    def empty() -> None:
        try:
            while not ended.is_set():
                box.get()
        except IndexError as error:
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=empty) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for n in range(20_000):
            box.put(Packet(PHASE, "std_msgs/msg/String", float(n), b""))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
    assert not failed
