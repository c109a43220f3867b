"""Runs a grasp protocol over many episodes, in parallel and resumable, and sums it up."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.load import digest
from envs.objects import ObjectModel, object_set
from envs.physics import physics
from envs.station import Sensing, Station
from perception.detector import OnnxDetector
from perception.scorer import OnnxGraspScorer
from perception.segmenter import DepthSegmenter
from policies.bundle.format import Bundle
from policies.evaluation.protocols import (
    EpisodeResult,
    Protocol,
    disturbance,
    protocol,
    run_protocol,
)
from policies.evaluation.rollouts import episode_seeds
from policies.evaluation.statistics import wilson_interval
from policies.evaluation.subjects import Subject, file_digest
from policies.provenance import git_commit
from robot.errors import ConfigError, SteadyhandError
from robot.execution.grasp import GraspLoopConfig
from robot.interface import Detector
from robot.limits import load_limits
from robot.safety.config import SafetyConfig
from robot.safety.suite import load_safety

#: Instead of a detector's file: boxes around whatever stands on the table.
DEPTH = Path("depth")


@dataclass(frozen=True)
class GraspSetup:
    """What is evaluated, and under what conditions.

    Attributes:
        subject: the policy under test.
        protocol: name of the protocol.
        objects: object set.
        sensing: where candidates and object states come from.
        physics: name of the setting.
        detector: a bundle's folder, a detector's ``.onnx`` file, or ``DEPTH`` for none but the
            segmentation of depth; needed for camera sensing.
        scorer: a bundle's folder (which may hold none) or a scorer's ``.onnx`` file; None leaves
            candidates in the planner's own order.
        views: cameras that look; 1 is the fixed one alone.
        robot: the arm: a name, or the path of a YAML file.
        safety: the monitors' settings: as for ``robot``.
    """

    subject: Subject
    protocol: str = "single"
    objects: str = "test"
    sensing: Sensing = "camera"
    physics: str = "nominal"
    detector: Path | None = None
    scorer: Path | None = None
    views: int = 2
    robot: str = "panda"
    safety: str = "default"

    def facts(self) -> dict[str, Any]:
        """What a result says of itself."""
        disturbed, safety = disturbance(self.protocol), load_safety(self.safety)
        return {
            "protocol": self.protocol,
            "protocol_hash": protocol(self.protocol).digest,
            **({"disturbance_hash": digest(disturbed)} if disturbed else {}),
            "objects": self.objects,
            "sensing": self.sensing,
            "physics": self.physics,
            "physics_hash": digest(physics(self.physics)),
            "subject": self.subject.label,
            "subject_hash": self.subject.digest,
            "detector_hash": None if self.detector is None else _source_digest(self.detector),
            "scorer_hash": scorer_digest(self.scorer),
            "views": self.views,
            "robot": self.robot,
            "robot_hash": robot_digest(self.robot),
            **({"safety_hash": digest(safety)} if safety != SafetyConfig() else {}),
            "git_commit": git_commit(),
        }


def load_detector(source: Path) -> OnnxDetector | DepthSegmenter:
    """The detector of a bundle's folder, or of one ``.onnx`` file; ``DEPTH`` is no file."""
    if source == DEPTH:
        return DepthSegmenter()
    if source.suffix == ".onnx" or source.is_file():
        return OnnxDetector(source)
    return OnnxDetector(Bundle.load(source).model("detector"))


def load_scorer(source: Path) -> OnnxGraspScorer | None:
    """The scorer of one ``.onnx`` file, or of a bundle's folder: None where that holds none."""
    if source.suffix == ".onnx" or source.is_file():
        return OnnxGraspScorer(source)
    bundle = Bundle.load(source)
    return OnnxGraspScorer(bundle.model("scorer")) if bundle.has("scorer") else None


def robot_digest(robot: str) -> str:
    """Twelve hex digits that change with an arm's limits, its URDF or its solids."""
    limits = load_limits(robot)

    def plain(value: Any) -> Any:
        return value.name if isinstance(value, Path) else np.asarray(value).tolist()

    text = json.dumps(asdict(limits), sort_keys=True, default=plain)
    files = (limits.urdf, limits.urdf.parent / f"{limits.name}_collision.yaml")
    total = hashlib.sha256(text.encode())
    for file in files:
        if file.is_file():
            total.update(file.read_bytes())
    return total.hexdigest()[:12]


def scorer_digest(source: Path | None) -> str | None:
    """Twelve hex digits that change with the scorer, or None where there is none."""
    if source is None:
        return None
    if not source.is_dir():
        return file_digest(source)
    bundle = Bundle.load(source)
    return hashlib.sha256(bundle.model("scorer")).hexdigest()[:12] if bundle.has("scorer") else None


def _source_digest(source: Path) -> str:
    if source == DEPTH:
        return str(source)
    return file_digest(source / "manifest.json" if source.is_dir() else source)


