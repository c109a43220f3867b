"""``steadyhand drift``: recordings from the robot beside what the policy was made with."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import typer

from robot.errors import SteadyhandError
from steadyhand.console import Json, emit, table


def drift(
    recordings: Annotated[list[Path], typer.Argument(help="recording.mcap files, or run folders.")],
    bundle: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--bundle", help="That acted; the shipped one if left out."),
    ] = None,
    ignored: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--ignore", help="Beginning of an observation's name that may drift."),
    ] = None,
    json: Json = False,
) -> None:
    """Has the work moved away from the demonstrations: observations, actions, sights, success."""
    from policies.bundle.format import Bundle, shipped
    from policies.edge.drift import drift as measure
    from policies.evaluation.statistics import wilson_interval

    observations, actions = [], []
    scores: list[float] = []
    picks: list[bool] = []
    for path in recordings:
        read = _read(path / "recording.mcap" if path.is_dir() else path)
        observations += read["observation"]
        actions += read["action"]
        scores += read["scores"]
        picks += read["picks"]
    if not observations:
        raise SteadyhandError(f"{recordings[0]}: holds no step of the policy")
    found = measure(
        Bundle.load(bundle or shipped()),
        np.array(observations, np.float32),
        np.array(actions, np.float32) if len(actions) == len(observations) else None,
        ignored=ignored or ("candidate_age", "object_age"),
    )
    low, high = wilson_interval(sum(picks), len(picks))
    result: dict[str, Any] = {
        "recordings": len(recordings),
        "steps": found.steps,
        "novel_share": found.novel_share,
        "novelty_p99": found.novelty_p99,
        "action_difference": found.action_difference,
        "detections": len(scores),
        "confidence_median": float(np.median(scores)) if scores else None,
        "picks": len(picks),
        "success_rate": sum(picks) / len(picks) if picks else None,
        "success_ci95": [low, high],
        "findings": list(found.findings),
    }
    if json:
        rows = [{"name": n.name, "ks": n.ks, "shift": n.shift, "drifted": n.drifted}
                for n in found.numbers]  # fmt: skip
        if not np.isfinite(found.action_difference):
            result["action_difference"] = None
        emit({**result, "numbers": rows}, True)
        return
    emit(result, False, "drift" if found.findings else "nothing drifted")
    table(
        ["observation", "distance", "shift, std", ""],
        [
            [n.name, f"{n.ks:.2f}", f"{n.shift:+.2f}", "drifted" if n.drifted else ""]
            for n in found.numbers[:12]
        ],
    )


def _read(file: Path) -> dict[str, list[Any]]:
    """Observations, actions, scores of detections, and success of the picks."""
    from robot.loop.publisher import ACTION, OBSERVATION, PICKS
    from robot.loop.reading import read_recording

    recording = read_recording(file)
    out: dict[str, list[Any]] = {
        "observation": [m.data for _, m in recording.of(OBSERVATION)],
        "action": [m.data for _, m in recording.of(ACTION)],
        "scores": [],
        "picks": [],
    }
    for topic in recording.topics:
        if topic.startswith("/perception/detections/"):
            for _, message in recording.of(topic):
                out["scores"] += [d.results[0].hypothesis.score for d in message.detections]
    for _, message in recording.of(PICKS):
        out["picks"].append(bool(json_module.loads(message.data).get("success")))
    return out
