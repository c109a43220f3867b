"""What every verb shares: one line for an error, JSON on standard output, progress on error."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from configs.yaml_source import parse_override
from policies.bundle.format import Bundle
from policies.evaluation.specs import EnvSpec

ERR = Console(stderr=True)

Seed = Annotated[int, typer.Option("--seed", min=0, help="Fixes everything that is random.")]
Safety = Annotated[
    str,
    typer.Option(
        "--safety", help="The monitors' settings: a name in configs/safety, or an own YAML file."
    ),
]
Robot = Annotated[
    str, typer.Option("--robot", help="The arm: a name in configs/robot, or an own YAML file.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes; 0 runs in this one.")]
Store = Annotated[
    Optional[str],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option(
        "--tracking",
        help="MLflow's store: a folder, a URI, or none; mlruns beside --out if left out.",
    ),
]
CORES = len(os.sched_getaffinity(0))
EnvId = Annotated[
    Optional[str],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option("--env", help="Any Gymnasium id; the grasp task if left out."),
]
Import = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--import", help="Package that registers the id; may be given several times."),
]
EnvArg = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--env-arg", help="Keyword argument of the environment: level=2"),
]
Expert = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--actor", help="Expert of that environment: module:make_expert"),
]


def env_spec(
    env: str, imports: Sequence[str] | None, arguments: Sequence[str] | None = None
) -> EnvSpec:
    """The environment that ``--env``, ``--import`` and ``--env-arg`` describe.

    Raises:
        ConfigError: an argument is not NAME=VALUE.
    """
    parts = [parse_override(text) for text in arguments or ()]
    return EnvSpec(env, {".".join(keys): value for keys, value in parts}, tuple(imports or ()))


def set_up_logging() -> None:
    """Log to standard error; ``STEADYHAND_LOG`` sets the level."""
    logging.basicConfig(
        level=os.environ.get("STEADYHAND_LOG", "WARNING").upper(),
        format="%(message)s",
        handlers=[RichHandler(console=ERR, show_path=False)],
    )


@contextmanager
def stdout_for_results() -> Iterator[None]:
    """What C code writes to standard output, as simulators do, goes to standard error meanwhile.

    Worker processes inherit that; what Python prints still goes to standard output.
    """
    before = sys.stdout
    try:
        before.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # a stream is closed, as in a service: nothing to keep clean
        yield
        return
    with os.fdopen(kept, "w", buffering=1, encoding=before.encoding) as results:
        if before is sys.__stdout__ or _fileno(before) == 1:
            sys.stdout = results  # otherwise somebody collects what Python prints
        try:
            yield
        finally:
            results.flush()
            os.dup2(kept, 1)
            sys.stdout = before


def _fileno(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return -1


def say_uncalibrated(bundle: Bundle) -> None:
    """Say that the monitor ``novelty`` is silent, where nothing tells it what is new."""
    if bundle.novelty() is None:
        ERR.print(
            "novelty is off: what is new to this policy was never calibrated; do it with: "
            f"steadyhand faults --calibrate 400 --bundle {bundle.root}",
            highlight=False,
            soft_wrap=True,
        )


def emit(result: dict[str, Any], as_json: bool, title: str = "") -> None:
    """Print a result: JSON for programs, or a plain list for people."""
    if as_json:
        typer.echo(json.dumps(result))
        return
    console = Console()
    if title:
        console.print(f"[bold]{title}[/bold]")
    width = max((len(key) for key in result), default=0)
    for key, value in result.items():
        # Not as markup: a list of paths, [/tmp/a], would be read as a closing tag.
        console.print(f"  {key:<{width}}  {_shown(value)}", highlight=False, markup=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their headings, for people."""
    shown = Table(box=None, header_style="bold", pad_edge=True)
    for name in columns:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*row)
    Console().print(shown, highlight=False)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(v) for v in value) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items()) or "none"
    return str(value)


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Progress]:
    """A progress bar on standard error; use ``progress.advance(task_id=0)``."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=ERR,
        # Where nobody watches, even an erased bar would leave an empty line.
        disable=not ERR.is_terminal,
    )
    with bar:
        bar.add_task(title, total=total)
        yield bar
