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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policies.demos.spec import VIEW, DemoSpec
from policies.storage import replace_file

VERSION = "v3.0"
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EXTRAS = "meta/steadyhand.json"
STAGING = "staging"
FILES_PER_CHUNK = 1000
FILE_BYTES = 100_000_000
DATA_PATTERN = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATTERN = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATTERN = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


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


def schema_of(spec: DemoSpec) -> pa.Schema:
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
            for name, f in spec.features().items()
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
