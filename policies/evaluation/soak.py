"""A soak: picks with random faults one after the other, recorded, while memory is watched."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from policies.evaluation.faults import ALL, Campaign, Picks
from robot.errors import RecordingError, SteadyhandError
from robot.loop.log import RunLog
from robot.loop.reading import Recording, read_messages
from robot.loop.recorder import Recorder

_FLAT = 0.05
"""Memory may grow by this share between the second quarter of the runs and the last."""
_FAULTY = 2.0 / 3.0


def soak(
    simulated_s: float,
    folder: Path,
    seed: int = 0,
    on_run: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Pick in one process for so long, with a random fault in two picks of three.

    Every run is recorded and its recording read back; whole ones are removed, others stay.

    Args:
        simulated_s: seconds of simulated time.
        folder: for recordings.
        seed: of scenes and faults.
        on_run: called after each run with the simulated seconds so far.

    Returns:
        What ran, memory and handles early and late, recordings that were not whole, ``passed``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SteadyhandError(f"{folder}: {error.strerror}") from None
    picks = Picks(Campaign("full", seed))
    rng = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    kinds: set[str] = set()
    violations, done_s = 0, 0.0
    broken: list[str] = []
    held: list[dict[str, float]] = []
    while done_s < simulated_s:
        number = len(held)
        kind = phase = ""
        if rng.random() < _FAULTY:
            drawn = ALL[int(rng.integers(len(ALL)))]
            kind, phase = drawn.name, drawn.phases[int(rng.integers(len(drawn.phases)))]
            kinds.add(kind)
        recorder = Recorder(folder / f"{number:05d}.mcap", metadata={"kind": kind, "phase": phase})
        world = picks.station.world
        with recorder:
            run = picks.run(kind, phase, 100_000 * (seed + 1) + number, RunLog(recorder))
        done_s += world.time_s
        outcomes[run.outcome] += 1
        violations += bool(run.violations)
        problem = recording_problem(recorder)
        if problem:
            broken.append(f"{recorder.path}: {problem}")
        else:
            recorder.path.unlink()
        held.append(_held())
        if on_run is not None:
            on_run(done_s)
    quarter = max(1, len(held) // 4)
    early = _median(held[quarter : 2 * quarter] or held)
    late = _median(held[-quarter:])
    growth = late["memory_mb"] / early["memory_mb"] - 1.0
    no_more = late["handles"] <= early["handles"] and late["threads"] <= early["threads"]
    return {
        "simulated_s": round(done_s, 1),
        "runs": len(held),
        "kinds": len(kinds),
        "outcomes": dict(outcomes.most_common()),
        "violations": violations,
        "early": early,
        "late": late,
        "memory_growth": round(growth, 4),
        "broken_recordings": broken,
        "passed": growth <= _FLAT and no_more and not broken,
    }


def recording_problem(recorder: Recorder) -> str | None:
    """What is wrong with a finished recording."""
    if recorder.failed:
        return recorder.failed
    recording = Recording(recorder.path)
    try:
        count = sum(1 for _ in read_messages(recording))
    except RecordingError as error:
        return str(error)
    if not recording.complete:
        return "it has no end"
    if count != recorder.messages:
        return f"{count} of {recorder.messages} messages can be read"
    return None


def _held() -> dict[str, float]:
    """What this process holds now."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    resident = next(line for line in lines if line.startswith("VmRSS"))
    return {
        "memory_mb": int(resident.split()[1]) / 1024,
        "handles": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 (counts, no paths)
        "threads": threading.active_count(),
    }


def _median(held: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(float(np.median([h[key] for h in held])), 1) for key in held[0]}
