"""Annotated scenes: streamed from memory, or written as COCO sets that resume."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from configs.load import as_dict, digest, find, load
from envs.objects import CLASSES
from envs.synthesis.maker import VIEWS, SceneMaker, ScenesConfig, scene_models
from envs.synthesis.scene import Scene, View
from envs.synthesis.shifted import ShiftedConfig, ShiftedMaker
from perception.coco import CocoWriter, DatasetError, write_bytes
from robot.errors import ConfigError

__all__ = [
    "VIEWS",
    "Scene",
    "SceneMaker",
    "ScenesConfig",
    "ShiftedConfig",
    "View",
    "generate",
    "look_config",
    "maker_of",
    "scene_models",
    "scene_stream",
]


Look = Literal["own", "shifted"]


def look_config(look: str) -> ScenesConfig:
    """The frozen distribution of a look: ``own``, or ``shifted`` (see ``ShiftedConfig``).

    Raises:
        ConfigError: there is no such look.
    """
    if look not in get_args(Look):
        raise ConfigError(f"look: expected {' or '.join(get_args(Look))}, got {look!r}")
    if look == "shifted":
        return load(ShiftedConfig, find("protocol", "scenes_shifted"))
    return load(ScenesConfig, find("protocol", "scenes"))


def maker_of(config: ScenesConfig, objects: str, seed: int) -> SceneMaker:
    """The maker that suits a distribution."""
    if isinstance(config, ShiftedConfig):
        return ShiftedMaker(config, objects, seed)
    return SceneMaker(config, objects, seed)


def scene_stream(
    objects: str, count: int, seed: int, config: ScenesConfig | None = None
) -> Iterator[Scene]:
    """``count`` scenes one after the other, in memory; nothing is written."""
    maker = maker_of(config or look_config("own"), objects, seed)
    try:
        for number in range(count):
            yield maker.scene(number)
    finally:
        maker.close()


def generate(
    root: Path | str,
    objects: str,
    count: int,
    seed: int,
    config: ScenesConfig | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a COCO set of ``count`` scenes (two images each); resumes where it stopped.

    Args:
        root: the set's folder.
        objects: as for ``SceneMaker``.
        count: of scenes.
        seed: of the set.
        config: the distribution; the frozen one by default.
        workers: processes; 0 and 1 work in this one.
        progress: called with (scenes done, scenes in all).

    Returns:
        The path of ``instances.json``.

    Raises:
        DatasetError: the folder holds another set, or the disk refuses.
    """
    root = Path(root)
    config = config or look_config("own")
    shards = root / "scenes"
    shards.mkdir(parents=True, exist_ok=True)
    info = {"objects": objects, "seed": seed, "scenes_hash": digest(config)}
    _claim(root / "set.json", info)
    missing = [n for n in range(count) if not (shards / f"{n:06d}.json").is_file()]
    done = count - len(missing)
    workers = max(1, min(workers, len(missing)))
    jobs = [(str(root), objects, seed, config, missing[i::workers]) for i in range(workers)]
    if workers <= 1:
        for number in _write_scenes(*jobs[0]) if missing else ():
            done += 1
            if progress:
                progress(done, count)
            del number
    elif missing:
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_exhaust, args=job) for job in jobs]
        for process in processes:
            process.start()
        try:
            while any(process.is_alive() for process in processes):
                for process in processes:
                    process.join(0.5)
                if progress:
                    written = sum((shards / f"{n:06d}.json").is_file() for n in missing)
                    progress(done + written, count)
        finally:
            for process in processes:
                process.terminate()
                process.join()
        failed = [process.exitcode for process in processes if process.exitcode]
        if failed:
            raise DatasetError(f"{root}: a worker stopped with exit code {failed[0]}")
    writer = CocoWriter(root, CLASSES)
    for number in range(count):
        shard = json.loads((shards / f"{number:06d}.json").read_text())
        for entry, labels in shard:
            writer.add_entry(entry, labels)
    return writer.close({**info, "scenes": count, "config": as_dict(config)})


def _claim(path: Path, info: dict[str, Any]) -> None:
    if path.is_file():
        found = json.loads(path.read_text())
        if found != info:
            raise DatasetError(
                f"{path.parent}: already holds another set {found}; expected {info}; "
                "choose another folder"
            )
    else:
        write_bytes(path, json.dumps(info).encode())


def _write_scenes(
    root: str, objects: str, seed: int, config: ScenesConfig, numbers: list[int]
) -> Iterator[int]:
    maker = maker_of(config, objects, seed)
    try:
        for number in numbers:
            writer = CocoWriter(root, CLASSES)
            scene = maker.scene(number)
            shard = [
                (writer.add(view.frame, view.mask, view.labels, number), view.labels)
                for view in scene.views
            ]
            path = Path(root) / "scenes" / f"{number:06d}.json"
            write_bytes(path, json.dumps(shard, separators=(",", ":")).encode())
            yield number
    finally:
        maker.close()


def _exhaust(root: str, objects: str, seed: int, config: ScenesConfig, numbers: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    for _ in _write_scenes(root, objects, seed, config, numbers):
        pass
