"""Sets of grasp trials: written as files that resume, by one process or several."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from configs.load import as_dict, digest
from envs.synthesis.trial_maker import TrialMaker, TrialsConfig
from perception.coco import DatasetError, write_bytes
from perception.trials import SCENES, SET_FILE, write_scene

__all__ = ["TrialMaker", "TrialsConfig", "generate_trials"]


def generate_trials(
    root: Path | str,
    objects: str,
    scenes: int,
    seed: int,
    config: TrialsConfig | None = None,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a set of ``scenes`` tables with their trials; resumes where it stopped.

    Args:
        root: the set's folder.
        objects: as for :class:`TrialMaker`; ``test`` is refused.
        scenes: how many tables.
        seed: of the set.
        config: what is tried.
        workers: processes; 0 works in this one.
        progress: called with (scenes done, scenes in all).

    Raises:
        DatasetError: the folder holds another set, the disk refuses, or ``test`` was asked for.
    """
    if objects == "test":
        raise DatasetError("trials: test objects are for measuring, not for training")
    root = Path(root)
    config = config or TrialsConfig()
    (root / SCENES).mkdir(parents=True, exist_ok=True)
    _claim(root / SET_FILE, objects, seed, config)
    missing = [n for n in range(scenes) if not _file(root, n).is_file()]
    done = scenes - len(missing)
    for _ in _finished(root, objects, seed, config, missing, workers):
        done += 1
        if progress:
            progress(done, scenes)
    return root


def _finished(
    root: Path, objects: str, seed: int, config: TrialsConfig, numbers: list[int], workers: int
) -> Iterator[int]:
    if not numbers:
        return
    if workers <= 1:
        yield from _write(root, objects, seed, config, numbers)
        return
    context = multiprocessing.get_context("spawn")
    # Short jobs, so that progress shows and no worker idles at the end.
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = [numbers[i : i + 20] for i in range(0, len(numbers), 20)]
        futures = [pool.submit(_exhaust, root, objects, seed, config, job) for job in jobs]
        for future in as_completed(futures):
            yield from future.result()


def _exhaust(
    root: Path, objects: str, seed: int, config: TrialsConfig, numbers: list[int]
) -> list[int]:
    return list(_write(root, objects, seed, config, numbers))


def _write(
    root: Path, objects: str, seed: int, config: TrialsConfig, numbers: list[int]
) -> Iterator[int]:
    maker = TrialMaker(config, objects, seed)
    try:
        for number in numbers:
            write_scene(_file(root, number), maker.scene(number))
            yield number
    finally:
        maker.close()


def _file(root: Path, number: int) -> Path:
    return root / SCENES / f"{number:06d}.npz"


def _claim(path: Path, objects: str, seed: int, config: TrialsConfig) -> None:
    info: dict[str, Any] = {"objects": objects, "seed": seed, "trials_hash": digest(config)}
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if {k: found.get(k) for k in info} != info:
            raise DatasetError(
                f"{path.parent}: already holds another set {found}; expected {info}; "
                "choose another folder"
            )
        return
    write_bytes(path, json.dumps({**info, "config": as_dict(config)}, indent=2).encode())
