"""``steadyhand run``: perceive, plan, grasp and put away until the table is clear."""

from __future__ import annotations

import json as json_module
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Optional, cast

import numpy as np
import typer

from configs.load import as_dict
from envs.camera import Light, look_at, render
from envs.objects import SETS, ObjectModel, object_set
from envs.physics import physics as physics_setting
from envs.station import Sensing, Station
from policies.bundle.format import Bundle, shipped
from policies.bundle.watch import BundleWatch
from policies.edge.runtime import EdgePolicy
from policies.evaluation.grasping import load_detector, load_scorer
from policies.evaluation.protocols import EpisodeResult, clear_table, put_away
from policies.evaluation.protocols import protocol as protocol_of
from policies.evaluation.wanted import want
from policies.provenance import git_commit, package_versions
from robot.errors import (
    ConfigError,
    PlanningError,
    SafetyError,
    SensorError,
    SteadyhandError,
)
from robot.limits import load_limits
from robot.loop.log import RunLog
from robot.loop.recorder import Recorder
from robot.safety.estop import EStop
from robot.safety.suite import load_safety
from robot.types import CameraIntrinsics, PickResult
from steadyhand.console import ERR, Json, Safety, Seed, emit, say_uncalibrated
from steadyhand.report import write_report
from steadyhand.video import Caption, VideoWriter, captioned

_VIEW = CameraIntrinsics(480, 360, 430.0, 430.0, 239.5, 179.5)
_EYE_M = np.array([1.45, -0.80, 0.90])
_TARGET_M = np.array([0.28, -0.12, 0.27])
_FILM_EVERY_S = 0.125
_FILM_FPS = 16
_TOLD = ("bundle", "sensing", "physics", "safety", "monitors_off", "seed", "git_commit")


