"""Faults of the loop itself: the policy, processes, clocks, messages, e-stops."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.faults.fault import Fault, Told
from envs.faults.injector import Injector, RunOverError
from robot.loop.log import RunLog
from robot.loop.recorder import Recorder, RecorderConfig
from robot.safety.estop import SIGNAL, EStop

Floats = NDArray[np.float32]


class Thinking(Fault):
    """The policy takes longer than it may; the controller goes on with its last action.

    Args:
        ticks: longer at each step.
    """

    waits = True

    def __init__(self, ticks: int) -> None:
        self._ticks = ticks

    def act(self, run: Injector, action: Floats) -> Floats:
        """The controller's ticks until it has made up its mind."""
        loop, player = run.station.loop, run.player
        if not loop.acting:
            return action
        run.takes_effect()
        run.observer.mark("unattended")
        for _ in range(self._ticks):
            q, qd = loop.references(1)
            if player.tick(q[0], qd[0]).level:
                loop.servo.follow(player.q_sent)
        run.observer.clear("unattended")
        return action


class Acting(Fault):
    """The policy acts at random, with all its might downwards and aside, or no number.

    Args:
        how: ``random``, ``adversarial``, ``stuck`` or ``nan``.
    """

    waits = True

    def __init__(self, how: str) -> None:
        self._how = how
        self._first: Floats | None = None

    def act(self, run: Injector, action: Floats) -> Floats:
        """Instead of what it wanted."""
        run.takes_effect()
        if self._how == "nan":
            return np.full_like(action, np.nan)
        if self._how == "random":
            return run.rng.uniform(-1, 1, action.shape).astype(np.float32)
        if self._how == "stuck":
            self._first = action if self._first is None else self._first
            return self._first
        return np.array([1.0, 1.0, 1.0, 1.0, -1.0], dtype=np.float32)


class Confused(Fault):
    """The policy sees nonsense."""

    waits = True

    def see(self, run: Injector, observation: Floats) -> Floats:
        """Every number is off."""
        run.takes_effect()
        run.observer.mark("confused")
        noise = run.rng.normal(0.0, 1.0, observation.shape).astype(np.float32)
        return np.asarray(observation + noise, dtype=np.float32)


class Paused(Fault):
    """The controller's process gets no time.

    Args:
        ticks: at a stretch.
        every: ticks of the controller from one stretch to the next; 0 for one alone.
    """

    def __init__(self, ticks: int, every: int = 0) -> None:
        self._ticks, self._every = ticks, every
        self._count = -1
        self._behind = 0

    def begin(self, run: Injector) -> None:
        """Commands are late from now on."""
        if self._every:
            run.observer.mark("late")

    def silent(self, run: Injector) -> int:
        """The world goes on without it."""
        self._count += 1
        self._behind = 0
        if self._count == 0 or (self._every and self._count % self._every == 0):
            self._behind = self._ticks
        return self._behind

    def upstream(self, run: Injector, told: Told) -> Told:
        """It takes the command for the one of now."""
        state, q, qd, now, gripper = told
        return state, q, qd, now + self._behind / 240.0, gripper


class Killed(Fault):
    """The controller's process is gone."""

    def upstream(self, run: Injector, told: Told) -> Told:
        """Nothing comes any more."""
        raise RunOverError("killed")


class ClockJump(Fault):
    """The controller's clock leaps.

    Args:
        seconds: forward, or back.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self, run: Injector, now_s: float) -> float:
        """What it says from now on."""
        return now_s + self._seconds

    def upstream(self, run: Injector, told: Told) -> Told:
        """The tick at which it leaps has asked it already."""
        state, q, qd, _, gripper = told
        return state, q, qd, run.player.clock.now_s(), gripper


class Storm(Fault):
    """Every command comes many times over.

    Args:
        times: too often.
    """

    def __init__(self, times: int) -> None:
        self._times = times

    def upstream(self, run: Injector, told: Told) -> Told:
        """The supervisor is asked again and again; what it lets pass last is sent."""
        for _ in range(self._times):
            run.ask(told)
        return told


class DiskFull(Fault):
    """The recorder's disk is full: its file cannot grow."""

    def begin(self, run: Injector) -> None:
        """A recording whose file may hold no more than a few messages."""
        self._folder = tempfile.TemporaryDirectory(prefix="steadyhand-fault-")
        path = Path(self._folder.name) / "full.mcap"
        self._recorder = Recorder(path, RecorderConfig(chunk_bytes=2048))
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._log = run.player.log
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, self._before[1]))
        run.player.log = RunLog(self._recorder)

    def end(self, run: Injector) -> None:
        """As before; that the recording did stop is part of the fault."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
        run.player.log = self._log
        if self._recorder.failed is None:
            run.observer.violations["the recorder did not notice"] = 1.0
        self._recorder.close()
        self._folder.cleanup()


class Stopped(Fault):
    """A person hits the emergency stop.

    Args:
        how: ``api`` or ``signal``.
    """

    def __init__(self, how: str) -> None:
        self._how = how

    def begin(self, run: Injector) -> None:
        """Now."""
        if self._how == "api":
            run.supervisor.estop("a person")
            return
        with EStop(run.supervisor.estop):
            os.kill(os.getpid(), SIGNAL)
