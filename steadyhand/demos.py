"""``steadyhand demos record|info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steadyhand.console import CORES, Json, Seed, Workers, emit, progress


def record(
    out: Annotated[Path, typer.Option("--out", help="Folder of the data set.")],
    episodes: Annotated[int, typer.Option(min=1)] = 300,
    env: Annotated[str, typer.Option("--env", help="Gymnasium id.")] = "Steadyhand/GraspSingle-v0",
    objects: Annotated[str, typer.Option(help="Object set; train for training.")] = "train",
    physics: Annotated[str, typer.Option(help="nominal, hard or mixed.")] = "mixed",
    noise: Annotated[float, typer.Option(min=0.0, max=1.0, help="On executed motions.")] = 0.1,
    seed: Seed = 0,
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Demonstrations by the scripted expert, in LeRobotDataset v3 layout; resumes."""
    from policies.demos.record import RecordConfig
    from policies.demos.record import record as record_demos
    from policies.evaluation.rollouts import EnvSpec
    from policies.evaluation.subjects import EXPERT

    spec = EnvSpec(env, {"objects": objects, "physics": physics})
    config = RecordConfig(
        episodes=episodes, seed=seed, workers=workers, noise_std=(noise,) * 4 + (0.0,)
    )
    with progress("demonstrations", episodes) as bar:
        result = record_demos(
            out, spec, EXPERT, config,
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