def run(
    bundle: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--bundle", help="A bundle's folder; the shipped one if left out."),
    ] = None,
    objects: Annotated[
        str, typer.Option(help="test, train, primitives, or a glob of URDF files.")
    ] = "test",
    n_objects: Annotated[int, typer.Option(min=0, max=20)] = 5,
    sensing: Annotated[str, typer.Option(help="camera or truth.")] = "camera",
    physics: Annotated[str, typer.Option(help="nominal or hard.")] = "nominal",
    robot: Annotated[
        str, typer.Option(help="The arm: a name or a YAML file; the bundle's own if left out.")
    ] = "",
    protocol: Annotated[
        str, typer.Option(help="Whose table: clutter, bin, shelf or cluttered-path.")
    ] = "clutter",
    safety: Safety = "default",
    target: Annotated[
        str, typer.Option(help="Only this: an object's name, a class, or a pixel: 160,120.")
    ] = "",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Folder of the results; runs/<time> if left out."),
    ] = None,
    video: Annotated[bool, typer.Option(help="Film the run.")] = True,
    key: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--key", help="Refuse a bundle that is not signed with this key."),
    ] = None,
    gui: Annotated[bool, typer.Option("--gui", help="Bullet's window; needs a display.")] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Clear a table of objects; leaves report.html, video.mp4, recording.mcap, result.json."""
    if sensing not in ("camera", "truth"):
        raise ConfigError(f"sensing: expected camera or truth, got {sensing!r}")
    if gui and not os.environ.get("DISPLAY"):
        raise ConfigError("gui: no display found (DISPLAY is not set); leave --gui out")
    source = bundle or shipped()
    loaded = Bundle.load(source)
    watch = BundleWatch(loaded, key)
    novelty = loaded.novelty()
    models = object_set(objects)
    setting = physics_setting(physics)
    limits = load_limits(robot or loaded.limits_path)
    rules = protocol_of(protocol)
    settings = load_safety(safety)
    detector = load_detector(source) if sensing == "camera" else None
    folder = out or Path("runs") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng((seed, 11))
    chosen = draw_models(objects, models, n_objects, rng)
    say_uncalibrated(loaded)
    began = time.monotonic()
    facts = {
        "bundle": str(source) if bundle else "shipped",
        "objects": objects,
        "sensing": sensing,
        "physics": physics,
        "robot": limits.name,
        "safety": safety,
        "monitors_off": list(settings.off),
        "protocol": protocol,
        "target": target or None,
        "seed": seed,
        "git_commit": git_commit(),
        **package_versions(),
    }
    recorder = Recorder(folder / "recording.mcap", metadata={k: str(v) for k, v in facts.items()})
    log = RunLog(recorder)
    film = VideoWriter(folder / "video.mp4", _FILM_FPS, (480, 360)) if video else None
    station = Station(
        EdgePolicy(loaded),
        setting,
        cast("Sensing", sensing),
        detector,
        log=log,
        gui=gui,
        limits=limits,
        scorer=load_scorer(source) if sensing == "camera" else None,
        novelty=novelty,
        safety=settings,
    )
    supervisor = station.player.supervisor
    tally = EpisodeResult(seed, objects=len(chosen), names=[m.name for m in chosen])
    stopped: SteadyhandError | None = None
    try:
        tally.redrawn = station.begin(
            chosen, rules.drop, int(rng.integers(2**31)), obstacles=rules.obstacles
        )
        wanted = want(station, target) if target else frozenset()
        if film is not None:
            station.clock.on_tick = _camera(station, film, log, len(chosen))
        with ERR.status("clearing the table") as status, EStop(supervisor.estop):

            def picked(pick: PickResult) -> None:
                supervisor.signals.damage = watch.damage()
                status.update(
                    f"clearing the table: {tally.successes} of {len(chosen)} put away, "
                    f"last attempt: {pick.category}"
                )

            def done() -> bool:
                return bool(wanted & put_away(station))

            clear_table(station, rules, tally, picked, done)
    except (SafetyError, SensorError, PlanningError) as error:
        # The run ends, and what there is of it is kept: the report says why.
        log.event(str(error))
        stopped = error
    finally:
        tally.cleared = len(put_away(station))
        sim_s = station.world.time_s
        recorder.close()
        if film is not None:
            film.close()
        station.close()
    result: dict[str, Any] = {
        "objects": len(chosen),
        "cleared": tally.cleared,
        "attempts": tally.attempts,
        "success_rate": tally.successes / tally.attempts if tally.attempts else 1.0,
        "cleared_rate": tally.cleared / len(chosen) if chosen else 1.0,
        "wall_s": round(time.monotonic() - began, 3),
        "sim_s": round(sim_s, 3),
        "picks": [
            {
                **{k: v for k, v in asdict(pick.result).items() if k != "object_id"},
                "class": pick.class_name,
                "start_s": round(pick.start_s, 3),
                "end_s": round(pick.end_s, 3),
            }
            for pick in log.picks
        ],
        **{k: facts[k] for k in _TOLD},
        "stopped": None if stopped is None else str(stopped),
        "object_names": tally.names,
        "protocol_hash": rules.digest,
    }
    _write_json(folder / "result.json", result)
    write_report(
        folder / "report.html",
        log,
        result,
        facts,
        config={"protocol": as_dict(rules), "physics": as_dict(setting)},
        video=folder / "video.mp4" if film is not None and film.frames else None,
        recording=recorder,
        limits=station.limits,
    )
    shown = {k: v for k, v in result.items() if k not in ("picks", "object_names")}
    if not json:
        words = "nothing to do: the table was empty" if not chosen else (
            f"{tally.cleared} of {len(chosen)} objects put away in {tally.attempts} attempts"
        )  # fmt: skip
        emit({**shown, "report": str(folder / "report.html")}, False, words)
        for pick in log.picks:
            if not pick.result.success and pick.result.detail:
                ERR.print(f"  {pick.result.category}: {pick.result.detail}", highlight=False)
    else:
        emit({**result, "out": str(folder)}, True)
    if stopped is not None:
        raise stopped


def draw_models(
    objects: str, models: Sequence[ObjectModel], count: int, rng: np.random.Generator
) -> list[ObjectModel]:
    """``count`` of the set's models at random; of a user's own files each in turn."""
    if objects in SETS:
        return [models[int(i)] for i in rng.choice(len(models), count, replace=True)]
    return [models[i % len(models)] for i in range(count)]


def _camera(station: Station, film: VideoWriter, log: RunLog, total: int) -> Any:
    """Films the world from beside the table; called at every tick."""
    rotation = look_at("view", _EYE_M, _TARGET_M, upright=True).rotation
    due = station.world.time_s

    def on_tick(now_s: float) -> None:
        nonlocal due
        if now_s < due:
            return
        due = now_s + _FILM_EVERY_S
        rgb, _, _ = render(station.world, _VIEW, rotation, _EYE_M, Light())
        phase = log.phases[-1].name if log.phases else "start"
        verdict = log.last_verdict.level.name
        film.write(captioned(rgb, Caption(phase, len(put_away(station)), total, now_s, verdict)))

    return on_tick


def _write_json(path: Path, content: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    try:
        part.write_text(json_module.dumps(content, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SteadyhandError(f"{path}: cannot be written: {error.strerror}") from error
