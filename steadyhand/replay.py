"""``steadyhand replay``: a recording fed back through perception and policy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from policies.bundle.format import Bundle, shipped
from policies.replaying import Replay
from robot.errors import SteadyhandError
from steadyhand.console import ERR, Json, emit, table


def replay(
    recording: Annotated[Path, typer.Argument(help="An MCAP file of steadyhand loop.")],
    bundle: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--bundle", help="A bundle's folder; the shipped one if left out."),
    ] = None,
    json: Json = False,
) -> None:
    """Do the same images and observations give the same? Says where not, and exits with 2."""
    fed = Replay(recording, Bundle.load(bundle or shipped()).root)
    with ERR.status("replaying") as status:
        report = fed.run(lambda stamp_s: status.update(f"replaying: {stamp_s:.1f} s"))
    result = {
        "recording": str(recording),
        "compared": report.compared,
        "differences": report.differences,
        "complete": report.complete,
        "note": report.note or None,
    }
    if json:
        emit({**result, "topics": {k: asdict(c) for k, c in report.topics.items()}}, True)
    else:
        emit(result, False, "the same" if not report.differences else "not the same")
        table(
            ("topic", "compared", "different", "missing", "largest", "first at, s"),
            [
                (k, str(c.compared), str(c.different), str(c.missing), f"{c.largest:.3g}",
                 "-" if c.first_s is None else f"{c.first_s:.3f}")
                for k, c in sorted(report.topics.items())
            ],
        )  # fmt: skip
    if not report.compared:
        raise SteadyhandError(f"{recording}: holds nothing that could be compared")
    if report.differences:
        raise SteadyhandError(f"{recording}: {report.differences} outputs differ")
