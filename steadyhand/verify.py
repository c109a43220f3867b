"""``steadyhand verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from policies.bundle.manifest import NAME as MANIFEST
from policies.bundle.signature import check_signature
from policies.bundle.signature import sign as sign_bundle
from policies.bundle.verify import Check, verify_bundle
from robot.errors import ConfigError, SteadyhandError
from steadyhand.console import Json, Seed, emit, progress


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    fuzz: Annotated[
        int,
        typer.Option(min=0, help="Corrupt this many copies of it; each must be refused."),
    ] = 0,
    key: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--key", help="A secret of 32 bytes or more: the signature is checked, too."),
    ] = None,
    sign: Annotated[
        bool, typer.Option("--sign", help="Sign it with the key, once every check holds.")
    ] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Check a bundle from itself alone: integrity, metadata, recorded reference outputs."""
    if sign and key is None:
        raise ConfigError("verify: --sign needs --key FILE")
    if fuzz:
        _fuzz(bundle, fuzz, seed, json)
        return
    checks = verify_bundle(bundle)
    if key is not None:
        if sign and all(check.ok for check in checks):
            sign_bundle(bundle, key)
        checks.append(_signature(bundle, key))
    failed = [check for check in checks if not check.ok]
    if json:
        rows = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]
        emit({"bundle": str(bundle), "ok": not failed, "checks": rows}, True)
    else:
        shown = {c.name: f"{'ok  ' if c.ok else 'FAIL'} {c.detail}" for c in checks}
        emit(shown, False, f"{bundle}: {'every check holds' if not failed else 'NOT sound'}")
    if failed:
        raise SteadyhandError(f"{failed[0].name}: {failed[0].detail}")


def _signature(bundle: Path, key: Path) -> Check:
    try:
        check_signature(bundle, (bundle / MANIFEST).read_bytes(), key)
    except OSError as error:
        return Check("signature", False, f"{bundle}: {error.strerror or error}")
    except SteadyhandError as error:
        return Check("signature", False, str(error))
    return Check("signature", True, "made with this key, of these files")


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
