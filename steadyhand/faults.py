"""``steadyhand faults``, ``soak`` and ``estop``: prove the monitors, and stop an arm."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from policies.bundle.format import Bundle, shipped
from policies.evaluation.faults import CAMPAIGNS, Campaign, default_out, run_campaign
from policies.evaluation.novelty import calibrate as calibrate_novelty
from policies.evaluation.novelty import least_picks, observe_picks
from policies.evaluation.soak import soak as run_soak
from policies.provenance import git_commit
from robot.errors import ConfigError
from robot.safety import estop as stops
from steadyhand.console import ERR, Json, Seed, Workers, emit, progress


def faults(
    campaign: Annotated[
        str,
        typer.Option(
            help="quick: every kind once; full: in every phase, again and again; "
            "nominal: none, but every pick once more with no monitor."
        ),
    ] = "quick",
    without: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--without", help="Switch a monitor off; may be given several times."),
    ] = None,
    kind: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--kind", help="Only this kind of fault; may be given several times."),
    ] = None,
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--bundle", help="Whose picks: a bundle; the shipped one if left out."),
    ] = None,
    workers: Workers = 0,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="File of runs, to go on from; the user's cache if left out."),
    ] = None,
    calibrate: Annotated[
        int,
        typer.Option(min=0, help="Instead: anew what counts as new input, on so many picks."),
    ] = 0,
    alpha: Annotated[
        float, typer.Option(min=0.0005, max=0.5, help="Share of picks that may count as new.")
    ] = 0.01,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run all anew.")] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Inject faults into simulated picks and count what came of them."""
    source = bundle or shipped()
    if calibrate:
        loaded = Bundle.load(source)
        if calibrate < least_picks(alpha):
            raise ConfigError(
                f"calibrate: alpha {alpha:g} needs at least {least_picks(alpha)} picks, "
                f"got {calibrate}"
            )
        with progress("picks", calibrate) as bar:
            picks = observe_picks(
                source, calibrate, seed, workers, on_pick=lambda: bar.advance(bar.task_ids[0])
            )
        file = calibrate_novelty(
            picks,
            alpha,
            loaded,
            f"steadyhand faults --calibrate {calibrate} --seed {seed}, commit {git_commit()}",
        )
        emit(
            {
                "picks": len(picks),
                "held_out": file.picks_n,
                "alpha": file.alpha,
                "threshold": file.threshold,
                "bundle": str(source),
            },
            json,
            "novelty",
        )
        return
    if campaign not in CAMPAIGNS:
        raise ConfigError(f"campaign: expected one of {', '.join(CAMPAIGNS)}, got {campaign!r}")
    plan = Campaign(campaign, seed, tuple(without or ()), tuple(kind or ()), source)
    runs_file = out or default_out(plan)
    if fresh:
        runs_file.unlink(missing_ok=True)
    began = time.monotonic()
    runs = len(plan.plan()) * (2 if campaign == "nominal" else 1)
    with progress("faults", runs) as bar:
        result = run_campaign(plan, workers, runs_file, lambda _: bar.advance(bar.task_ids[0]))
    result["wall_s"] = round(time.monotonic() - began, 1)
    result["runs_file"] = str(runs_file)
    if json:
        emit(result, True)
        return
    by_kind: dict[str, Any] = result.pop("by_kind")
    emit(result, False, "faults")
    for name, row in by_kind.items():
        wrong = {k: row[k] for k in ("undetected", "wrong", "violations") if row[k]}
        if wrong:
            ERR.print(f"  {name}: {wrong}", highlight=False)


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="Of simulated time.")] = 10.0,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for recordings; those that are whole are removed.")
    ] = Path("runs/soak"),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Pick with random faults for long, and watch memory, handles and recordings."""
    began = time.monotonic()
    with progress("simulated seconds", round(60 * minutes)) as bar:
        result = run_soak(
            60.0 * minutes, out, seed, lambda at_s: bar.update(bar.task_ids[0], completed=at_s)
        )
    emit(result | {"wall_s": round(time.monotonic() - began, 1)}, json, "soak")
    if not result["passed"]:
        raise typer.Exit(1)


def estop(
    pid: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--pid", help="Of the process that moves the arm; all that run if left out."),
    ] = None,
    json: Json = False,
) -> None:
    """Emergency stop: halt the arm of a running process at its next control period."""
    emit({"stopped": stops.press(pid)}, json, "emergency stop")
