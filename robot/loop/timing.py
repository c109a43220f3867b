"""A loop's figures as a diagnostic message, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from robot.loop.messages import header
from robot.loop.typestore import message_class


def timing_message(name: str, figures: Mapping[str, Any], stamp_s: float, level: int = 0) -> Any:
    """``diagnostic_msgs/DiagnosticArray`` with one status; nested figures are told as JSON."""
    pair = message_class("diagnostic_msgs/msg/KeyValue")
    values = [pair(key, json.dumps(value, sort_keys=True)) for key, value in figures.items()]
    status = message_class("diagnostic_msgs/msg/DiagnosticStatus")(
        level, f"timing: {name}", "", name, values
    )
    return message_class("diagnostic_msgs/msg/DiagnosticArray")(header(stamp_s, ""), [status])


def figures_of(message: Any) -> dict[str, dict[str, Any]]:
    """Figures by the name that was given, of every status in a message."""
    return {
        status.hardware_id: {pair.key: json.loads(pair.value) for pair in status.values}
        for status in message.status
        if status.name.startswith("timing: ")
    }
