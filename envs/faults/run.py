"""One pick with one fault in it, or none, and how it is judged."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from envs.faults.fault import Kind
from envs.faults.injector import Injector, RunOverError
from envs.faults.kinds import ZONE
from envs.faults.observer import Observer
from envs.objects import ObjectModel
from envs.scene import DropConfig
from envs.station import Station
from robot.errors import PlanningError, SafetyError, SensorError, SteadyhandError

_TRIES = 6
_AFTER_TICKS = 90
_AT_REST_RAD_S = 0.05
_REST_TICKS = 24


@dataclass(slots=True)
class Run:
    """What came of it.

    Attributes:
        kind: of the fault; empty for a nominal pick.
        phase: in which it began.
        seed: of the run.
        outcome: of the pick: its category, or ``halted``, ``over``, ``killed``, ``blind``.
        happened: whether the fault could be put in at all.
        reaction: controller periods from its effect to the first reaction that counts, or None.
        slowed: ticks that were slowed.
        halted: whether the supervisor halted.
        reasons: of the verdicts, in order.
        violations: more than allowed: name to the worst value.
        worst: of everything that was watched.
        undetected: no reaction in time, though one was due.
        wrong: another reaction than was stated.
    """

    kind: str
    phase: str
    seed: int
    outcome: str = ""
    happened: bool = False
    reaction: int | None = None
    slowed: int = 0
    halted: bool = False
    reasons: list[str] = field(default_factory=list)
    violations: dict[str, float] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    undetected: bool = False
    wrong: bool = False


def run_fault(
    station: Station, models: tuple[ObjectModel, ...], kind: Kind | None, phase: str, seed: int
) -> Run:
    """One run; the same arguments give the same.

    Where the pick never comes to the phase, the next of a few scenes is taken.
    """
    result = Run("" if kind is None else kind.name, phase, seed)
    for attempt in range(_TRIES):
        name = zlib.crc32(result.kind.encode())
        rng = np.random.default_rng((seed, name, attempt))
        result = Run(result.kind, phase, seed)
        _once(station, models, kind, rng, result)
        if result.happened or kind is None:
            break
    if result.wrong and not result.halted and kind is not None and kind.expect == ("none",):
        # Was that an answer to the fault, or is this pick slowed by itself?
        twin = Run("", "", seed)
        _once(station, models, None, np.random.default_rng((seed, name, attempt)), twin)
        result.wrong = twin.slowed == 0
    return result


def _once(
    station: Station,
    models: tuple[ObjectModel, ...],
    kind: Kind | None,
    rng: np.random.Generator,
    result: Run,
) -> None:
    station.arm.motor_temperature_c = None
    station.begin([models[int(rng.integers(len(models)))]], DropConfig(), int(rng.integers(2**31)))
    zones = ((np.array(ZONE.min_m), np.array(ZONE.max_m)),)
    observer = Observer(station.world, station.arm, station.limits, zones)
    delay = int(rng.integers(2, 60))
    injector = Injector(station, observer, kind, result.phase, delay, rng)
    with injector:
        try:
            result.outcome = _pick(station)
        except SafetyError:
            result.outcome = "halted"
        except SensorError:
            result.outcome = "blind"
        except RunOverError as over:
            result.outcome = str(over) or "over"
        except SteadyhandError as error:
            result.outcome = f"error: {error}"
        _afterwards(injector, result)
    in_effect = injector.effect is not None or not injector.fault.waits
    result.happened = injector.onset is not None and in_effect
    if kind is not None and kind.gradual and injector.first is None:
        # A pick that was over before can tell nothing.
        result.happened &= station.world.ticks - (injector.onset or 0) > kind.within
    result.slowed, result.halted = injector.slowed_ticks, injector.halt is not None
    if kind is None:
        result.halted = result.outcome == "halted"
    result.reasons = injector.reasons[:8]
    result.violations, result.worst = dict(observer.violations), dict(observer.worst)
    if kind is not None and result.happened:
        _judge(injector, kind, result)


def _pick(station: Station) -> str:
    picker = station.picker
    attempt = picker.grasp(picker.look())
    outcome = attempt.outcome
    if attempt.held:
        outcome = picker.put_away(attempt).category
    if attempt.candidate is not None:
        try:
            picker.home()
        except PlanningError:
            outcome = "no_way_home"
    return outcome


def _afterwards(run: Injector, result: Run) -> None:
    """After a halt, or a death, the arm comes to rest and stays so."""
    world, arm = run.world, run.arm
    if result.outcome not in ("halted", "killed"):
        return
    for k in range(_AFTER_TICKS):
        world.step(1)
        q, qd, *_ = arm.read_arrays()
        if result.outcome == "killed" and float(np.abs(qd).max()) < _AT_REST_RAD_S:
            run.first = run.halt = world.ticks
            return
        if k == _AFTER_TICKS - _REST_TICKS - 1:
            before = q
    # A finger that springs back from what it pressed on is fast for a tick and goes nowhere.
    speed = float(np.abs(q - before).max()) / (_REST_TICKS * world.config.tick_s)
    if speed > _AT_REST_RAD_S:
        run.observer.violations["moves after the halt"] = speed


def _judge(run: Injector, kind: Kind, result: Run) -> None:
    effect = run.effect if run.effect is not None else run.onset or 0
    slowed = run.slowed_ticks > 0 and not run.early
    halted = run.halt is not None
    first = run.halt if kind.expect == ("halt",) else run.first
    result.reaction = None if first is None else max(0, first - effect)
    due = not {"none", "recover"} & set(kind.expect)
    if kind.expect == ("none",):
        result.wrong = slowed or halted
        result.reaction = None
    elif not due:
        result.wrong = halted and "halt" not in kind.expect
        result.reaction = None
    elif run.first is None:
        result.undetected = run.effect is not None or run.onset is not None
    elif ("halt" if halted else "slow") not in kind.expect:
        result.wrong = True
    else:
        result.undetected = result.reaction is None or result.reaction > kind.within
    if kind.gradual:
        result.reaction = None
