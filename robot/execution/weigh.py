"""Standing still and reading torques: what a tare and a weighing need."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.errors import PlanningError
from robot.execution.player import TICK_S, Player
from robot.payload import Payload, PayloadEstimator
from robot.planning.paths import PathPlanner

Array = NDArray[np.float64]

_SETTLE_S, _READ_S = 0.4, 0.2
_SPREAD_RAD = 0.6
_POSTURES_N = 10


def read_at_rest(player: Player) -> tuple[Array, Array]:
    """Mean joints (n,) rad and torques (n,) N·m, the arm standing still."""
    player.hold(_SETTLE_S)
    rest = np.zeros_like(player.q_sent)
    joints, efforts = [], []
    for _ in range(round(_READ_S / TICK_S)):
        player.tick(player.q_sent, rest)
        joints.append(player.state.joints.position_rad)
        efforts.append(player.state.joints.effort_nm)
    return np.mean(joints, axis=0), np.mean(efforts, axis=0)


def tare(
    player: Player, paths: PathPlanner, estimator: PayloadEstimator, rng: np.random.Generator
) -> float:
    """Drive the empty arm through postures around home and learn its torques.

    Returns:
        The torque that stays unexplained, root mean square, N·m.

    Raises:
        PlanningError: no posture around home can be reached.
    """
    home = paths.limits.home_rad
    joints = paths.limits.joints
    readings = [read_at_rest(player)]
    for _ in range(20 * _POSTURES_N):
        if len(readings) > _POSTURES_N:
            break
        q = np.clip(
            home + rng.uniform(-_SPREAD_RAD, _SPREAD_RAD, len(home)),
            joints.lower_rad,
            joints.upper_rad,
        )
        if not paths.checker.has_room(q):
            continue
        try:
            player.play(paths.to_joints(player.q_sent, q))
        except PlanningError:
            continue
        readings.append(read_at_rest(player))
    if len(readings) < 3:
        raise PlanningError("tare: no posture around home can be reached")
    player.play(paths.to_joints(player.q_sent, home))
    q_all, efforts = zip(*readings, strict=True)
    return estimator.tare(np.array(q_all), np.array(efforts))


def weigh(player: Player, estimator: PayloadEstimator) -> Payload:
    """Weigh what the hand holds, where the arm stands."""
    q, effort = read_at_rest(player)
    return estimator.estimate(q, effort)
