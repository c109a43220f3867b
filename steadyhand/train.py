"""``steadyhand train detector|scorer|bc|ppo|all``."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robot.errors import ConfigError
from steadyhand.console import (
    CORES,
    ERR,
    EnvArg,
    EnvId,
    Expert,
    Import,
    Json,
    Seed,
    Store,
    Workers,
    emit,
    env_spec,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from policies.evaluation.specs import EnvSpec
    from policies.learning.tracking import Tracking
    from robot.types import RgbdFrame
    from steadyhand.pipeline import Pipeline
    from steadyhand.stages import PolicyStages

Out = Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted one goes on.")]
Budget = Annotated[
    str,
    typer.Option("--budget", help="quick (75 minutes on two cores) or full, or a YAML file."),
]
Set = Annotated[
    Optional[list[str]],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option("--set", help="Override a value of the configuration: bc.rounds=3"),
]


Folds = Annotated[
    int,
    typer.Option("--folds", min=0, help="Cross-validation by object first; the same as bc.folds."),
]
Demos = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--demos", help="A demonstration set of that environment; it is copied."),
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

    _finish(stage, False, out, budget, set_, seed, workers, tracking, json, shared=True)


def scorer(
    out: Out, budget: Budget = "quick", set_: Set = None, seed: Seed = 0,
    workers: Workers = CORES, tracking: Store = None, json: Json = False,
) -> None:  # fmt: skip
    """Try grasps on train objects, train the grasp scorer on them, calibrate and export it."""

    def stage(pipeline: Pipeline) -> dict[str, Any]:
        return {"scorer": str(pipeline.scorer())}

    _finish(stage, False, out, budget, set_, seed, workers, tracking, json)


def bc(
    out: Out, budget: Budget = "quick", set_: Set = None, env: EnvId = None,
    import_: Import = None, env_arg: EnvArg = None, demos: Demos = None, actor: Expert = None,
    folds: Folds = 0, seed: Seed = 0, workers: Workers = CORES, tracking: Store = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Clone demonstrations: the grasp expert's with corrections, or any environment's (--env)."""

    def stage(policy: PolicyStages) -> dict[str, Any]:
        policy.clone()
        found = {"folds": policy.folds()} if policy.bc.folds else {}
        return {"network": str(out / "bc" / "network.pt"), **found}

    if folds:
        set_ = [*(set_ or ()), f"bc.folds={folds}"]
    spec = _own(env, import_, env_arg, demos, actor)
    _finish_policy(stage, spec, demos, actor, out, budget, set_, seed, workers, tracking, json)


