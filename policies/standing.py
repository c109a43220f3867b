"""How a running loop stands, and what its planning process tells the others of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robot.errors import ConfigError
from robot.execution.states import PickFeedback
from robot.loop import messages
from robot.loop.actions import uuid_message
from robot.loop.bus import Bus
from robot.loop.log import RunLog
from robot.loop.publisher import EVENTS
from robot.loop.typestore import message_class
from robot.types import Array, PickResult

_WORLD = ("", "world", "base_link", "panda_link0")
"""Names of the one frame in which a target may be given."""


@dataclass
class Standing:
    """How the loop stands; written by one thread, read by whoever shows it.

    Attributes:
        figures: newest figures by process.
        phase: what the arm is about.
        feedback: where the pick stands.
        picks: results so far.
        messages: received so far, by topic.
        verdict: the newest verdict's level and reason.
    """

    figures: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    phase: str = "starting"
    feedback: PickFeedback | None = None
    picks: list[PickResult] = field(default_factory=list)
    messages: dict[str, int] = field(default_factory=dict)
    verdict: tuple[int, str] = (0, "")
    events: list[str] = field(default_factory=list)


class PlanLog(RunLog):
    """Planning's own messages; what perception found it tells itself."""

    def look(self, *args: Any, **kwargs: Any) -> None:
        """Told already."""


class BusSink:
    """Planning's log writes onto the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def write(self, topic: str, message: Any, stamp_s: float) -> None:
        self._bus.publish(topic, message, stamp_s)

    def fail(self, reason: str) -> None:
        self._bus.publish(EVENTS, messages.string(f"planning's log: {reason}"), 0.0)


def asked_place(message: Any) -> Array:
    """(2,) m in the world of a ``PoseStamped`` that says where to pick next.

    Raises:
        ConfigError: it is given in another frame, or is no place.
    """
    frame, at = message.header.frame_id, message.pose.position
    if frame not in _WORLD:
        raise ConfigError(
            f"target: expected a pose in {', '.join(map(repr, _WORLD))}, got one in {frame!r}"
        )
    place = np.array([at.x, at.y])
    if not np.isfinite(place).all():
        raise ConfigError(f"target: expected finite metres, got ({at.x}, {at.y})")
    return place


def pick_feedback(feedback: PickFeedback, pick: int) -> Any:
    """``steadyhand_msgs/action/Pick_FeedbackMessage`` of the pick with that number."""
    kind = message_class("steadyhand_msgs/action/Pick_FeedbackMessage")
    part = message_class("steadyhand_msgs/action/Pick_Feedback")
    trouble = "" if feedback.trouble is None else feedback.trouble.value
    return kind(
        uuid_message(pick),
        part(
            feedback.state.value,
            float(feedback.since_s),
            int(feedback.attempt),
            trouble,
            feedback.recovery,
        ),
    )
