"""Films of episodes: a file each, checked when written, kept when a set is written anew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from policies.demos.convert import convert, drop
from policies.demos.dataset import load_demonstrations
from policies.demos.layout import video_path
from policies.demos.record import RecordConfig, record
from policies.demos.spec import DemoSpec
from policies.demos.writer import DemoWriter
from policies.evaluation.rollouts import Episode
from policies.evaluation.specs import EnvSpec
from policies.evaluation.subjects import EXPERT
from policies.film import decode, encode
from robot.errors import SteadyhandError

KEY = "observation.images.view"
SPEC = DemoSpec(("x",), ("a",), rate_hz=20.0, image_shape=(32, 48, 3))


def frames(seed: int, length: int = 6) -> np.ndarray:
    """Plain colours, which a codec hardly changes."""
    colours = np.random.default_rng(seed).integers(40, 200, (length, 1, 1, 3))
    return np.broadcast_to(colours, (length, 32, 48, 3)).astype(np.uint8)


def episode(seed: int, length: int = 6, film: bytes | None = None) -> Episode:
    values = np.full((length, 1), 0.1 * seed, np.float32)
    film = film or encode(frames(seed, length), 20.0)
    return Episode(
        seed, True, 0.0, length, {}, values, values, None, values[:, 0].copy(), None, film
    )


def write(root: Path) -> Path:
    for seeds in ((0, 1), (2,)):
        with DemoWriter(root, SPEC) as writer:
            for seed in seeds:
                writer.add(episode(seed))
    return root


def assert_film(root: Path, number: int, seed: int) -> None:
    shown = decode(video_path(root, number)).astype(int)
    assert np.abs(shown - frames(seed).astype(int)).mean() < 6


def test_a_set_with_films_is_lerobot_v3(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    feature = info["features"][KEY]
    assert (feature["dtype"], feature["shape"]) == ("video", [32, 48, 3])
    assert feature["info"]["video.codec"] == "h264" and feature["info"]["video.fps"] == 20.0
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    for row in rows:
        path = root / info["video_path"].format(
            video_key=KEY,
            chunk_index=row[f"videos/{KEY}/chunk_index"],
            file_index=row[f"videos/{KEY}/file_index"],
        )
        assert_film(root, row["episode_index"], row["seed"])
        assert path == video_path(root, row["episode_index"])
        times = [row[f"videos/{KEY}/{name}_timestamp"] for name in ("from", "to")]
        assert times == [0.0, pytest.approx(0.3)]
    data = pq.read_table(root / "data/chunk-000/file-000.parquet")
    assert KEY not in data.column_names
    stats = json.loads((root / "meta/stats.json").read_text())[KEY]
    assert np.shape(stats["mean"]) == np.shape(stats["std"]) == (3, 1, 1)
    assert stats["count"] == [18]
    expected = np.concatenate([frames(s) for s in range(3)]).mean(axis=(0, 1, 2)) / 255
    assert np.allclose(np.ravel(stats["mean"]), expected, atol=0.03)
    assert load_demonstrations(root).spec == SPEC


def test_films_go_along(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    convert(root, tmp_path / "copy", "lerobot")
    assert drop(tmp_path / "copy", [1]) == 1
    assert_film(tmp_path / "copy", 0, 0)
    assert_film(tmp_path / "copy", 1, 2)
    assert not video_path(tmp_path / "copy", 2).exists()
    convert(root, tmp_path / "set.hdf5", "robomimic")
    convert(tmp_path / "set.hdf5", tmp_path / "back", "lerobot")
    assert load_demonstrations(tmp_path / "back").spec == replace(SPEC, image_shape=())


def test_a_film_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    writer = DemoWriter(root, replace(SPEC, image_shape=()))  # no films here: the set decides
    with pytest.raises(SteadyhandError, match="episode 3: has no film"):
        writer.add(replace(episode(3), film=None))
    with pytest.raises(SteadyhandError, match=r"its film has shape \(5, 32, 48, 3\), expected \(6"):
        writer.add(episode(3, film=encode(frames(3, 5), 20.0)))
    with pytest.raises(SteadyhandError, match="is no whole film"):
        writer.add(episode(3, film=b"no film"))
    assert load_demonstrations(root).episodes == 3
    assert not video_path(root, 3).exists()
    video_path(root, 1).unlink()
    with pytest.raises(SteadyhandError, match=r"episode 1: .*file-001\.mp4: its film is missing"):
        load_demonstrations(root)
    assert drop(root, []) == 1
    with pytest.raises(SteadyhandError, match="height and width must be even"):
        encode(np.zeros((2, 31, 48, 3), np.uint8), 20.0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_arm_is_filmed(tmp_path: Path) -> None:
    env = EnvSpec("Steadyhand/GraspSingle-v0", {"objects": "primitives"})
    record(tmp_path, env, EXPERT, RecordConfig(episodes=1, workers=0), film=True)
    demos = load_demonstrations(tmp_path)
    assert demos.spec.image_shape == (240, 320, 3)
    assert demos.spec.env["kwargs"] == {"objects": "primitives"}
    shown = decode(video_path(tmp_path, 0))
    assert len(shown) == len(demos.observation)
    assert np.abs(shown[-1].astype(int) - shown[0]).max() > 60  # something moved
    blind = EnvSpec("Test/Reach-v0", imports=("reach_env",))
    with pytest.raises(SteadyhandError, match="unexpected keyword argument 'render_mode'"):
        record(tmp_path / "other", blind, EXPERT, RecordConfig(episodes=1, workers=0), film=True)
