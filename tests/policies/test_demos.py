"""Demonstrations: what goes in comes out, a crash loses little, and bad episodes are named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reach_env import EXPERT, REACH

from policies.demos import layout
from policies.demos.dataset import load_demonstrations, read_spec
from policies.demos.describe import describe_env
from policies.demos.record import RecordConfig, record
from policies.demos.spec import DemoSpec
from policies.demos.writer import DemoWriter
from policies.evaluation.rollouts import Episode
from policies.evaluation.specs import ActorSpec, EnvSpec
from robot.errors import SteadyhandError

SPEC = DemoSpec(("x", "y", "z"), ("a", "b"), rate_hz=20.0, observation_units=("m", "m", "rad"))


def episode(seed: int, length: int = 7, success: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        seed=seed,
        success=success,
        total_reward=1.0,
        length=length,
        facts={"object": f"o{seed % 3}"},
        observation=rng.normal(size=(length, 3)).astype(np.float32),
        action=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        executed=None,
        reward=rng.normal(size=length).astype(np.float32),
    )


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    with DemoWriter(tmp_path, SPEC) as writer:
        for seed in range(5):
            assert writer.add(episode(seed, length=5 + seed, success=seed != 2)) == seed
    demos = load_demonstrations(tmp_path)
    assert demos.spec == SPEC
    assert list(np.diff(demos.starts)) == [5, 6, 7, 8, 9]
    assert list(demos.success) == [True, True, False, True, True]
    assert demos.groups == ("o0", "o1", "o2", "o0", "o1")
    for seed in range(5):
        rows = demos.frames_of([seed])
        assert np.array_equal(demos.observation[rows], episode(seed, 5 + seed).observation)
        assert np.array_equal(demos.action[rows], episode(seed, 5 + seed).action)


def test_the_files_are_lerobot_v3(tmp_path: Path) -> None:
    for start in (0, 3):  # two sessions: two files, one set
        with DemoWriter(tmp_path, SPEC) as writer:
            for seed in range(start, start + 3):
                writer.add(episode(seed))
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["fps"]) == (6, 42, 20)
    assert info["features"]["observation.state"] == {
        "dtype": "float32",
        "shape": [3],
        "names": ["x", "y", "z"],
    }
    tables = [
        pq.read_table(tmp_path / info["data_path"].format(chunk_index=0, file_index=i))
        for i in range(2)
    ]
    data = pa.concat_tables(tables)
    assert set(data.column_names) == set(info["features"])
    assert data.schema.field("action").type == pa.list_(pa.float32(), 2)
    assert data["index"].to_pylist() == list(range(42))
    assert data["episode_index"].to_pylist() == [e for e in range(6) for _ in range(7)]
    episodes = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-001.parquet")
    assert episodes["dataset_from_index"].to_pylist() == [21, 28, 35]
    assert episodes["tasks"].to_pylist() == [["pick the object up"]] * 3
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    stats = json.loads((tmp_path / "meta/stats.json").read_text())
    values = np.stack(data["observation.state"].to_pylist())
    assert np.allclose(stats["observation.state"]["mean"], values.mean(0), atol=1e-6)
    assert np.allclose(stats["observation.state"]["std"], values.std(0), atol=1e-6)
    assert stats["action"]["count"] == [42]
    assert not (tmp_path / "staging").exists()


def test_what_is_one_number_long_is_a_number(tmp_path: Path) -> None:
    """As LeRobot's own features have it; its reader refuses a list of one."""
    spec = DemoSpec(("x",), ("a",), rate_hz=20.0)
    values = np.arange(4, dtype=np.float32)[:, None] / 4
    one = Episode(0, True, 0.0, 4, {}, values, values, None, values[:, 0])
    with DemoWriter(tmp_path, spec) as writer:
        writer.add(one)
    table = pq.read_table(tmp_path / "data/chunk-000/file-000.parquet")
    assert table.schema.field("action").type == pa.float32()
    assert np.array_equal(load_demonstrations(tmp_path).action, values)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("observation", np.full((7, 4), 0.1, np.float32), "observation.state has shape"),
        ("action", np.full((7, 2), np.nan, np.float32), "action holds NaN"),
        ("reward", np.zeros(6, np.float32), "next.reward has shape"),
    ],
)
def test_a_malformed_episode_is_not_written(
    tmp_path: Path, name: str, value: np.ndarray, message: str
) -> None:
    good = episode(0)
    bad = replace(good, **{name: value})
    with DemoWriter(tmp_path, SPEC) as writer:
        writer.add(good)
        with pytest.raises(SteadyhandError, match=message):
            writer.add(bad)
    assert load_demonstrations(tmp_path).episodes == 1


