"""The two verdicts that monitors make; OK stands in :mod:`robot.types`."""

from __future__ import annotations

from robot.types import SafetyVerdict, VerdictLevel


def halt(reason: str, at_once: bool = False) -> SafetyVerdict:
    """A HALT for ``reason``; ``at_once`` where the arm ran into something."""
    return SafetyVerdict(VerdictLevel.HALT, 0.0, reason, at_once)


def slow(scale: float, reason: str) -> SafetyVerdict:
    """A SCALE for ``reason``, ``scale`` cut to [0, 1]; 1 only cuts to the joint limits."""
    return SafetyVerdict(VerdictLevel.SCALE, min(max(scale, 0.0), 1.0), reason)
