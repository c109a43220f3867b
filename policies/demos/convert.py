"""A set as a new set: in another format, or without some of its episodes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal

from policies.demos import dataset, layout, minari, robomimic
from policies.demos.spec import DemoSpec
from policies.demos.writer import DemoWriter, episode_columns
from policies.evaluation.rollouts import Episode
from robot.errors import SteadyhandError

Format = Literal["lerobot", "robomimic", "minari"]
FORMATS: tuple[Format, ...] = ("lerobot", "robomimic", "minari")


def format_of(path: Path) -> Format:
    """Which format a set on the disk has.

    Raises:
        SteadyhandError: none of them, or there is nothing.
    """
    if not path.exists():
        raise SteadyhandError(f"{path}: there is no such file or folder")
    if path.is_file():
        return "robomimic"
    if (path / layout.INFO).exists():
        return "lerobot"
    if minari.data_folder(path) is not None:
        return "minari"
    raise SteadyhandError(
        f"{path}: is no demonstration set: expected a folder in LeRobot's or Minari's layout, "
        "or a file in robomimic's"
    )


def read(
    path: Path, rate_hz: float | None = None, wanted: DemoSpec | None = None
) -> tuple[DemoSpec, Iterator[Episode]]:
    """A set in any format: what it holds, and its episodes as they are asked for.

    Args:
        path: a folder (LeRobot, Minari) or a file (robomimic).
        rate_hz: frames a second, where the set does not say it.
        wanted: what it must fit, as from :func:`policies.demos.describe.describe_env`; gives names,
            units and rate where the set has none.

    Raises:
        SteadyhandError: it is broken or does not fit; from the iterator, an episode is bad.
    """
    kind = format_of(path)
    if kind == "lerobot":
        spec = dataset.read_spec(path)
        source: Iterable[Episode] = (e for _, e in _good(path, ()))
        if rate_hz is not None and rate_hz != spec.rate_hz:
            raise SteadyhandError(f"{path}: says {spec.rate_hz:g} Hz, not {rate_hz:g} Hz")
    else:
        module = robomimic if kind == "robomimic" else minari
        spec = module.read_spec(path, rate_hz or (wanted.rate_hz if wanted else None))
        source = module.episodes(path, spec)
    if wanted is not None:
        spec = spec.fitted(wanted, str(path))
    return spec, _checked(source, spec, path)


def _checked(source: Iterable[Episode], spec: DemoSpec, path: Path) -> Iterator[Episode]:
    count = 0
    for number, episode in enumerate(source):
        try:
            episode_columns(spec, episode, number, 0)
        except SteadyhandError as error:
            raise SteadyhandError(f"{path}: {error}") from error
        count += 1
        yield episode
    if count == 0:
        raise SteadyhandError(f"{path}: holds no episode")


def convert(
    source: Path | str,
    target: Path | str,
    form: Format,
    *,
    rate_hz: float | None = None,
    wanted: DemoSpec | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write a set anew in another format (or the same), one episode at a time.

    Args:
        source: the set.
        target: a folder, or for robomimic a file; must not exist. It appears when it is whole.
        form: what to write.
        rate_hz: frames a second, where the source does not say it.
        wanted: what the source must fit; see :func:`read`.
        progress: called with the number of episodes written.

    Returns:
        How many episodes.

    Raises:
        SteadyhandError: the source is broken or does not fit, an episode is bad, the target exists
            or cannot be written; nothing is left then.
    """
    source, target = Path(source), Path(target)
    if form not in FORMATS:
        raise SteadyhandError(f"format: expected {', '.join(FORMATS)}, got {form!r}")
    if target.exists():
        raise SteadyhandError(f"{target}: exists already; choose another name")
    spec, episodes = read(source, rate_hz, wanted)
    done = 0

    def counted() -> Iterator[Episode]:
        nonlocal done
        for episode in episodes:
            yield episode
            done += 1
            if progress is not None:
                progress(done)

    if form == "robomimic":
        robomimic.write(target, spec, counted())
    elif form == "minari":
        _whole(target, lambda folder: minari.write(folder, spec, counted()))
    else:
        _whole(target, lambda folder: _write_lerobot(folder, spec, counted()))
    return done


def drop(root: Path | str, episodes: Collection[int]) -> int:
    """Take episodes out of a LeRobot set; those that stay are numbered anew.

    The set is written again beside the old one, which is replaced when the new one is whole.

    Args:
        root: folder of the set.
        episodes: their numbers; without any, all that fail a check.

    Returns:
        How many were dropped.

    Raises:
        SteadyhandError: there is no such episode, none would stay, or one that stays is bad.
    """
    root = Path(root)
    faults = {number: fault for number, _, fault in dataset.stream(root)}
    gone = set(episodes) or {number for number, fault in faults.items() if fault}
    unknown = sorted(gone - set(faults))
    if unknown:
        raise SteadyhandError(f"{root}: has no episode {unknown[0]}, only 0 to {len(faults) - 1}")
    if gone == set(faults):
        raise SteadyhandError(f"{root}: no episode would stay; remove the folder instead")
    if not gone:
        return 0
    spec = dataset.read_spec(root)
    fresh = root.with_name(f".{root.name}.{os.getpid()}.new")
    _whole(fresh, lambda folder: _write_lerobot(folder, spec, (e for _, e in _good(root, gone))))
    old = root.with_name(f".{root.name}.{os.getpid()}.old")
    root.rename(old)
    try:
        fresh.rename(root)
    except OSError:
        old.rename(root)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return len(gone)


def _good(root: Path, gone: Collection[int]) -> Iterator[tuple[int, Episode]]:
    for number, episode, fault in dataset.stream(root):
        if number in gone:
            continue
        if fault is not None:
            raise SteadyhandError(f"{root}: episode {number}: {fault}")
        yield number, episode


def _write_lerobot(folder: Path, spec: DemoSpec, episodes: Iterable[Episode]) -> None:
    with DemoWriter(folder, spec) as writer:
        for episode in episodes:
            writer.add(episode)


def _whole(target: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder beside ``target``, and rename it when it is whole."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        write(part)
        part.rename(target)
    except OSError as error:
        raise SteadyhandError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
