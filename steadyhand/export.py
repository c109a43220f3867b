"""``steadyhand export``: a training run to a bundle, with proof."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from robot.errors import SteadyhandError
from steadyhand.console import CORES, ERR, Json, Seed, Workers, emit


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder: bc/, ppo/, demos/, detector/.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle.")],
    stage: Annotated[str, typer.Option(help="Which policy: ppo or bc.")] = "ppo",
    detector: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option(
            "--detector", help="int8 detector file; the run's own, or the shipped bundle's."
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=2, help="Paired episodes of the proof.")] = 200,
    seed: Seed = 1000,
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Export to ONNX, quantize to int8, prove parity and success, write the bundle."""
    from policies.bundle.format import Bundle, shipped
    from policies.compression.quantize import QuantizeConfig
    from policies.demos.dataset import load_demonstrations
    from policies.learning.network import PolicyNetwork
    from steadyhand.packing import Parts, pack
    from steadyhand.train import reference_frame

    if stage not in ("ppo", "bc"):
        raise SteadyhandError(f"stage: expected ppo or bc, got {stage!r}")
    weights = run / stage / "network.pt"
    if not weights.is_file():
        raise SteadyhandError(f"{weights}: no trained policy there; run: steadyhand train {stage}")
    file = detector or run / "detector" / "detector.onnx"
    out.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        if detector is not None:
            raise SteadyhandError(f"{detector}: no such detector file")
        file = Bundle.load(shipped()).root / "models" / "detector.onnx"
    clone = run / "bc" / "network.pt"
    parts = Parts(
        PolicyNetwork.load(weights),
        PolicyNetwork.load(clone) if stage == "ppo" and clone.is_file() else None,
        load_demonstrations(run / "demos"),
        file,
        reference_frame(0),
        {"command": "steadyhand " + " ".join(sys.argv[1:]), "seed": seed, "data": "see the run"},
    )
    began = time.monotonic()
    bundle = pack(
        parts, out, QuantizeConfig(), episodes, seed,
        lambda line: ERR.print(line, highlight=False), workers,
    )  # fmt: skip
    emit(
        {"bundle": str(out), "bytes": bundle.size, "wall_s": round(time.monotonic() - began, 1)},
        json,
        "exported",
    )
