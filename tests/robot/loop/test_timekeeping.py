"""Clocks, meters and the fixed-rate executor."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.errors import ConfigError
from robot.loop import clock as module
from robot.loop import meter as meters
from robot.loop import pulse as pulses
from robot.loop.clock import FollowingClock, PacedClock, RealClock
from robot.loop.executor import Executor, kept_awake
from robot.loop.meter import Histogram, Meter
from robot.loop.timing import figures_of, timing_message
from robot.loop.typestore import decode, encode


class Counting:
    """A simulated clock that counts instead of stepping a world."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s

    def sleep_until(self, time_s: float) -> None:
        self.time_s = max(self.time_s, time_s)


class Ticking:
    """A beat of simulated ticks."""

    def __init__(self) -> None:
        self.ticks = 0

    def advance(self) -> None:
        self.ticks += 1

    def late_s(self) -> float:
        return 0.0

    def now_s(self) -> float:
        return self.ticks / 240.0


class Node:
    def __init__(self, name: str, rate_hz: float, end: Executor | None = None) -> None:
        self.name, self.rate_hz, self.at = name, rate_hz, []
        self.end_after: tuple[Executor, int] | None = None

    def step(self, now_s: float) -> None:
        self.at.append(now_s)
        if self.end_after and len(self.at) >= self.end_after[1]:
            self.end_after[0].stopped = True


@given(st.lists(st.floats(3e-6, 4.0), min_size=1, max_size=300), st.floats(0.0, 1.0))
def test_a_quantile_is_right_within_a_bin(values, share):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    assert exact * 0.999 <= histogram.quantile(share) <= exact * 1.11
    assert histogram.max_s == max(values) and histogram.count == len(values)


def test_nodes_run_at_their_own_rates():
    beat = Ticking()
    fast, policy, camera = Node("c", 240.0), Node("p", 20.0), Node("i", 5.0)
    executor = Executor(beat, 240.0, [fast, policy, camera])
    fast.end_after = executor, 480
    executor.run()
    assert [len(n.at) for n in (fast, policy, camera)] == [480, 40, 10]
    np.testing.assert_allclose(np.diff(camera.at), 0.2)
    assert executor.meter.ticks == 480


def test_a_rate_that_does_not_divide_is_refused_by_name():
    with pytest.raises(ConfigError, match="policy: 7 Hz"):
        Executor(Ticking(), 240.0, [Node("policy", 7.0)])


def test_work_beyond_the_period_is_an_overrun_and_a_late_end_a_miss(
    monkeypatch: pytest.MonkeyPatch,
):
    walls = [0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: walls[0] * 1e-9)
    meter = Meter(0.004)
    for late_s, work_ns in ((0.0, 100_000), (0.0, 6_000_000), (0.0039, 1_000_000)):
        meter.begin(late_s)
        walls[0] += work_ns
        meter.end()
    assert (meter.ticks, meter.overruns, meter.missed) == (3, 1, 2)
    meter.pause()
    meter.end()
    assert meter.ticks == 3


def test_simulated_time_keeps_the_walls_pace():
    clock = PacedClock(Counting(), speed=4.0)
    start = time.perf_counter()
    for tick in range(1, 41):
        clock.sleep_until(tick / 240.0)
    assert time.perf_counter() - start >= 40 / 240.0 / 4.0
    assert clock.now_s() == pytest.approx(40 / 240.0)


def test_after_a_stall_time_is_late_and_never_hurried():
    clock = PacedClock(Counting())
    clock.sleep_until(1 / 240)
    time.sleep(0.05)
    clock.sleep_until(2 / 240)
    assert clock.late_s > 0.03 and clock.slipped_s > 0.03
    start = time.perf_counter()
    clock.sleep_until(3 / 240)
    assert time.perf_counter() - start > 0.003


def test_a_real_clock_sleeps_until_and_not_less():
    clock = RealClock()
    until = clock.now_s() + 0.02
    clock.sleep_until(until)
    assert clock.now_s() >= until and clock.late_s >= 0.0
    clock.sleep_until(0.0)
    assert clock.late_s > 0.0


