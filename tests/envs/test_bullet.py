"""Bullet's own chatter goes to the log and never to the streams."""

from __future__ import annotations

import ctypes
import logging
import os
import sys

import pytest

from envs.bullet import silenced


def say(text: str) -> None:
    """Write as C code does, through its own buffer."""
    ctypes.CDLL(None).printf(text.encode() + b"\n")


def test_what_c_code_writes_is_logged_and_not_shown(capfd, caplog):
    caplog.set_level(logging.DEBUG, logger="envs.bullet")
    with silenced():
        say("b3Warning: something")
        os.write(2, b"on the other stream\n")
    say("afterwards")
    ctypes.CDLL(None).fflush(None)
    shown = capfd.readouterr()
    assert shown.out == "afterwards\n"
    assert shown.err == ""
    assert {"bullet: b3Warning: something", "bullet: on the other stream"} <= set(caplog.messages)


def test_what_python_wrote_before_keeps_its_place(capfd):
    sys.stdout.write("before\n")
    with silenced():
        say("within")
    sys.stdout.write("after\n")
    sys.stdout.flush()
    assert capfd.readouterr().out == "before\nafter\n"


def test_an_error_passes_and_the_streams_are_back(capfd):
    with pytest.raises(ValueError), silenced():
        say("within")
        raise ValueError
    os.write(1, b"here again\n")
    assert capfd.readouterr().out == "here again\n"


def test_no_end_of_chatter_blocks_nothing_and_no_file_stays_open():
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (counts, no paths)
    for _ in range(3):
        with silenced():
            for _ in range(400):
                say("x" * 1000)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
