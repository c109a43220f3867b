"""``steadyhand evaluate grasp|policy|perception``."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, Optional, cast

import typer

from envs.physics import physics as physics_setting
from envs.station import Sensing
from policies.bundle.format import Bundle, shipped
from policies.evaluation.grasping import DEPTH, GraspSetup, evaluate_grasp, load_detector
from policies.evaluation.protocols import PROTOCOLS
from policies.evaluation.protocols import protocol as protocol_of
from policies.evaluation.subjects import Subject
from robot.errors import ConfigError
from steadyhand.console import (
    CORES,
    EnvArg,
    Expert,
    Import,
    Json,
    Robot,
    Safety,
    Seed,
    Workers,
    emit,
    env_spec,
    progress,
)

BundleDir = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option("--bundle", help="A bundle's folder; the shipped one if left out."),
]


def grasp(
    bundle: BundleDir = None,
    policy: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--policy", help="A training run's folder."),
    ] = None,
    expert: Annotated[bool, typer.Option("--expert", help="The expert; sees the truth.")] = False,
    scripted: Annotated[bool, typer.Option("--scripted", help="The candidate, open loop.")] = False,
    protocol: Annotated[str, typer.Option(help=f"One of {', '.join(PROTOCOLS)}.")] = "single",
    objects: Annotated[
        str, typer.Option(help="test, train, validation, primitives or a glob.")
    ] = "test",
    sensing: Annotated[
        str, typer.Option(help="camera or truth; the expert's default is truth.")
    ] = "",
    physics: Annotated[str, typer.Option(help="nominal or hard.")] = "nominal",
    episodes: Annotated[int, typer.Option(min=1)] = 100,
    precision: Annotated[str, typer.Option(help="A bundle's policy: int8 or fp32.")] = "int8",
    detector: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--detector",
            help="Another detector: an .onnx file, a bundle, or depth: whatever stands out.",
        ),
    ] = None,
    views: Annotated[
        int, typer.Option(min=1, max=2, help="Cameras that look; 1 is the fixed one alone.")
    ] = 2,
    scorer: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--scorer", help="Another grasp scorer: an .onnx file or a bundle."),
    ] = None,
    no_scorer: Annotated[
        bool, typer.Option("--no-scorer", help="Candidates in the planner's own order.")
    ] = False,
    robot: Robot = "panda",
    safety: Safety = "default",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="JSON-lines file of episodes; resumes what is there."),
    ] = None,
    seed: Seed = 0,
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Success rate of a grasp policy under a frozen protocol, with its 95 % interval."""
    chosen = [bundle is not None, policy is not None, expert, scripted]
    if sum(chosen) > 1:
        raise ConfigError("evaluate grasp: give one of --bundle, --policy, --expert, --scripted")
    if expert:
        subject = Subject("expert")
    elif scripted:
        subject = Subject("scripted")
    elif policy is not None:
        subject = Subject("policy", policy)
    else:
        subject = Subject("bundle", bundle or shipped(), precision)
    sensing = sensing or ("truth" if expert else "camera")
    if sensing not in ("camera", "truth"):
        raise ConfigError(f"sensing: expected camera or truth, got {sensing!r}")
    if expert and sensing == "camera":
        raise ConfigError("sensing: the expert sees the truth by definition; leave --sensing out")
    protocol_of(protocol)
    physics_setting(physics)
    if no_scorer and scorer is not None:
        raise ConfigError("evaluate grasp: --scorer and --no-scorer exclude each other")
    if sensing == "camera" and detector is None:
        detector = bundle or shipped()
    if sensing == "camera" and scorer is None and not no_scorer:
        scorer = bundle or shipped()  # a bundle without one leaves the planner's own order
    sources = {
        p for p in (detector, scorer, bundle) if p not in (None, DEPTH) and p.suffix != ".onnx"
    }
    for source in sources:
        Bundle.load(source)
    setup = GraspSetup(
        subject,
        protocol,
        objects,
        cast("Sensing", sensing),
        physics,
        detector if sensing == "camera" else None,
        scorer,
        views,
        robot,
        safety,
    )
    began = time.monotonic()
    with progress(f"{subject.label} {protocol} {physics}", episodes) as bar:
        result = evaluate_grasp(
            setup, episodes, seed, workers, out, lambda _: bar.advance(bar.task_ids[0])
        )
    result["wall_s"] = round(time.monotonic() - began, 3)
    emit(result, json, f"{subject.label}: {protocol}, {objects} objects, {physics} physics")


