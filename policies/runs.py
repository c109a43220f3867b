"""What the folder of a run says of it: configuration, where it comes from, and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.evaluation.statistics import wilson_interval
from policies.storage import read_json
from robot.errors import SteadyhandError

RUN = "run.json"


@dataclass(frozen=True)
class Figure:
    """One final number, with its 95 % interval where one was measured."""

    value: float
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Run:
    """A run of ``steadyhand train``.

    Attributes:
        folder: where it is.
        seed: of the run.
        git_commit: of the sources that began it.
        config_hash: of its configuration.
        config: flat, by dotted names.
        figures: by dotted names, as far as the run has come.
    """

    folder: Path
    seed: int
    git_commit: str
    config_hash: str
    config: Mapping[str, Any]
    figures: Mapping[str, Figure]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run in ``folder``.

        Raises:
            SteadyhandError: it holds no run, or a file of it is damaged.
        """
        if not (folder / RUN).is_file():
            raise SteadyhandError(f"{folder}: holds no run: {RUN} is missing")
        begun = read_json(folder / RUN)
        try:
            return cls(
                folder,
                int(begun["seed"]),
                str(begun["git_commit"]),
                str(begun["config_hash"]),
                flat(begun["config"]),
                figures(folder),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SteadyhandError(f"{folder / RUN}: is not a run's file: {error!r}") from error


def find_runs(root: Path) -> list[Run]:
    """The runs in ``root`` and up to two folders below, by name."""
    files = [*root.glob(RUN), *root.glob(f"*/{RUN}"), *root.glob(f"*/*/{RUN}")]
    found = [Run.read(file.parent) for file in sorted(files) if _is_run(file)]
    return found


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Configuration keys whose values are not the same in all runs; None where one is missing."""
    keys = sorted({key for run in runs for key in run.config})
    rows = {key: [run.config.get(key) for run in runs] for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def figures(folder: Path) -> dict[str, Figure]:
    """The final figures that a run's stages have left so far, by dotted names."""
    found: dict[str, Figure] = {}
    for stage, names in (("detector", ("ap", "ap50", "map")), ("scorer", ("auc", "brier", "ece"))):
        last = _last_line(folder / stage / "metrics.jsonl")
        found |= {f"{stage}.{n}": Figure(float(last[n])) for n in names if n in last}
    if (folder / "bc" / "folds" / "result.json").is_file():
        folds = read_json(folder / "bc" / "folds" / "result.json")
        found |= {f"bc.folds.{n}": Figure(float(folds[n])) for n in ("loss_mean", "loss_std")}
    rounds = sorted(
        (folder / "bc").glob("round-*/result.json"), key=lambda f: int(f.parent.name[6:])
    )
    if rounds:
        found["bc.validation_loss"] = Figure(float(read_json(rounds[-1])["validation_loss"]))
    if (folder / "ppo" / "result.json").is_file():
        found |= _ppo(read_json(folder / "ppo" / "result.json"))
    if (folder / "bundle" / "proofs.json").is_file():
        found |= {f"bundle.{n}": f for n, f in _proofs(read_json(folder / "bundle/proofs.json"))}
    return found


def _ppo(result: Mapping[str, Any]) -> dict[str, Figure]:
    episodes = int(result["final_episodes"])
    found = {}
    for name in ("before", "after"):
        value, interval = float(result[name]), None
        if result["metric"] == "success":
            interval = wilson_interval(round(value * episodes), episodes)
        found[f"ppo.{name}"] = Figure(value, interval)
    low, high = result["interval"]
    gain = float(result["after"]) - float(result["before"])
    found["ppo.gain"] = Figure(gain, (float(low), float(high)))
    return found


def _proofs(proofs: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Success rates and paired differences under each physics setting."""
    for physics, rows in proofs.items():
        for name, row in rows.items() if isinstance(rows, Mapping) else ():
            if isinstance(row, Mapping) and "ci95" in row:
                value = row["success_rate"] if "success_rate" in row else row["difference"]
                yield f"{physics}.{name}", Figure(float(value), (row["ci95"][0], row["ci95"][1]))


def _last_line(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    try:
        content: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    except ValueError as error:
        raise SteadyhandError(f"{file}: the last line is not valid JSON: {error}") from error
    return content


def _is_run(file: Path) -> bool:
    try:
        return "config_hash" in read_json(file)
    except (SteadyhandError, TypeError):
        return False