def _damage(root: Path, column: str, row: int, value: object) -> None:
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = value
    at = table.column_names.index(column)
    field = table.schema.field(column)
    pq.write_table(table.set_column(at, field, pa.array(values, type=field.type)), path)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("observation.state", 9, [0.0, float("nan"), 0.0], "episode 1: observation.state"),
        ("action", 16, [0.0, 1.5], "episode 2: an action of 1.5"),
        ("timestamp", 10, 9.9, "episode 1: timestamp 9.9000 s at frame 3"),
        ("frame_index", 15, 4, "episode 2: frame_index"),
        ("next.done", 3, True, "episode 0: next.done"),
    ],
)
def test_a_bad_episode_is_named_and_can_be_dropped(
    tmp_path: Path, column: str, row: int, value: object, message: str
) -> None:
    with DemoWriter(tmp_path, SPEC) as writer:
        for seed in range(3):
            writer.add(episode(seed))
    _damage(tmp_path, column, row, value)
    with pytest.raises(SteadyhandError, match=message):
        load_demonstrations(tmp_path)
    kept = load_demonstrations(tmp_path, drop_bad=True)
    assert kept.episodes == 2 and len(kept.dropped) == 1 and message in kept.dropped[0]


def test_a_cut_file_and_a_wrong_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SteadyhandError, match="is no demonstration set"):
        load_demonstrations(tmp_path)
    with DemoWriter(tmp_path, SPEC) as writer:
        writer.add(episode(0))
    path = tmp_path / "data/chunk-000/file-000.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SteadyhandError, match="file-000.parquet: is missing or not a whole"):
        load_demonstrations(tmp_path)
    info = json.loads((tmp_path / layout.INFO).read_text())
    (tmp_path / layout.INFO).write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    with pytest.raises(SteadyhandError, match=r"'v2.1' is not supported, expected 'v3.0'"):
        read_spec(tmp_path)


def test_a_set_from_before_the_joints_goes_on_without_them(tmp_path: Path) -> None:
    with DemoWriter(tmp_path, SPEC) as writer:
        writer.add(episode(0))
    with DemoWriter(tmp_path, replace(SPEC, privileged_names=("q",))) as writer:
        writer.add(replace(episode(1), privileged=np.zeros((7, 1), np.float32)))
    demos = load_demonstrations(tmp_path)
    assert demos.episodes == 2 and demos.spec == SPEC and demos.privileged is None


def test_another_rate_cannot_be_appended(tmp_path: Path) -> None:
    with DemoWriter(tmp_path, SPEC) as writer:
        writer.add(episode(0))
    other = DemoSpec(SPEC.observation_names, SPEC.action_names, rate_hz=30.0)
    with pytest.raises(SteadyhandError, match="fps differs"):
        DemoWriter(tmp_path, other)


CRASHER = """
import sys
sys.path[:0] = [{here!r}]
from test_demos import SPEC, episode
from policies.demos.writer import DemoWriter
writer = DemoWriter({root!r}, SPEC)
for seed in range(writer.episodes, 100000):
    writer.add(episode(seed))
    sys.stdout.write(f"{{seed}}\\n"); sys.stdout.flush()
    if seed % 7 == 6:
        writer.finalize()
"""


