"""The grasp protocols: what is asked of a subject, and how an episode is judged.

A protocol is frozen in ``configs/protocol/<name>.yaml``; its digest goes into every result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from configs.load import as_dict, bounded, digest, find, load
from envs.disturbance import DisturbanceConfig, SlipConfig
from envs.objects import ObjectModel
from envs.scene import DropConfig
from envs.station import Station
from policies.evaluation.wanted import clicked, want
from robot.errors import ConfigError, PlanningError, SafetyError, SensorError
from robot.execution.attempt import GraspAttempt
from robot.execution.stack import base_for, stack
from robot.planning.obstacles import Box
from robot.types import PickResult

ProtocolName = Literal[
    "single", "kuka", "clutter", "disturbed", "slip", "bin", "shelf", "cluttered-path", "stack",
    "target",
]  # fmt: skip

PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)


@dataclass(frozen=True)
class Protocol:
    """What happens in one episode.

    Attributes:
        name: ``single``: one object, one attempt, held; ``kuka``: several objects, one attempt,
            lifted high; ``clutter``: several objects, attempts until clear or too many failures;
            ``disturbed``: single, and the object is moved as ``disturbance`` says; ``slip``: the
            object slips away once it is lifted, has to be missed and gripped anew; ``bin``,
            ``shelf``, ``cluttered-path``: one attempt among ``obstacles``, held as in single; for
            ``cluttered-path`` also put away; ``stack``: one of two boxes onto the other;
            ``target``: the object of a heap that somebody clicked at is put away, others before it
            where they are in the way.
        n_objects: drawn with replacement.
        drop: how they come to lie on the table.
        success_height_m: an object must be this far above the table, all of it (single) or its
            centre (kuka).
        hold_s: for how long after the lift it must stay there.
        failures_in_a_row_n: clutter, slip and target end after so many.
        obstacles: boxes that stand on the table, known to the planner.
        slip: how the object slips, where it does.
    """

    name: ProtocolName = "single"
    n_objects: int = bounded(1, 1, 50)
    drop: DropConfig = field(default_factory=DropConfig)
    success_height_m: float = bounded(0.15, 0.0, 1.0)
    hold_s: float = bounded(1.0, 0.0, 60.0)
    failures_in_a_row_n: int = bounded(2, 1, 20)
    obstacles: tuple[Box, ...] = ()
    slip: SlipConfig | None = None

    @property
    def digest(self) -> str:
        """Changes when anything about the protocol does."""
        content = as_dict(self)
        for late in ("obstacles", "slip"):  # so that results from before can be compared
            if not getattr(self, late):
                del content[late]
        return digest(content)


def protocol(name: str) -> Protocol:
    """The frozen protocol of that name."""
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {name!r}")
    return load(Protocol, find("protocol", name))


def disturbance(name: str) -> DisturbanceConfig | None:
    """How the protocol of that name disturbs the object; None where it does not."""
    if name != "disturbed":
        return None
    return load(DisturbanceConfig, find("protocol", "disturbance"))


@dataclass(slots=True)
class EpisodeResult:
    """How one episode went.

    Attributes:
        seed: of the episode.
        successes: attempts that succeeded (0 or 1 but for clutter).
        attempts: attempts made.
        objects: objects at the start.
        cleared: objects put away.
        failures: category of each failed attempt.
        redrawn: drops that were repeated because an object came to rest out of reach.
        names: of the objects.
        sim_s: simulated seconds.
        slipped: whether the object slipped as the protocol has it.
    """

    seed: int
    successes: int = 0
    attempts: int = 0
    objects: int = 0
    cleared: int = 0
    failures: list[str] = field(default_factory=list)
    redrawn: int = 0
    names: list[str] = field(default_factory=list)
    sim_s: float = 0.0
    slipped: bool = False


def run_protocol(
    station: Station, rules: Protocol, models: Sequence[ObjectModel], seed: int
) -> EpisodeResult:
    """One episode; the same station, rules, models and seed give the same result."""
    if rules.name == "stack":
        models = [m for m in models if m.class_name == "box"]
        if not models:
            raise ConfigError("protocol stack: the object set has no boxes; use primitives")
    rng = np.random.default_rng((seed, 7))
    chosen = [models[int(rng.integers(len(models)))] for _ in range(rules.n_objects)]
    result = EpisodeResult(seed, objects=len(chosen), names=[m.name for m in chosen])
    result.redrawn = station.begin(
        chosen,
        rules.drop,
        int(rng.integers(2**31)),
        disturbance(rules.name),
        rules.obstacles,
        rules.slip,
    )
    judge = _JUDGES.get(rules.name, _single)
    try:
        judge(station, rules, result)
    except SafetyError:
        _fail(result, "halted")
    except SensorError:
        _fail(result, "blind")
    except PlanningError:
        _fail(result, "no_way_home")
    if rules.name == "clutter":
        result.cleared = len(put_away(station))
    result.slipped = station.slip is not None and station.slip.began_s is not None
    result.sim_s = station.world.time_s
    return result


def _fail(result: EpisodeResult, category: str) -> None:
    result.failures.append(category)


def _single(station: Station, rules: Protocol, result: EpisodeResult) -> None:
    attempt = _attempt(station, result)
    if not attempt.held:
        _fail(result, attempt.outcome)
        return
    station.picker.hold(rules.hold_s)
    lowest = max(float(station.world.aabb(b)[0][2]) for b in station.world.bodies)
    if lowest >= rules.success_height_m:
        result.successes = 1
    else:
        _fail(result, "dropped")


def _regrip(station: Station, rules: Protocol, result: EpisodeResult) -> None:
    """Held as in single in the end; whoever holds nothing has to notice that and try again."""
    while len(result.failures) < rules.failures_in_a_row_n:
        attempt = _attempt(station, result)
        if attempt.held:
            station.picker.hold(rules.hold_s)
            if float(station.world.aabb(next(iter(station.world.bodies)))[0][2]) >= (
                rules.success_height_m
            ):
                result.successes = 1
                return
            if station.loop.gripper_state.contact:
                _fail(result, "not_noticed")
                return
        _fail(result, "dropped" if attempt.held else attempt.outcome)
        try:
            station.picker.release()
            station.picker.home()
        except PlanningError:
            _fail(result, "no_way_home")
            return


def _kuka(station: Station, rules: Protocol, result: EpisodeResult) -> None:
    attempt = _attempt(station, result)
    if attempt.held:
        # Bullet3's environment asks for the object's base, which is its centre here.
        centre = max(float(station.world.pose(b).position_m[2]) for b in station.world.bodies)
        try:
            station.picker.rise(max(0.0, rules.success_height_m + 0.03 - centre))
        except PlanningError:
            _fail(result, "no_path")
            return
    highest = max(float(station.world.pose(b).position_m[2]) for b in station.world.bodies)
    if highest > rules.success_height_m:
        result.successes = 1
    else:
        kept = attempt.held and station.loop.gripper_state.contact
        category = "not_high_enough" if kept else "dropped" if attempt.held else attempt.outcome
        _fail(result, category)


def clear_table(
    station: Station,
    rules: Protocol,
    result: EpisodeResult,
    on_pick: Callable[[PickResult], None] | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Pick until nothing is left within reach, or too many attempts in a row have failed.

    Or until there is ``enough``: a wanted object lies in the tray, say.

    Whether an object was put away is judged by where it lies in the end, not by what the robot
    believes.
    """
    picker = station.picker
    log = picker.log
    in_a_row = 0
    while in_a_row < rules.failures_in_a_row_n and _left(station) and not enough():
        before = put_away(station)
        attempt = _attempt(station, result)
        pick = PickResult(
            False,
            attempt.outcome,
            -1 if attempt.candidate is None else attempt.candidate.object_id,
            picker.player.clock.now_s() - attempt.started_s,
            "; ".join(attempt.reasons),
            attempt.refused.as_dict(),
        )
        if attempt.held:
            pick = picker.put_away(attempt)
        problem = ""
        if attempt.candidate is not None:
            try:
                picker.home()
            except PlanningError as error:
                problem = f"no way home: {error}"
        gained = len(put_away(station)) - len(before)
        if gained <= 0 and pick.success:
            pick = replace(pick, success=False, category="fell_beside_the_tray")
        if gained > 0:
            result.successes += 1
            in_a_row = 0
        else:
            in_a_row += 1
            _fail(result, pick.category)
        if log is not None:
            log.pick(pick, "" if attempt.obj is None else attempt.obj.class_name)
        if on_pick is not None:
            on_pick(pick)
        if problem:
            _fail(result, "no_way_home")
            if log is not None:
                log.event(problem)
            break


