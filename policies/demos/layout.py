"""The layout of a demonstration set on disk: LeRobotDataset v3.0.

Follows the reference code of lerobot 0.4 (``codebase_version`` v3.0): ``meta/info.json``,
``meta/stats.json``, ``meta/tasks.parquet`` (a pandas frame indexed by the task's text),
``meta/episodes/chunk-000/file-000.parquet``, ``data/chunk-000/file-000.parquet`` and, where there
are images, ``videos/observation.images.view/chunk-000/file-000.mp4``, one file an episode, so that
none is ever written again. What that format has no place for (units, environment, sources) stands
in ``meta/steadyhand.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policies.film import CODEC, PIXELS
from policies.storage import replace_file
from robot.errors import SteadyhandError

VERSION = "v3.0"
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EXTRAS = "meta/steadyhand.json"
STAGING = "staging"
VIEW = "observation.images.view"
FILES_PER_CHUNK = 1000
FILE_BYTES = 100_000_000
DATA_PATTERN = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATTERN = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATTERN = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


def numbered(count: int) -> tuple[str, ...]:
    """The names of numbers whose meaning nobody told: ``0``, ``1``, ..."""
    return tuple(str(i) for i in range(count))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def data_path(root: Path, file: int) -> Path:
    """The ``file``-th data file, counted over all chunks."""
    chunk, index = divmod(file, FILES_PER_CHUNK)
    return root / DATA_PATTERN.format(chunk_index=chunk, file_index=index)


def episodes_path(root: Path, file: int) -> Path:
    """The ``file``-th file of episode records, counted over all chunks."""
    chunk, index = divmod(file, FILES_PER_CHUNK)
    return root / EPISODES_PATTERN.format(chunk_index=chunk, file_index=index)


def video_path(root: Path, episode: int) -> Path:
    """The film of an episode."""
    chunk, index = divmod(episode, FILES_PER_CHUNK)
    return root / VIDEO_PATTERN.format(video_key=VIEW, chunk_index=chunk, file_index=index)


@dataclass(frozen=True)
class DemoSpec:
    """What one frame of a demonstration set holds.

    Attributes:
        observation_names: one name for each number of ``observation.state``.
        action_names: one name for each number of ``action``.
        rate_hz: frames a second.
        task: the task in words.
        observation_units: one unit for each observation ("" where it has none).
        privileged_names: names of ``observation.privileged``; empty where it is not recorded.
        robot: name of the robot.
        env: Gymnasium id and keyword arguments of the source, for the record.
        action_low: what an action of -1 means in the environment's own units; empty where nothing
            is said of it.
        action_high: what an action of 1 means.
        image_shape: (height, width, 3) of the films; empty where there are none.
    """

    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    rate_hz: float
    task: str = "pick the object up"
    observation_units: tuple[str, ...] = ()
    privileged_names: tuple[str, ...] = ()
    robot: str = "panda"
    env: Mapping[str, Any] = field(default_factory=dict)
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    image_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.observation_names or not self.action_names:
            raise SteadyhandError("DemoSpec: needs at least one observation and one action name")
        if not self.rate_hz > 0:
            raise SteadyhandError(f"DemoSpec.rate_hz: must be > 0, got {self.rate_hz}")
        if self.observation_units and len(self.observation_units) != len(self.observation_names):
            raise SteadyhandError(
                f"DemoSpec.observation_units: {len(self.observation_units)} units for "
                f"{len(self.observation_names)} observations"
            )

    @property
    def policy_env(self) -> str:
        """The Gymnasium id that a policy learned from this says it is for.

        Empty for the grasp, which runs in pick and place too, not only where it was learned.
        """
        env = str(self.env.get("id", ""))
        return "" if env.startswith("Steadyhand/") else env

    def fitted(self, wanted: DemoSpec, source: str) -> DemoSpec:
        """This spec as that of an environment, where it says the same or nothing.

        Args:
            wanted: what the environment has.
            source: where this one comes from, for the message.

        Raises:
            SteadyhandError: another number of observations or actions, another rate, other names
                or other units.
        """
        for what, mine, theirs in (
            ("observations", self.observation_names, wanted.observation_names),
            ("actions", self.action_names, wanted.action_names),
        ):
            if len(mine) != len(theirs):
                raise SteadyhandError(
                    f"{source}: has {len(mine)} {what}, the environment has {len(theirs)}"
                )
            if mine not in (numbered(len(mine)), theirs):
                i = next(i for i, name in enumerate(mine) if name != theirs[i])
                raise SteadyhandError(
                    f"{source}: number {i} of its {what} is {mine[i]}, "
                    f"the environment's is {theirs[i]}"
                )
        if self.rate_hz != wanted.rate_hz:
            raise SteadyhandError(
                f"{source}: has {self.rate_hz:g} Hz, the environment has {wanted.rate_hz:g} Hz"
            )
        units = self.observation_units or wanted.observation_units
        if wanted.observation_units and units != wanted.observation_units:
            i = next(i for i, unit in enumerate(units) if unit != wanted.observation_units[i])
            raise SteadyhandError(
                f"{source}: {wanted.observation_names[i]} is in {units[i] or 'no unit'!r}, "
                f"the environment's is in {wanted.observation_units[i]!r}"
            )
        return replace(
            self,
            observation_names=wanted.observation_names,
            action_names=wanted.action_names,
            observation_units=units,
            env=self.env or wanted.env,
        )

    def as_json(self) -> dict[str, Any]:
        """For a file of another format; :meth:`from_json` reads it."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, content: Any, source: str) -> DemoSpec:
        """The spec that :meth:`as_json` wrote; ``source`` is named where it is malformed."""
        try:
            told: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in content.items()
            }
            return cls(**told)
        except (AttributeError, TypeError) as error:
            raise SteadyhandError(f"{source}: its description is garbled: {error}") from error

    def features(self) -> dict[str, dict[str, Any]]:
        """The ``features`` of ``info.json``."""

        def vector(names: Sequence[str]) -> dict[str, Any]:
            return {"dtype": "float32", "shape": [len(names)], "names": list(names)}

        def scalar(dtype: str) -> dict[str, Any]:
            return {"dtype": dtype, "shape": [1], "names": None}

        out = {"observation.state": vector(self.observation_names)}
        if self.privileged_names:
            out["observation.privileged"] = vector(self.privileged_names)
        if self.image_shape:
            out[VIEW] = self._video()
        out |= {
            "action": vector(self.action_names),
            "next.reward": scalar("float32"),
            "next.done": scalar("bool"),
            "next.success": scalar("bool"),
            "timestamp": scalar("float32"),
            "frame_index": scalar("int64"),
            "episode_index": scalar("int64"),
            "index": scalar("int64"),
            "task_index": scalar("int64"),
        }
        return out

    def _video(self) -> dict[str, Any]:
        height, width, channels = self.image_shape
        return {
            "dtype": "video",
            "shape": list(self.image_shape),
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.channels": channels,
                "video.codec": CODEC,
                "video.pix_fmt": PIXELS,
                "video.fps": self.rate_hz,
                "video.is_depth_map": False,
                "has_audio": False,
            },
        }

    def schema(self) -> pa.Schema:
        """The Arrow schema of a data file; films stand in files of their own."""
        types = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}
        return pa.schema(
            [
                (
                    name,
                    # As LeRobot has it: what is one number long is a number, not a list of one.
                    types[f["dtype"]]
                    if f["shape"] == [1]
                    else pa.list_(types[f["dtype"]], f["shape"][0]),
                )
                for name, f in self.features().items()
                if f["dtype"] != "video"
            ]
        )


