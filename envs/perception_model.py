"""What cameras make of an object, without rendering: errors, delay and gaps, for training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from configs.load import bounded
from envs.truth import TruthWatch
from envs.world import World
from robot.types import Look, ObjectState


@dataclass(frozen=True)
class PerceptionModelConfig:
    """How wrong, late and incomplete an object's state is.

    Attributes:
        position_m: standard deviation of the position's error, each way, for a whole episode.
        yaw_deg: of the yaw's.
        dimension_m: of each edge's.
        jitter_m: what comes on top at each sight of a moving object, each way.
        jitter_deg: and of its turn.
        missed: how often a sight gives nothing after one that gave something,
        missed_again: and after one that gave nothing: what hides an object stays for a while.
        period_s: from sight to sight.
        latency_s: from a sight to its state.
    """

    position_m: float = bounded(0.004, 0.0, 0.1)
    yaw_deg: float = bounded(4.0, 0.0, 90.0)
    dimension_m: float = bounded(0.004, 0.0, 0.1)
    jitter_m: float = bounded(0.0015, 0.0, 0.1)
    jitter_deg: float = bounded(2.4, 0.0, 90.0)
    missed: float = bounded(0.07, 0.0, 1.0)
    missed_again: float = bounded(0.8, 0.0, 1.0)
    period_s: float = bounded(0.2, 0.01, 10.0)
    latency_s: float = bounded(0.1, 0.0, 10.0)


class ModelledWatch:
    """A ``Watch`` over the truth with the errors of cameras.

    Args:
        world: where the object is.
        config: the errors.
    """

    def __init__(self, world: World, config: PerceptionModelConfig) -> None:
        self.config = config
        self._truth = TruthWatch(world, config.period_s, config.latency_s)

    def seen(self, obj: ObjectState, rng: np.random.Generator) -> ObjectState:
        """What a look makes of an object; its errors stay for the episode."""
        c = self.config
        self._rng = rng
        shift = rng.normal(0.0, c.position_m, 3)
        turn = np.radians(rng.normal(0.0, c.yaw_deg))
        sizes = np.maximum(obj.dimensions_m + rng.normal(0.0, c.dimension_m, 3), 0.002)
        at = obj.X_world_obj
        pose = at.turned(float(turn), at.position_m, at.position_m + shift)
        return replace(obj, X_world_obj=pose, dimensions_m=sizes)

    def begin(self, look: Look | None, obj: ObjectState, now_s: float) -> None:
        """Watch an object as it was seen."""
        self._truth.begin(look, obj, now_s)
        self._hidden = False

    def read(self, now_s: float) -> ObjectState | None:
        """Its newest state, with this sight's errors."""
        c, rng = self.config, self._rng
        state = self._truth.read(now_s)
        if state is None:
            return None
        self._hidden = bool(rng.random() < (c.missed_again if self._hidden else c.missed))
        if self._hidden:
            return None
        jitter = np.array([*rng.normal(0.0, c.jitter_m, 2), 0.0])
        turn = np.radians(rng.normal(0.0, c.jitter_deg))
        at = state.X_world_obj
        return replace(
            state, X_world_obj=at.turned(float(turn), at.position_m, at.position_m + jitter)
        )
