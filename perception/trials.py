"""Grasp trials on disk: what a look saw, which candidates were tried there, what became of them.

A set is a folder: ``set.json`` says how it was made, ``scenes/<number>.npz`` holds one table each.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception.coco import DatasetError, write_bytes
from robot.geometry import grasp_rotation
from robot.types import GraspCandidate, HeightMap, Pose

SET_FILE, SCENES = "set.json", "scenes"

# Where a trial's candidate comes from.
BEST, PLANNED, POOR, SHIFTED = "best", "planned", "poor", "shifted"

# Columns of ``grips``: where the grasp frame is, its turn about z, and the hand.
_COLUMNS = ("x_m", "y_m", "z_m", "yaw_rad", "width_m", "opening_m", "score")


@dataclass(frozen=True, slots=True, eq=False)
class SceneTrials:
    """One settled table and what was tried on it, each time from the same state.

    Attributes:
        height_map: what the planner saw; every trial's candidate came from it.
        candidates: the grips tried, top-down.
        outcomes: for each how it ended; ``held`` is the only success.
        sources: for each where the candidate comes from: ``best`` and ``planned`` are what a
            planner offers, ``poor`` and ``shifted`` are there to be learned from.
        object_names: of everything on the table.
    """

    height_map: HeightMap
    candidates: tuple[GraspCandidate, ...]
    outcomes: tuple[str, ...]
    sources: tuple[str, ...]
    object_names: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = {len(self.candidates), len(self.outcomes), len(self.sources)}
        if len(counts) != 1:
            raise DatasetError(
                f"SceneTrials: {len(self.candidates)} candidates, {len(self.outcomes)} outcomes "
                f"and {len(self.sources)} sources; expected one of each for every trial"
            )

    @property
    def held(self) -> NDArray[np.bool_]:
        """(n,) whether the object was still held 1 s after the lift."""
        return np.array([outcome == "held" for outcome in self.outcomes], dtype=bool)


def write_scene(path: Path, trials: SceneTrials) -> None:
    """Write one scene, whole or not at all."""
    grid = trials.height_map
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        origin_m=grid.origin_m,
        resolution_m=np.float64(grid.resolution_m),
        # 0.01 mm, finer than any camera; compresses to a third of float32.
        height_10um=np.rint(grid.height_m * 1e5).astype(np.uint16),
        seen=np.packbits(grid.seen),
        grips=_grips(trials.candidates),
        outcomes=np.array(trials.outcomes, dtype=np.str_),
        sources=np.array(trials.sources, dtype=np.str_),
        object_names=np.array(trials.object_names, dtype=np.str_),
    )
    write_bytes(path, stream.getvalue())


def read_scene(path: Path) -> SceneTrials:
    """The inverse of :func:`write_scene`.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            height = data["height_10um"].astype(np.float32) * np.float32(1e-5)
            seen = np.unpackbits(data["seen"], count=height.size).astype(bool).reshape(height.shape)
            grid = HeightMap(data["origin_m"], float(data["resolution_m"]), height, seen, 0.0)
            return SceneTrials(
                grid,
                tuple(_candidate(row) for row in data["grips"].tolist()),
                tuple(str(outcome) for outcome in data["outcomes"]),
                tuple(str(source) for source in data["sources"]),
                tuple(str(name) for name in data["object_names"]),
            )
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # numpy and zipfile raise many kinds on a damaged archive
        raise DatasetError(f"{path}: not a scene of grasp trials: {error!s:.200}") from error


def read_trials(root: Path | str) -> list[SceneTrials]:
    """All scenes of a set, in order.

    Raises:
        DatasetError: there is no such set, or a file of it is damaged.
    """
    root = Path(root)
    files = sorted((root / SCENES).glob("*.npz"))
    if not files:
        raise DatasetError(f"{root}: holds no grasp trials (expected {SCENES}/*.npz)")
    return [read_scene(file) for file in files]


def read_info(root: Path | str) -> dict[str, Any]:
    """How a set was made.

    Raises:
        DatasetError: the file is missing or not JSON.
    """
    path = Path(root) / SET_FILE
    try:
        info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    return info


def yaw_of(candidate: GraspCandidate) -> float:
    """The turn of a top-down grip's x axis from the world's x, rad."""
    x_axis = candidate.X_world_grasp.rotation[:, 0]
    return math.atan2(x_axis[1], x_axis[0])


def _grips(candidates: Sequence[GraspCandidate]) -> NDArray[np.float64]:
    rows = [
        (*c.X_world_grasp.position_m.tolist(), yaw_of(c), c.width_m, c.opening_m, c.score)
        for c in candidates
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, len(_COLUMNS))


def _candidate(row: Sequence[float]) -> GraspCandidate:
    x, y, z, yaw, width, opening, score = row
    pose = Pose.from_matrix("world", "grasp", grasp_rotation(yaw), (x, y, z))
    return GraspCandidate(pose, width, opening, score, -1, 0.0)
