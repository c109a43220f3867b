"""``steadyhand compress``: one recipe, or all of them side by side."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from robot.errors import SteadyhandError
from steadyhand.console import CORES, ERR, Json, Workers, emit


def compress(
    run: Annotated[Path, typer.Argument(help="A run's folder: bc/ or ppo/, and demos/.")],
    recipe: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option(
            "--recipe", help="A YAML file, or a name in configs/compress; several with --sweep."
        ),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Measure every recipe on the same episodes.")
    ] = False,
    part: Annotated[
        str, typer.Option(help="policy, or scorer (int8; --set method=qat reduce_range=true).")
    ] = "policy",
    stage: Annotated[
        str, typer.Option(help="Which policy: ppo or bc; the newest if left out.")
    ] = "",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Folder of the results; RUN/compress if left out."),
    ] = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="Of the sweep: episodes=2000, physics=nominal, objects=test."),
    ] = None,
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Make a policy smaller: quantize, prune, factor, distill; --sweep draws the frontier."""
    from configs.load import load
    from policies.compression.sweep import SweepConfig
    from policies.compression.sweep import sweep as run_sweep
    from policies.compression.variant import compress as run_recipe
    from policies.compression.variant import write_variant
    from policies.demos.dataset import load_demonstrations
    from policies.learning.network import PolicyNetwork

    if part == "scorer":
        emit(_scorer(run, out or run / "compress", settings), json, "scorer in int8")
        return
    if part != "policy":
        raise SteadyhandError(f"part: expected policy or scorer, got {part!r}")
    stages = [stage] if stage else ["ppo", "bc"]
    weights = [w for name in stages if (w := run / name / "network.pt").is_file()]
    if not weights:
        raise SteadyhandError(f"{run}: holds no trained policy; run: steadyhand train bc")
    if not recipe and not sweep:
        raise SteadyhandError("compress: name a recipe with --recipe, or compare all with --sweep")
    network, demos = PolicyNetwork.load(weights[0]), load_demonstrations(run / "demos")
    folder = out or run / "compress"
    origin = {"command": shlex.join(["steadyhand", *sys.argv[1:]]), "weights": str(weights[0])}
    began = time.monotonic()

    def say(line: str) -> None:
        ERR.print(line, highlight=False)

    if sweep:
        config = load(SweepConfig, None, [f"workers={workers}", *(settings or [])])
        found = run_sweep(network, demos, _recipes(recipe), folder, config, origin, say)
        result: dict[str, Any] = {**found, "wall_s": round(time.monotonic() - began, 1)}
        if not json:
            typer.echo((folder / "frontier.md").read_text(encoding="utf-8"))
            result = {k: result[k] for k in ("chosen", "bundle", "front", "refused", "wall_s")}
        emit(result, json, str(folder))
        return
    for name, wanted in _recipes(recipe).items():
        variant = run_recipe(network, demos, wanted, say)
        bundle = write_variant(variant, folder / name, wanted, origin)
        emit(
            {
                "bundle": str(folder / name), "acts": variant.acts,
                "bytes": len(variant.acting), "fp32_bytes": len(bundle.model("policy_fp32")),
                "steps": variant.figures["steps"],
                "int8_error": variant.figures["int8"]["action_error"],
                "wall_s": round(time.monotonic() - began, 1),
            },
            json,
            wanted.about or name,
        )  # fmt: skip


def _recipes(names: list[str] | None) -> dict[str, Any]:
    from configs.load import find
    from policies.compression.recipe import named

    if not names:
        shipped = Path(find("compress", "ptq")).parent
        names = sorted(str(f) for f in shipped.glob("*.yaml"))
    return dict(named(name) for name in names)


def _scorer(run: Path, out: Path, settings: list[str] | None) -> dict[str, Any]:
    import json as json_module

    from configs.load import load
    from perception.coco import write_bytes
    from perception.training.scorer import WEIGHTS, samples_of
    from perception.training.scorer_compress import ScorerCompressConfig, compress_scorer
    from perception.trials import read_trials
    from policies.provenance import git_commit

    config = load(ScorerCompressConfig, None, settings or [])
    train, held_out = (
        samples_of(read_trials(run / "data" / f"trials_{name}")) for name in ("train", "validation")
    )
    weights = run / "scorer" / WEIGHTS
    model, report = compress_scorer(weights, train, held_out, config, git_commit())
    folder = out / f"scorer_{config.method}"
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "scorer.json", (json_module.dumps(report, indent=2) + "\n").encode())
    write_bytes(folder / "scorer.onnx", model)
    return {"scorer": str(folder / "scorer.onnx"), **report}
