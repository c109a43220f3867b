"""``steadyhand verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from policies.bundle.verify import verify_bundle
from robot.errors import SteadyhandError
from steadyhand.console import Json, emit


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    json: Json = False,
) -> None:
    """Check a bundle from itself alone: integrity, metadata, recorded reference outputs."""
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
