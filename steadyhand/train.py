"""``steadyhand train detector|scorer|bc|ppo|all``."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robot.errors import ConfigError
from steadyhand.console import CORES, ERR, Json, Seed, Store, Workers, emit

if TYPE_CHECKING:
    from robot.types import RgbdFrame
    from steadyhand.pipeline import Pipeline

Out = Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted one goes on.")]
Budget = Annotated[
    str,
    typer.Option("--budget", help="quick (75 minutes on two cores) or full, or a YAML file."),
]
Set = Annotated[
    Optional[list[str]],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option("--set", help="Override a value of the configuration: bc.rounds=3"),
]


def detector(
    out: Out, budget: Budget = "quick", set_: Set = None, seed: Seed = 0,
    workers: Workers = CORES, tracking: Store = None, json: Json = False,
) -> None:  # fmt: skip
    """Render scenes, train the detector on them, export it to int8 ONNX.

    For several processes: torchrun --nproc-per-node 2 -m steadyhand.cli train detector --out ...
    """

    def stage(pipeline: Pipeline) -> dict[str, Any]:
        return {"detector": str(pipeline.detector())}

    _finish(stage, out, budget, set_, seed, workers, tracking, json, shared=True)


def scorer(
    out: Out, budget: Budget = "quick", set_: Set = None, seed: Seed = 0,
    workers: Workers = CORES, tracking: Store = None, json: Json = False,
) -> None:  # fmt: skip
    """Try grasps on train objects, train the grasp scorer on them, calibrate and export it."""
    _finish(lambda p: {"scorer": str(p.scorer())}, out, budget, set_, seed, workers, tracking, json)


def bc(
    out: Out, budget: Budget = "quick", set_: Set = None, seed: Seed = 0,
    workers: Workers = CORES, tracking: Store = None, json: Json = False,
) -> None:  # fmt: skip
    """Record demonstrations by the expert and clone them, with rounds of corrections."""

    def stage(pipeline: Pipeline) -> dict[str, Any]:
        pipeline.clone()
        return {"network": str(out / "bc" / "network.pt")}

    _finish(stage, out, budget, set_, seed, workers, tracking, json)


def ppo(
    out: Out, budget: Budget = "quick", set_: Set = None, seed: Seed = 0,
    workers: Workers = CORES, tracking: Store = None, json: Json = False,
) -> None:  # fmt: skip
    """Improve the cloned policy with PPO (cloning first, where that was not done)."""

    def stage(pipeline: Pipeline) -> dict[str, Any]:
        pipeline.improve()
        return {"network": str(out / "ppo" / "network.pt")}

    _finish(stage, out, budget, set_, seed, workers, tracking, json)


def everything(
    out: Out, budget: Budget = "quick", set_: Set = None, seed: Seed = 0,
    workers: Workers = CORES, tracking: Store = None, json: Json = False,
) -> None:  # fmt: skip
    """From nothing to a verified bundle, in stages that resume."""

    def stage(pipeline: Pipeline) -> dict[str, Any]:
        from configs.load import as_dict, digest
        from steadyhand.packing import Parts, pack

        file = pipeline.detector()
        scorer_file = pipeline.scorer()
        clone = pipeline.clone()
        policy = pipeline.improve()
        c = pipeline.config
        parts = Parts(
            policy,
            clone,
            pipeline.demonstrations(),
            file,
            reference_frame(c.seed),
            {
                "command": "steadyhand " + " ".join(sys.argv[1:]),
                "budget": budget,
                "config_hash": digest(c),
                "config": as_dict(c),
                "seed": c.seed,
                "data": "rendered scenes and grasp trials of train objects; demonstrations by the "
                "scripted expert",
            },
            scorer_file,
        )
        bundle = pack(
            parts, out / "bundle", c.policy_int8, c.proof_episodes_n, 1000 + c.seed,
            pipeline.say, pipeline.workers, out / "proof",
        )  # fmt: skip
        return {"bundle": str(bundle.root), "bytes": bundle.size}

    _finish(stage, out, budget, set_, seed, workers, tracking, json, packs=True)


def reference_frame(seed: int) -> RgbdFrame:
    """One rendered look at train objects, for the detector's reference."""
    from envs.synthesis.scenes import scene_stream

    scene = next(iter(scene_stream("validation", 1, 10_000 + seed)))
    return scene.views[0].frame


def _finish(
    stage: Any, out: Path, budget: str, overrides: list[str] | None, seed: int, workers: int,
    tracking: str | None, json: bool, packs: bool = False, shared: bool = False,
) -> None:  # fmt: skip
    from configs.load import find, load
    from policies.storage import read_json

    is_file = budget.endswith((".yaml", ".yml"))
    if not is_file and budget not in ("quick", "full"):
        raise ConfigError(f"budget: expected quick, full or a YAML file, got {budget!r}")
    path = Path(budget) if is_file else find("train", budget)
    from steadyhand.pipeline import Pipeline, TrainingConfig, seeded

    config = load(TrainingConfig, path, overrides or ())
    architecture = config.detector.network.architecture
    if packs and architecture != "slim":
        raise ConfigError(
            f"detector.network.architecture: {architecture} is there to compare with; a bundle "
            "needs slim"
        )
    from perception.training.parallel import place

    rank, size, _ = place()
    if size > 1 and not shared:
        raise ConfigError(f"torchrun: {size} processes, but only train detector runs in several")
    config = seeded(config, seed, workers)
    logging.getLogger("steadyhand").setLevel(logging.INFO)
    began = time.monotonic()

    def say(line: str) -> None:
        if rank:
            return  # the leading process tells
        minutes = (time.monotonic() - began) / 60
        ERR.print(f"[dim]{minutes:6.1f} min[/dim]  {line}", highlight=False)

    from policies.learning.tracking import Tracking

    Pipeline(out, config, say).begin()  # refuses a folder of another configuration
    # Of several processes the leading one keeps the record.
    with Tracking(out, tracking if rank == 0 else "none") as record:
        begun = read_json(out / "run.json") if rank == 0 else {"config": {}}
        tags = {k: begun[k] for k in ("config_hash", "seed", "git_commit") if k in begun}
        record.parameters(begun["config"], {**tags, "stage": " ".join(sys.argv[1:3])})
        result = stage(Pipeline(out, config, say, max(workers, 1), record))
        record.files("run", out / "run.json")
        for name in ("detector", "scorer", "bc", "ppo"):
            kept = ("metrics.jsonl", "scorer.json", "result.json", "network.pt")
            record.files(name, *(out / name / file for file in kept))
        if "bundle" in result:
            record.bundle(Path(result["bundle"]))
    result["wall_s"] = round(time.monotonic() - began, 1)
    if rank == 0:
        emit(result, json, "done")
