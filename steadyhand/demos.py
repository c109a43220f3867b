"""``steadyhand demos record|info``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from robot.errors import ConfigError
from steadyhand.console import (
    CORES,
    EnvArg,
    EnvId,
    Expert,
    Import,
    Json,
    Seed,
    Workers,
    emit,
    env_spec,
    progress,
)


def record(
    out: Annotated[Path, typer.Option("--out", help="Folder of the data set.")],
    episodes: Annotated[int, typer.Option(min=1)] = 300,
    env: EnvId = "Steadyhand/GraspSingle-v0",
    import_: Import = None,
    env_arg: EnvArg = None,
    actor: Expert = None,
    objects: Annotated[str, typer.Option(help="Object set of a grasp task.")] = "train",
    physics: Annotated[str, typer.Option(help="Of a grasp task: nominal, hard, mixed.")] = "mixed",
    noise: Annotated[float, typer.Option(min=0.0, max=1.0, help="On executed motions.")] = 0.1,
    seed: Seed = 0,
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Demonstrations by the scripted expert, or by --actor anywhere; LeRobotDataset v3; resumes."""
    from policies.demos.record import RecordConfig
    from policies.demos.record import record as record_demos
    from policies.evaluation.rollouts import ActorSpec

    id_ = env or "Steadyhand/GraspSingle-v0"
    spec = env_spec(id_, import_, env_arg)
    spread: tuple[float, ...] = (noise,)
    if actor is not None:
        expert = ActorSpec(actor)
    elif id_.startswith("Steadyhand/"):
        from policies.evaluation.subjects import EXPERT

        spec = replace(spec, kwargs={"objects": objects, "physics": physics, **spec.kwargs})
        expert, spread = EXPERT, (noise,) * 4 + (0.0,)  # none on the fingers
    else:
        raise ConfigError(f"demos record: {id_} needs an expert: --actor module:make_expert")
    config = RecordConfig(episodes=episodes, seed=seed, workers=workers, noise_std=spread)
    with progress("demonstrations", episodes) as bar:
        result = record_demos(
            out, spec, expert, config,
            progress=lambda kept, *_: bar.update(bar.task_ids[0], completed=kept),
        )  # fmt: skip
    emit(
        {
            "out": str(out),
            "episodes": result.episodes,
            "frames": result.frames,
            "attempts": result.attempts,
            "successes": result.successes,
            "seed": seed,
        },
        json,
        f"demonstrations in {out}",
    )


def info(
    folder: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    json: Json = False,
) -> None:
    """What a data set holds."""
    from policies.demos.dataset import load_demonstrations

    emit(load_demonstrations(folder).summary(), json, str(folder))
