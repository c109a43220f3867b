"""How long the monitors take: the ticks of a simulated pick, judged again with a watch in hand."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.expert import ExpertPolicy
from envs.objects import ObjectModel
from envs.physics import physics
from envs.scene import DropConfig
from envs.station import Station
from robot.kinematics import Kinematics
from robot.planning.obstacles import Box
from robot.safety.supervisor import Supervisor
from robot.types import GripperCommand, GripperState, RobotState

Array = NDArray[np.float64]
_Row = tuple[RobotState, Array, Array, float, GripperCommand, GripperState | None, float | None]


@dataclass(frozen=True)
class MonitorTimes:
    """µs a control tick.

    Attributes:
        whole: of calls of the supervisor.
        least: of the recorded pick's ticks, each the fastest of its calls: what the supervisor
            itself takes, without what else the machine does meanwhile.
        each: of each monitor's own calls, by name.
    """

    whole: list[float]
    least: list[float]
    each: dict[str, list[float]]


def time_monitors(ticks: int) -> MonitorTimes:
    """Of at least ``ticks`` calls of the supervisor; the first so many make up ``whole``."""
    station = Station(ExpertPolicy(0.22), physics("nominal"), "truth")
    try:
        rows, scene = _record(station)
        limits = station.limits
    finally:
        station.close()
    supervisor = Supervisor(limits, Kinematics(limits))
    supervisor.signals.see(scene)
    whole: list[float] = []
    least = [float("inf")] * len(rows)
    each: dict[str, list[float]] = {name: [] for name in supervisor.monitors}
    for measured in (False, True, True):  # the first round warms up
        count = 0
        while count < ticks:
            supervisor.reset(rows[0][1][0])
            for k, (state, q, qd, now, command, felt, acted) in enumerate(rows):
                signals = supervisor.signals
                signals.gripper, signals.policy_stamp_s = felt, acted
                began = time.perf_counter_ns()
                supervisor.filter(state, q, qd, now, command)
                taken = (time.perf_counter_ns() - began) / 1e3
                if measured:
                    least[k] = min(least[k], taken)
                    if len(whole) < ticks:
                        whole.append(taken)
                count += 1
    supervisor.reset(rows[0][1][0])
    for state, q, qd, now, command, felt, acted in rows:
        signals = supervisor.signals
        signals.gripper, signals.policy_stamp_s = felt, acted
        # Each for itself, before the command counts as sent; that it is asked twice about a tick
        # does no harm to its time.
        supervisor.prepare(state, q)
        for name, monitor in supervisor.monitors.items():
            began = time.perf_counter_ns()
            monitor.check(state, q, now)
            each[name].append((time.perf_counter_ns() - began) / 1e3)
        supervisor.filter(state, q, qd, now, command)
    return MonitorTimes(whole, least, each)


def _record(station: Station) -> tuple[list[_Row], tuple[Box, ...]]:
    box = ObjectModel("box", "box", dimensions_m=(0.04, 0.09, 0.05))
    supervisor = station.player.supervisor
    real, rows = supervisor.filter, []

    def keep(state, q, qd, now_s, gripper=None):  # type: ignore[no-untyped-def]
        signals = supervisor.signals
        rows.append(
            (state, q.copy(), qd.copy(), now_s, gripper, signals.gripper, signals.policy_stamp_s)
        )
        return real(state, q, qd, now_s, gripper)

    supervisor.filter = keep  # type: ignore[method-assign]
    station.begin([box], DropConfig(), 3)
    picker = station.picker
    attempt = picker.grasp(picker.look())
    scene = supervisor.signals.scene
    picker.put_away(attempt)
    picker.home()
    return rows, scene
