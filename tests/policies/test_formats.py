"""Demonstrations in other formats: they come back the same, and what is wrong is one line."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.demos import convert as module
from policies.demos.convert import convert, drop, format_of, read
from policies.demos.dataset import Demonstrations, load_demonstrations
from policies.demos.describe import describe_env
from policies.demos.spec import DemoSpec
from policies.demos.writer import DemoWriter
from policies.evaluation.rollouts import Episode
from policies.evaluation.specs import EnvSpec
from robot.errors import SteadyhandError

SPEC = DemoSpec(
    ("place.0", "turn", "place.1", "width"),
    ("a", "b"),
    rate_hz=20.0,
    observation_units=("m", "rad", "m", "m"),
    privileged_names=("joint_position.0", "joint_position.1"),
    env={"id": "Test/None-v0", "kwargs": {"level": 2}},
)


def episode(spec: DemoSpec = SPEC, seed: int = 0, length: int = 5, success: bool = True) -> Episode:
    rng = np.random.default_rng(seed)

    def floats(n: int, bound: float) -> np.ndarray:
        return rng.uniform(-bound, bound, (length, n)).astype(np.float32)

    return Episode(
        seed=seed,
        success=success,
        total_reward=0.0,
        length=length,
        facts={"object": f"o{seed % 3}", "scene": seed},
        observation=floats(len(spec.observation_names), 9.0),
        action=floats(len(spec.action_names), 1.0),
        reward=floats(1, 1.0)[:, 0],
        privileged=floats(len(spec.privileged_names), 1.0) if spec.privileged_names else None,
    )


def write(root: Path, spec: DemoSpec = SPEC, lengths: tuple[int, ...] = (5, 6, 7)) -> Path:
    with DemoWriter(root, spec) as writer:
        for seed, length in enumerate(lengths):
            writer.add(episode(spec, seed, length, success=seed != 1))
    return root


def assert_same(a: Demonstrations, b: Demonstrations) -> None:
    assert a.spec == b.spec
    for name in ("observation", "action", "reward", "privileged", "starts", "success", "seeds"):
        mine, other = getattr(a, name), getattr(b, name)
        assert (mine is None and other is None) or np.array_equal(mine, other), name
    assert a.groups == b.groups
    assert a.facts == b.facts


def target(folder: Path, form: str) -> Path:
    return folder / ("set.hdf5" if form == "robomimic" else "set")


# There and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", module.FORMATS)
def test_a_set_comes_back_the_same(tmp_path: Path, form: module.Format) -> None:
    source = write(tmp_path / "source")
    there = target(tmp_path / "there", form)
    assert convert(source, there, form) == 3
    assert format_of(there) == form
    assert convert(there, tmp_path / "back", "lerobot") == 3
    assert_same(load_demonstrations(source), load_demonstrations(tmp_path / "back"))
    assert {p.name for p in tmp_path.iterdir()} == {"source", "there", "back"}


@settings(max_examples=15, deadline=None)
@given(
    names=st.lists(st.from_regex(r"[a-z]{1,4}(\.[0-9])?", fullmatch=True), min_size=1, unique=True),
    actions=st.integers(1, 4),
    privileged=st.integers(0, 2),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    rate=st.sampled_from((5.0, 20.0, 62.5)),
    form=st.sampled_from(module.FORMATS),
)
def test_any_shape_comes_back_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    actions: int,
    privileged: int,
    lengths: list[int],
    rate: float,
    form: module.Format,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    spec = DemoSpec(
        tuple(names),
        tuple(f"a{i}" for i in range(actions)),
        rate,
        privileged_names=tuple(f"p{i}" for i in range(privileged)),
    )
    source = write(folder / "source", spec, tuple(lengths))
    convert(source, target(folder / "there", form), form)
    convert(target(folder / "there", form), folder / "back", "lerobot")
    assert_same(load_demonstrations(source), load_demonstrations(folder / "back"))


def test_the_file_is_what_robomimic_reads(tmp_path: Path) -> None:
    convert(write(tmp_path / "source"), tmp_path / "set.hdf5", "robomimic")
    with h5py.File(tmp_path / "set.hdf5") as file:
        data = file["data"]
        assert data.attrs["total"] == 18
        env = json.loads(data.attrs["env_args"])
        assert (env["env_name"], env["type"], env["env_kwargs"]) == (
            "Test/None-v0",
            2,
            {"level": 2},
        )
        assert sorted(data) == ["demo_0", "demo_1", "demo_2"]
        demo = data["demo_1"]
        assert demo.attrs["num_samples"] == 6
        assert set(demo["obs"]) == set(demo["next_obs"]) == {"place", "turn", "width"}
        assert demo["obs/place"].shape == (6, 2) and demo["obs/turn"].shape == (6, 1)
        assert np.array_equal(demo["next_obs/place"][:-1], demo["obs/place"][1:])
        assert demo["actions"].shape == (6, 2) and demo["rewards"].shape == (6,)
        assert demo["dones"][:].tolist() == [0, 0, 0, 0, 0, 1]


def test_the_folder_is_what_minari_reads(tmp_path: Path) -> None:
    spec = replace(SPEC, env={"id": "CartPole-v1", "kwargs": {}})
    convert(write(tmp_path / "source", spec), tmp_path / "set", "minari")
    metadata = json.loads((tmp_path / "set/data/metadata.json").read_text())
    assert (metadata["total_episodes"], metadata["total_steps"]) == (3, 18)
    assert json.loads(metadata["observation_space"])["shape"] == [4]
    assert json.loads(metadata["action_space"])["high"] == [1.0, 1.0]
    assert json.loads(metadata["env_spec"])["id"] == "CartPole-v1"
    with h5py.File(tmp_path / "set/data/main_data.hdf5") as file:
        failed = file["episode_1"]
        assert failed.attrs["total_steps"] == 6 and failed.attrs["seed"] == 1
        assert failed["observations"].shape == (7, 4) and failed["actions"].shape == (6, 2)
        assert failed["truncations"][-1] and not failed["terminations"][:].any()
        assert file["episode_0/terminations"][-1]
        assert failed["infos/privileged"].shape == (7, 2)


def test_minari_itself_opens_it(tmp_path: Path) -> None:
    minari = pytest.importorskip("minari")
    convert(write(tmp_path / "source"), tmp_path / "set", "minari")
    loaded = minari.MinariDataset(tmp_path / "set" / "data")
    assert (loaded.total_episodes, loaded.total_steps) == (3, 18)
    demos = load_demonstrations(tmp_path / "source")
    for number, one in enumerate(loaded.iterate_episodes()):
        rows = demos.frames_of([number])
        assert np.array_equal(one.observations[:-1], demos.observation[rows])
        assert np.array_equal(one.actions, demos.action[rows])


# Sets of another origin -----------------------------------------------------------------------


def foreign_robomimic(path: Path, rate: float | None = 20.0) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        kwargs = {"robots": ["Panda"]} | ({} if rate is None else {"control_freq": rate})
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": kwargs})
        for i in (0, 2, 10):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = 4
            demo["actions"] = np.full((4, 7), i / 10, dtype=np.float64)
            demo["obs/robot0_eef_pos"] = rng.normal(size=(4, 3))
            demo["obs/object"] = rng.normal(size=(4, 2))
            demo["obs/agentview_image"] = np.zeros((4, 8, 8, 3), np.uint8)
        file["mask/train"] = np.array([b"demo_0"])
    return path


def foreign_minari(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    with h5py.File(root / "data/main_data.hdf5", "w") as file:
        for i in range(2):
            group = file.create_group(f"episode_{i}")
            group["observations"] = np.arange(12.0).reshape(4, 3)
            group["actions"] = np.zeros((3, 2), np.float32)
            group["rewards"] = np.ones(3)
            group["terminations"] = group["truncations"] = np.zeros(3, bool)
            group["infos/success"] = np.array([0, 0, 0, i])
    (root / "data/metadata.json").write_text(
        json.dumps({"total_episodes": 2, "total_steps": 6, "data_format": "hdf5"})
    )
    return root


def test_a_robomimic_file_of_another_origin(tmp_path: Path) -> None:
    convert(foreign_robomimic(tmp_path / "lift.hdf5"), tmp_path / "set", "lerobot")
    demos = load_demonstrations(tmp_path / "set")
    assert demos.spec.rate_hz == 20.0 and demos.spec.robot == "panda"
    assert demos.spec.observation_names[:3] == ("object.0", "object.1", "robot0_eef_pos.0")
    assert list(demos.action[demos.starts[:-1], 0]) == [0.0, np.float32(0.2), 1.0]
    assert demos.groups == ("0", "1", "2") and demos.success.all()
    demos.split(0.3, np.random.default_rng(0))


def test_a_minari_set_of_another_origin(tmp_path: Path) -> None:
    source = foreign_minari(tmp_path / "source")
    with pytest.raises(SteadyhandError, match="does not say its rate; give it in Hz"):
        convert(source, tmp_path / "set", "lerobot")
    convert(source, tmp_path / "set", "lerobot", rate_hz=10.0)
    demos = load_demonstrations(tmp_path / "set")
    assert demos.observation.shape == (6, 3) and list(demos.success) == [False, True]


# What does not fit ----------------------------------------------------------------------------


def test_an_environment_says_what_a_set_must_be(tmp_path: Path) -> None:
    env = EnvSpec("Test/Reach-v0", imports=("reach_env",))
    wanted = describe_env(env)
    good = write(tmp_path / "good", replace(wanted, env={}))
    assert read(good, wanted=wanted)[0].env == wanted.env
    other = foreign_minari(tmp_path / "minari")
    with pytest.raises(SteadyhandError, match="has 3 observations, the environment has 4"):
        read(other, wanted=wanted)
    for change, message in (
        ({"rate_hz": 10.0}, "has 10 Hz, the environment has 20 Hz"),
        ({"observation_units": ("mm", "m", "m", "")}, "position is in 'mm', the environment's"),
        ({"action_names": ("idle", "velocity")}, "number 0 of its actions is idle"),
        ({"action_names": ("velocity",)}, "has 1 actions, the environment has 2"),
    ):
        spec = replace(wanted, **change)
        root = write(tmp_path / str(len(list(tmp_path.iterdir()))), spec)
        with pytest.raises(SteadyhandError, match=message):
            read(root, wanted=wanted)
        with pytest.raises(SteadyhandError, match="differs from what is to be recorded"):
            DemoWriter(root, wanted)


def _set(path: Path, name: str, value: np.ndarray) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = value


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


BROKEN: list[tuple[str, Callable[[Path], None], str]] = [
    ("cut", _cut, "not a whole HDF5 file"),
    ("text", lambda p: p.write_text("no"), "not a whole HDF5 file"),
    ("nan", lambda p: _set(p, "{}/actions", np.full((5, 2), np.nan)), "action holds NaN"),
    ("range", lambda p: _set(p, "{}/actions", np.full((5, 2), 3.0)), r"outside \[-1, 1\]"),
    ("length", lambda p: _set(p, "{}/actions", np.zeros((4, 2))), "frames|observations"),
    ("rewards", lambda p: _set(p, "{}/rewards", np.zeros(3)), "next.reward has shape"),
    ("kind", lambda p: _set(p, "{}/actions", np.array([b"x"] * 5)), "expected numbers"),
]


@pytest.mark.parametrize("form", ("robomimic", "minari"))
@pytest.mark.parametrize(("name", "damage", "message"), BROKEN, ids=[b[0] for b in BROKEN])
def test_a_broken_file_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: module.Format,
    name: str,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    there = target(tmp_path, form)
    convert(write(tmp_path / "source"), there, form)
    file, group = (there, "data/demo_0")
    if form == "minari":
        file, group = (there / "data/main_data.hdf5", "episode_0")
    real = _set
    monkeypatch.setitem(globals(), "_set", lambda p, n, v: real(p, n.format(group), v))
    damage(file)
    with pytest.raises(SteadyhandError, match=message) as told:
        convert(there, tmp_path / "back", "lerobot")
    assert "\n" not in str(told.value) and str(there) in str(told.value)
    assert not [p for p in tmp_path.iterdir() if p.name not in ("source", there.name)]


def test_wrong_formats_and_existing_targets_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "source")
    with pytest.raises(SteadyhandError, match="source: exists already"):
        convert(source, source, "lerobot")
    with pytest.raises(SteadyhandError, match="there is no such file or folder"):
        convert(tmp_path / "none", tmp_path / "set", "lerobot")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SteadyhandError, match="is no demonstration set: expected"):
        convert(tmp_path / "empty", tmp_path / "set", "lerobot")
    with pytest.raises(SteadyhandError, match="expected lerobot, robomimic, minari, got 'zarr'"):
        convert(source, tmp_path / "set", "zarr")  # type: ignore[arg-type]
    path = foreign_robomimic(tmp_path / "lift.hdf5", rate=None)
    with pytest.raises(SteadyhandError, match="does not say its rate"):
        convert(path, tmp_path / "set", "lerobot")
    assert {p.name for p in tmp_path.iterdir()} == {"source", "empty", "lift.hdf5"}


FULL = """
import resource, sys
from policies.demos.convert import convert
from robot.errors import SteadyhandError
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    convert({source!r}, {target!r}, {form!r})
except SteadyhandError as error:
    sys.stderr.write(f"{{error}}\\n")
    sys.exit(2)