class _Worker:
    def __init__(self, setup: GraspSetup) -> None:
        if setup.subject.kind == "expert" and setup.sensing != "truth":
            raise ConfigError(
                "sensing: the expert sees the truth by definition; use --sensing truth"
            )
        detector: Detector | None = None
        if setup.sensing == "camera":
            if setup.detector is None:
                raise ConfigError("sensing: camera needs a detector; name a bundle, or use truth")
            detector = load_detector(setup.detector)
        self.rules: Protocol = protocol(setup.protocol)
        self.models: tuple[ObjectModel, ...] = object_set(setup.objects)
        policy = setup.subject.make(GraspLoopConfig().lift_m)
        scorer = None if setup.scorer is None else load_scorer(setup.scorer)
        self.station = Station(
            policy,
            physics(setup.physics),
            setup.sensing,
            detector,
            limits=load_limits(setup.robot),
            scorer=scorer,
            views=setup.views,
            watches=disturbance(setup.protocol) is not None,
            novelty=setup.subject.novelty(),
            safety=load_safety(setup.safety),
        )

    def run(self, seed: int) -> EpisodeResult:
        return run_protocol(self.station, self.rules, self.models, seed)


_worker: _Worker | None = None


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(setup: GraspSetup, seed: int) -> EpisodeResult:
    # Made here and not at the worker's start, where an error would be printed and lost.
    global _worker
    if _worker is None:
        _worker = _Worker(setup)
    return _worker.run(seed)


def run_episodes(setup: GraspSetup, seeds: list[int], workers: int) -> Iterator[EpisodeResult]:
    """Results in the order of ``seeds``; ``workers=0`` runs in this process."""
    if not seeds:
        return
    if workers <= 0:
        worker = _Worker(setup)
        try:
            for seed in seeds:
                yield worker.run(seed)
        finally:
            worker.station.close()
        return
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
    ) as pool:
        futures = [pool.submit(_work, setup, seed) for seed in seeds]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool as error:
            raise SteadyhandError(
                "evaluation: a worker process died (out of memory, or killed); finished episodes "
                "are kept where --out was given, run again to go on"
            ) from error
        finally:
            for future in futures:
                future.cancel()


def evaluate_grasp(
    setup: GraspSetup,
    episodes: int,
    seed: int,
    workers: int = 2,
    out: Path | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> dict[str, Any]:
    """Run a protocol and sum it up.

    Args:
        setup: what is evaluated.
        episodes: how many.
        seed: fixes them all: the i-th episode depends on ``seed`` and i alone.
        workers: processes.
        out: a JSON-lines file of episodes; those already there under the same conditions are not
            run again.
        on_episode: called after each, for progress.

    Returns:
        The JSON fields of ``evaluate grasp`` but for the time it took.
    """
    facts = {**setup.facts(), "seed": seed}
    seeds = list(episode_seeds(seed, 0, episodes))
    done = _read(out, facts) if out is not None else {}
    for result in done.values():
        if on_episode is not None and result.seed in seeds:
            on_episode(result)
    missing = [s for s in seeds if s not in done]
    for result in run_episodes(setup, missing, min(workers, len(missing))):
        done[result.seed] = result
        if out is not None:
            _append(out, facts, result)
        if on_episode is not None:
            on_episode(result)
    results = [done[s] for s in seeds]
    rules = protocol(setup.protocol)
    sums = summary(results, rules)
    low, high = wilson_interval(sums["successes"], sums["episodes"])
    sums["success_rate"] = sums["successes"] / max(sums["episodes"], 1)
    sums["ci95"] = [low, high]
    if "grasp_successes" in sums:
        low, high = wilson_interval(sums["grasp_successes"], sums["attempts"])
        sums["grasp_success_ci95"] = [low, high]
    return {**facts, **sums}


def summary(results: Sequence[EpisodeResult], rules: Protocol) -> dict[str, Any]:
    """Counts and rates over episodes; intervals are added by the caller."""
    failures: dict[str, int] = {}
    for result in results:
        for category in result.failures:
            failures[category] = failures.get(category, 0) + 1
    clear = rules.name == "clutter"
    attempts = sum(r.attempts for r in results)
    objects = sum(r.objects for r in results)
    successes = (
        sum(r.cleared == r.objects for r in results) if clear else sum(r.successes for r in results)
    )
    out: dict[str, Any] = {
        "episodes": len(results),
        "successes": int(successes),
        "failures": dict(sorted(failures.items(), key=lambda item: -item[1])),
        "redrawn": sum(r.redrawn for r in results),
    }
    if clear:
        out["attempts"] = attempts
        out["grasp_successes"] = sum(r.successes for r in results)
        out["grasp_success_rate"] = out["grasp_successes"] / max(attempts, 1)
        out["objects_total"] = objects
        out["cleared"] = sum(r.cleared for r in results)
        out["cleared_rate"] = out["cleared"] / max(objects, 1)
    if rules.name == "target":
        out["attempts"] = attempts
        out["first_try"] = sum(r.successes > 0 and r.attempts == 1 for r in results)
    if rules.slip is not None:
        out["attempts"] = attempts
        out["slipped"] = sum(r.slipped for r in results)
        out["regripped"] = sum(r.slipped and r.successes > 0 for r in results)
    return out


def _append(out: Path, facts: dict[str, Any], result: EpisodeResult) -> None:
    # One whole line in one write: what a crash leaves is whole lines.
    out.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"of": facts, "episode": asdict(result)}) + "\n"
    handle = os.open(out, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        end = os.fstat(handle).st_size
        if end and os.pread(handle, 1, end - 1) != b"\n":
            line = "\n" + line  # a line that was cut must not swallow this one
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def _read(out: Path, facts: dict[str, Any]) -> dict[int, EpisodeResult]:
    if not out.exists():
        return {}
    done = {}
    for line in out.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            if row["of"] == facts:
                result = EpisodeResult(**row["episode"])
                done[result.seed] = result
        except (ValueError, KeyError, TypeError):
            continue  # a line cut by a crash: that episode is run again
    return done
