"""Puts one fault into one pick, and writes down how the supervisor answered."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.faults.fault import Fault, Kind, Told
from envs.faults.observer import Observer
from envs.station import Station
from robot.execution.player import TICK_S
from robot.types import (
    GripperCommand,
    JointCommand,
    RobotState,
    SafetyVerdict,
    VerdictLevel,
)

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


_MOVING_RAD_S = 0.1


class RunOverError(Exception):
    """The fault has lasted long enough; whatever the pick still wanted is cut off."""


class Injector:
    """Stands between the parts of a station for one run: robot, clock, policy, supervisor.

    Args:
        station: picks.
        observer: watches the world.
        kind: what goes wrong, None for a nominal pick.
        phase: in which it begins.
        delay: ticks of that phase before it begins.
        rng: draws what the fault leaves open.
    """

    def __init__(
        self,
        station: Station,
        observer: Observer,
        kind: Kind | None,
        phase: str,
        delay: int,
        rng: np.random.Generator,
    ) -> None:
        self.station, self.observer, self.kind, self.rng = station, observer, kind, rng
        self.fault = kind.make() if kind is not None else Fault()
        self.player = station.player
        self.supervisor = self.player.supervisor
        self.arm, self.world = station.arm, station.world
        self._phase, self._delay = phase, delay
        self.active = self._begun = False
        self.ended = False
        #: Ticks of the world at which it began, took effect, and was answered.
        self.onset: int | None = None
        self.effect: int | None = None
        self.first: int | None = None
        self.halt: int | None = None
        self.slowed_ticks = 0
        self.early: list[str] = []
        self.reasons: list[str] = []
        #: What the supervisor let through last, and before that: (7,) rad.
        self.sent: list[Array] = []
        self._real: dict[str, Any] = {}

    @property
    def age(self) -> int:
        """Ticks since it began."""
        return self.world.ticks - (self.onset or 0)

    def takes_effect(self) -> None:
        """From now on a reaction is due; without a word, from its beginning."""
        if self.effect is None:
            self.effect = self.world.ticks

    def impossible(self) -> None:
        """This fault cannot be put into this pick: another one has to do."""
        self.onset = None
        raise RunOverError("impossible")

    # Installing ----------------------------------------------------------------------------

    def __enter__(self) -> Injector:
        station, player = self.station, self.player
        self._real = {
            "filter": self.supervisor.filter,
            "robot": player.robot,
            "clock": player.clock,
            "policy": station.acting.policy,
        }
        self.supervisor.filter = self._filter  # type: ignore[method-assign,assignment]
        player.robot = _Robot(self, player.robot)
        player.clock = _Clock(self, player.clock)
        station.acting.policy = _Policy(self, station.acting.policy)
        self.world.before_tick = self._before_tick
        return self

    def __exit__(self, *_: object) -> None:
        self.active = False
        if self._begun:
            self.fault.end(self)
        self.supervisor.filter = self._real["filter"]  # type: ignore[method-assign]
        self.player.robot, self.player.clock = self._real["robot"], self._real["clock"]
        self.station.acting.policy = self._real["policy"]
        self.world.before_tick = None
        self.observer.close()

    # Where it takes hold -------------------------------------------------------------------

    def _before_tick(self) -> None:
        if self.active:
            self.fault.before_tick(self)
        self.observer.look()

    def _filter(
        self,
        state: RobotState | None,
        q: Array,
        qd: Array,
        now_s: float,
        gripper: GripperCommand | None = None,
    ) -> tuple[Array, Array, SafetyVerdict]:
        if self.kind is not None and not self.active and not self.ended:
            if self.player.phase == self._phase:
                self._delay -= 1
            # In the middle of a motion, where a fault does harm; "place" alone has none.
            moves = self._phase == "place" or float(np.abs(qd).max()) > _MOVING_RAD_S
            if self._delay < 0 and moves and self.player.phase == self._phase:
                self.active, self.onset = True, self.world.ticks
                self.fault.begin(self)
                self._begun = True
        if self.active and self.kind is not None:
            if self.kind.lasts is not None and self.age > self.kind.lasts and self.halt is None:
                raise RunOverError
            if self.halt is None:
                for _ in range(self.fault.silent(self)):
                    self.world.step(1)
                told = self.fault.upstream(self, (state, q, qd, now_s, gripper))
                state, q, qd, now_s, gripper = told
        out: tuple[Array, Array, SafetyVerdict] = self._real["filter"](state, q, qd, now_s, gripper)
        self._write_down(out[2])
        self.sent = [*self.sent[-1:], out[0][-1].copy()]
        return out

    def ask(self, told: Told) -> None:
        """Have the supervisor judge this, as if it came from the loop."""
        self._write_down(self._real["filter"](*told)[2])

    def _write_down(self, verdict: SafetyVerdict) -> None:
        if verdict.level is VerdictLevel.OK:
            return
        self.slowed_ticks += verdict.level is VerdictLevel.SCALE
        if verdict.reason not in self.reasons[-1:]:
            self.reasons.append(verdict.reason)
        if not self.active:
            self.early.append(verdict.reason)
            return
        if self.first is None:
            self.first = self.world.ticks
        if self.halt is None and verdict.level is VerdictLevel.HALT:
            self.halt = self.world.ticks


class _Robot:
    """The arm as the controller gets to know it."""

    def __init__(self, run: Injector, arm: Any) -> None:
        self._run, self._arm = run, arm

    def connect(self) -> None:
        """As the arm."""
        self._arm.connect()

    def read(self) -> RobotState:
        """A reading, or what became of it."""
        state: RobotState = self._arm.read()
        return self._run.fault.read(self._run, state) if self._run.active else state

    def send(self, joints: JointCommand, gripper: GripperCommand) -> JointCommand:
        """As the arm."""
        applied: JointCommand = self._arm.send(joints, gripper)
        return applied

    def stop(self) -> None:
        """As the arm."""
        self._arm.stop()


class _Clock:
    """The controller's clock; the world's goes on as it does."""

    def __init__(self, run: Injector, clock: Any) -> None:
        self._run, self._clock = run, clock

    def now_s(self) -> float:
        """What it says."""
        now: float = self._clock.now_s()
        return self._run.fault.now(self._run, now) if self._run.active else now

    def sleep_until(self, time_s: float) -> None:
        """One controller period, whatever the clock says."""
        self._clock.sleep_until(self._clock.now_s() + TICK_S)


class _Policy:
    """The policy with its eyes and hands."""

    def __init__(self, run: Injector, policy: Any) -> None:
        self._run, self._policy = run, policy

    def reset(self) -> None:
        """As the policy."""
        self._policy.reset()

    def ask(self, observation: Floats) -> None:
        """Show it what there is, or what became of it."""
        run = self._run
        self._policy.ask(run.fault.see(run, observation) if run.active else observation)

    def answer(self) -> Floats | None:
        """What it does about what it saw."""
        run = self._run
        action: Floats | None = self._policy.answer()
        return run.fault.act(run, action) if run.active and action is not None else action