def _around(station: Station, rules: Protocol, result: EpisodeResult) -> None:
    """Held as in single, and then carried around what stands in the way into the tray."""
    attempt = _attempt(station, result)
    if not attempt.held:
        _fail(result, attempt.outcome)
        return
    pick = station.picker.put_away(attempt)
    if len(put_away(station)):
        result.successes = 1
    else:
        _fail(result, "fell_beside_the_tray" if pick.success else pick.category)


def _wanted(station: Station, rules: Protocol, result: EpisodeResult) -> None:
    """Attempts until the object that was clicked at lies in the tray, or too many failed."""
    rng = np.random.default_rng((result.seed, 11))
    for body in rng.permutation(sorted(station.world.bodies)).tolist():
        pixel = clicked(station, body)
        if pixel is not None:
            break
    else:
        raise SensorError("target: the overhead camera sees no object")
    want(station, pixel)
    clear_table(station, rules, result, enough=lambda: body in put_away(station))
    result.successes = int(body in put_away(station))
    if not (result.successes or result.failures):
        _fail(result, "out_of_reach")


def _stack(station: Station, rules: Protocol, result: EpisodeResult) -> None:
    """One box onto the other, where it stays."""
    result.attempts += 1
    look = station.picker.look()
    attempt = station.picker.grasp(look)
    base = base_for(attempt, look)
    if not attempt.held or base is None:
        _fail(result, "no_base" if attempt.held else attempt.outcome)
        return
    try:
        stack(station.picker, attempt, base)
    except PlanningError:
        _fail(result, "no_path")
        return
    station.picker.hold(rules.hold_s)
    boxes = [station.world.aabb(b) for b in station.world.bodies]
    (low, _), (_, top) = max(boxes, key=lambda b: b[0][2]), min(boxes, key=lambda b: b[0][2])
    if len(boxes) == 2 and low[2] > 0.5 * top[2]:
        result.successes = 1
    else:
        _fail(result, "fell_off")


def _attempt(station: Station, result: EpisodeResult) -> GraspAttempt:
    result.attempts += 1
    return station.picker.grasp(station.picker.look())


_JUDGES = {
    "kuka": _kuka,
    "slip": _regrip,
    "clutter": clear_table,
    "cluttered-path": _around,
    "stack": _stack,
    "target": _wanted,
}
"""All others are judged as ``single``."""


def _left(station: Station) -> list[int]:
    """Objects that still lie where the arm could pick them."""
    return [b for b in station.world.bodies if station.world.in_workspace(b)]


def put_away(station: Station) -> set[int]:
    """Ids of the objects that lie in the tray."""
    return {b for b in station.world.bodies if station.world.in_tray(b)}
