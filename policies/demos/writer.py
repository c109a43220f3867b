"""Demonstrations onto the disk, one durable episode at a time."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policies.demos import layout
from policies.demos.checks import fault
from policies.demos.spec import VIEW, DemoSpec
from policies.evaluation.rollouts import Episode
from policies.film import decode
from policies.storage import read_json, replace_file, replace_json
from robot.errors import SteadyhandError

log = logging.getLogger(__name__)


def episode_columns(
    spec: DemoSpec, episode: Episode, number: int, first: int
) -> dict[str, NDArray[Any]]:
    """The columns of one episode; raises where its arrays do not fit ``spec``.

    Args:
        spec: names and rate.
        episode: a recorded one.
        number: its index in the set.
        first: index of its first frame in the set.
    """
    if episode.observation is None or episode.action is None or episode.reward is None:
        raise SteadyhandError(f"episode {number}: was not recorded (record=True)")
    length = len(episode.observation)
    frame = np.arange(length, dtype=np.int64)
    out: dict[str, NDArray[Any]] = {
        "observation.state": episode.observation,
        "action": episode.action,
        "next.reward": episode.reward,
        "next.done": frame == length - 1,
        "next.success": (frame == length - 1) & bool(episode.success),
        "timestamp": (frame / spec.rate_hz).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(length, number, dtype=np.int64),
        "index": frame + first,
        "task_index": np.zeros(length, dtype=np.int64),
    }
    if spec.privileged_names and episode.privileged is not None:
        out["observation.privileged"] = episode.privileged
    problem = fault(spec, out, length)
    if problem is not None:
        raise SteadyhandError(f"episode {number}: {problem}")
    return out


def columns_table(schema: pa.Schema, columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Columns as an Arrow table; (T, n) arrays become lists of fixed length."""
    arrays = []
    for item in schema:
        values = columns[item.name]
        if pa.types.is_fixed_size_list(item.type):
            flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=item.type))
        else:
            arrays.append(pa.array(np.asarray(values).ravel(), type=item.type))
    return pa.Table.from_arrays(arrays, schema=schema)


