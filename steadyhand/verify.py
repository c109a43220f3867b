"""``steadyhand verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from policies.bundle.verify import verify_bundle
from robot.errors import SteadyhandError
from steadyhand.console import Json, Seed, emit, progress


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    fuzz: Annotated[
        int,
        typer.Option(min=0, help="Corrupt this many copies of it; each must be refused."),
    ] = 0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Check a bundle from itself alone: integrity, metadata, recorded reference outputs."""
    if fuzz:
        _fuzz(bundle, fuzz, seed, json)
        return
    checks = verify_bundle(bundle)
    failed = [check for check in checks if not check.ok]
    if json:
        rows = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]
        emit({"bundle": str(bundle), "ok": not failed, "checks": rows}, True)
    else:
        shown = {c.name: f"{'ok  ' if c.ok else 'FAIL'} {c.detail}" for c in checks}
        emit(shown, False, f"{bundle}: {'every check holds' if not failed else 'NOT sound'}")
    if failed:
        raise SteadyhandError(f"{failed[0].name}: {failed[0].detail}")


def _fuzz(bundle: Path, cases: int, seed: int, json: bool) -> None:
    from policies.bundle.fuzz import fuzz

    with progress("corrupted copies", cases) as bar:
        report = fuzz(bundle, cases, seed, lambda done: bar.update(bar.task_ids[0], completed=done))
    wrong = {k: getattr(report, k) for k in ("accepted", "crashed", "acted")}
    result = {
        "bundle": str(bundle), "cases": cases, "seed": seed, "refused": report.refused,
        **{name: len(found) for name, found in wrong.items()},
        "examples": [line for found in wrong.values() for line in found[:5]],
        "kinds": dict(sorted(report.cases.items())), "peak_mb": round(report.peak_mb, 1),
    }  # fmt: skip
    emit(result, json, f"{bundle}: {cases} corrupted copies")
    if not report.ok:
        raise SteadyhandError(f"{bundle}: not every corrupted copy was refused; see examples")
