"""``steadyhand train adapt``: a detector adapts to a look that nobody labelled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from robot.errors import ConfigError
from steadyhand.console import ERR, Json, Seed, emit

Folder = Optional[Path]  # noqa: UP045 (typer reads the annotation at run time)


def adapt(
    frames: Annotated[
        Path, typer.Option("--frames", help="COCO folder of the new look; its labels are not read.")
    ],
    weights: Annotated[
        Path, typer.Option("--weights", help="A detector's weights.pt, or the folder of its run.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; resumes.")],
    replay: Annotated[
        Folder, typer.Option("--replay", help="Labelled set that the detector was trained on.")
    ] = None,
    labelled: Annotated[
        Folder, typer.Option("--labelled", help="Labelled frames of the new look: measured on.")
    ] = None,
    old: Annotated[
        Folder, typer.Option("--old", help="Labelled images of the old look: measured on.")
    ] = None,
    set_: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="Override a value of AdaptConfig: epochs=2"),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:  # fmt: skip
    """Self-training: pseudo-labels on unlabelled frames of a new look, retraining, export."""
    from dataclasses import replace

    from configs.load import load
    from perception import coco
    from perception.training.adapt import AdaptConfig, Sets, adapt_detector
    from policies.provenance import git_commit

    config = load(AdaptConfig, None, set_ or ())
    config = replace(config, seed=config.seed + seed)
    if weights.is_dir():
        files = [weights / "weights.pt", weights / "detector" / "weights.pt"]
        weights = next((path for path in files if path.exists()), files[0])
    optional = (coco.read(path) if path else None for path in (replay, labelled, old))
    sets = Sets(coco.read(frames), *optional)
    for path, name in ((labelled, "labelled"), (replay, "replay")):
        if path is not None and path.resolve() == frames.resolve():
            raise ConfigError(f"--{name}: {path} is the folder of --frames; give another set")
    began = time.monotonic()

    def say(line: str) -> None:
        minutes = (time.monotonic() - began) / 60
        ERR.print(f"[dim]{minutes:6.1f} min[/dim]  {line}", highlight=False)

    result = adapt_detector(weights, sets, out, config, say, git_commit())
    result["wall_s"] = round(time.monotonic() - began, 1)
    emit(result, json, f"adapted to {len(sets.frames)} frames")
