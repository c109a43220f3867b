"""A window onto a running loop, and its figures for Prometheus."""

from __future__ import annotations

import sys
import threading
import time
import urllib.request

import pytest

from robot.errors import SteadyhandError
from robot.loop import messages
from robot.loop.bus import Bus
from robot.loop.mailbox import Packet
from robot.loop.meter import Meter
from robot.loop.metrics import Metrics
from robot.loop.publisher import EVENTS, JOINT_STATES
from robot.loop.window import Window, look_in


def test_whoever_looks_in_sees_what_is_published_and_may_leave(tmp_path):
    bus, window = Bus("loop"), Window(tmp_path / "a.sock")
    bus.tap(window.show)
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            window.admit()
            bus.publish(EVENTS, messages.string("tick"), 0.0)
            time.sleep(0.002)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(2):  # one guest after the other
            seen = []
            for packet in look_in(window.path, 20.0):
                seen.append(packet.message.data)
                if len(seen) >= 5:
                    break
            assert seen == ["tick"] * 5
    finally:
        ended.set()
        thread.join()
        window.close()
    assert not window.path.exists()
    with pytest.raises(SteadyhandError, match="no loop is running"):
        next(iter(look_in(window.path)))


def test_a_guest_gets_each_packet_once_while_one_thread_shows_and_another_admits(tmp_path):
    window = Window(tmp_path / "a.sock")
    count, ended = 3000, threading.Event()
    began = threading.Event()
    seen: list[float] = []

    def look() -> None:
        for packet in look_in(window.path, 30.0):
            if packet.topic == "/begin":
                began.set()
            else:
                seen.append(packet.stamp_s)
            if len(seen) >= count:
                return

    def admit() -> None:
        while not ended.is_set():
            window.admit()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=look), threading.Thread(target=admit)]
    try:
        for thread in threads:
            thread.start()
        end = time.monotonic() + 20.0
        while not began.is_set() and time.monotonic() < end:
            window.show(Packet("/begin", "std_msgs/msg/String", 0.0, b""))
            time.sleep(0.01)
        for n in range(count):
            window.show(Packet(JOINT_STATES, "sensor_msgs/msg/JointState", float(n), bytes(4000)))
            time.sleep(2e-5)
        threads[0].join(30.0)
    finally:
        ended.set()
        threads[1].join()
        sys.setswitchinterval(before)
        window.close()
    assert seen == sorted(set(seen)) and seen[-1] == count - 1


def test_prometheus_reads_the_figures():
    meter = Meter(1 / 240)
    meter.begin(0.001)
    meter.end()
    figures = {"control": {**meter.told(), "images_used": 3}, "machine": meter.told()}
    metrics = Metrics(lambda: figures, lambda: {"picks": 2.0}, 0)
    try:
        url = f"http://127.0.0.1:{metrics.port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as answer:
            text = answer.read().decode()
    finally:
        metrics.close()
    assert 'steadyhand_ticks_total{loop="control"} 1.0' in text
    assert 'steadyhand_jitter_seconds{loop="machine",quantile="p99"}' in text
    assert "steadyhand_picks_total 2.0" in text
    taken = Metrics(lambda: {}, lambda: {}, 0)
    try:
        with pytest.raises(SteadyhandError, match="cannot be served"):
            Metrics(lambda: {}, lambda: {}, taken.port)
    finally:
        taken.close()
