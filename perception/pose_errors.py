"""Errors of fused objects against the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.load import bounded
from perception.heightmap import HeightMapConfig
from perception.intervals import Weights, median_of, scene_interval
from robot.geometry import wrap_angle
from robot.types import ObjectState

Truth = dict[str, Any]


@dataclass(frozen=True)
class PoseEvaluationConfig:
    """How fused objects are compared with the truth.

    Attributes:
        match_m: a fused object is a true one's if their centres are this close, nearest first.
        elongated: yaw is measured on objects whose longer edge is this many times the shorter.
    """

    match_m: float = bounded(0.04, 0.001, 1.0)
    elongated: float = bounded(1.5, 1.0, 10.0)


def inside(truths: Sequence[Truth], grid: HeightMapConfig) -> list[Truth]:
    """Those of the true objects whose middle lies over the map."""
    return [
        truth
        for truth in truths
        if all(grid.min_m[k] <= truth["position_m"][k] <= grid.max_m[k] for k in (0, 1))
    ]


def paired(
    objects: Sequence[ObjectState], truths: Sequence[Truth], match_m: float
) -> list[tuple[int, int]]:
    """(fused, true) indices of what is one object, nearest pairs first, each used once."""
    distances = sorted(
        (float(np.hypot(*(state.X_world_obj.position_m - truth["position_m"])[:2])), i, j)
        for i, state in enumerate(objects)
        for j, truth in enumerate(truths)
    )
    used_i: set[int] = set()
    used_j: set[int] = set()
    out = []
    for distance, i, j in distances:
        if distance > match_m or i in used_i or j in used_j:
            continue
        used_i.add(i)
        used_j.add(j)
        out.append((i, j))
    return out


class PoseErrors:
    """Collects errors of fused objects, scene by scene."""

    def __init__(self, config: PoseEvaluationConfig) -> None:
        self.config = config
        self.position_mm: list[list[float]] = []
        self.yaw_deg: list[list[float]] = []
        self.dimension_mm: list[list[float]] = []
        # For each scene: true objects that show, fused objects that count, and how many are both.
        self.counts: list[tuple[int, int, int]] = []

    def add(
        self, objects: Sequence[ObjectState], labels: Sequence[Truth], grid: HeightMapConfig
    ) -> None:
        """One scene.

        Args:
            objects: what was fused.
            labels: those of all its views.
            grid: only what lies over it counts.
        """
        for values in (self.position_mm, self.yaw_deg, self.dimension_mm):
            values.append([])
        # An object counts where one view shows enough of it; what hardly shows in any may be found.
        seen = {label["instance"] for label in labels if not label.get("iscrowd")}
        things = inside(list({label["instance"]: label for label in labels}.values()), grid)
        matched, fused = 0, len(objects)
        for i, j in paired(objects, things, self.config.match_m):
            if things[j]["instance"] in seen:
                self._pair(objects[i], things[j])
                matched += 1
            else:
                fused -= 1
        self.counts.append((sum(t["instance"] in seen for t in things), fused, matched))

    def _pair(self, state: ObjectState, label: Truth) -> None:
        position = state.X_world_obj.position_m - np.asarray(label["position_m"])
        self.position_mm[-1].append(float(np.linalg.norm(position)) * 1e3)
        size = np.asarray(label["dimensions_m"])
        self.dimension_mm[-1].append(float(np.abs(state.dimensions_m - size).mean()) * 1e3)
        if size[0] >= self.config.elongated * size[1]:
            rotation = state.X_world_obj.rotation
            yaw = math.atan2(rotation[1, 0], rotation[0, 0])
            self.yaw_deg[-1].append(abs(math.degrees(wrap_angle(yaw - label["yaw_rad"], math.pi))))

    def summary(self) -> dict[str, Any]:
        """``position_error_mm, yaw_error_deg, dimension_error_mm`` and the two object rates."""
        true, fused, matched = (sum(column) for column in zip(*self.counts, strict=True))
        return {
            "position_error_mm": _median_p95(self.position_mm),
            "yaw_error_deg": _median_p95(self.yaw_deg),
            "dimension_error_mm": _median_p95(self.dimension_mm),
            "object_recall": matched / true if true else None,
            "object_precision": matched / fused if fused else None,
        }

    def intervals(self) -> dict[str, list[float] | None]:
        """95 % intervals of the medians and of the two rates."""
        counts = np.array(self.counts, np.int64)

        def share(column: int, weights: Weights) -> float | None:
            total = int((counts[:, column] * weights).sum())
            return float((counts[:, 2] * weights).sum()) / total if total else None

        n = len(counts)
        return {
            "position_error_mm": scene_interval(median_of(self.position_mm), n),
            "yaw_error_deg": scene_interval(median_of(self.yaw_deg), n),
            "dimension_error_mm": scene_interval(median_of(self.dimension_mm), n),
            "object_recall": scene_interval(lambda w: share(0, w), n),
            "object_precision": scene_interval(lambda w: share(1, w), n),
        }


def _median_p95(scenes: Sequence[Sequence[float]]) -> dict[str, float] | None:
    values = [value for one in scenes for value in one]
    if not values:
        return None
    median, p95 = np.percentile(values, [50, 95])
    return {"median": float(median), "p95": float(p95)}