def test_kill_loses_at_most_the_open_episode(tmp_path: Path) -> None:
    code = CRASHER.format(here=str(Path(__file__).parent), root=str(tmp_path / "set"))
    acknowledged = -1
    for delay_s in (0.05, 0.11, 0.19):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, "the writer did not start"
        time.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        rest = [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        assert int(first) > acknowledged or acknowledged == -1
        acknowledged = max([int(first), *rest])
        demos = load_demonstrations(tmp_path / "set")
        assert demos.episodes in (acknowledged + 1, acknowledged + 2)
        for number in range(demos.episodes):
            rows = demos.frames_of([number])
            assert np.array_equal(demos.observation[rows], episode(number).observation)
    with DemoWriter(tmp_path / "set", SPEC) as writer:
        total = writer.episodes
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    assert stats["index"]["count"] == [total * 7]
    assert load_demonstrations(tmp_path / "set").episodes == total


def test_an_interruption_inside_finalize_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import policies.demos.writer as module

    real = module.replace_json
    for stop_before in ("stats.next.json", "steadyhand.json", "info.json"):
        root = tmp_path / stop_before
        with DemoWriter(root, SPEC) as writer:
            writer.add(episode(0))
        writer = DemoWriter(root, SPEC)
        writer.add(episode(1))

        def stopped(path: Path, content: object, name: str = stop_before) -> None:
            if path.name == name:
                raise KeyboardInterrupt
            real(path, content)

        monkeypatch.setattr(module, "replace_json", stopped)
        with pytest.raises(KeyboardInterrupt):
            writer.finalize()
        monkeypatch.setattr(module, "replace_json", real)
        assert load_demonstrations(root).episodes == 2
        with DemoWriter(root, SPEC) as writer:
            writer.add(episode(2))
        demos = load_demonstrations(root)
        assert list(demos.seeds) == [0, 1, 2]
        assert json.loads((root / "meta/stats.json").read_text())["index"]["count"] == [21]


def test_recording_resumes_to_the_same_set(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expert = ActorSpec(EXPERT.entry, {"wrong_share": 0.4})
    record(whole, REACH, expert, RecordConfig(episodes=12, seed=5, workers=0))
    record(parts, REACH, expert, RecordConfig(episodes=5, seed=5, workers=0))
    result = record(parts, REACH, expert, RecordConfig(episodes=12, seed=5, workers=2))
    assert result.resumed_at > 0 and result.episodes == 12
    a, b = load_demonstrations(whole), load_demonstrations(parts)
    assert np.array_equal(a.seeds, b.seeds)
    assert np.array_equal(a.observation, b.observation)
    assert np.array_equal(a.action, b.action)
    assert a.success.all()


def test_noise_changes_the_way_but_not_the_label(tmp_path: Path) -> None:
    record(tmp_path, REACH, EXPERT, RecordConfig(episodes=4, workers=0, noise_std=(0.4, 0.0)))
    demos = load_demonstrations(tmp_path)
    clean = np.clip(10 * demos.observation[:, 2], -1, 1)
    assert np.allclose(demos.action[:, 0], clean, atol=1e-6)
    moved = np.diff(demos.observation[: demos.starts[1], 0])
    idle = RecordConfig(episodes=5, workers=0, noise_std=(0.1, 0.1, 0.1))
    with pytest.raises(SteadyhandError, match="expected no, one or 2 numbers, got 3"):
        record(tmp_path, REACH, EXPERT, idle)
    assert np.abs(moved - 0.1 * demos.action[: demos.starts[1] - 1, 0]).max() > 0.01


def test_privileged_observations_are_kept(tmp_path: Path) -> None:
    env = EnvSpec("Test/PrivilegedReach-v0", imports=("reach_env",))
    record(tmp_path, env, EXPERT, RecordConfig(episodes=2, workers=0))
    demos = load_demonstrations(tmp_path)
    assert demos.privileged is not None
    assert np.allclose(demos.privileged[:, 0], demos.observation[:, 1])


def test_a_killed_worker_is_one_clear_error(tmp_path: Path) -> None:
    from policies.evaluation.rollouts import episode_seeds

    fatal = list(episode_seeds(0, 0, 10))[6]
    env = EnvSpec("Test/Reach-v0", {"die_at_seed": fatal}, imports=("reach_env",))
    with pytest.raises(SteadyhandError, match="a worker process died"):
        record(tmp_path, env, EXPERT, RecordConfig(episodes=10, workers=1))
    kept = load_demonstrations(tmp_path).episodes
    assert kept <= 6
    assert record(tmp_path, REACH, EXPERT, RecordConfig(episodes=10, workers=0)).episodes == 10


def test_an_actor_that_fails_too_often_is_reported(tmp_path: Path) -> None:
    expert = ActorSpec(EXPERT.entry, {"wrong_share": 9.0})
    config = RecordConfig(episodes=3, workers=0, max_attempts_per_episode=2.0)
    with pytest.raises(SteadyhandError, match="succeeded in only"):
        record(tmp_path, REACH, expert, config)


def test_a_bad_attempt_does_not_end_a_recording(tmp_path: Path) -> None:
    """Joints beyond the limits in some episodes: those are left out."""
    names = ("joint_position.0", "target", "error", "constant")
    spec = replace(describe_env(REACH), observation_names=names, robot="panda")
    strict = replace(spec, observation_names=("a", "joint_position.3", "c", "d"))
    assert record(tmp_path / "a", REACH, EXPERT, RecordConfig(episodes=2, workers=0), spec=spec)
    # The fourth joint must be below -0.07: half of the targets are not.
    result = record(tmp_path / "b", REACH, EXPERT, RecordConfig(episodes=3, workers=0), spec=strict)
    assert result.episodes == 3 < result.attempts
    assert load_demonstrations(tmp_path / "b").observation[:, 1].max() < -0.04
    none = RecordConfig(episodes=3, workers=0, max_attempts_per_episode=1.0)
    wrong = replace(spec, observation_names=("a", "b", "c", "joint_position.3"))
    with pytest.raises(SteadyhandError, match=r"0 episodes are kept; .*joint_position\.3 of 1 rad"):
        record(tmp_path / "c", REACH, EXPERT, none, spec=wrong)


def test_split_keeps_groups_apart(reach_demos: object) -> None:
    train, held = reach_demos.split(0.25, np.random.default_rng(0))  # type: ignore[attr-defined]
    groups = np.array(reach_demos.groups)  # type: ignore[attr-defined]
    assert not set(groups[train]) & set(groups[held])
    assert len(train) + len(held) == 60


def test_names_come_from_the_environment() -> None:
    spec = describe_env(REACH)
    assert spec.observation_names == ("position", "target", "error", "constant")
    assert spec.rate_hz == 20.0
    with pytest.raises(SteadyhandError, match="action space must be a Box"):
        describe_env(EnvSpec("CartPole-v1"))
