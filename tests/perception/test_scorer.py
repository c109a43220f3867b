"""Patches in the gripper's frame, and what a scorer's file must be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.scorer import (
    NUMBERS,
    PATCH_CELL_M,
    PATCH_CELLS,
    PATCH_RANGE_M,
    OnnxGraspScorer,
    numbers,
    patches,
)
from perception.session import ModelError
from policies.bundle.format import shipped
from robot.geometry import grasp_rotation
from robot.types import GraspCandidate, HeightMap, Pose

STEP = 0.0025
CENTRE = np.array([0.5, 0.0])


def turn(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def scene(angle: float, seen_to_m: float = math.inf) -> HeightMap:
    """Two smooth heaps, turned about the middle; seen up to ``seen_to_m`` along their own x."""
    half = 60
    cells = np.stack(np.meshgrid(*(np.arange(-half, half + 1),) * 2, indexing="ij"), axis=-1)
    local = (cells * STEP) @ turn(angle)  # from the world into the heaps' own axes
    height = np.zeros(local.shape[:2])
    for x, y, a, b, top in ((0.0, 0.0, 0.05, 0.018, 0.05), (0.03, 0.04, 0.02, 0.02, 0.08)):
        far = ((local[..., 0] - x) / a) ** 2 + ((local[..., 1] - y) / b) ** 2
        height += top * np.exp(-far)
    seen = local[..., 0] <= seen_to_m
    return HeightMap(CENTRE - STEP * half, STEP, height.astype(np.float32), seen, 0.0)


def grip(angle: float, at=(0.0, 0.0), z_m: float = 0.03) -> GraspCandidate:
    position = (*(CENTRE + at), z_m)
    pose = Pose.from_matrix("world", "grasp", grasp_rotation(angle), position)
    return GraspCandidate(pose, 0.04, 0.07, 1.2, 3, 0.0)


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-math.pi, math.pi),
    own=st.floats(-math.pi, math.pi),
    x=st.floats(-0.02, 0.02),
    y=st.floats(-0.02, 0.02),
)
def test_turning_scene_and_grip_together_leaves_the_patch_as_it_was(angle, own, x, y):
    still = patches(scene(0.0), [grip(own, (x, y))])[0]
    turned = patches(scene(angle), [grip(own + angle, turn(angle) @ (x, y))])[0]
    # Linear interpolation errs by h²/8 times the curvature, 2 * 0.08 / 0.018² of the steeper heap.
    np.testing.assert_allclose(turned[0], still[0], atol=STEP**2 / 8 * 500 * 2)
    np.testing.assert_array_equal(turned[1], still[1])


def test_a_cell_of_the_patch_is_the_height_there_above_the_tool():
    grid, candidate = scene(0.0), grip(0.4, (0.01, -0.005), z_m=0.045)
    patch = patches(grid, [candidate])[0, 0]
    pose = candidate.X_world_grasp
    for i, j in ((3, 5), (12, 20), (20, 33)):
        local = [(i - 11.5) * PATCH_CELL_M, (j - 19.5) * PATCH_CELL_M, 0.0]
        x, y, _ = pose.transform(np.array(local))
        cell = (np.array([x, y]) - grid.origin_m) / STEP
        near = grid.height_m[tuple(np.rint(cell).astype(int))]
        expected = np.clip(near - 0.045, *PATCH_RANGE_M)
        # The nearest cell is up to half a diagonal away; the heaps rise by at most 3 m per m.
        assert patch[i, j] == pytest.approx(expected, abs=3 * STEP * 0.71)


def test_raising_everything_changes_nothing():
    grid = scene(0.3)
    high = HeightMap(grid.origin_m, STEP, grid.height_m + np.float32(0.02), grid.seen, 0.0)
    low = patches(grid, [grip(1.0, z_m=0.03)])
    np.testing.assert_allclose(patches(high, [grip(1.0, z_m=0.05)]), low, atol=1e-6)


def test_unseen_cells_and_what_lies_beyond_the_map_are_marked():
    half_seen = patches(scene(0.0, seen_to_m=0.0), [grip(0.0)])[0, 1]
    rows = PATCH_CELLS[0]
    assert (half_seen[: rows // 2 - 1] == 0).all() and (half_seen[rows // 2 + 1 :] == 1).all()
    edge = patches(scene(0.0), [grip(0.0, at=(0.15, 0.0))])[0]
    assert (edge[1, : rows // 2 - 1] == 0).all() and (edge[1, rows // 2 + 1 :] == 1).all()
    assert (edge[0, rows // 2 + 1 :] == np.float32(-0.03)).all()  # the table goes on
    far = patches(scene(0.0), [grip(0.0, at=(5.0, 5.0))])[0]
    assert np.isfinite(far).all() and (far[1] == 1).all()


def test_no_candidates_give_no_patches_and_numbers_stand_in_their_order():
    assert patches(scene(0.0), []).shape == (0, 2, *PATCH_CELLS)
    assert numbers([]).shape == (0, len(NUMBERS))
    np.testing.assert_allclose(numbers([grip(0.0)]), [[0.04, 0.07, 0.03, 1.2]], atol=1e-6)


def test_a_wrong_file_is_refused_with_one_line(tmp_path):
    with pytest.raises(ModelError, match="no such file; expected a scorer"):
        OnnxGraspScorer(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="is not a model that runs here"):
        OnnxGraspScorer(tmp_path / "bad.onnx")
    policy = Path(shipped()) / "models" / "policy_fp32.onnx"
    with pytest.raises(ModelError, match="metadata 'kind'"):
        OnnxGraspScorer(policy)