def policy(
    env: Annotated[str, typer.Option("--env", help="Gymnasium id.")],
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--bundle", help="A bundle made for this environment."),
    ] = None,
    policy: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--policy", help="A training run's folder: its ppo/, else its bc/."),
    ] = None,
    actor: Expert = None,
    import_: Import = None,
    env_arg: EnvArg = None,
    episodes: Annotated[int, typer.Option(min=1)] = 100,
    precision: Annotated[str, typer.Option(help="A bundle's policy: int8 or fp32.")] = "int8",
    seed: Seed = 0,
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Return, success and length of episodes in any environment, with 95 % intervals."""
    from policies.demos.describe import describe_env
    from policies.evaluation.returns import bundle_actor, figures, trained_actor
    from policies.evaluation.rollouts import Behaviour, Rollouts, episode_seeds
    from policies.evaluation.specs import ActorSpec

    if sum(given is not None for given in (bundle, policy, actor)) != 1:
        raise ConfigError("evaluate policy: give one of --bundle, --policy, --actor")
    where = env_spec(env, import_, env_arg)
    spec = describe_env(where)
    if bundle is not None:
        subject, label = bundle_actor(bundle, precision, spec), f"bundle:{bundle.name}:{precision}"
    elif policy is not None:
        subject, label = trained_actor(policy, spec), f"policy:{policy.name}"
    else:
        subject, label = ActorSpec(str(actor)), str(actor)
    began = time.monotonic()
    done = []
    with progress(f"{label} {env}", episodes) as bar, Rollouts(where, workers) as rollouts:
        for episode in rollouts.run(Behaviour(subject), episode_seeds(seed, 0, episodes)):
            done.append(episode)
            bar.advance(bar.task_ids[0])
    result = {"env": env, "subject": label, "seed": seed, **figures(done)}
    result["wall_s"] = round(time.monotonic() - began, 3)
    emit(result, json, f"{label}: {env}")


def perception(
    bundle: BundleDir = None,
    objects: Annotated[
        str, typer.Option(help="test, train, validation, primitives or a glob.")
    ] = "test",
    views: Annotated[int, typer.Option(min=1, max=2, help="Cameras that look at once.")] = 2,
    images: Annotated[int, typer.Option(min=1, help="A scene gives one for each view.")] = 200,
    sequences: Annotated[
        int, typer.Option(min=0, help="Of four looks each, for tracking; 0 leaves it out.")
    ] = 20,
    detector: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--detector", help="Another detector: an .onnx file, or depth."),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Detection AP, errors of the fused objects, tracking and latency, on rendered scenes."""
    from envs.synthesis.scenes import VIEWS, scene_stream
    from envs.synthesis.sequences import sequence_stream
    from perception.evaluation import evaluate_perception, evaluate_tracking
    from perception.fusion import Fusion

    eyes = load_detector(detector or bundle or shipped())
    scenes = math.ceil(images / views)
    began = time.monotonic()
    with progress("perception", scenes + sequences) as bar:
        result = evaluate_perception(
            eyes,
            Fusion(),
            scene_stream(objects, scenes, seed),
            VIEWS[:views],
            progress=lambda n: bar.update(bar.task_ids[0], completed=n),
        )
        result["tracking"] = None
        if sequences:
            result["tracking"] = evaluate_tracking(
                eyes,
                Fusion(),
                sequence_stream(objects, sequences, seed),
                VIEWS[:views],
                progress=lambda n: bar.update(bar.task_ids[0], completed=scenes + n),
            )
    result |= {"objects": objects, "views": views, "seed": seed}
    result["wall_s"] = round(time.monotonic() - began, 3)
    emit(result, json, f"perception: {objects} objects, {views} views")
