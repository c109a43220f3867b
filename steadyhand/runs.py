"""``steadyhand runs list|compare|plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robot.errors import SteadyhandError
from steadyhand.console import Json, emit, table

if TYPE_CHECKING:
    from policies.runs import Figure, Run


def list_(
    root: Annotated[
        Path, typer.Argument(help="Looked through, with two levels of folders below.")
    ] = Path(),
    json: Json = False,
) -> None:
    """The runs below a folder, with their final figures."""
    from policies.runs import find_runs

    runs = find_runs(root)
    if json:
        emit({"runs": [_plain(run) for run in runs]}, True)
        return
    shown = [name for name in _SHORT if any(name in run.figures for run in runs)]
    table(
        ["run", "seed", "commit", "config", *shown],
        [
            [
                str(run.folder),
                str(run.seed),
                run.git_commit[:8],
                run.config_hash,
                *(_shown(run.figures.get(name)) for name in shown),
            ]
            for run in runs
        ],
    )


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of two or more runs.")],
    json: Json = False,
) -> None:
    """What differs in the runs' configurations, and their final figures with 95 % intervals."""
    from policies.runs import Run, differing

    if len(runs) < 2:
        raise SteadyhandError(f"compare: give two runs or more, got {len(runs)}")
    read = [Run.read(folder) for folder in runs]
    config = differing(read)
    names = list(dict.fromkeys(name for run in read for name in run.figures))
    if json:
        found = {name: [_figure(run.figures.get(name)) for run in read] for name in names}
        emit({"runs": [str(run.folder) for run in read], "config": config, "figures": found}, True)
        return
    heads = [str(run.folder) for run in read]
    table(["configuration", *heads], [[key, *map(str, row)] for key, row in config.items()])
    table(
        ["figure", *heads],
        [[name, *(_shown(run.figures.get(name)) for run in read)] for name in names],
    )


def plot(
    runs: Annotated[
        list[str],
        typer.Argument(help="Runs, each FOLDER or LABEL=FOLDER; the seeds of one method share it."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The SVG file.")],
    metric: Annotated[
        str, typer.Option("--metric", help="Stage and name: ppo/score, bc/validation_loss.")
    ] = "ppo/score",
    title: Annotated[str, typer.Option("--title", help="Heading; the metric if left out.")] = "",
    reach: Annotated[
        Optional[float],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--reach", help="Tell where each curve first gets there."),
    ] = None,
    ppo_alone: Annotated[
        bool,
        typer.Option(
            "--ppo-steps-alone", help="Leave the steps of demonstrations and corrections out."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Learning curves of runs with 95 % intervals, over seeds or, for one seed, its episodes."""
    from policies.curves import AXES, bands
    from policies.runs import Run
    from policies.storage import replace_file
    from steadyhand.curve_chart import drawing

    if out.suffix != ".svg":
        raise SteadyhandError(f"out: expected a file that ends in .svg, got {out}")
    parts = [(a, b) if eq else ("", a) for a, eq, b in (text.partition("=") for text in runs)]
    read = [(label, Run.read(Path(folder))) for label, folder in parts]
    found = bands(read, metric, ppo_alone)
    axis = AXES[metric.partition("/")[0]]
    if axis == AXES["ppo"] and not ppo_alone:
        axis += ", those of demonstrations and corrections included"
    replace_file(out, drawing(found, title or metric, axis, metric).encode())
    told: dict[str, Any] = {"out": str(out), "metric": metric}
    for band in found:
        row: dict[str, Any] = {
            "runs": [str(curve.run) for curve in band.curves],
            "last": float(band.mean[-1]),
            "steps_before": [curve.before for curve in band.curves],
        }
        if reach is not None:
            row["reaches"] = [curve.reaches(reach) for curve in band.curves]
        told[band.label] = row
    emit(told, json, "drawn")


_SHORT = ("detector.ap", "scorer.auc", "ppo.before", "ppo.after", "bundle.hard.int8")


def _plain(run: Run) -> dict[str, Any]:
    return {
        "run": str(run.folder),
        "seed": run.seed,
        "git_commit": run.git_commit,
        "config_hash": run.config_hash,
        "figures": {name: _figure(figure) for name, figure in run.figures.items()},
    }


def _figure(figure: Figure | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    return {"value": figure.value, "ci95": None if figure.ci95 is None else list(figure.ci95)}


def _shown(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if figure.ci95 is None:
        return f"{figure.value:.4g}"
    return f"{figure.value:.4g} ({figure.ci95[0]:.4g} to {figure.ci95[1]:.4g})"
