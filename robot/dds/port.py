"""A DDS participant that speaks ROS 2: publish, subscribe, and see who else is there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from configs.load import bounded
from robot.dds.types import dds_name, dds_topic, dds_type, ros_name, ros_topic, sample
from robot.errors import SteadyhandError

try:
    from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
    from cyclonedds.core import DDSException, Policy, Qos
    from cyclonedds.domain import Domain, DomainParticipant
    from cyclonedds.pub import DataWriter
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic
    from cyclonedds.util import duration
except ModuleNotFoundError as error:  # said where it can be mended
    raise SteadyhandError("DDS needs the package cyclonedds: pip install 'steadyhand[ros2]'") from (
        error
    )

_MAX_PARTICIPANTS = 32


@dataclass(frozen=True)
class DdsConfig:
    """Where on the wire.

    Attributes:
        domain_id: as ``ROS_DOMAIN_ID``.
        interface: network interface; ``lo`` stays on this machine.
        depth: samples that are kept for a slow reader; 0 keeps all, and a writer then waits.
        reliable: ask for retransmission; a best-effort writer is not heard otherwise.
    """

    domain_id: int = bounded(0, 0, 232)
    interface: str = "lo"
    depth: int = bounded(10, 0, 100_000)
    reliable: bool = True


_domains: dict[int, Any] = {}


class Reader:
    """Samples of one topic as CDR bytes."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def take(self, most: int = 100) -> list[bytes]:
        """What came since the last call, oldest first."""
        return [s.cdr for s in self._reader.take(N=most) if hasattr(s, "cdr")]


class DdsPort:
    """One participant.

    Args:
        config: see :class:`DdsConfig`.

    Raises:
        SteadyhandError: DDS does not start, on that interface for instance.
    """

    def __init__(self, config: DdsConfig | None = None) -> None:
        self.config = c = config or DdsConfig()
        self._writers: dict[str, Any] = {}
        try:
            if c.domain_id not in _domains:
                _domains[c.domain_id] = Domain(c.domain_id, _xml(c))
            self._participant = DomainParticipant(c.domain_id)
        except DDSException as error:
            raise SteadyhandError(
                f"DDS: does not start in domain {c.domain_id} on interface {c.interface!r}: {error}"
            ) from error
        self._publications = BuiltinDataReader(self._participant, BuiltinTopicDcpsPublication)

    def publish(self, topic: str, type_name: str, data: bytes) -> None:
        """Write CDR bytes (with their header) to a ROS 2 topic."""
        writer = self._writers.get(topic)
        if writer is None:
            writer = self._writers[topic] = DataWriter(
                self._participant, self._topic(topic, type_name), qos=self._qos()
            )
        writer.write(sample(type_name, data))

    def subscribe(self, topic: str, type_name: str) -> Reader:
        """A reader of a ROS 2 topic."""
        return Reader(DataReader(self._participant, self._topic(topic, type_name), qos=self._qos()))

    def matched(self, topic: str) -> int:
        """How many readers a topic that is published here has."""
        writer = self._writers.get(topic)
        return 0 if writer is None else len(writer.get_matched_subscriptions())

    def advertise(self, topic: str, type_name: str) -> None:
        """Let readers find a topic before its first message."""
        if topic not in self._writers:
            self._writers[topic] = DataWriter(
                self._participant, self._topic(topic, type_name), qos=self._qos()
            )

    def discover(self, wait_s: float = 1.0) -> dict[str, str]:
        """ROS 2 topics that somebody publishes, with their types."""
        found: dict[str, str] = {}
        end_s = time.monotonic() + wait_s
        while time.monotonic() < end_s:
            for known in self._publications.take(N=200):
                topic = ros_topic(getattr(known, "topic_name", ""))
                type_name = ros_name(getattr(known, "type_name", ""))
                if topic and type_name:
                    found[topic] = type_name
            time.sleep(0.05)
        return found

    def close(self) -> None:
        """Leave."""
        self._writers.clear()
        del self._publications
        del self._participant

    def _topic(self, topic: str, type_name: str) -> Any:
        if dds_type(type_name).__idl_typename__ != dds_name(type_name):
            raise SteadyhandError(f"DDS: {type_name}: its DDS name is not {dds_name(type_name)}")
        return Topic(self._participant, dds_topic(topic), dds_type(type_name))

    def _qos(self) -> Any:
        c = self.config
        waiting = duration(seconds=10) if c.depth == 0 else duration(milliseconds=100)
        return Qos(
            Policy.Reliability.Reliable(waiting) if c.reliable else Policy.Reliability.BestEffort,
            Policy.History.KeepAll if c.depth == 0 else Policy.History.KeepLast(c.depth),
            Policy.Durability.Volatile,
            Policy.DataRepresentation(use_cdrv0_representation=True),
        )


def _xml(config: DdsConfig) -> str:
    """Cyclone's configuration: one interface; on the loopback one there is no multicast."""
    own = config.interface == "lo"
    peers = '<Peers><Peer address="localhost"/></Peers>' if own else ""
    return f"""<CycloneDDS><Domain id="any">
      <General>
        <Interfaces><NetworkInterface name="{config.interface}"/></Interfaces>
        <AllowMulticast>{"false" if own else "default"}</AllowMulticast>
        <MaxMessageSize>65500B</MaxMessageSize>
      </General>
      <Discovery><ParticipantIndex>auto</ParticipantIndex>
        <MaxAutoParticipantIndex>{_MAX_PARTICIPANTS}</MaxAutoParticipantIndex>{peers}</Discovery>
    </Domain></CycloneDDS>"""
