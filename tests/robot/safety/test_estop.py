"""The emergency stop from outside: by signal, and by whoever finds the process."""

from __future__ import annotations

import os

import numpy as np
import pytest

from robot.errors import SafetyError
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.safety import estop
from robot.safety.suite import for_batches
from robot.safety.supervisor import Supervisor
from robot.types import GripperState, JointState, RobotState, VerdictLevel

LIMITS = load_limits("panda")
HOME = LIMITS.home_rad


@pytest.fixture
def supervisor(tmp_path, monkeypatch):
    monkeypatch.setattr(estop.tempfile, "tempdir", str(tmp_path))
    made = Supervisor(LIMITS, Kinematics(LIMITS), for_batches())
    made.reset(HOME)
    return made


def next_tick(supervisor: Supervisor) -> VerdictLevel:
    state = RobotState(0.0, JointState(HOME, np.zeros(7), np.zeros(7)), GripperState(0.08, 0.0))
    return supervisor.filter(state, HOME[None], np.zeros((1, 7)), 0.0)[2].level


def test_a_signal_halts_at_the_next_tick(supervisor):
    with estop.EStop(supervisor.estop):
        assert next_tick(supervisor) is VerdictLevel.OK
        os.kill(os.getpid(), estop.SIGNAL)
        assert next_tick(supervisor) is VerdictLevel.HALT
    assert supervisor.verdict.reason == "e-stop: signal SIGUSR1"


def test_whoever_presses_finds_what_runs(supervisor):
    with pytest.raises(SafetyError, match="no arm runs"):
        estop.press()
    other = estop._folder() / "loop-1.sock"
    with estop.EStop(supervisor.estop):
        other.touch()
        assert estop.running() == [os.getpid()]
        with pytest.raises(SafetyError, match="no arm in 1"):
            estop.press(1)
        assert estop.press() == [os.getpid()]
        assert supervisor.halted
    assert estop.running() == []
    assert other.exists()  # somebody else's