def ppo(
    out: Out, budget: Budget = "quick", set_: Set = None, env: EnvId = None,
    import_: Import = None, env_arg: EnvArg = None, demos: Demos = None, actor: Expert = None,
    seed: Seed = 0, workers: Workers = CORES, tracking: Store = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Improve the cloned policy with PPO (cloning first, where that was not done)."""

    def stage(policy: PolicyStages) -> dict[str, Any]:
        policy.improve()
        return {"network": str(out / "ppo" / "network.pt")}

    spec = _own(env, import_, env_arg, demos, actor)
    _finish_policy(
        stage, spec, demos, actor, out, budget, set_, seed, workers, tracking, json, improves=True
    )


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
        clone = pipeline.policy.clone()
        policy = pipeline.policy.improve()
        c = pipeline.config
        parts = Parts(
            policy,
            clone,
            pipeline.policy.demonstrations(),
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

    _finish(stage, True, out, budget, set_, seed, workers, tracking, json, packs=True)


def reference_frame(seed: int) -> RgbdFrame:
    """One rendered look at train objects, for the detector's reference."""
    from envs.synthesis.scenes import scene_stream

    scene = next(iter(scene_stream("validation", 1, 10_000 + seed)))
    return scene.views[0].frame


def _own(
    env: str | None, imports: list[str] | None, arguments: list[str] | None,
    demos: Path | None, actor: str | None,
) -> EnvSpec | None:  # fmt: skip
    """The environment that was named, checked before anything starts; None for the grasp task."""
    if env is not None:
        if demos is not None and actor is not None:
            raise ConfigError("train: give --demos or --actor, not both")
        if env.startswith("Steadyhand/"):
            raise ConfigError(
                f"train: {env} is the grasp task; leave --env out (--set task.id=...)"
            )
        return env_spec(env, imports, arguments)
    given = {"--import": imports, "--env-arg": arguments, "--demos": demos, "--actor": actor}
    lone = next((name for name, value in given.items() if value), None)
    if lone is not None:
        raise ConfigError(f"train: {lone} goes with --env; without it the grasp task is learned")
    return None


def _finish_policy(
    stage: Callable[[PolicyStages], dict[str, Any]], env: EnvSpec | None, demos: Path | None,
    actor: str | None, *rest: Any, improves: bool = False,
) -> None:  # fmt: skip
    """Run a stage of the grasp policy, or of that of the environment that was named."""
    if env is None:
        _finish(lambda pipeline: stage(pipeline.policy), improves, *rest)
    else:
        _finish_own(stage, improves, env, demos, actor, *rest)


def _finish_own(
    stage: Any, improves: bool, env: EnvSpec, demos: Path | None, actor: str | None, out: Path,
    budget: str, overrides: list[str] | None, seed: int, workers: int, tracking: str | None,
    json: bool,
) -> None:  # fmt: skip
    from configs.load import load
    from steadyhand.own_env import EnvTrainingConfig, stages
    from steadyhand.stages import can_improve

    _one_process()
    config = load(EnvTrainingConfig, _budget_file(budget, "env_"), overrides or ())
    if improves:
        can_improve(config.bc)
    say, clock = _teller()
    made = stages(out, config.of(env, seed, workers), demos, actor, say)
    with _recorded(out, tracking) as record:
        result = stage(replace(made, curves=record.curves))
    emit({**result, "env": env.id, "wall_s": clock()}, json, "done")


@contextmanager
def _recorded(out: Path, store: str | None) -> Iterator[Tracking]:
    """The record of a run that has begun; its files go in when the stage is done."""
    from policies.learning.tracking import Tracking
    from policies.storage import read_json

    with Tracking(out, store) as record:
        begun = read_json(out / "run.json") if store != "none" else {"config": {}}
        tags = {k: begun[k] for k in ("config_hash", "seed", "git_commit") if k in begun}
        record.parameters(begun["config"], {**tags, "stage": " ".join(sys.argv[1:3])})
        yield record
        record.files("run", out / "run.json")
        for name in ("detector", "scorer", "bc", "ppo"):
            kept = ("metrics.jsonl", "scorer.json", "result.json", "network.pt")
            record.files(name, *(out / name / file for file in kept))


def _budget_file(budget: str, prefix: str = "") -> Path:
    from configs.load import find

    if budget.endswith((".yaml", ".yml")):
        return Path(budget)
    if budget not in ("quick", "full"):
        raise ConfigError(f"budget: expected quick, full or a YAML file, got {budget!r}")
    return find("train", prefix + budget)


def _one_process() -> None:
    from perception.training.parallel import place

    if place()[1] > 1:
        raise ConfigError(
            f"torchrun: {place()[1]} processes, but only train detector runs in several"
        )


def _teller() -> tuple[Callable[[str], None], Callable[[], float]]:
    """Tells a line with the minutes since now; gives the seconds since now."""
    logging.getLogger("steadyhand").setLevel(logging.INFO)
    began = time.monotonic()

    def say(line: str) -> None:
        minutes = (time.monotonic() - began) / 60
        ERR.print(f"[dim]{minutes:6.1f} min[/dim]  {line}", highlight=False)

    return say, lambda: round(time.monotonic() - began, 1)


def _finish(
    stage: Any, improves: bool, out: Path, budget: str, overrides: list[str] | None, seed: int,
    workers: int, tracking: str | None, json: bool, packs: bool = False, shared: bool = False,
) -> None:  # fmt: skip
    from configs.load import load

    path = _budget_file(budget)
    from steadyhand.pipeline import Pipeline, TrainingConfig, seeded
    from steadyhand.stages import can_improve

    config = load(TrainingConfig, path, overrides or ())
    if improves:
        can_improve(config.bc)
    architecture = config.detector.network.architecture
    if packs and architecture != "slim":
        raise ConfigError(
            f"detector.network.architecture: {architecture} is there to compare with; a bundle "
            "needs slim"
        )
    from perception.training.parallel import place

    rank = place()[0]
    if not shared:
        _one_process()
    config = seeded(config, seed, workers)
    tell, clock = _teller()
    # The leading process tells, and keeps the record.
    say = (lambda _: None) if rank else tell
    Pipeline(out, config, say).begin()  # refuses a folder of another configuration
    with _recorded(out, tracking if rank == 0 else "none") as record:
        result = stage(Pipeline(out, config, say, max(workers, 1), record))
        if "bundle" in result:
            record.bundle(Path(result["bundle"]))
    result["wall_s"] = clock()
    if rank == 0:
        emit(result, json, "done")
