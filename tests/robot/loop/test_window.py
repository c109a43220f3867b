"""A window onto a running loop, and its figures for Prometheus."""

from __future__ import annotations

import threading
import time
import urllib.request

import pytest

from robot.errors import SteadyhandError
from robot.loop import messages
from robot.loop.bus import Bus
from robot.loop.meter import Meter
from robot.loop.metrics import Metrics
from robot.loop.publisher import EVENTS
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
