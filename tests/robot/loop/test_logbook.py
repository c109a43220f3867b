"""The recorder's node: the order of stamps, whatever order they come in."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader

from robot.loop import messages
from robot.loop.logbook import Logbook
from robot.loop.mailbox import Packet
from robot.loop.reading import read_recording
from robot.loop.recorder import Recorder
from robot.loop.typestore import encode


def packet(topic: str, stamp_s: float, text: str) -> Packet:
    return Packet(topic, "std_msgs/msg/String", stamp_s, encode(messages.string(text)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_file_is_the_same_in_whatever_order_processes_are_read(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    sources = {
        name: [packet(f"/{name}", n / 20, f"{name}{n}") for n in range(20)] for name in "abc"
    }
    folder = tmp_path_factory.mktemp("logbook")
    files = []
    for turn in range(2):
        book = Logbook(Recorder(folder / f"{turn}.mcap"), wait_s=0.3)
        left = {name: list(packets) for name, packets in sources.items()}
        while any(left.values()):
            # Nobody is further behind than the logbook waits.
            slowest = min(p[0].stamp_s for p in left.values() if p)
            ready = [n for n, p in left.items() if p and p[0].stamp_s <= slowest + 0.25]
            name = ready[int(rng.integers(len(ready)))]
            book.take(left[name].pop(0))
            book.write()
        book.close()
        files.append([(m.topic, m.data) for m in read_recording(folder / f"{turn}.mcap").messages])
    assert files[0] == files[1] and len(files[0]) == 60


def test_what_is_left_out_is_left_out_and_the_rest_reads_with_mcaps_own_reader(tmp_path):
    path = tmp_path / "a.mcap"
    book = Logbook(Recorder(path), leave_out={"/timing"}.__contains__)
    for n in range(5):
        book.take(packet("/timing", n, "x"))
        book.take(packet("/events", n, f"event {n}"))
    book.close()
    reader = make_reader(io.BytesIO(path.read_bytes()))
    found = [(schema.name, channel.topic) for schema, channel, _ in reader.iter_messages()]
    assert found == [("std_msgs/msg/String", "/events")] * 5


def test_a_full_disk_stops_the_recording_and_nothing_else(tmp_path):
    recorder = Recorder(tmp_path / "a.mcap")
    book = Logbook(recorder)
    book.take(packet("/events", 0.0, "one"))
    recorder.fail("the disk is full")
    for n in range(3):
        book.take(packet("/events", n, "more"))
        book.write()
    book.close()
    assert recorder.failed == "the disk is full"
