"""The log of a run that also counts: verdicts and picks go to the metrics as they happen."""

from __future__ import annotations

from typing import Any

from policies.edge.events import tell
from policies.edge.metrics import Metrics
from robot.loop.log import RunLog
from robot.types import PickResult, RobotState, SafetyVerdict


class MeteredLog(RunLog):
    """A ``RunLog``; takes its place wherever one goes.

    Args:
        metrics: counts.
        options: of ``RunLog``.
    """

    def __init__(self, metrics: Metrics, **options: Any) -> None:
        super().__init__(**options)
        self._metrics = metrics

    def state(
        self, stamp_s: float, state: RobotState, q_command: Any, verdict: SafetyVerdict,
        phase: str, **more: Any,
    ) -> None:  # fmt: skip
        """One control tick."""
        self._metrics.verdict(int(verdict.level))
        if verdict.level != self.last_verdict.level:
            tell("verdict", verdict=verdict.level.name.lower(), reason=verdict.reason)
        super().state(stamp_s, state, q_command, verdict, phase, **more)

    def pick(self, result: PickResult, class_name: str = "", stamp_s: float | None = None) -> None:
        """The end of an attempt."""
        self._metrics.pick(result.category, result.success)
        tell("pick", category=result.category, success=result.success, object=class_name)
        super().pick(result, class_name, stamp_s)
