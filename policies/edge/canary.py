"""Two bundles get the same readings and only one acts: an A/B comparison on real work."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from policies.edge.events import tell
from robot.interface import Detector, Policy
from robot.types import Detection, RgbdFrame

if TYPE_CHECKING:
    from policies.edge.metrics import Metrics

Floats = NDArray[np.float32]

OVERLAP = 0.5


@dataclass(frozen=True)
class CanaryReport:
    """How the shadow differs from what acted.

    Attributes:
        steps: actions compared.
        failures: of the shadow; what acted went on.
        mean_difference: mean absolute difference of an action's numbers.
        p99_difference: 99th percentile of the largest difference within an action.
        max_difference: the largest.
        acting_us: median time of the acting policy.
        shadow_us: median time of the shadow.
        frames: images that both detectors saw.
        only_acting: detections that only the acting detector made.
        only_shadow: detections that only the shadow made.
        both: made by both, in the same place.
    """

    steps: int
    failures: int
    mean_difference: float
    p99_difference: float
    max_difference: float
    acting_us: float
    shadow_us: float
    frames: int
    only_acting: int
    only_shadow: int
    both: int

    def as_dict(self) -> dict[str, Any]:
        """JSON fields."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


class Canary:
    """Fronts for a policy and a detector that let a second of each look on.

    The shadow runs after the acting model's result is there, and whatever it does (an error, a
    NaN) is counted and changes nothing; its time is added to the tick. ``keep`` steps are kept for
    the report; older ones are overwritten.

    Args:
        acting: the policy that acts.
        shadow: the policy that is tried.
        acting_detector: the detector that is used, where one is.
        shadow_detector: the detector that is tried.
        metrics: counts and times, where wanted.
        keep: steps.
    """

    def __init__(
        self,
        acting: Policy,
        shadow: Policy,
        acting_detector: Detector | None = None,
        shadow_detector: Detector | None = None,
        metrics: Metrics | None = None,
        keep: int = 100_000,
    ) -> None:
        self.policy = CanaryPolicy(self, acting, shadow)
        self.detector: CanaryDetector | None = None
        if acting_detector is not None and shadow_detector is not None:
            self.detector = CanaryDetector(self, acting_detector, shadow_detector)
        self.metrics = metrics
        #: (keep, 4): mean and largest difference, time of either, ns; the memory of the report.
        self.rows = np.zeros((keep, 4), np.float64)
        self.steps = self.failures = self.frames = 0
        self.pairs = np.zeros(3, np.int64)  # only acting, only shadow, both

    def failed(self, what: str, error: Exception) -> None:
        """The shadow raised; that is the whole of it."""
        self.failures += 1
        tell("shadow failed", model=what, error=f"{type(error).__name__}: {error}")

    def report(self) -> CanaryReport:
        """What was found so far."""
        rows = self.rows[: min(self.steps, len(self.rows))]
        if not len(rows):
            rows = np.full((1, 4), np.nan)
        mean, largest, acting, shadow = rows.T
        return CanaryReport(
            self.steps,
            self.failures,
            float(np.nanmean(mean)) if self.steps else 0.0,
            float(np.nanquantile(largest, 0.99)) if self.steps else 0.0,
            float(np.nanmax(largest)) if self.steps else 0.0,
            float(np.median(acting) / 1e3) if self.steps else 0.0,
            float(np.nanmedian(shadow) / 1e3) if self.steps else 0.0,
            self.frames,
            *(int(n) for n in self.pairs),
        )


class CanaryPolicy:
    """Implements ``robot.interface.Policy`` with the acting one's actions."""

    def __init__(self, canary: Canary, acting: Policy, shadow: Policy) -> None:
        self._canary, self.acting, self.shadow = canary, acting, shadow

    def reset(self) -> None:
        """A new episode for both."""
        self.acting.reset()
        try:
            self.shadow.reset()
        except Exception as error:
            self._canary.failed("policy", error)

    def act(self, observation: Floats) -> Floats:
        """The acting policy's action."""
        began = time.perf_counter_ns()
        action = self.acting.act(observation)
        between = time.perf_counter_ns()
        canary = self._canary
        try:
            other = self.shadow.act(observation)
            ended = time.perf_counter_ns()
            apart = np.abs(np.asarray(other, np.float64) - action)
            row = (float(apart.mean()), float(apart.max()))
            if not np.isfinite(row).all():
                raise ValueError(f"its action is not finite: {other}")
        except Exception as error:  # nothing that the shadow does may reach the arm
            canary.failed("policy", error)
            return action
        canary.rows[canary.steps % len(canary.rows)] = (*row, between - began, ended - between)
        canary.steps += 1
        if canary.metrics is not None:
            canary.metrics.ran("shadow", (ended - between) * 1e-9, False)
            canary.metrics.differs(row[1])
        return action


class CanaryDetector:
    """Implements ``robot.interface.Detector`` with the acting one's detections."""

    def __init__(self, canary: Canary, acting: Detector, shadow: Detector) -> None:
        self._canary, self.acting, self.shadow = canary, acting, shadow

    def detect(self, frame: RgbdFrame) -> list[Detection]:
        """What the acting detector sees."""
        found = self.acting.detect(frame)
        try:
            other = self.shadow.detect(frame)
        except Exception as error:  # nothing that the shadow does may reach the arm
            self._canary.failed("detector", error)
            return found
        both = _matched(found, other)
        self._canary.frames += 1
        self._canary.pairs += (len(found) - both, len(other) - both, both)
        return found


def _matched(first: list[Detection], second: list[Detection]) -> int:
    """Detections of one class that overlap, each used once, best first."""
    free = list(second)
    count = 0
    for one in first:
        best = max(free, key=lambda other: _overlap(one, other), default=None)
        if best is not None and _overlap(one, best) >= OVERLAP:
            free.remove(best)
            count += 1
    return count


def _overlap(a: Detection, b: Detection) -> float:
    ax, ay, aw, ah = a.box_xywh_px
    bx, by, bw, bh = b.box_xywh_px
    width = min(ax + aw, bx + bw) - max(ax, bx)
    height = min(ay + ah, by + bh) - max(ay, by)
    if width <= 0 or height <= 0 or a.class_name != b.class_name:
        return 0.0
    return width * height / (aw * ah + bw * bh - width * height)
