"""ROS 2 actions over a bus: goals that take a while, with feedback and one result each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from robot.errors import SteadyhandError
from robot.loop.bus import Bus
from robot.loop.topics import feedback_topic, goal_topic, result_topic
from robot.loop.typestore import message_class

SUCCEEDED, CANCELED, ABORTED = 4, 5, 6
"""Of ``action_msgs/GoalStatus``."""


class ActionError(SteadyhandError):
    """A goal did not come to its end: the server stopped, or is gone."""


class ActionClient:
    """Sends goals and waits for their results; one at a time.

    Args:
        bus: of this process.
        action: its name: ``/grasp``.
        type_name: of the action: ``steadyhand_msgs/action/Grasp``.
    """

    def __init__(self, bus: Bus, action: str, type_name: str) -> None:
        self.bus = bus
        self.action = action
        self.type_name = type_name
        self._results = bus.subscribe([result_topic(action)])
        self._request = message_class(f"{type_name}_SendGoal_Request")
        self._goals = 0

    def call(self, goal: Any, stamp_s: float, wait: Callable[[], object]) -> tuple[int, Any]:
        """Send a goal; its status and result.

        Args:
            goal: of the action's own type.
            stamp_s: on the loop's clock.
            wait: called again and again until the result is there; it may raise.
        """
        self._goals += 1
        self.bus.publish(
            goal_topic(self.action), self._request(uuid_message(self._goals), goal), stamp_s
        )
        while (packet := self._results.get()) is None:
            wait()
        return int(packet.message.status), packet.message.result


class ActionServer:
    """Takes goals as they come, and tells how they went.

    Args:
        bus, action, type_name: as for :class:`ActionClient`.
    """

    def __init__(self, bus: Bus, action: str, type_name: str) -> None:
        self.bus = bus
        self.action = action
        self._goals = bus.subscribe([goal_topic(action)])
        self._result = message_class(f"{type_name}_GetResult_Response")
        self._feedback = message_class(f"{type_name}_FeedbackMessage")

    def __len__(self) -> int:
        return len(self._goals)

    def next_packet(self) -> Any:
        """The next goal's packet, not yet decoded, or None."""
        return self._goals.get()

    def succeed(self, result: Any, stamp_s: float) -> None:
        """The goal came to its end."""
        self.bus.publish(result_topic(self.action), self._result(SUCCEEDED, result), stamp_s)

    def abort(self, result: Any, stamp_s: float) -> None:
        """It did not."""
        self.bus.publish(result_topic(self.action), self._result(ABORTED, result), stamp_s)

    def tell(self, goal_id: Any, feedback: Any, stamp_s: float) -> None:
        """How a goal stands."""
        self.bus.publish(feedback_topic(self.action), self._feedback(goal_id, feedback), stamp_s)


def uuid_message(number: int) -> Any:
    """``unique_identifier_msgs/UUID`` that counts: the same run has the same ones."""
    data = np.frombuffer(number.to_bytes(16, "big"), dtype=np.uint8)
    return message_class("unique_identifier_msgs/msg/UUID")(data)
