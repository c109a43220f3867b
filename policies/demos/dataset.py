"""Demonstrations read back from the disk, checked before anything learns from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from policies.demos import layout
from policies.demos.checks import fault
from policies.demos.spec import VIEW, DemoSpec, numbered
from policies.demos.writer import staged_record, table_values
from policies.evaluation.rollouts import Episode
from policies.storage import read_json
from robot.errors import SteadyhandError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Demonstrations:
    """All frames of a set in memory, episode after episode.

    Attributes:
        spec: names, units and rate.
        observation: (N, n_obs) float32.
        action: (N, n_act) float32 in [-1, 1].
        reward: (N,) float32.
        privileged: (N, n_priv) float32, or None.
        starts: (E + 1,) int64; episode e holds the frames starts[e]:starts[e + 1].
        success: (E,) bool.
        seeds: (E,) int64.
        groups: (E,) what must not be on both sides of a split (the object).
        numbers: (E,) int64, the episode's index on the disk.
        facts: one dict of scalars for each episode.
        dropped: one line for each bad episode that was left out.
    """

    spec: DemoSpec
    observation: Floats
    action: Floats
    reward: Floats
    privileged: Floats | None
    starts: NDArray[np.int64]
    success: NDArray[np.bool_]
    seeds: NDArray[np.int64]
    groups: tuple[str, ...]
    numbers: NDArray[np.int64]
    facts: tuple[dict[str, Any], ...] = ()
    dropped: tuple[str, ...] = field(default=())

    @property
    def episodes(self) -> int:
        """How many episodes."""
        return len(self.success)

    @property
    def judged(self) -> bool:
        """Whether the episodes were told success from failure; else only returns compare."""
        return bool(self.success.any()) or any(
            "is_success" in f or "success" in f for f in self.facts
        )

    @property
    def returns(self) -> NDArray[np.float64]:
        """(E,) undiscounted sum of each episode's rewards."""
        return np.add.reduceat(self.reward.astype(np.float64), self.starts[:-1])

    def return_scale(self, gamma: float) -> float:
        """What brings the discounted returns from each frame on to a standard deviation of 1.

        1 where the rewards never differ, as in a set that holds none.
        """
        tail, gains = 0.0, np.empty(len(self.reward))
        last = set((self.starts[1:] - 1).tolist())
        for i in range(len(gains) - 1, -1, -1):
            tail = float(self.reward[i]) + (0.0 if i in last else gamma * tail)
            gains[i] = tail
        spread = float(gains.std())
        return 1.0 / spread if spread > 1e-9 else 1.0

    def frames_of(self, episodes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The frame indices of the given episodes."""
        parts = [np.arange(self.starts[e], self.starts[e + 1]) for e in episodes]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def split(
        self, validation_share: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Episodes for training and for validation; no group is on both sides.

        Returns:
            (train episodes, validation episodes), each sorted and at least one long.
        """
        names = sorted(set(self.groups))
        if len(names) < 2:
            raise SteadyhandError(
                f"demonstrations: {len(names)} group of objects cannot be split; record more"
            )
        order = rng.permutation(len(names))
        held = min(max(1, round(validation_share * len(names))), len(names) - 1)
        chosen = {names[i] for i in order[:held]}
        mask = np.array([g in chosen for g in self.groups])
        return np.flatnonzero(~mask), np.flatnonzero(mask)

    def summary(self) -> dict[str, Any]:
        """The figures of the set, for a report."""
        lengths = np.diff(self.starts)
        return {
            "episodes": self.episodes,
            "frames": len(self.observation),
            "successes": int(self.success.sum()) if self.judged else None,
            "return_mean": float(self.returns.mean()),
            "groups": len(set(self.groups)),
            "rate_hz": self.spec.rate_hz,
            "length_min": int(lengths.min()),
            "length_mean": float(lengths.mean()),
            "length_max": int(lengths.max()),
            "observation_size": len(self.spec.observation_names),
            "action_size": len(self.spec.action_names),
            "dropped": list(self.dropped),
        }


def read_spec(root: Path | str) -> DemoSpec:
    """The spec of the set in ``root``."""
    root = Path(root)
    if not (root / layout.INFO).exists():
        raise SteadyhandError(f"{root}: is no demonstration set ({layout.INFO} is missing)")
    info = read_json(root / layout.INFO)
    version = info.get("codebase_version")
    if version != layout.VERSION:
        raise SteadyhandError(
            f"{root / layout.INFO}: codebase_version {version!r} is not supported, "
            f"expected {layout.VERSION!r}"
        )
    extras = read_json(root / layout.EXTRAS) if (root / layout.EXTRAS).exists() else {}
    try:
        features = info["features"]
        privileged = features.get("observation.privileged", {}).get("names", ())
        return DemoSpec(
            observation_names=_names(features["observation.state"]),
            action_names=_names(features["action"]),
            rate_hz=float(info["fps"]),
            task=extras.get("task", "pick the object up"),
            observation_units=tuple(extras.get("observation_units", ())),
            privileged_names=tuple(privileged),
            robot=info.get("robot_type") or "unknown",
            env=extras.get("env", {}),
            action_low=tuple(extras.get("action_low", ())),
            action_high=tuple(extras.get("action_high", ())),
            # Sets of another origin may have several episodes in a file: their films are left out.
            image_shape=tuple(features.get(VIEW, {}).get("shape", ())) if extras else (),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SteadyhandError(f"{root / layout.INFO}: lacks or garbles {error}") from error


def _names(feature: dict[str, Any]) -> tuple[str, ...]:
    names, size = feature.get("names"), int(feature["shape"][0])
    if isinstance(names, dict):  # older sets name the axis: {"motors": [...]}
        names = next(iter(names.values()))
    if isinstance(names, list) and len(names) == size:
        return tuple(str(n) for n in names)
    return numbered(size)


def load_demonstrations(root: Path | str, drop_bad: bool = False) -> Demonstrations:
    """Read and check a whole set, staged episodes included.

    Args:
        root: folder of the set.
        drop_bad: leave out episodes that fail a check, and say so in ``dropped``.

    Raises:
        SteadyhandError: a file is missing or broken, or (without ``drop_bad``) an episode fails
            a check; the message names the episode and what is wrong with it.
    """
    root = Path(root)
    spec = read_spec(root)
    good: list[tuple[dict[str, Any], dict[str, NDArray[Any]]]] = []
    dropped: list[str] = []
    for record, columns, problem in _episodes(root, spec):
        if problem is None:
            good.append((record, columns))
        elif drop_bad:
            dropped.append(f"episode {record['episode_index']}: {problem}")
        else:
            raise SteadyhandError(f"{root}: episode {record['episode_index']}: {problem}")
    if not good:
        raise SteadyhandError(f"{root}: holds no {'good ' if dropped else ''}episode")

    def joined(name: str) -> Floats:
        return np.concatenate([c[name] for _, c in good]).astype(np.float32)

    lengths = [len(c["frame_index"]) for _, c in good]
    return Demonstrations(
        spec=spec,
        observation=joined("observation.state"),
        action=joined("action"),
        reward=joined("next.reward"),
        privileged=joined("observation.privileged") if spec.privileged_names else None,
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        success=np.array([bool(c["next.success"][-1]) for _, c in good]),
        seeds=np.array([r["seed"] for r, _ in good], dtype=np.int64),
        groups=tuple(r["group"] for r, _ in good),
        numbers=np.array([r["episode_index"] for r, _ in good], dtype=np.int64),
        facts=tuple(r["facts"] for r, _ in good),
        dropped=tuple(dropped),
    )


def stream(root: Path | str) -> Iterator[tuple[int, Episode, str | None]]:
    """Every durable episode in order, one after the other in memory: number, episode, fault.

    An episode with a fault (see :func:`policies.demos.checks.fault`) may lack its arrays.
    """
    root = Path(root)
    spec = read_spec(root)
    for record, columns, problem in _episodes(root, spec):
        reward = columns.get("next.reward")
        film = layout.video_path(root, record["episode_index"])
        yield (
            record["episode_index"],
            Episode(
                seed=record["seed"],
                success=bool(columns["next.success"][-1]) if columns else False,
                total_reward=0.0 if reward is None else float(reward.sum()),
                length=record["length"],
                facts={**record["facts"], "group": record["group"]},
                observation=columns.get("observation.state"),
                action=columns.get("action"),
                reward=reward,
                privileged=columns.get("observation.privileged"),
                film=film.read_bytes() if spec.image_shape and film.exists() else None,
            ),
            problem,
        )


def _episodes(
    root: Path, spec: DemoSpec
) -> Iterator[tuple[dict[str, Any], dict[str, NDArray[Any]], str | None]]:
    """Yields (record, columns, fault) of every durable episode in order.

    Where the file of an episode's frames cannot be read, that is its fault, and columns are empty.
    """
    total = int(read_json(root / layout.INFO)["total_episodes"])
    number, file = 0, 0
    while number < total:
        records = _read(layout.episodes_path(root, file)).to_pylist()
        at, table = -1, None
        problem = ""
        for row in records:
            if row["episode_index"] >= total:
                break
            wanted = int(row["data/chunk_index"]) * layout.FILES_PER_CHUNK + row["data/file_index"]
            path = layout.data_path(root, wanted)
            if wanted != at:
                at = wanted
                try:
                    table = _read(path)
                except SteadyhandError as error:
                    table, problem = None, str(error)
            number += 1
            if table is None:
                yield _record(row), {}, problem
                continue
            offset = row["dataset_from_index"] - table["index"][0].as_py()
            frames = table.slice(offset, row["length"])
            yield _checked(_record(row), frames, spec, path, root)
        file += 1
    for path in sorted((root / layout.STAGING).glob("episode-*.parquet")):
        record = staged_record(path)
        if record["episode_index"] >= total:
            yield _checked(record, _read(path), spec, path, root)


def _checked(
    record: dict[str, Any], table: pa.Table, spec: DemoSpec, path: Path, root: Path
) -> tuple[dict[str, Any], dict[str, NDArray[Any]], str | None]:
    columns = _columns(table, spec, path)
    problem = fault(spec, columns, record["length"])
    film = layout.video_path(root, record["episode_index"])
    if spec.image_shape and problem is None and not film.is_file():
        problem = f"{film}: its film is missing"
    return record, columns, problem


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of ours, with stand-ins where a set was written by someone else."""
    number = int(row["episode_index"])
    return {
        "episode_index": number,
        "length": int(row["length"]),
        "seed": int(row.get("seed", -1)),
        "group": str(row.get("group", number)),
        "facts": json.loads(row.get("facts", "{}")),
    }


def _columns(table: pa.Table, spec: DemoSpec, path: Path) -> dict[str, NDArray[Any]]:
    out: dict[str, NDArray[Any]] = {}
    length = table.num_rows
    vectors = ("observation.state", "observation.privileged", "action")
    for item in layout.schema_of(spec):
        if item.name in table.column_names:
            values = table_values(table, item.name)
            if values.dtype == object:  # lists of varying length
                try:
                    values = np.stack([np.asarray(v) for v in values])
                except ValueError as error:
                    raise SteadyhandError(
                        f"{path}: rows of {item.name} differ in length"
                    ) from error
            if item.name in vectors:
                values = values.reshape(length, -1)
            out[item.name] = values
    for name in ("observation.state", "action", "timestamp", "frame_index"):
        if name not in out:
            raise SteadyhandError(f"{path}: column {name} is missing")
    last = np.arange(length) == length - 1
    out.setdefault("next.reward", np.zeros(length, dtype=np.float32))
    out.setdefault("next.done", last)
    out.setdefault("next.success", last)
    return out


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        line = str(error).splitlines()[0]
        raise SteadyhandError(f"{path}: is missing or not a whole Parquet file: {line}") from error
