"""``steadyhand loop``: the bundle beside a robot in fixed-rate processes, recorded and measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Optional, cast

import typer
from rich.live import Live
from rich.table import Table

from envs.cell import Pace
from policies.beside import Beside
from policies.beside_parts import LoopSetup
from policies.bundle.format import Bundle, shipped
from policies.evaluation.protocols import protocol
from policies.provenance import git_commit, package_versions
from policies.standing import Standing
from robot.errors import ConfigError, SafetyError
from robot.loop.cell import LoopRates
from robot.loop.metrics import Metrics
from robot.safety.estop import EStop
from robot.safety.suite import load_safety
from steadyhand.console import ERR, Json, Safety, Seed, emit, say_uncalibrated

_PACES = ("real", "sim", "scaled")


def loop(
    bundle: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--bundle", help="A bundle's folder; the shipped one if left out."),
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", min=1.0, help="Seconds on the loop's clock.")
    ] = 60.0,
    picks: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--picks", min=1, help="End after so many picks."),
    ] = None,
    clock: Annotated[
        str, typer.Option("--clock", help="real, sim (as fast as it goes) or scaled.")
    ] = "real",
    speed: Annotated[
        float, typer.Option(min=0.01, max=100.0, help="Of the scaled clock; 1 is real time.")
    ] = 0.5,
    objects: Annotated[
        str, typer.Option(help="test, train, primitives, or a glob of URDF files.")
    ] = "test",
    n_objects: Annotated[int, typer.Option(min=1, max=20, help="On each table.")] = 5,
    physics: Annotated[str, typer.Option(help="nominal or hard.")] = "nominal",
    safety: Safety = "default",
    camera_hz: Annotated[float, typer.Option(min=0.5, max=60.0)] = 5.0,
    watch: Annotated[bool, typer.Option(help="See the object anew while the policy acts.")] = True,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Recording; runs/loop-<time>.mcap if left out."),
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(help="Prometheus reads /metrics here; 0: a free port, -1: none.")
    ] = 9464,
    bridge: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--bridge", help="dds: publish the loop's topics as ROS 2 does."),
    ] = None,
    domain: Annotated[int, typer.Option(min=0, max=232, help="DDS domain.")] = 0,
    interface: Annotated[str, typer.Option(help="Network interface of DDS.")] = "lo",
    robot: Annotated[
        str, typer.Option("--robot", help="sim, or ros2: an arm behind ros2_control on DDS.")
    ] = "sim",
    shadow: Annotated[
        bool, typer.Option("--shadow", help="With --robot ros2: compute, command nothing.")
    ] = False,
    command: Annotated[
        str, typer.Option(help="With --robot ros2: forward or trajectory commands.")
    ] = "forward",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Pick in a loop of processes at fixed rates; Ctrl-C ends it, SIGUSR1 is an emergency stop."""
    if clock not in _PACES:
        raise ConfigError(f"clock: expected {', '.join(_PACES)}, got {clock!r}")
    if robot not in ("sim", "ros2") or command not in ("forward", "trajectory"):
        raise ConfigError(
            f"robot: expected sim or ros2 and forward or trajectory, got {robot!r}, {command!r}"
        )
    if (shadow and robot == "sim") or (robot == "ros2" and clock != "real"):
        raise ConfigError("robot: --shadow needs --robot ros2, and that needs --clock real")
    if bridge not in (None, "dds"):
        raise ConfigError(f"bridge: expected dds, got {bridge!r}")
    loaded = Bundle.load(bundle or shipped())
    say_uncalibrated(loaded)
    setup = LoopSetup(
        loaded.root,
        objects,
        n_objects,
        physics,
        cast("Pace", clock),
        speed if clock == "scaled" else 1.0,
        seed,
        watch,
        rates=LoopRates(camera_hz=camera_hz),
        drop=protocol("clutter").drop,
        robot=cast("Any", robot),
        shadow=shadow,
        command=cast("Any", command),
        domain_id=domain,
        interface=interface,
        safety=load_safety(safety),
    )
    path = out or Path("runs") / f"loop-{datetime.now():%Y-%m-%d_%H-%M-%S}.mcap"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"seed": str(seed), "git_commit": str(git_commit()), **package_versions()}
    with ExitStack() as stack:
        beside = stack.enter_context(Beside(setup, path, facts))
        if bridge is not None:
            beside.connect(_bridge(beside, domain, interface))
        if metrics_port >= 0:
            metrics = Metrics(
                lambda: beside.standing.figures, lambda: _counts(beside.standing), metrics_port
            )
            stack.callback(metrics.close)
            ERR.print(f"metrics: http://127.0.0.1:{metrics.port}/metrics", highlight=False)
        stack.enter_context(EStop(beside.estop))
        stack.enter_context(_table(beside))
        result = beside.run(duration, picks)
    _say(result, json)


def _say(result: dict[str, Any], json: bool) -> None:
    words = f"{result['successes']} of {result['picks']} picks put away in {result['loop_s']:g} s"
    emit(result, json, words)
    if result["stopped"]:
        raise SafetyError(result["stopped"])


def _bridge(beside: Beside, domain: int, interface: str) -> Any:
    from robot.dds.bridge import Bridge
    from robot.dds.port import DdsConfig

    return Bridge(beside.take, DdsConfig(domain_id=domain, interface=interface))


def _counts(standing: Standing) -> dict[str, float]:
    picks = list(standing.picks)
    return {
        "picks": len(picks),
        "picks_succeeded": sum(p.success for p in picks),
        "messages": sum(standing.messages.values()),
    }


@contextmanager
def _table(beside: Beside) -> Iterator[None]:
    """A live table on a terminal; nothing where nobody watches."""
    if not ERR.is_terminal:
        yield
        return
    live = Live(get_renderable=lambda: _shown(beside), console=ERR, refresh_per_second=4)
    with live:
        yield


def _shown(beside: Beside) -> Table:
    """How the loop stands, beside the machine's own figures."""
    standing = beside.standing
    feedback = standing.feedback
    state = feedback.state.value if feedback else standing.phase
    table = Table(title=f"{state}: {sum(p.success for p in standing.picks)} put away")
    for name in ("", "control", "machine alone"):
        table.add_column(name, justify="right" if name else "left")
    control = standing.figures.get("control", {})
    machine = standing.figures.get("machine", {})
    for key, unit in (("ticks", ""), ("missed", ""), ("overruns", "")):
        table.add_row(f"{key}{unit}", str(control.get(key, "-")), str(machine.get(key, "-")))
    for key in ("period", "jitter", "work", "image_to_command", "policy_round_trip"):
        table.add_row(f"{key}, ms (p50, p99, max)", _times(control, key), _times(machine, key))
    table.add_row("stolen by a host", "", f"{100.0 * machine.get('stolen_share', 0.0):.2f} %")
    level, reason = standing.verdict
    table.add_row("verdict", ("OK", "SCALE", "HALT")[min(level, 2)], "")
    if reason:
        table.add_row("", reason, "")
    recorder = beside.recorder
    told = recorder.failed or f"{recorder.messages} messages, {recorder.bytes_written >> 20} MiB"
    table.add_row("recording", told, "")
    return table


def _times(figures: Any, key: str) -> str:
    told = figures.get(key)
    if not told:
        return "-"
    return ", ".join(f"{told[f'{q}_ms']:.2f}" for q in ("p50", "p99", "max"))
