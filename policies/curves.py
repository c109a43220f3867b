"""Learning curves from the folders of runs: one a run, and the band of several seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from policies.evaluation.statistics import wilson_interval
from policies.runs import Run, differing
from policies.storage import read_json
from robot.errors import SteadyhandError

Floats = NDArray[np.float64]

#: What counts the horizontal axis of each stage's curves.
AXES = {"ppo": "environment steps", "bc": "epochs", "detector": "epochs", "scorer": "epochs"}

#: Configuration that may differ between the seeds of one curve.
_OF_A_SEED = ("seed", "workers")


@dataclass(frozen=True)
class Curve:
    """One metric of one run.

    Attributes:
        run: its folder.
        x: (n,) steps or epochs, rising.
        y: (n,) values; NaN where there was none.
        episodes: behind each value, where it is a success rate; else 0.
        before: environment steps that went before the first, for demonstrations and corrections.
    """

    run: Path
    x: Floats
    y: Floats
    episodes: int = 0
    before: int = 0

    def reaches(self, value: float) -> float | None:
        """The first x at which y is at least ``value``; None where it never is."""
        there = np.flatnonzero(self.y >= value)
        return float(self.x[there[0]]) if there.size else None


@dataclass(frozen=True)
class Band:
    """The curves of one method over its seeds.

    Attributes:
        label: what it is called.
        curves: one a seed.
        x: (n,) where it is known.
        mean: (n,) over the seeds.
        low: (n,) lower end of the 95 % interval; NaN where none can be given.
        high: (n,) upper end.
        interval: where it comes from, in words.
    """

    label: str
    curves: tuple[Curve, ...]
    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    interval: str


def read_curve(run: Run, metric: str, ppo_alone: bool = False) -> Curve:
    """A curve of a run from what its stages left.

    Args:
        run: the run.
        metric: stage and name, as ``ppo/score``.
        ppo_alone: count PPO's own steps alone; those of the demonstrations and corrections that it
            begins from otherwise stand before them.

    Raises:
        SteadyhandError: there is no such curve; the message names those that there are.
    """
    stage, _, name = metric.partition("/")
    found = {key: rows for key, rows in _curves(run.folder).items() if rows}
    rows = found.get(metric)
    if rows is None:
        known = ", ".join(found) or "none yet; a stage leaves its curves when it is finished"
        raise SteadyhandError(f"{run.folder}: has no curve {metric!r}; it has: {known}")
    before, episodes = 0, 0
    if stage == "ppo":
        # From fresh weights nothing of the demonstrations was used.
        unused = ppo_alone or bool(run.config.get("ppo.fresh"))
        before = 0 if unused else _frames_before(run.folder)
        result = read_json(run.folder / "ppo" / "result.json")
        rate = result["metric"] == "success" and name in ("score", "best")
        episodes = int(run.config["ppo.measure.evaluation_episodes"]) if rate else 0
    x, y = np.array(rows, dtype=np.float64).T
    return Curve(run.folder, x + before, y, episodes, before)


def bands(
    runs: Sequence[tuple[str, Run]], metric: str, ppo_alone: bool = False
) -> tuple[Band, ...]:
    """The curves of all runs, those of one method together.

    Args:
        runs: label and run. Runs with the same label are seeds of one method; so are those without
            one (an empty label) whose configurations differ in seeds and workers only.
        metric: see :func:`read_curve`.
        ppo_alone: likewise.
    """
    methods: list[tuple[str, list[Run]]] = []
    for label, run in runs:
        for known, others in methods:
            if known == label and (label or _same_method(run, others[0])):
                others.append(run)
                break
        else:
            methods.append((label, [run]))
    return tuple(
        _band(label or of[0].folder.name, [read_curve(r, metric, ppo_alone) for r in of])
        for label, of in methods
    )


def _same_method(a: Run, b: Run) -> bool:
    return all(key.rsplit(".", 1)[-1] in _OF_A_SEED for key in differing([a, b]))


def _band(label: str, curves: list[Curve]) -> Band:
    """Mean and interval over the seeds at every x that one of them has.

    Between its own points a curve is taken as straight; beyond them it says nothing.
    """
    if len(curves) == 1:
        return _single(label, curves[0])
    x = np.unique(np.concatenate([c.x for c in curves]))
    values = np.stack([np.interp(x, c.x, c.y, np.nan, np.nan) for c in curves])
    count = np.isfinite(values).sum(axis=0)
    keep = count > 0
    x, values, count = x[keep], values[:, keep], count[keep]
    mean = np.nanmean(values, axis=0)
    spread = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / np.maximum(count - 1, 1))
    student = np.where(count > 1, stdtrit(np.maximum(count - 1, 1), 0.975), np.nan)
    half = student * spread / np.sqrt(count)
    low, high = mean - half, mean + half
    if all(c.episodes for c in curves):
        low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)
    return Band(label, tuple(curves), x, mean, low, high, f"Student's t over {len(curves)} seeds")


def _single(label: str, curve: Curve) -> Band:
    n = curve.episodes
    if not n:
        nothing = np.full(len(curve.x), np.nan)
        return Band(label, (curve,), curve.x, curve.y, nothing, nothing, "none: one seed")
    ends = np.array([wilson_interval(round(float(y) * n), n) for y in curve.y])
    return Band(
        label, (curve,), curve.x, curve.y, ends[:, 0], ends[:, 1], f"Wilson's, {n} episodes"
    )


def _frames_before(run: Path) -> int:
    """Frames of the demonstrations and corrections that the cloned network has seen."""
    rounds = _rounds(run)
    if not rounds:
        return 0
    return sum(int(s["frames"]) for s in read_json(rounds[-1])["demonstrations"])


def _rounds(run: Path) -> list[Path]:
    return sorted((run / "bc").glob("round-*/result.json"), key=lambda f: int(f.parent.name[6:]))


Points = dict[str, list[tuple[float, float]]]


def _curves(run: Path) -> Points:
    """Every curve that the stages of a run have left."""
    out: Points = {}
    if (run / "ppo" / "result.json").is_file():
        history = read_json(run / "ppo" / "result.json")["history"]
        _add(out, "ppo", ((row["steps"], row) for row in history))
    epoch = 0
    for file in _rounds(run):
        history = read_json(file)["history"]
        _add(out, "bc", ((epoch + i + 1, row) for i, row in enumerate(history)))
        epoch += len(history)
    for stage in ("detector", "scorer"):
        file = run / stage / "metrics.jsonl"
        if file.is_file():
            rows = [_row(line, file) for line in file.read_text(encoding="utf-8").splitlines()]
            _add(out, stage, ((row["epoch"], row) for row in rows if "epoch" in row))
    return out


def _row(line: str, file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError) as error:
        raise SteadyhandError(f"{file}: a line is not a JSON object: {error}") from error


def _add(out: Points, stage: str, rows: Iterator[tuple[float, Mapping[str, Any]]]) -> None:
    for at, row in rows:
        for name, value in row.items():
            if name in ("steps", "epoch") or isinstance(value, bool):
                continue
            if isinstance(value, int | float):
                out.setdefault(f"{stage}/{name}", []).append((float(at), float(value)))
