"""Perception in another process, by proxy: a look is asked for, and waited for."""

from __future__ import annotations

from robot.errors import SensorError
from robot.loop import messages
from robot.loop.bus import Bus
from robot.loop.nouns import height_map_of, objects_of
from robot.loop.publisher import OBJECTS
from robot.loop.remote import LONGEST_WAIT_S, RemoteArm
from robot.loop.topics import HEIGHTS, LOOK_SERVICE
from robot.loop.typestore import message_class
from robot.types import Look


class RemotePerception:
    """Looks in another process; implements ``robot.interface.Perception``.

    Args:
        arm: is held still for the images to be taken.
        bus: of this process.
        period_s: from one image to the next.
    """

    def __init__(self, arm: RemoteArm, bus: Bus, period_s: float) -> None:
        self._arm, self._bus, self._period_s = arm, bus, period_s
        self._inbox = bus.subscribe([OBJECTS, HEIGHTS, f"{LOOK_SERVICE}/_reply"])
        self._request = message_class("steadyhand_msgs/srv/Look_Request")

    def look(self) -> Look:
        """Objects and heights from the first images that are taken from now on.

        Raises:
            SensorError: nothing could be seen.
        """
        now = self._arm.now_s()
        while self._inbox.get() is not None:
            pass
        self._bus.publish(
            f"{LOOK_SERVICE}/_request", self._request(messages.time_message(now)), now
        )
        self._arm.hold(self._period_s)
        objects = heights = None
        end_s = self._arm.now_s() + LONGEST_WAIT_S
        while True:
            packet = self._inbox.get()
            if packet is None:
                self._arm.refresh()
                if self._arm.now_s() > end_s:
                    raise SensorError(f"perception: no answer within {LONGEST_WAIT_S:g} s")
                self._arm.wait()
            elif packet.topic == OBJECTS:
                objects = objects_of(packet.message)
            elif packet.topic == HEIGHTS:
                heights = height_map_of(packet.message)
            elif not packet.message.success:
                raise SensorError(packet.message.message)
            elif objects is not None and heights is not None:
                return Look(objects, heights, heights.stamp_s, "camera")