def table_bytes(table: pa.Table) -> bytes:
    """A Parquet file's bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="snappy", use_dictionary=False)
    return sink.getvalue().to_pybytes()


def write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """``meta/tasks.parquet`` as pandas writes a frame with the task's text as index."""
    index = "task"
    pandas = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": kind,
                "numpy_type": numpy,
                "metadata": None,
            }
            for name, kind, numpy in (
                ("task_index", "int64", "int64"),
                (index, "unicode", "object"),
            )
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": list(range(len(tasks))), index: list(tasks)})
    table = table.replace_schema_metadata({"pandas": json.dumps(pandas)})
    replace_file(root / TASKS, table_bytes(table))


Stats = dict[str, dict[str, NDArray[np.float64]]]


def frame_stats(columns: Mapping[str, NDArray[Any]]) -> Stats:
    """Minimum, maximum, mean, (population) standard deviation and count of each column."""
    out: Stats = {}
    for name, values in columns.items():
        rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        out[name] = {
            "min": rows.min(axis=0),
            "max": rows.max(axis=0),
            "mean": rows.mean(axis=0),
            "std": rows.std(axis=0),
            "count": np.array([len(rows)], dtype=np.float64),
        }
    return out


def merge_stats(parts: Sequence[Stats]) -> Stats:
    """The statistics of all episodes from those of each (Chan's parallel variance)."""
    out: Stats = {}
    for name in parts[0] if parts else ():
        count = np.array([p[name]["count"][0] for p in parts])
        mean = np.stack([p[name]["mean"] for p in parts])
        std = np.stack([p[name]["std"] for p in parts])
        total = count.sum()
        weight = (count / total)[:, None]
        centre = (weight * mean).sum(axis=0)
        variance = (weight * (std**2 + (mean - centre) ** 2)).sum(axis=0)
        out[name] = {
            "min": np.min([p[name]["min"] for p in parts], axis=0),
            "max": np.max([p[name]["max"] for p in parts], axis=0),
            "mean": centre,
            "std": np.sqrt(variance),
            "count": np.array([total]),
        }
    return out


def image_stats(frames: NDArray[np.uint8]) -> Stats:
    """The statistics of each colour in [0, 1], of frames (T, H, W, 3), a few of them."""
    some = frames[:: max(len(frames) // 10, 1), ::4, ::4] / 255.0
    stats = frame_stats({VIEW: some.reshape(-1, frames.shape[3])})
    stats[VIEW]["count"] = np.array([len(frames)], dtype=np.float64)
    return stats


def stats_json(stats: Stats) -> dict[str, dict[str, list[Any]]]:
    """For ``meta/stats.json``; counts are whole numbers there, and colours (3, 1, 1)."""

    def shown(name: str, key: str, values: NDArray[np.float64]) -> list[Any]:
        if key == "count":
            return [int(x) for x in values]
        return [[[float(x)]] if name == VIEW else float(x) for x in values]

    return {
        name: {key: shown(name, key, values) for key, values in entry.items()}
        for name, entry in stats.items()
    }


def stats_of_json(content: Mapping[str, Mapping[str, Any]]) -> Stats:
    """What :func:`stats_json` made."""
    return {n: {k: np.ravel(v).astype(float) for k, v in e.items()} for n, e in content.items()}
