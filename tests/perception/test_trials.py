"""Trials on disk: what is written is read, and what is damaged is refused."""

from __future__ import annotations

import numpy as np
import pytest

from perception.coco import DatasetError
from perception.trials import (
    SCENES,
    SceneTrials,
    read_info,
    read_scene,
    read_trials,
    write_scene,
    yaw_of,
)
from tests.perception.test_scorer import grip, scene


@pytest.fixture
def trials() -> SceneTrials:
    grips = (grip(0.3), grip(-2.0, (0.02, 0.01), z_m=0.05))
    grid = scene(0.7, seen_to_m=0.05)
    return SceneTrials(grid, grips, ("held", "missed"), ("best", "poor"), ("012", "box_3"))


def test_what_is_written_is_read(trials, tmp_path):
    (tmp_path / SCENES).mkdir()
    write_scene(tmp_path / SCENES / "000004.npz", trials)
    (again,) = read_trials(tmp_path)
    assert [p.name for p in (tmp_path / SCENES).iterdir()] == ["000004.npz"]
    np.testing.assert_allclose(again.height_map.height_m, trials.height_map.height_m, atol=6e-6)
    np.testing.assert_array_equal(again.height_map.seen, trials.height_map.seen)
    np.testing.assert_array_equal(again.height_map.origin_m, trials.height_map.origin_m)
    for a, b in zip(again.candidates, trials.candidates, strict=True):
        np.testing.assert_allclose(a.X_world_grasp.matrix, b.X_world_grasp.matrix, atol=1e-12)
        assert (a.width_m, a.opening_m, a.score) == (b.width_m, b.opening_m, b.score)
        assert yaw_of(a) == pytest.approx(yaw_of(b))
    assert again.outcomes == trials.outcomes and again.sources == trials.sources
    assert again.object_names == trials.object_names
    assert again.held.tolist() == [True, False]


def test_a_scene_without_trials_is_kept_too(trials, tmp_path):
    write_scene(tmp_path / "x.npz", SceneTrials(trials.height_map, (), (), (), ("012",)))
    assert len(read_scene(tmp_path / "x.npz").held) == 0


def test_damage_is_named(trials, tmp_path):
    path = tmp_path / "x.npz"
    write_scene(path, trials)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match="not a scene of grasp trials"):
        read_scene(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_scene(tmp_path / "none.npz")
    with pytest.raises(DatasetError, match="holds no grasp trials"):
        read_trials(tmp_path)
    with pytest.raises(DatasetError, match=r"set\.json"):
        read_info(tmp_path)
    with pytest.raises(DatasetError, match="2 candidates, 1 outcomes"):
        SceneTrials(trials.height_map, trials.candidates, ("held",), ("best",), ())
