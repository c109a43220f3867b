"""``steadyhand demos record|info|convert|drop``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional, cast

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
    table,
)

Folder = Annotated[Path, typer.Argument(help="Folder of the data set.")]


def record(
    out: Annotated[Path, typer.Option("--out", help="Folder of the data set.")],
    episodes: Annotated[int, typer.Option(min=1)] = 300,
    env: EnvId = "Steadyhand/GraspSingle-v0",
    import_: Import = None,
    env_arg: EnvArg = None,
    actor: Expert = None,
    policy: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--policy", help="A training run's folder, instead of the expert."),
    ] = None,
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--bundle", help="A bundle's folder, instead of the expert."),
    ] = None,
    objects: Annotated[str, typer.Option(help="Object set of a grasp task.")] = "train",
    physics: Annotated[str, typer.Option(help="Of a grasp task: nominal, hard, mixed.")] = "mixed",
    noise: Annotated[float, typer.Option(min=0.0, max=1.0, help="On executed motions.")] = 0.1,
    video: Annotated[bool, typer.Option("--video", help="A film of each episode too.")] = False,
    seed: Seed = 0,
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Demonstrations by an expert or a policy, in LeRobotDataset v3 layout; resumes.

    The grasp tasks have a scripted expert; other environments need --actor, --policy or --bundle.
    """
    from policies.demos.record import RecordConfig
    from policies.demos.record import record as record_demos
    from policies.evaluation.specs import ActorSpec
    from policies.evaluation.subjects import EXPERT, Subject

    if sum(given is not None for given in (actor, policy, bundle)) > 1:
        raise ConfigError("demos record: give one of --actor, --policy, --bundle")
    id_ = env or "Steadyhand/GraspSingle-v0"
    spec = env_spec(id_, import_, env_arg)
    spread: tuple[float, ...] = (noise,)
    ours = id_.startswith("Steadyhand/")
    if ours:
        spec = replace(spec, kwargs={"objects": objects, "physics": physics, **spec.kwargs})
        spread = (noise,) * 4 + (0.0,)  # none on the fingers
    if actor is not None:
        expert = ActorSpec(actor)
    elif policy is not None:
        expert = Subject("policy", policy).actor()
    elif bundle is not None:
        expert = Subject("bundle", bundle).actor()
    elif ours:
        expert = EXPERT
    else:
        raise ConfigError(f"demos record: {id_} needs an expert: --actor module:make_expert")
    config = RecordConfig(episodes=episodes, seed=seed, workers=workers, noise_std=spread)
    with progress("demonstrations", episodes) as bar:
        result = record_demos(
            out, spec, expert, config, film=video,
            progress=lambda kept, *_: bar.update(bar.task_ids[0], completed=kept),
        )  # fmt: skip
    emit(
        {
            "out": str(out),
            "source": expert.label,
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
    folder: Folder,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--plot", help="SVG file to draw lengths and ranges into."),
    ] = None,
    json: Json = False,
) -> None:
    """What a data set holds: episodes, lengths, success, objects, ranges."""
    from policies.demos.dataset import load_demonstrations
    from policies.storage import replace_file
    from steadyhand.demo_chart import drawing, figures, ranges

    if plot is not None and plot.suffix != ".svg":
        raise ConfigError(f"plot: expected a file that ends in .svg, got {plot}")
    demos = load_demonstrations(folder)
    result = figures(demos)
    if plot is not None:
        replace_file(plot, drawing(demos, folder.name).encode())
        result["plot"] = str(plot)
    if json:
        emit(result | {"ranges": ranges(demos)}, True)
        return
    emit(result, False, str(folder))
    table(
        ("", "unit", "min", "mean", "max", "std"),
        [
            (r["name"], r["unit"], *(f"{r[key]:.4g}" for key in ("min", "mean", "max", "std")))
            for r in ranges(demos)
        ],
    )


def convert(
    source: Annotated[Path, typer.Argument(help="A set in any of the formats.")],
    target: Annotated[Path, typer.Argument(help="What to write; must not exist.")],
    form: Annotated[str, typer.Option("--format", help="lerobot, robomimic or minari.")],
    rate: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--rate", min=0.001, help="Hz, where the source does not say it."),
    ] = None,
    env: Annotated[
        str, typer.Option("--env", help="Gymnasium id that the set must fit; names and units.")
    ] = "",
    json: Json = False,
) -> None:
    """A set into LeRobot's, robomimic's (HDF5) or Minari's layout."""
    from policies.demos.convert import Format
    from policies.demos.convert import convert as convert_demos
    from policies.demos.describe import describe_env
    from policies.evaluation.specs import EnvSpec

    wanted = describe_env(EnvSpec(env)) if env else None
    with progress("episodes", None) as bar:
        count = convert_demos(
            source, target, cast("Format", form), rate_hz=rate, wanted=wanted,
            progress=lambda done: bar.update(bar.task_ids[0], completed=done),
        )  # fmt: skip
    result = {"source": str(source), "out": str(target), "format": form, "episodes": count}
    emit(result, json, f"{count} episodes in {target}")


def drop(
    folder: Folder,
    episodes: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Argument(help="Numbers of episodes, as info and errors give them."),
    ] = None,
    bad: Annotated[bool, typer.Option("--bad", help="All that fail a check.")] = False,
    json: Json = False,
) -> None:
    """Take episodes out of a set; those that stay are numbered anew."""
    from policies.demos.convert import drop as drop_demos

    if bool(episodes) == bad:
        raise ConfigError("demos drop: give the numbers of episodes, or --bad")
    count = drop_demos(folder, episodes or [])
    emit({"folder": str(folder), "dropped": count}, json, f"{count} episodes dropped")
