"""``steadyhand topic``: what a running loop, or ROS 2 over DDS, says."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Annotated, Any, Optional

import numpy as np
import typer
from rich.console import Console

from robot.errors import ConfigError, SteadyhandError
from robot.loop.mailbox import Packet
from robot.loop.window import look_in
from steadyhand.console import Json, emit, table

Transport = Annotated[str, typer.Option("--transport", help="loop (a running one) or dds.")]
Domain = Annotated[int, typer.Option("--domain", min=0, max=232, help="DDS domain.")]
Interface = Annotated[str, typer.Option("--interface", help="Network interface of DDS.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.1, help="How long to listen.")]
_LONGEST_ARRAY = 16


def list_(
    transport: Transport = "loop",
    domain: Domain = 0,
    interface: Interface = "lo",
    seconds: Seconds = 2.0,
    json: Json = False,
) -> None:
    """Topics with their types."""
    if _is_dds(transport):
        found = _port(domain, interface).discover(seconds)
    else:
        found = {p.topic: p.type_name for p in look_in(duration_s=seconds)}
    if json:
        emit(found, True)
    else:
        table(("topic", "type"), sorted(found.items()))


def echo(
    name: Annotated[str, typer.Argument(help="Of the topic: /joint_states")],
    transport: Transport = "loop",
    domain: Domain = 0,
    interface: Interface = "lo",
    count: Annotated[
        Optional[int],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--count", min=1, help="End after so many."),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1)] = 1e9,
) -> None:
    """Messages as they come."""
    console = Console()
    packets = _packets(name, transport, domain, interface, seconds)
    for packet in itertools.islice(packets, count):
        console.print(
            "\n".join(_lines(packet.message)), "---", sep="\n", highlight=False, markup=False
        )


def hz(
    name: Annotated[str, typer.Argument(help="Of the topic: /joint_states")],
    transport: Transport = "loop",
    domain: Domain = 0,
    interface: Interface = "lo",
    seconds: Seconds = 5.0,
    json: Json = False,
) -> None:
    """How often a topic comes."""
    came = [time.perf_counter() for _ in _packets(name, transport, domain, interface, seconds)]
    if len(came) < 2:
        raise SteadyhandError(f"{name}: came {len(came)} times in {seconds:g} s")
    gaps = np.diff(came)
    emit(
        {
            "topic": name,
            "messages": len(came),
            "hz": float((len(came) - 1) / (came[-1] - came[0])),
            "gap_min_ms": float(1e3 * gaps.min()),
            "gap_max_ms": float(1e3 * gaps.max()),
        },
        json,
    )


def _packets(
    name: str, transport: str, domain: int, interface: str, seconds: float
) -> Iterator[Packet]:
    if not _is_dds(transport):
        yield from (p for p in look_in(duration_s=seconds) if p.topic == name)
        return
    port = _port(domain, interface)
    end_s = time.monotonic() + seconds
    type_name = None
    while type_name is None:
        if time.monotonic() > end_s:
            raise SteadyhandError(f"{name}: nobody publishes it in DDS domain {domain}")
        type_name = port.discover(0.5).get(name)
    reader = port.subscribe(name, type_name)
    while time.monotonic() < end_s:
        for data in reader.take():
            yield Packet(name, type_name, 0.0, data)
        time.sleep(0.002)


def _is_dds(transport: str) -> bool:
    if transport not in ("loop", "dds"):
        raise ConfigError(f"transport: expected loop or dds, got {transport!r}")
    return transport == "dds"


def _port(domain: int, interface: str) -> Any:
    from robot.dds.port import DdsConfig, DdsPort

    return DdsPort(DdsConfig(domain_id=domain, interface=interface))


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    """A message as ``ros2 topic echo`` shows it."""
    for name in value.__dataclass_fields__:
        if name == "__msgtype__":
            continue
        field = getattr(value, name)
        if hasattr(field, "__dataclass_fields__"):
            yield f"{indent}{name}:"
            yield from _lines(field, indent + "  ")
        elif isinstance(field, list) and field and hasattr(field[0], "__dataclass_fields__"):
            yield f"{indent}{name}:"
            for item in field:
                first, *others = _lines(item, indent + "  ")
                yield f"{indent}- {first.strip()}"
                yield from others
        elif isinstance(field, np.ndarray) and field.size > _LONGEST_ARRAY:
            yield f"{indent}{name}: <{field.size} numbers>"
        else:
            shown = field.tolist() if isinstance(field, np.ndarray) else field
            yield f"{indent}{name}: {shown}"
