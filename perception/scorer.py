"""The grasp scorer at run time: how likely a candidate is to hold, from the heights around it.

A candidate is seen in the gripper's own frame: a patch of the height map, turned and shifted with
the hand, and a few numbers of the grip. ONNX Runtime and NumPy, no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from perception.session import ModelError, SessionConfig, open_model
from robot.types import GraspCandidate, HeightMap

# Cells along the grasp frame's x (across the fingers' motion) and y (the closing direction), and
# their edge. 72 x 120 mm hold the open fingers, 110 mm from outside to outside, and much of the
# palm.
PATCH_CELLS = (24, 40)
PATCH_CELL_M = 0.003
# Heights are given from the tool frame; what is farther off neither touches nor says more.
PATCH_RANGE_M = (-0.06, 0.06)

KIND = "steadyhand-grasp-scorer"
NUMBERS = ("width, m", "opening, m", "tool height above the table, m", "analytic score, 1")
INPUTS = {
    "patch": {
        "channels": ["height from the tool frame, m", "unseen, 0 or 1"],
        "cells": list(PATCH_CELLS),
        "cell_m": PATCH_CELL_M,
        "range_m": list(PATCH_RANGE_M),
        "frame": "grasp: rows along x, columns along y",
        "dtype": "float32",
    },
    "numbers": {"names": list(NUMBERS), "dtype": "float32"},
}
OUTPUT = "probability"


def patches(height_map: HeightMap, candidates: Sequence[GraspCandidate]) -> NDArray[np.float32]:
    """The candidates' surroundings in their own grasp frames.

    Beyond the map's edge the table is taken to go on, unseen.

    Args:
        height_map: of the look that the candidates came from.
        candidates: n top-down grips.

    Returns:
        (n, 2, 24, 40) float32: the height above the tool frame, m, clipped to ``PATCH_RANGE_M``,
        bilinear; and the share of unseen cells there. Row i is at ``(i - 11.5) * 3 mm`` along the
        grasp frame's x, column j at ``(j - 19.5) * 3 mm`` along its y.
    """
    rows, columns = PATCH_CELLS
    n = len(candidates)
    out = np.empty((n, 2, rows, columns), np.float32)
    if not n:
        return out
    along: Any = ((np.arange(rows) - 0.5 * (rows - 1)) * PATCH_CELL_M).astype(np.float32)
    across: Any = ((np.arange(columns) - 0.5 * (columns - 1)) * PATCH_CELL_M).astype(np.float32)
    origin = np.stack([c.X_world_grasp.position_m for c in candidates])
    # The hand's axes and its place in cells of the map; one call for all candidates.
    axes: Any = np.stack([c.X_world_grasp.rotation[:2, :2] for c in candidates])
    axes = (axes / height_map.resolution_m).astype(np.float32)[:, :, :, None, None]
    middle: Any = (origin[:, :2] - height_map.origin_m) / height_map.resolution_m
    middle = middle.astype(np.float32)[:, :, None, None]
    x, y = along[:, None], across[None, :]
    i, j = (
        (middle[:, k] + axes[:, k, 0] * x + axes[:, k, 1] * y).reshape(n * rows, columns)
        for k in (0, 1)
    )
    height = _sampled(height_map.height_m, i, j).reshape(n, rows, columns)
    seen = _sampled(height_map.seen.astype(np.float32), i, j).reshape(n, rows, columns)
    z_tool = origin[:, 2].astype(np.float32)
    np.clip(height - z_tool[:, None, None], *PATCH_RANGE_M, out=out[:, 0])
    np.subtract(np.float32(1.0), seen, out=out[:, 1])
    return out


def _sampled(
    grid: NDArray[np.float32], i: NDArray[np.float32], j: NDArray[np.float32]
) -> NDArray[np.float32]:
    # remap takes at most 32767 rows, far more than any look has candidates.
    found = cv2.remap(
        np.ascontiguousarray(grid, np.float32),
        j,
        i,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0.0,
    )
    return np.asarray(found, np.float32)


def numbers(candidates: Sequence[GraspCandidate]) -> NDArray[np.float32]:
    """(n, 4) float32: what ``NUMBERS`` names, for each candidate."""
    rows = [
        (c.width_m, c.opening_m, float(c.X_world_grasp.position_m[2]), c.score) for c in candidates
    ]
    return np.array(rows, np.float32).reshape(-1, len(NUMBERS))


def scorer_metadata(**extra: str) -> dict[str, str]:
    """The ``metadata_props`` that a scorer's file must carry."""
    return {
        "kind": KIND,
        "inputs": json.dumps(INPUTS, sort_keys=True),
        "output": "probability of a held lift",
        **extra,
    }


class OnnxGraspScorer:
    """Runs an exported scorer; implements ``robot.interface.GraspScorer``.

    Args:
        model: path of the ``.onnx`` file, or its bytes.
        session: on what it runs; one thread of the processor if left out.

    Raises:
        ModelError: the file is missing or damaged, or takes other inputs than this runtime feeds.
    """

    def __init__(self, model: Path | str | bytes, session: SessionConfig | None = None) -> None:
        self._name = "scorer" if isinstance(model, bytes) else str(model)
        self._session = open_model(model, "scorer", session)
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        expected = scorer_metadata()
        for key in ("kind", "inputs"):
            found = self.metadata.get(key)
            if found != expected[key]:
                raise ModelError(
                    f"{self._name}: metadata {key!r} is {found!r}, this runtime needs "
                    f"{expected[key]!r}"
                )
        names = [i.name for i in self._session.get_inputs()]
        outputs = [o.name for o in self._session.get_outputs()]
        if names != list(INPUTS) or outputs != [OUTPUT]:
            raise ModelError(
                f"{self._name}: graph takes {names} and gives {outputs}, expected {list(INPUTS)} "
                f"and {[OUTPUT]}"
            )

    def score(
        self, height_map: HeightMap, candidates: Sequence[GraspCandidate]
    ) -> NDArray[np.float32]:
        """(n,) calibrated probability in [0, 1] that the lift holds, in the candidates' order."""
        if not candidates:
            return np.zeros(0, np.float32)
        return self.run(patches(height_map, candidates), numbers(candidates))

    def run(self, patch: NDArray[np.float32], number: NDArray[np.float32]) -> NDArray[np.float32]:
        """The bare graph: (n, 2, 24, 40) and (n, 4) to (n,); what is not finite counts as 0."""
        (found,) = self._session.run([OUTPUT], {"patch": patch, "numbers": number})
        return np.asarray(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0), np.float32)
