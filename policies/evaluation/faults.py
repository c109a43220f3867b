"""The campaign: every kind of fault in simulated picks of the bundle, counted."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from configs.load import digest
from envs.faults.fault import Fault, Kind
from envs.faults.injector import Injector
from envs.faults.kinds import KINDS, ZONE
from envs.faults.run import Run, run_fault
from envs.objects import object_set
from envs.physics import physics
from envs.station import Station
from policies.bundle.format import Bundle, shipped
from policies.bundle.manifest import NAME as MANIFEST
from policies.bundle.watch import BundleWatch
from policies.edge.runtime import EdgePolicy
from policies.evaluation.statistics import paired_difference
from policies.provenance import git_commit
from robot.errors import ConfigError
from robot.limits import load_limits
from robot.loop.log import RunLog
from robot.safety.config import SafetyConfig
from robot.safety.suite import NAMES

CampaignName = Literal["quick", "full", "nominal"]
CAMPAIGNS: tuple[CampaignName, ...] = get_args(CampaignName)
_NOMINAL = {"quick": 24, "full": 1000, "nominal": 500}
_FULL_RUNS_A_PHASE = 6


class Tampered(Fault):
    """A byte of the running bundle changes on disk; the loop checks it at its next occasion."""

    def begin(self, run: Injector) -> None:
        """A copy of the bundle is watched, and then damaged."""
        self._folder = tempfile.TemporaryDirectory(prefix="steadyhand-fault-")
        root = Path(self._folder.name) / "bundle"
        shutil.copytree(shipped(), root)
        watch = BundleWatch(Bundle.load(root))
        model = root / "models" / "policy.onnx"
        data = bytearray(model.read_bytes())
        data[int(run.rng.integers(len(data)))] ^= 0xFF
        model.write_bytes(data)
        run.observer.mark("untrusted")
        run.supervisor.signals.damage = watch.damage()

    def end(self, run: Injector) -> None:
        """The real one was never touched."""
        run.supervisor.signals.damage = None
        self._folder.cleanup()


ALL: tuple[Kind, ...] = (
    *KINDS,
    Kind("bundle_tampered", Tampered, ("halt",), monitor="integrity"),
)


@dataclass(frozen=True)
class Campaign:
    """What is run.

    Attributes:
        name: ``quick``: every kind once; ``full``: every kind in every phase, several times;
            ``nominal``: none, but every pick once more with no monitor at all.
        seed: fixes everything.
        without: monitors that are switched off.
        kinds: only these; all when empty.
        bundle: who picks: a bundle's folder.
    """

    name: CampaignName = "quick"
    seed: int = 0
    without: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    bundle: Path = field(default_factory=shipped)

    def __post_init__(self) -> None:
        for given, known, what in (
            (self.without, NAMES, "monitor"),
            (self.kinds, tuple(kind.name for kind in ALL), "kind of fault"),
        ):
            unknown = [name for name in given if name not in known]
            if unknown:
                raise ConfigError(f"no {what} is called {unknown[0]!r}; known: {', '.join(known)}")
        if self.name == "nominal" and self.kinds:
            raise ConfigError("campaign nominal has no faults; leave out their kinds")

    def plan(self) -> list[tuple[str, str, int]]:
        """(kind, phase, seed) of every run; the kind is empty for a nominal pick."""
        kinds = [k for k in ALL if not self.kinds or k.name in self.kinds]
        if not self.calibrated:
            kinds = [k for k in kinds if k.monitor != "novelty"]
        out = []
        for number, kind in enumerate(kinds if self.name != "nominal" else ()):
            if self.name == "quick":
                phase = kind.phases[(self.seed + number) % len(kind.phases)]
                out.append((kind.name, phase, self.seed))
                continue
            for phase in kind.phases:
                times = _FULL_RUNS_A_PHASE * (4 if len(kind.phases) == 1 else 1)
                out += [(kind.name, phase, 1000 * self.seed + k) for k in range(times)]
        nominal = 0 if self.kinds else _NOMINAL[self.name]
        out += [("", "", 1000 * self.seed + k) for k in range(nominal)]
        return out

    @property
    def calibrated(self) -> bool:
        """Whether it is known what is new to the policy."""
        return Bundle.load(self.bundle).novelty() is not None

    def safety(self) -> SafetyConfig:
        """The supervisor's settings: the defaults, a closed corner, and what is left out."""
        return replace(SafetyConfig(keep_out=(ZONE,)), off=self.without)


class Picks:
    """A bundle's picks of one test object each, in this process, all monitors on.

    Args:
        campaign: tells which monitors are left out.
    """

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._models = object_set("test")
        self._kinds = {kind.name: kind for kind in ALL}
        #: Where they happen.
        self.station = self._make()

    def run(self, kind: str, phase: str, seed: int, log: RunLog | None = None) -> Run:
        """One pick with a fault of this kind, or none where it is empty; ``log`` is told of it."""
        station = self.station
        station.player.log = station.picker.log = log
        run = run_fault(station, self._models, self._kinds.get(kind), phase, seed)
        if "number" in run.violations:  # a world that was told NaN is good for nothing more
            station.close()
            self.station = self._make()
        return run

    def _make(self) -> Station:
        bundle = Bundle.load(self._campaign.bundle)
        return Station(
            EdgePolicy(bundle),
            physics("nominal"),
            "truth",
            limits=load_limits(bundle.limits_path),
            safety=self._campaign.safety(),
            novelty=bundle.novelty(),
        )


_picks: tuple[Campaign, Picks] | None = None


