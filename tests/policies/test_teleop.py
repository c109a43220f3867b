"""Teleoperation: keys and sticks become actions, and a person's episodes become a set."""

from __future__ import annotations

import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from envs.expert import expert_for
from policies.demos.dataset import load_demonstrations
from policies.demos.describe import describe_env
from policies.demos.devices import FAST, SLOW, Command, Gamepad, KeyFile, Terminal, command_of
from policies.demos.record import RecordResult
from policies.demos.teleop import Person, View, teleoperate
from policies.demos.writer import DemoWriter
from policies.evaluation.rollouts import episode_seeds
from policies.evaluation.specs import EnvSpec
from robot.errors import SteadyhandError
from robot.observation import SIZE

ENV = EnvSpec("Steadyhand/GraspSingle-v0", {"objects": "primitives", "timeout_s": 20.0})


# Commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "command"),
    [
        ("", Command()),
        ("w", Command((SLOW, 0.0, 0.0, 0.0))),
        ("WdF", Command((FAST, -SLOW, FAST, 0.0))),
        ("ws", Command()),
        ("l", Command((0.0, 0.0, 0.0, -SLOW))),
        (" ", Command(toggle=True)),
        ("[", Command(open_by=-0.1)),
        ("q", Command(word="quit")),
        ("Wq", Command((FAST, 0.0, 0.0, 0.0), word="quit")),
        ("%", Command()),
    ],
)
def test_keys_are_commands(keys: str, command: Command) -> None:
    assert command_of(keys) == command


def test_a_person_remembers_the_opening() -> None:
    commands = iter([Command(), Command(toggle=True), Command(open_by=0.1), Command(toggle=True)])

    class Device:
        def read(self) -> Command:
            return next(commands)

    person = Person(Device())  # type: ignore[arg-type]
    observation = np.zeros(SIZE, np.float32)
    observation[18] = 0.06  # the candidate's opening
    openings = [float(person.act(observation)[4]) for _ in range(4)]
    assert np.allclose(openings, [0.5, -1.0, -0.9, -1.0])


def test_a_key_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("wF\n\n<space>r\n \n<enter>\n<backspace>\n")
    with KeyFile(path) as device:
        said = [device.read() for _ in range(7)]
    assert said[0].motion == (SLOW, 0.0, FAST, 0.0) and said[1] == Command()
    assert said[2].toggle and said[3].toggle
    assert [s.word for s in said[4:]] == ["finish", "discard", "quit"]
    path.write_text("w\nwx\n")
    with pytest.raises(SteadyhandError, match="keys:2: there is no key 'x'"):
        KeyFile(path)
    with pytest.raises(SteadyhandError, match="cannot be read: No such file"):
        KeyFile(tmp_path / "none")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SteadyhandError, match="is no text"):
        KeyFile(path)


# Live devices ---------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_a_terminal_gives_keys_and_is_given_back(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    with Terminal(theirs, 50.0) as device:
        assert device.read() == Command()
        os.write(ours, b"wF ")
        said = device.read()
        assert said.motion == (SLOW, 0.0, FAST, 0.0) and said.toggle
        os.write(ours, b" ")  # a repeat: still down
        again = device.read()
        assert again.motion == (SLOW, 0.0, FAST, 0.0) and not again.toggle
        time.sleep(0.15)
        assert device.read().motion == (0.0, 0.0, 0.0, 0.0)
        for typed, word in ((b"\r", "finish"), (b"\x7f", "discard"), (b"q", "quit")):
            os.write(ours, typed)
            assert device.wait() == word
        began = time.monotonic()
        for _ in range(7):
            device.read()
        assert 0.1 < time.monotonic() - began < 2.0
    assert termios.tcgetattr(theirs) == before


def test_keys_of_a_window_count_too(terminal: tuple[int, int]) -> None:
    with Terminal(terminal[1], 200.0, lambda: {"A", "enter"}) as device:
        said = device.read()
    assert said.motion == (0.0, FAST, 0.0, 0.0) and said.word == "finish"


def event(value: int, kind: int, number: int) -> bytes:
    return struct.pack("=IhBB", 0, value, kind, number)


def test_a_gamepad_gives_sticks_and_buttons(tmp_path: Path) -> None:
    path = tmp_path / "js0"
    os.mkfifo(path)
    with Gamepad(path, 200.0) as device:
        writer = os.open(path, os.O_WRONLY)
        os.write(writer, event(1, 0x81, 0) + event(0, 0x82, 1))  # as the kernel begins
        assert device.read() == Command()
        os.write(writer, event(-32767, 2, 1) + event(2000, 2, 0) + event(32767, 2, 4)[:5])
        assert device.read().motion == (1.0, 0.0, 0.0, 0.0)
        os.write(writer, event(32767, 2, 4)[5:] + event(0, 2, 1) + event(1, 1, 0))
        said = device.read()
        assert said.motion == (0.0, 0.0, 1.0, 0.0) and said.toggle
        os.write(writer, event(1, 1, 4))
        assert device.read().open_by == device.read().open_by == -0.1
        os.write(writer, event(0, 1, 4) + event(1, 1, 7))
        said = device.read()
        assert said.open_by == 0.0 and said.word == "finish"
        os.write(writer, event(1, 1, 6))
        assert device.wait() == "quit"
        os.close(writer)
    with pytest.raises(SteadyhandError, match="js9: cannot be opened: No such file"):
        Gamepad(tmp_path / "js9", 20.0)