class DemoWriter:
    """Appends episodes to a set; a crash loses at most the episode that is open.

    Every episode is written whole to ``staging/`` under a final name, flushed, before ``add``
    returns. ``finalize`` moves what is staged into the files of the v3 layout; ``info.json`` is
    written last and is what makes them count. Readers and the next writer see staged episodes
    too, so nothing depends on ``finalize`` having run.

    Args:
        root: folder of the set, made when it does not exist.
        spec: what a frame holds; must equal that of the set when it exists, which may lack
            privileged observations and then goes on without them.
    """

    def __init__(self, root: Path | str, spec: DemoSpec) -> None:
        self.root = Path(root)
        self.spec = spec
        self._info = self._open()
        self._schema = layout.schema_of(self.spec)
        self._records: list[dict[str, Any]] = self._recover()
        self._staged_bytes = 0

    @property
    def episodes(self) -> int:
        """Durable episodes, staged ones included."""
        return int(self._info["total_episodes"]) + len(self._records)

    @property
    def frames(self) -> int:
        """Durable frames, staged ones included."""
        return int(self._info["total_frames"]) + sum(r["length"] for r in self._records)

    def add(self, episode: Episode, **facts: str | int | float | bool) -> int:
        """Append one recorded episode; it is safe on the disk when this returns.

        Args:
            episode: recorded with ``Behaviour(record=True)``.
            facts: further scalars to keep with it (``group``, ``attempt``, ``source``).

        Returns:
            Its index in the set.
        """
        number = self.episodes
        columns = episode_columns(self.spec, episode, number, self.frames)
        known = {**episode.facts, **facts}
        record: dict[str, Any] = {
            "episode_index": number,
            "length": len(columns["frame_index"]),
            "success": bool(episode.success),
            "seed": episode.seed,
            "group": str(known.pop("group", known.get("object", episode.seed))),
            "facts": known,
        }
        table = columns_table(self._schema, columns)
        if self.spec.image_shape:
            record["view_stats"] = self._add_film(number, episode)
        table = table.replace_schema_metadata({"steadyhand": json.dumps(record)})
        data = layout.table_bytes(table)
        replace_file(self.root / layout.STAGING / f"episode-{number:06d}.parquet", data)
        self._records.append(record)
        self._staged_bytes += len(data)
        if self._staged_bytes >= layout.FILE_BYTES:  # what finalize has in memory stays bounded
            self.finalize()
        return number

    def _add_film(self, number: int, episode: Episode) -> dict[str, Any]:
        """Write an episode's film, before what makes the episode count; its statistics."""
        if episode.film is None:
            raise SteadyhandError(f"episode {number}: has no film, as this set's episodes have")
        path = layout.video_path(self.root, number)
        replace_file(path, episode.film)
        try:
            frames = decode(path)
            if frames.shape != (episode.length, *self.spec.image_shape):
                raise SteadyhandError(
                    f"episode {number}: its film has shape {frames.shape}, "
                    f"expected {(episode.length, *self.spec.image_shape)}"
                )
        except SteadyhandError:
            path.unlink()
            raise
        return layout.stats_json(layout.image_stats(frames))

    def finalize(self) -> None:
        """Move all staged episodes into the set's files; safe to interrupt and to repeat."""
        if not self._records:
            return
        file = int(self._info["data_files"])
        staged = self.root / layout.STAGING
        tables = [
            pq.read_table(staged / f"episode-{r['episode_index']:06d}.parquet")
            for r in self._records
        ]
        tables = [t.replace_schema_metadata(None) for t in tables]
        replace_file(
            layout.data_path(self.root, file), layout.table_bytes(pa.concat_tables(tables))
        )
        rows, parts = [], []
        first = int(self._info["total_frames"])
        chunk, index = divmod(file, layout.FILES_PER_CHUNK)
        for record, table in zip(self._records, tables, strict=True):
            part = layout.frame_stats({n: _values(table, n) for n in self._schema.names})
            if self.spec.image_shape:
                part |= layout.stats_of_json(record["view_stats"])
            parts.append(part)
            row = {
                "episode_index": record["episode_index"],
                "tasks": [self.spec.task],
                "length": record["length"],
                "data/chunk_index": chunk,
                "data/file_index": index,
                "dataset_from_index": first,
                "dataset_to_index": first + record["length"],
                "meta/episodes/chunk_index": chunk,
                "meta/episodes/file_index": index,
                "success": record["success"],
                "seed": record["seed"],
                "group": record["group"],
                "facts": json.dumps(record["facts"], sort_keys=True),
            }
            if self.spec.image_shape:
                video_chunk, video = divmod(record["episode_index"], layout.FILES_PER_CHUNK)
                row |= {
                    f"videos/{VIEW}/chunk_index": video_chunk,
                    f"videos/{VIEW}/file_index": video,
                    f"videos/{VIEW}/from_timestamp": 0.0,
                    f"videos/{VIEW}/to_timestamp": record["length"] / self.spec.rate_hz,
                }
            for name, entry in layout.stats_json(part).items():
                row |= {f"stats/{name}/{k}": v for k, v in entry.items()}
            rows.append(row)
            first += record["length"]
        table = pa.Table.from_pylist(rows)
        replace_file(layout.episodes_path(self.root, file), layout.table_bytes(table))
        layout.write_tasks(self.root, [self.spec.task])
        stats_path = self.root / layout.STATS
        if int(self._info["total_episodes"]):
            parts.insert(0, layout.stats_of_json(read_json(stats_path)))
        merged = layout.stats_json(layout.merge_stats(parts))
        # Beside the info file until that is written: a crash between must not count rows twice.
        replace_json(stats_path.with_suffix(".next.json"), merged)
        self._info["total_episodes"] = self.episodes
        self._info["total_frames"] = first
        self._info["data_files"] = file + 1
        self._records, self._staged_bytes = [], 0
        replace_json(self.root / layout.EXTRAS, self._extras())
        replace_json(self.root / layout.INFO, self._public_info())
        stats_path.with_suffix(".next.json").replace(stats_path)
        shutil.rmtree(staged, ignore_errors=True)

    def __enter__(self) -> DemoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finalize()

    def _public_info(self) -> dict[str, Any]:
        episodes = self._info["total_episodes"]
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self.spec.robot,
            "total_episodes": episodes,
            "total_frames": self._info["total_frames"],
            "total_tasks": 1,
            "chunks_size": layout.FILES_PER_CHUNK,
            "data_files_size_in_mb": layout.FILE_BYTES // 10**6,
            "video_files_size_in_mb": 500,
            "fps": int(self.spec.rate_hz) if self.spec.rate_hz % 1 == 0 else self.spec.rate_hz,
            "splits": {"train": f"0:{episodes}"},
            "data_path": layout.DATA_PATTERN,
            "video_path": layout.VIDEO_PATTERN if self.spec.image_shape else None,
            "features": self.spec.features(),
        }

    def _extras(self) -> dict[str, Any]:
        return {
            "observation_units": list(self.spec.observation_units),
            "env": dict(self.spec.env),
            "task": self.spec.task,
            "action_low": list(self.spec.action_low),
            "action_high": list(self.spec.action_high),
        }

    def _open(self) -> dict[str, Any]:
        if not (self.root / layout.INFO).exists():
            self._info = {"total_episodes": 0, "total_frames": 0, "data_files": 0}
            # An empty set that says what it will hold, so that staged episodes can be read back.
            replace_json(self.root / layout.EXTRAS, self._extras())
            replace_json(self.root / layout.INFO, self._public_info())
            return self._info
        info = read_json(self.root / layout.INFO)
        extras = self.root / layout.EXTRAS
        told = read_json(extras) if extras.exists() else {}
        units = told.get("observation_units") or list(self.spec.observation_units)
        if "observation.privileged" not in info.get("features", {}):
            self.spec = replace(self.spec, privileged_names=())
        shape = info.get("features", {}).get(VIEW, {}).get("shape", ())
        if shape and not self.spec.image_shape:  # then only an episode with a film can be added
            self.spec = replace(self.spec, image_shape=tuple(shape))
        for key, theirs, mine in (
            ("codebase_version", info.get("codebase_version"), layout.VERSION),
            ("features", info.get("features"), self.spec.features()),
            ("fps", info.get("fps"), self.spec.rate_hz),
            ("observation_units", units, list(self.spec.observation_units)),
        ):
            if theirs != mine:
                raise SteadyhandError(
                    f"{self.root / layout.INFO}: {key} differs from what is to be recorded; "
                    "choose another folder or the settings of this set"
                )
        return {
            "total_episodes": info["total_episodes"],
            "total_frames": info["total_frames"],
            "data_files": _committed_files(self.root, info["total_episodes"]),
        }

    def _recover(self) -> list[dict[str, Any]]:
        pending = (self.root / layout.STATS).with_suffix(".next.json")
        total = self._info["total_episodes"]
        if pending.exists():
            # info.json either counts these rows (then the new statistics hold) or does not.
            counted = read_json(pending)["index"]["count"][0] == self._info["total_frames"]
            if counted and total:
                pending.replace(self.root / layout.STATS)
            else:
                pending.unlink()
        for path in (self.root / layout.STAGING).glob(".*.tmp"):
            path.unlink()
        records = []
        for path in sorted((self.root / layout.STAGING).glob("episode-*.parquet")):
            record = staged_record(path)
            if record["episode_index"] < total:
                path.unlink()  # the crash came between the commit and the cleaning up
            else:
                records.append(record)
        if records:
            log.info("%s: %d staged episodes recovered", self.root, len(records))
        return records


def staged_record(path: Path) -> dict[str, Any]:
    """What a staged file says of its episode."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        record: dict[str, Any] = json.loads(metadata[b"steadyhand"])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise SteadyhandError(f"{path}: is not a staged episode ({error}); remove it") from error
    return record


def _committed_files(root: Path, episodes: int) -> int:
    """How many episode files ``info.json`` counts; files beyond come from a crash."""
    file = 0
    while episodes and layout.episodes_path(root, file).exists():
        column = pq.read_table(layout.episodes_path(root, file), columns=["episode_index"])
        if column["episode_index"][0].as_py() >= episodes:
            break
        file += 1
    return file


def _values(table: pa.Table, name: str) -> NDArray[Any]:
    column = table[name].combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat).reshape(len(column), column.type.list_size)
    return np.asarray(column.to_numpy(zero_copy_only=False))


table_values = _values