def _work(campaign: Campaign, item: tuple[str, str, int]) -> Run:
    global _picks
    if _picks is None or _picks[0] != campaign:
        _picks = campaign, Picks(campaign)
    return _picks[1].run(*item)


def _runs(campaign: Campaign, items: Sequence[tuple[str, str, int]], workers: int) -> Iterator[Run]:
    if workers <= 0 or len(items) < 2:
        for item in items:
            yield _work(campaign, item)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_work, [campaign] * len(items), items, chunksize=4)


def run_campaign(
    campaign: Campaign,
    workers: int = 0,
    out: Path | None = None,
    on_run: Callable[[Run], None] | None = None,
) -> dict[str, Any]:
    """Run it and sum it up.

    Args:
        campaign: what is run.
        workers: processes; 0 runs in this one.
        out: a JSON-lines file of runs; those already there are not run again.
        on_run: called after each, for progress.
    """
    runs, facts = _run_all(campaign, workers, out, on_run)
    result = summary(runs) | {
        "campaign": campaign.name,
        "seed": campaign.seed,
        "without": list(campaign.without),
        "novelty_calibrated": campaign.calibrated,
        **facts,
    }
    if campaign.name == "nominal":
        bare = replace(campaign, without=NAMES)
        others, _ = _run_all(bare, workers, out, on_run)
        won, won_bare = ([r.outcome == "success" for r in each] for each in (runs, others))
        difference = paired_difference(won, won_bare).as_dict()
        result["beside_no_monitor"] = {"successes": sum(won_bare), **difference}
    return result


def _run_all(
    campaign: Campaign, workers: int, out: Path | None, on_run: Callable[[Run], None] | None
) -> tuple[list[Run], dict[str, Any]]:
    """Every run of the plan, in its order, and what they were made with."""
    facts = {
        "git_commit": git_commit(),
        "safety": digest(campaign.safety()),
        "code": _code(),
        "bundle": hashlib.sha256((campaign.bundle / MANIFEST).read_bytes()).hexdigest()[:12],
    }
    done = _read(out, facts) if out is not None else {}
    plan = campaign.plan()
    for item in plan:
        if item in done and on_run is not None:
            on_run(done[item])
    for run in _runs(campaign, [item for item in plan if item not in done], workers):
        done[(run.kind, run.phase, run.seed)] = run
        if out is not None:
            _append(out, facts, run)
        if on_run is not None:
            on_run(run)
    return [done[item] for item in plan], facts


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Counts over all runs, and one line for each kind."""
    faults = [r for r in runs if r.kind and r.happened]
    nominal = [r for r in runs if not r.kind]
    reactions = [r.reaction for r in faults if r.reaction is not None]
    by_kind: dict[str, Any] = {}
    for kind in ALL:
        mine = [r for r in faults if r.kind == kind.name]
        if not mine:
            continue
        times = [r.reaction for r in mine if r.reaction is not None]
        worst: dict[str, float] = {}
        for r in mine:
            for name, value in r.violations.items():
                worst[name] = max(worst.get(name, value), value)
        by_kind[kind.name] = {
            "expect": list(kind.expect),
            "within": kind.within,
            "runs": len(mine),
            "halted": sum(r.halted for r in mine),
            "slowed": sum(r.slowed > 0 for r in mine),
            "reaction_max": max(times, default=None),
            "undetected": sum(r.undetected for r in mine),
            "wrong": sum(r.wrong for r in mine),
            "violations": {k: round(v, 4) for k, v in worst.items()},
        }
    return {
        "runs": len(faults) + len(nominal),
        "kinds": len({r.kind for r in faults}),
        "violations": sum(bool(r.violations) for r in (*faults, *nominal)),
        "undetected": sum(r.undetected for r in faults),
        "wrong_reactions": sum(r.wrong for r in faults),
        "reaction_periods": {
            "p50": float(np.median(reactions)) if reactions else None,
            "max": max(reactions, default=None),
        },
        "false_halts": sum(r.halted for r in nominal),
        "slowed_share": sum(r.slowed > 0 for r in nominal) / max(len(nominal), 1),
        "nominal_runs": len(nominal),
        "nominal_successes": sum(r.outcome == "success" for r in nominal),
        "not_injected": sorted({r.kind for r in runs if r.kind and not r.happened}),
        "by_kind": by_kind,
    }


def default_out(campaign: Campaign) -> Path:
    """Where the runs of a campaign are kept, outside the repository."""
    base = os.environ.get("STEADYHAND_CACHE") or str(Path.home() / ".cache" / "steadyhand")
    off = "-".join(("", *campaign.without))
    return Path(base) / "faults" / f"{campaign.name}-{campaign.seed}{off}.jsonl"


def _code() -> str:
    """Twelve hex digits that change with whatever decides about a run."""
    root = Path(__file__).parents[2]
    total = hashlib.sha256()
    for pattern in ("robot/**/*.py", "envs/**/*.py", "policies/**/*.py", "configs/**/*"):
        for file in sorted(root.glob(pattern)):
            if file.suffix in (".py", ".yaml", ".urdf"):
                total.update(file.read_bytes())
    return total.hexdigest()[:12]


def _append(out: Path, facts: dict[str, Any], run: Run) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"of": facts, "run": asdict(run)}) + "\n")


def _read(out: Path, facts: dict[str, Any]) -> dict[tuple[str, str, int], Run]:
    if not out.exists():
        return {}
    done = {}
    for line in out.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            if row["of"] == facts:
                run = Run(**row["run"])
                done[(run.kind, run.phase, run.seed)] = run
        except (ValueError, KeyError, TypeError):
            continue  # a line cut by a crash: that run is made again
    return done