# Episodes -------------------------------------------------------------------------------------


def pressed(action: np.ndarray, opening: float) -> str:
    """The keys that come closest to an action, for a gripper that is told ``opening``."""
    keys = ""
    for value, (plus, minus) in zip(action[:4], ("ws", "ad", "fr", "jl"), strict=True):
        key = plus if value > 0 else minus
        if abs(value) > 0.45:
            keys += key.upper()
        elif abs(value) > 0.06:
            keys += key
    return keys + (" " if (action[4] > -1.0) != (opening > -1.0) else "")


@pytest.fixture(scope="module")
def grasping() -> list[str]:
    """Lines of keys that grasp the object of the first attempt: the expert's, in key presses."""
    env = ENV.make()
    expert = expert_for(env)
    lines: list[str] = []
    opened = None
    try:
        observation, _ = env.reset(seed=next(episode_seeds(0, 0)))
        over = False
        while not over:
            wide = 2 * float(observation[18]) / 0.08 - 1
            opened = wide if opened is None else opened
            keys = pressed(expert.act(observation), opened)
            command = command_of(keys)
            opened = (-1.0 if opened > -1.0 else wide) if command.toggle else opened
            lines.append(keys)
            action = np.array([*command.motion, opened], np.float32)
            observation, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        assert info["is_success"], "the expert's keys do not grasp"
    finally:
        env.close()
    return lines


def drive(
    folder: Path, lines: list[str], episodes: int = 9, views: list[View] | None = None
) -> RecordResult:
    path = folder / "keys"
    path.write_text("\n".join(lines) + "\n")
    show = None if views is None else views.append
    return teleoperate(folder / "set", ENV, lambda _: KeyFile(path), episodes, 0, show)


def test_scripted_keys_grasp_an_object(tmp_path: Path, grasping: list[str]) -> None:
    views: list[View] = []
    result = drive(tmp_path, [*grasping, "<enter>"], views=views)
    assert (result.episodes, result.attempts, result.successes) == (1, 1, 1)
    demos = load_demonstrations(tmp_path / "set")
    assert demos.success.all() and len(demos.observation) == len(grasping)
    assert demos.facts[0]["source"] == "person" and demos.facts[0]["outcome"] == "held"
    assert np.abs(demos.privileged).max() > 1.0  # the joints
    (over,) = [v for v in views if v.success is not None]
    assert over.success and over.waiting and over.step == len(grasping)
    assert 0.05 < views[0].to_go[2] < 0.15 and views[0].height_m > 0.08
    assert over.force_n > 1.0 and over.height_m > 0.2
    # It goes on where it stopped, with the next scene.
    more = drive(tmp_path, ["w", "w", "<enter>", "q"])
    assert (more.episodes, more.resumed_at, more.successes) == (2, 1, 0)
    assert list(load_demonstrations(tmp_path / "set").success) == [True, False]


def test_what_is_unfinished_or_discarded_is_not_kept(tmp_path: Path, grasping: list[str]) -> None:
    for lines in (["w", "w"], ["q"], ["wq"], ["w", "<backspace>", "f"], [*grasping, "q"]):
        assert drive(tmp_path, lines).episodes == 0
        assert not (tmp_path / "set").exists(), lines
    assert drive(tmp_path, [*grasping, "<backspace>", "w", "<enter>"]).episodes == 1
    assert load_demonstrations(tmp_path / "set").facts[0]["attempt"] == 1


def test_it_ends_when_the_set_is_large_enough(tmp_path: Path) -> None:
    assert drive(tmp_path, ["w", "<enter>"] * 4, episodes=2).attempts == 2


def test_another_set_or_environment_is_refused(tmp_path: Path) -> None:
    other = EnvSpec("Test/Reach-v0", imports=("reach_env",))
    (tmp_path / "keys").write_text("w\n")
    with pytest.raises(SteadyhandError, match="a person can drive the grasp environments only"):
        teleoperate(tmp_path / "set", other, lambda _: KeyFile(tmp_path / "keys"), 1)
    DemoWriter(tmp_path / "set", describe_env(other))
    with pytest.raises(SteadyhandError, match="features differs"):
        drive(tmp_path, ["w", "<enter>"])


# On the command line --------------------------------------------------------------------------


def test_a_person_at_a_terminal(tmp_path: Path, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "steadyhand.cli", "demos", "teleop", "--out"),
            *(str(tmp_path / "set"), "--objects", "primitives", "--json"),
        ],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=Path.cwd(),
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
    )
    seen = b""
    deadline = time.monotonic() + 120
    try:
        for typed, sign in ((b"w", b"quits"), (b"\r", b"step   2"), (b"q", b"no success")):
            while sign not in seen and time.monotonic() < deadline:
                seen += os.read(ours, 4096)
            os.write(ours, typed)
        out = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0, seen.decode()
    assert b'"episodes": 1' in out and b"\n" in out
    assert b"step   0 \xc2\xb7 x   +0 y   +0 down +100 mm turn" in seen
    assert b"episode 0: " in seen and b"enter or backspace" not in seen
    assert load_demonstrations(tmp_path / "set").episodes == 1
