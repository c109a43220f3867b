"""Thousands of corrupted copies of a bundle, each of which must be refused and do nothing."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from policies.bundle.format import Bundle
from policies.bundle.tampering import ATTACKS
from policies.bundle.verify import checks_of, verify_bundle
from robot.errors import SteadyhandError

#: What no reading of a bundle does: start something, connect somewhere, unpickle.
_FORBIDDEN = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn",
              "socket.connect", "socket.bind", "os.fork", "ctypes.dlopen")  # fmt: skip
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod",
            "os.truncate", "shutil.rmtree")  # fmt: skip


@dataclass
class FuzzReport:
    """What became of the corrupted copies.

    Attributes:
        cases: how many by kind.
        refused: those that were refused with a clear line.
        accepted: descriptions of those that passed; there must be none.
        crashed: of those that ended in anything but a clear line.
        acted: what a refused bundle made the reader do besides reading; there must be nothing.
        peak_mb: most memory that this process had, MB.
    """

    cases: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    accepted: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    acted: list[str] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every copy was refused, clearly, and did nothing."""
        return not (self.accepted or self.crashed or self.acted)


class _Watch:
    """Sees through the interpreter's audit events what is done while a bundle is read."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)  # there is no way to take it out again; ``on`` silences it

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (
            os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        )  # fmt: skip
        if (writes or event in _CHANGES or event.startswith(_FORBIDDEN)) and (
            "__pycache__" not in str(arguments)  # a module of Python's own, read the first time
        ):
            self.seen.append(f"{event} {arguments!r:.120}")


_watch: _Watch | None = None


def fuzz(
    bundle: Path | str,
    cases: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> FuzzReport:
    """Corrupt copies of a bundle and look at what happens.

    Each copy goes through everything that ``verify`` does. It lies in a folder of its own with
    other files around it; those, and what the interpreter reports of files, processes, sockets and
    pickles, show whether anything was done.

    Args:
        bundle: a sound bundle's folder; it is not touched.
        cases: how many copies.
        seed: fixes them all.
        progress: called with the number done.

    Raises:
        SteadyhandError: the bundle itself is not sound.
    """
    global _watch
    wrong = [c for c in verify_bundle(bundle) if not c.ok]
    if wrong:
        raise SteadyhandError(f"{bundle}: is not sound itself: {wrong[0].name}: {wrong[0].detail}")
    if _watch is None:
        _watch = _Watch()
    source = Bundle.load(bundle)
    rng = np.random.default_rng(seed)
    report = FuzzReport()
    names = sorted(ATTACKS)
    with tempfile.TemporaryDirectory() as folder:
        pristine = Path(folder) / "pristine"
        shutil.copytree(source.root, pristine)
        for number in range(cases):
            name = names[int(rng.integers(len(names)))]
            report.cases[name] += 1
            _case(Path(folder) / "yard", pristine, name, rng, report, _watch, f"{name} #{number}")
            progress(number + 1)
        if Bundle.load(pristine).files != source.files:
            report.acted.append("the bundle itself changed")
    report.peak_mb = _peak_mb()
    return report


def _case(
    yard: Path, pristine: Path, name: str, rng: Any, report: FuzzReport, watch: _Watch, label: str
) -> None:
    root, outside = yard / "bundle", yard / "outside.bin"
    yard.mkdir()
    outside.write_bytes(b"not yours" * 100)
    # Unchanged files are links to the same bytes: an attack replaces a file, never writes into it.
    shutil.copytree(pristine, root, copy_function=os.link)
    ATTACKS[name](root, outside, rng)
    before = _tree(yard)
    watch.seen, watch.on = [], True
    try:
        failed = _first_failure(root)
    except BaseException as error:  # whatever it is, it is what this looks for
        if isinstance(error, KeyboardInterrupt):
            raise
        watch.on = False
        report.crashed.append(f"{label}: {type(error).__name__}: {error!s:.200}")
    else:
        watch.on = False
        if failed is None:
            report.accepted.append(label)
        elif not failed or "\n" in failed or len(failed) > 2000:
            report.crashed.append(f"{label}: no clear line: {failed!r:.200}")
        else:
            report.refused += 1
    report.acted += [f"{label}: {event}" for event in watch.seen]
    if _tree(yard) != before:
        report.acted.append(f"{label}: files around the bundle changed")
    shutil.rmtree(yard)


def _first_failure(root: Path) -> str | None:
    """What is wrong with a bundle, or None."""
    try:
        bundle = Bundle.load(root)
    except SteadyhandError as error:
        return str(error)
    return next((check.detail for check in checks_of(bundle) if not check.ok), None)


def _tree(folder: Path) -> list[tuple[str, int, int]]:
    rows = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        rows.append((str(path), status.st_size, status.st_mtime_ns))
    return rows


def _peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
