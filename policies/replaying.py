"""A recording fed back through perception and policy: does the same come out?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perception.node import FrameSets, PerceptionNode
from policies.beside_parts import LoopSetup, perception_node
from policies.bundle.format import Bundle
from policies.edge.node import PolicyNode
from policies.edge.runtime import EdgePolicy
from robot.errors import RecordingError
from robot.loop.mailbox import Packet
from robot.loop.messages import nanoseconds
from robot.loop.publisher import ACTION, OBJECTS, OBSERVATION, detection_topic
from robot.loop.reading import Recording, read_messages, read_recording
from robot.loop.topics import EPISODE, HEIGHTS, LOOK_SERVICE, POLICY_BEGIN, WATCHED, WATCHING
from robot.loop.typestore import decode, encode
from robot.types import RgbdFrame

_OUTPUTS = (OBJECTS, HEIGHTS, WATCHED, ACTION)
_CAMERAS = ("overhead", "wrist")
_Key = tuple[str, int]


@dataclass
class Comparison:
    """One topic: how many messages were made again, and how they compare.

    Attributes:
        compared: messages that were made again.
        different: of these, not the same to the byte.
        largest: largest difference of a number in them.
        missing: recorded, and not made again, although what they answer was.
        first_s: stamp of the first one that differs, or None.
    """

    compared: int = 0
    different: int = 0
    largest: float = 0.0
    missing: int = 0
    first_s: float | None = None


@dataclass
class ReplayReport:
    """What came out.

    Attributes:
        topics: by topic.
        complete: the recording ends as it should.
        note: what is wrong with it, if anything.
    """

    topics: dict[str, Comparison] = field(default_factory=dict)
    complete: bool = True
    note: str = ""

    @property
    def compared(self) -> int:
        """Messages in all."""
        return sum(c.compared for c in self.topics.values())

    @property
    def differences(self) -> int:
        """Messages that differ or are missing."""
        return sum(c.different + c.missing for c in self.topics.values())


class Replay:
    """Feeds a recording back.

    Args:
        path: of the recording.
        bundle: whose perception and policy to ask.

    Raises:
        RecordingError: the file is no recording of ``steadyhand loop``, or of a newer one.
    """

    def __init__(self, path: Path, bundle: Path) -> None:
        topics = {*_OUTPUTS, WATCHING, *(detection_topic(c) for c in _CAMERAS)}
        known = read_recording(path, topics)
        if "loop" not in known.metadata:
            raise RecordingError(
                f"{path}: holds no images to feed back; record with: steadyhand loop"
            )
        try:
            self.setup = LoopSetup(bundle, **json.loads(known.metadata["loop"]))
        except (TypeError, ValueError) as error:
            raise RecordingError(
                f"{path}: its setup is not one that this version knows: {error}"
            ) from error
        self._path = path
        self.report = ReplayReport(complete=known.complete, note=known.note)
        self._fed: set[int] = set()
        self._recorded: dict[_Key, bytes] = {}
        for message in known.messages:
            self._recorded[message.topic, nanoseconds(message.stamp_s)] = message.data
        self._perception: PerceptionNode = perception_node(self.setup, self._made)
        self._policy = PolicyNode(EdgePolicy(Bundle.load(bundle)), self._made)
        self._sets = FrameSets(_CAMERAS)

    def run(self, on_moment: Callable[[float], object] = lambda _: None) -> ReplayReport:
        """Everything; ``on_moment`` gets each stamp, s, as it is dealt with."""
        for message in read_messages(Recording(self._path)):
            packet = Packet(message.topic, message.type_name, message.stamp_s, message.data)
            if packet.topic == EPISODE:
                self._perception.forget()
            elif packet.topic in (OBSERVATION, POLICY_BEGIN):
                self._fed.add(nanoseconds(packet.stamp_s))
                self._policy.feed(packet)
            elif (stamp_s := self._sets.add(packet)) is not None:
                self._moment(*self._sets.take(), stamp_s)
                on_moment(stamp_s)
        for topic, when in self._recorded:
            if topic != WATCHING and when in self._fed:
                self._comparison(topic).missing += 1
        return self.report

    def _moment(self, frames: list[RgbdFrame], joints: Any, stamp_s: float) -> None:
        """Whatever was done with these images when they were taken is done again."""
        when, node = nanoseconds(stamp_s), self._perception
        self._fed.add(when)
        node.expose(frames, joints)
        began = self._recorded.get((WATCHING, when))
        if began is not None:
            node.begin_watch(decode(began, "vision_msgs/msg/Detection3DArray"), stamp_s)
        if (OBJECTS, when) in self._recorded:
            node.look(stamp_s)
        elif any((detection_topic(c), when) in self._recorded for c in _CAMERAS):
            node.detect(stamp_s)
        if (WATCHED, when) in self._recorded:
            node.watch(stamp_s)

    def _made(self, topic: str, message: Any, stamp_s: float) -> None:
        if topic in (WATCHING, f"{LOOK_SERVICE}/_reply"):
            return
        before = self._recorded.pop((topic, nanoseconds(stamp_s)), None)
        if before is None:
            return  # cut off before it was written
        comparison = self._comparison(topic)
        comparison.compared += 1
        if before == encode(message):
            return
        comparison.different += 1
        then = _numbers(decode(before, message.__msgtype__))
        now = _numbers(message)
        gap = float("inf")
        if then.shape == now.shape and then.size:
            gap = float(np.abs(then - now).max())
        comparison.largest = max(comparison.largest, gap)
        if comparison.first_s is None:
            comparison.first_s = stamp_s

    def _comparison(self, topic: str) -> Comparison:
        return self.report.topics.setdefault(topic, Comparison())


def _numbers(message: Any) -> np.ndarray:
    """All numbers of a message in one row."""
    found: list[np.ndarray] = []

    def walk(value: Any) -> None:
        if isinstance(value, np.ndarray):
            found.append(value.ravel().astype(np.float64))
        elif isinstance(value, (bool, int, float)):
            found.append(np.array([float(value)]))
        elif isinstance(value, (list, tuple)):
            for item in value:
                walk(item)
        elif hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                walk(getattr(value, name))

    walk(message)
    return np.concatenate(found) if found else np.zeros(0)
