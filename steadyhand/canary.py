"""``steadyhand canary``: a new bundle looks on while the old one works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import typer

from robot.errors import ConfigError
from steadyhand.console import Json, Seed, emit, progress


def canary(
    acting: Annotated[Path, typer.Argument(help="The bundle that acts.")],
    shadow: Annotated[Path, typer.Argument(help="The bundle that looks on.")],
    recordings: Annotated[
        Optional[list[Path]],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Argument(help="Compare on recorded steps instead of simulated picks."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Simulated picks.")] = 20,
    objects: Annotated[str, typer.Option(help="As for evaluate grasp.")] = "test",
    sensing: Annotated[str, typer.Option(help="camera or truth.")] = "camera",
    physics: Annotated[str, typer.Option(help="nominal or hard.")] = "nominal",
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Serve Prometheus here meanwhile; 0 does not.")
    ] = 0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Two bundles get the same readings, one acts; how they differ."""
    from policies.bundle.format import Bundle
    from policies.edge.canary import Canary
    from policies.edge.deadline import DeadlineConfig, EdgeConfig
    from policies.edge.live import LiveModels
    from policies.edge.metrics import Metrics

    if sensing not in ("camera", "truth"):
        raise ConfigError(f"sensing: expected camera or truth, got {sensing!r}")
    metrics = Metrics()
    # Neither recorded nor simulated time is real: a late result counts, and is used.
    late = DeadlineConfig(patience=None)
    config = EdgeConfig(policy=late, detector=late, scorer=late)
    bundle = Bundle.load(acting)
    first = LiveModels(bundle, config, metrics)
    second = LiveModels(Bundle.load(shadow), config)
    pair = Canary(first.policy, second.policy, first.detector, second.detector, metrics)
    server = metrics.serve(metrics_port) if metrics_port else None
    result: dict[str, Any] = {"acting": first.models.label, "shadow": second.models.label}
    try:
        if recordings:
            _replay(pair, recordings)
        else:
            result |= _work(
                pair, first, bundle.novelty(), metrics, episodes, objects, sensing, physics, seed
            )
    finally:
        if server is not None:
            server.shutdown()
    emit({**result, **pair.report().as_dict()}, json, "canary")


def _replay(pair: Any, recordings: list[Path]) -> None:
    from robot.loop.publisher import OBSERVATION
    from robot.loop.reading import read_recording

    for path in recordings:
        file = path / "recording.mcap" if path.is_dir() else path
        for _, message in read_recording(file, [OBSERVATION]).of(OBSERVATION):
            pair.policy.act(np.asarray(message.data, np.float32))


def _work(
    pair: Any, live: Any, novelty: Any, metrics: Any, episodes: int, objects: str, sensing: Any,
    physics: str, seed: int,
) -> dict[str, Any]:  # fmt: skip
    from envs.objects import object_set
    from envs.physics import physics as physics_setting
    from envs.station import Station
    from policies.edge.metered import MeteredLog
    from policies.evaluation.protocols import protocol, run_protocol
    from policies.evaluation.rollouts import episode_seeds

    if sensing == "camera" and pair.detector is None:
        raise ConfigError("sensing: camera needs a detector in both bundles; or use truth")
    station = Station(
        pair.policy,
        physics_setting(physics),
        sensing,
        pair.detector if sensing == "camera" else None,
        log=MeteredLog(metrics),
        scorer=live.scorer,
        novelty=novelty,
    )
    rules, models = protocol("single"), object_set(objects)
    won = 0
    try:
        with progress("picks", episodes) as bar:
            for s in episode_seeds(seed, 0, episodes):
                won += run_protocol(station, rules, models, s).successes > 0
                bar.advance(bar.task_ids[0])
    finally:
        station.close()
    return {"episodes": episodes, "successes": int(won)}