@pytest.mark.parametrize("drift", [-5e-5, 2e-5, 5e-5])
def test_a_clock_follows_an_arm_whose_own_runs_faster_or_slower(monkeypatch, drift):
    """An hour at 50 Hz; states take 1 to 6 ms, one in a hundred 30 ms. By itself: 72 to 180 ms."""
    rng, wall = np.random.default_rng(3), [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: wall[0])
    clock = FollowingClock(5.0)
    before, ages = clock.now_s(), []
    for n in range(1, 180_000):
        sent = 0.02 * n
        delay = 0.03 if n % 100 == 0 else rng.uniform(0.001, 0.006)
        wall[0] = max(100.0 + sent + delay, wall[0])
        clock.heard(5.0 + sent * (1.0 + drift))
        now = clock.now_s()
        assert now >= before
        before = now
        ages.append(now - (5.0 + sent * (1.0 + drift)))
    settled = np.array(ages[2000:])
    assert settled.min() > -0.002 and settled.max() < 0.033


def test_a_stamp_from_far_off_moves_the_clock_by_next_to_nothing(monkeypatch):
    wall = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: wall[0])
    clock = FollowingClock(0.0)
    for n in range(1, 1000):
        wall[0] = 0.004 * n
        clock.heard(0.004 * n + (500.0 if n == 500 else 0.0))
    assert abs(clock.now_s() - wall[0]) < 2e-3


def test_figures_go_through_a_diagnostic_message_unchanged():
    meter = Meter(0.01)
    meter.begin(0.001)
    meter.end()
    message = timing_message("control", meter.told(), 1.5)
    back = decode(encode(message), message.__msgtype__)
    assert figures_of(back) == {"control": meter.told()}


def _held_open() -> set[Path]:
    return {link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()}


def test_processors_are_kept_awake_as_long_as_the_file_is_open(tmp_path):
    device = tmp_path / "cpu_dma_latency"
    device.write_bytes(struct.pack("i", 2_000_000_000))
    with kept_awake(device) as awake:
        assert awake
        assert device in _held_open()
        assert device.read_bytes() == struct.pack("i", 0)
    assert device not in _held_open()


def test_a_system_that_cannot_be_asked_to_stay_awake_is_no_error(tmp_path):
    with kept_awake(tmp_path / "none") as awake:
        assert not awake
    assert not list(tmp_path.iterdir())


def test_what_fails_meanwhile_is_told_and_the_processors_may_sleep_again(tmp_path):
    device = tmp_path / "cpu_dma_latency"
    device.write_bytes(b"\0" * 4)
    with pytest.raises(OSError, match="of the loop"), kept_awake(device):
        raise OSError("of the loop")
    assert device not in _held_open()


@pytest.mark.parametrize(
    ("text", "stolen_s"),
    [
        ("cpu  106443 1148 3525 25884 190 0 63 66611 7 9\ncpu0 1 1 1 1 1 1 1 33305 0 0\n", 666.11),
        ("cpu  106443 1148 3525 25884\n", 0.0),  # a kernel that does not tell
        ("cpu  a b c d e f g h i j\n", 0.0),
        ("", 0.0),
    ],
)
def test_stolen_time_is_that_of_all_processors(tmp_path, monkeypatch, text, stolen_s):
    file = tmp_path / "stat"
    file.write_text(text)
    monkeypatch.setattr(pulses, "_STAT", file)
    monkeypatch.setattr(pulses.os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)
    assert pulses.stolen_s() == pytest.approx(stolen_s)
    monkeypatch.setattr(pulses, "_STAT", tmp_path / "none")
    assert pulses.stolen_s() == 0.0


def test_the_empty_loop_tells_how_much_the_host_took(monkeypatch):
    class Bus:
        gone = False

        def __init__(self):
            self.told = []

        def subscribe(self, _):
            return ()

        def pump(self):
            pass

        def publish(self, topic, message, stamp_s):
            self.told.append(figures_of(message)["machine"])
            self.gone = len(self.told) == 2

    taken = iter([3.0, 3.1, 3.2])
    monkeypatch.setattr(pulses, "stolen_s", lambda: next(taken))
    monkeypatch.setattr(pulses, "be_urgent", lambda: False)
    monkeypatch.setattr(pulses.os, "cpu_count", lambda: 2)
    bus = Bus()
    pulses.pulse(bus, 240.0)
    assert [told["ticks"] for told in bus.told] == [240, 480]
    # A tenth of a second in each of two seconds of two processors.
    assert [told["stolen_share"] for told in bus.told] == pytest.approx([0.05, 0.05], rel=0.1)
