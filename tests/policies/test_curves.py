"""Learning curves: read from a run's files, joined over seeds, with intervals that are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.curves import bands, read_curve
from policies.evaluation.statistics import wilson_interval
from policies.runs import Run
from policies.storage import replace_json
from robot.errors import SteadyhandError


def a_run(
    root: Path,
    scores: list[float],
    seed: int = 0,
    *,
    steps: int = 100,
    frames: tuple[int, ...] = (),
    metric: str = "success",
    fresh: bool = False,
    **config: Any,
) -> Run:
    """A finished run as training leaves it: so many evaluations, one each ``steps``."""
    folder = root / f"run-{seed}-{len(list(root.iterdir())) if root.exists() else 0}"
    settings = {"measure": {"evaluation_episodes": 50}, "seed": seed, "workers": 2 - seed % 2}
    settings["fresh"] = fresh
    begun = {"seed": seed, "config_hash": "x", "git_commit": "y"}
    replace_json(folder / "run.json", {**begun, "config": {"ppo": settings, **config}})
    rows = [{"steps": i * steps, "score": s, "event": "kept"} for i, s in enumerate(scores)]
    result = {"history": rows, "metric": metric, "final_episodes": 10, "before": 0.1, "after": 0.2}
    replace_json(folder / "ppo" / "result.json", {**result, "interval": [0.0, 0.2]})
    for k in range(len(frames)):
        done = {"validation_loss": 0.1, "history": [{"validation_loss": 0.5 - 0.1 * k}] * 2}
        sets = [{"frames": n} for n in frames[: k + 1]]
        replace_json(folder / "bc" / f"round-{k}" / "result.json", {**done, "demonstrations": sets})
    return Run.read(folder)


def test_what_went_before_ppo_counts_as_steps(tmp_path: Path) -> None:
    run = a_run(tmp_path, [0.4, 0.7, 0.9], frames=(900, 100))
    curve = read_curve(run, "ppo/score")
    assert curve.before == 1000
    assert curve.x.tolist() == [1000, 1100, 1200] and curve.y.tolist() == [0.4, 0.7, 0.9]
    assert (curve.reaches(0.7), curve.reaches(0.95)) == (1100.0, None)
    assert read_curve(run, "ppo/score", ppo_alone=True).x.tolist() == [0, 100, 200]
    fresh = a_run(tmp_path, [0.0], 1, frames=(900,), fresh=True)
    assert read_curve(fresh, "ppo/score").before == 0  # its own steps are all it had
    loss = read_curve(run, "bc/validation_loss")  # two rounds of two epochs
    assert loss.x.tolist() == [1, 2, 3, 4] and loss.y.tolist() == [0.5, 0.5, 0.4, 0.4]


def test_one_seed_has_the_interval_of_its_episodes(tmp_path: Path) -> None:
    (band,) = bands([("", a_run(tmp_path, [0.4, 0.9]))], "ppo/score")
    assert [band.low[1], band.high[1]] == list(wilson_interval(45, 50))
    assert "50 episodes" in band.interval
    (band,) = bands([("", a_run(tmp_path, [-9.0, 4.0], metric="return"))], "ppo/score")
    assert np.isnan(band.low).all() and band.mean.tolist() == [-9.0, 4.0]


def test_seeds_of_one_method_are_joined_with_students_interval(tmp_path: Path) -> None:
    runs = [a_run(tmp_path, [0.5, 0.5 + 0.1 * s], s) for s in range(3)]
    other = a_run(tmp_path, [0.2, 0.3], 0, bc={"rounds": 1})
    first, second = bands([("", run) for run in (*runs, other)], "ppo/score")
    assert [len(b.curves) for b in (first, second)] == [3, 1]
    assert first.mean.tolist() == pytest.approx([0.5, 0.6])
    # Three values of standard deviation 0.1; t of two degrees of freedom is 4.3027 in any table.
    assert first.high[1] - first.mean[1] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert first.low[0] == first.high[0] == pytest.approx(0.5)
    named = bands([("a", runs[0]), ("b", runs[1]), ("a", other)], "ppo/score")
    assert [(b.label, len(b.curves)) for b in named] == [("a", 2), ("b", 1)]


def test_seeds_with_other_steps_are_compared_where_both_are_known(tmp_path: Path) -> None:
    long, short = a_run(tmp_path, [0.0, 0.2, 0.4], 0), a_run(tmp_path, [0.0, 0.6], 1, steps=50)
    (band,) = bands([("m", long), ("m", short)], "ppo/score")
    assert band.x.tolist() == [0, 50, 100, 200]
    assert band.mean.tolist() == pytest.approx([0.0, 0.35, 0.2, 0.4])
    assert np.isfinite(band.low).tolist() == [True, True, False, False]


def test_a_curve_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    run = a_run(tmp_path, [0.4])
    with pytest.raises(SteadyhandError, match="has no curve 'ppo/scores'; it has: ppo/score"):
        read_curve(run, "ppo/scores")
    (run.folder / "ppo" / "result.json").unlink()
    with pytest.raises(SteadyhandError, match="it has: none yet"):
        read_curve(run, "ppo/score")
    (run.folder / "scorer").mkdir()
    (run.folder / "scorer" / "metrics.jsonl").write_text('{"epoch": 1, "loss": 2}\n[3')
    with pytest.raises(SteadyhandError, match=r"metrics.jsonl: a line is not a JSON object"):
        read_curve(run, "scorer/loss")