"""


@pytest.mark.parametrize("form", module.FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, form: str) -> None:
    """A disk that takes no more is played by a limit on the size of files."""
    source = write(tmp_path / "source", lengths=(2000, 2000))
    there = target(tmp_path, form)
    code = FULL.format(source=str(source), target=str(there), form=form)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd(), check=False
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20000
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "cannot be written" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


# Dropping -------------------------------------------------------------------------------------


def test_episodes_are_dropped_and_the_rest_numbered_anew(tmp_path: Path) -> None:
    root = write(tmp_path / "set", lengths=(5, 6, 7, 8))
    before = load_demonstrations(root)
    assert drop(root, [1, 3]) == 2
    after = load_demonstrations(root)
    assert list(after.numbers) == [0, 1] and list(after.seeds) == [0, 2]
    assert np.array_equal(after.observation, before.observation[before.frames_of([0, 2])])
    assert after.facts == (before.facts[0], before.facts[2])
    for wrong, message in (([7], "has no episode 7, only 0 to 1"), ([0, 1], "no episode would")):
        with pytest.raises(SteadyhandError, match=message):
            drop(root, wrong)
    assert drop(root, []) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_drop_that_fails_leaves_the_set_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "set")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("write_bytes", "mkdir"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, full)
            patch.setattr(module, "_write_lerobot", lambda folder, *_: folder.mkdir())
            if name == "write_bytes":
                patch.setattr(module, "_write_lerobot", lambda folder, *_: folder.write_bytes(b""))
            with pytest.raises(SteadyhandError, match="cannot be written: No space left"):
                drop(root, [0])
        assert [p.name for p in tmp_path.iterdir()] == ["set"]
        assert load_demonstrations(root).episodes == 3


def test_bad_episodes_are_found_and_dropped(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    with DemoWriter(root, SPEC) as writer:
        writer.add(episode(seed=8))
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("observation.privileged")
    values = np.stack(table["observation.privileged"].to_pylist())
    values[6] = (0.0, 5.0)  # beyond the second joint's limit
    column = table.schema.field(at)
    damaged = pa.array(values.tolist(), type=column.type)
    pq.write_table(table.set_column(at, column, damaged), path)
    with pytest.raises(SteadyhandError, match="episode 1: joint_position.1 of 5 rad at frame 1"):
        load_demonstrations(root)
    assert drop(root, []) == 1
    assert list(load_demonstrations(root).seeds) == [0, 2, 8]
    _cut(root / "data/chunk-000/file-000.parquet")
    with pytest.raises(SteadyhandError, match=r"episode 0: .*not a whole Parquet file"):
        load_demonstrations(root)


def test_a_cut_file_costs_only_its_own_episodes(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    with DemoWriter(root, SPEC) as writer:
        writer.add(episode(seed=8))
    _cut(root / "data/chunk-000/file-000.parquet")
    assert drop(root, []) == 3
    assert list(load_demonstrations(root).seeds) == [8]


RECORDING = """
import resource, sys
sys.path[:0] = [{here!r}]
from test_formats import SPEC, episode
from policies.demos.writer import DemoWriter
from robot.errors import SteadyhandError
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
try:
    with DemoWriter({root!r}, SPEC) as writer:
        for length in (5, 6, 2000, 7):
            writer.add(episode(length=length))
except SteadyhandError as error:
    sys.stderr.write(f"{{error}}\\n")
    sys.exit(2)
"""


def test_a_disk_that_fills_while_recording_keeps_what_was_finished(tmp_path: Path) -> None:
    code = RECORDING.format(here=str(Path(__file__).parent), root=str(tmp_path / "set"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd(), check=False
    )
    assert done.returncode == 2 and "cannot be written" in done.stderr, done.stderr
    assert list(np.diff(load_demonstrations(tmp_path / "set").starts)) == [5, 6]
    assert not list((tmp_path / "set").rglob("*.tmp"))
