"""What every verb shares: one line for an error, JSON on standard output, progress on error."""

from __future__ import annotations

import json
import logging
import os
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

ERR = Console(stderr=True)

Seed = Annotated[int, typer.Option("--seed", min=0, help="Fixes everything that is random.")]
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


def set_up_logging() -> None:
    """Log to standard error; ``STEADYHAND_LOG`` sets the level."""
    logging.basicConfig(
        level=os.environ.get("STEADYHAND_LOG", "WARNING").upper(),
        format="%(message)s",
        handlers=[RichHandler(console=ERR, show_path=False)],
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
        console.print(f"  {key:<{width}}  {_shown(value)}", highlight=False)


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
