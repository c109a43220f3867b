"""``steadyhand scenes``: annotated scenes as a COCO set, and a sheet to look at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from steadyhand.console import CORES, Json, Seed, Workers, emit, progress


def scenes(
    out: Annotated[Path, typer.Option("--out", help="Folder of the set; resumes.")],
    objects: Annotated[
        str, typer.Option(help="train, validation, test, primitives or a glob.")
    ] = "train",
    count: Annotated[int, typer.Option(min=1, help="Scenes; each gives two images.")] = 100,
    look: Annotated[
        str,
        typer.Option(help="own, as in training, or shifted: a dark hall, a cheaper camera."),
    ] = "own",
    seed: Seed = 0,
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Render annotated scenes (COCO, depth, masks) and a contact sheet of them."""
    from envs.synthesis.scenes import generate, look_config, scene_models
    from perception import coco
    from perception.contact_sheet import contact_sheet

    scene_models(objects)  # what is wrong with the objects is said before a folder is made
    config = look_config(look)
    began = time.monotonic()
    with progress(f"scenes of {objects} objects", count) as bar:
        generate(
            out,
            objects,
            count,
            seed,
            config,
            workers,
            progress=lambda done, _: bar.update(bar.task_ids[0], completed=done),
        )
    dataset = coco.read(out)
    sheet = out / "contact_sheet.png"
    coco.write_png(sheet, contact_sheet(dataset)[..., ::-1])
    labels = [label for one in dataset.annotations.values() for label in one]
    crowds = sum(bool(label.get("iscrowd")) for label in labels)
    result = {
        "out": str(out),
        "scenes": count,
        "images": len(dataset),
        "objects": len(labels) - crowds,
        "iscrowd": crowds,
        "objects_set": objects,
        "look": look,
        "seed": seed,
        "scenes_hash": dataset.info["scenes_hash"],
        "contact_sheet": str(sheet),
        "wall_s": round(time.monotonic() - began, 3),
    }
    emit(result, json, f"{count} scenes of {objects} objects")
