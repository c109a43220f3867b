"""``steadyhand look``: what is seen, and where it could be gripped, drawn over the images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import numpy as np
import typer

from perception.drawing import Drawn, draw_view, side_by_side
from perception.look import seen_share
from robot.errors import ConfigError
from steadyhand.console import ERR, Json, Seed, emit, table

if TYPE_CHECKING:
    from perception.detector import OnnxDetector
    from perception.look import CameraPerception
    from policies.bundle.format import Bundle
    from robot.types import GraspCandidate, Look, ObjectState

# Share of the rim around an object that was seen; less of it means that it may go on unseen.
_PARTLY_SEEN = 0.9


def look(
    images: Annotated[
        Optional[list[Path]],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Argument(metavar="[IMAGE]...", help="Colour, PNG or JPEG; one a view, 1 to 4."),
    ] = None,
    depth: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--depth", help="16-bit PNG, or NPY in m; one for each IMAGE, in order."),
    ] = None,
    camera: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--camera", help="YAML with intrinsics and pose; one for each IMAGE."),
    ] = None,
    depth_unit: Annotated[
        float, typer.Option("--depth-unit", help="Metres that a 1 in a depth PNG stands for.")
    ] = 0.001,
    max_skew: Annotated[
        float, typer.Option("--max-skew", min=0.0, help="Seconds between frames of one look.")
    ] = 0.5,
    live_sim: Annotated[
        bool, typer.Option("--live-sim", help="Look at a simulated scene instead of files.")
    ] = False,
    objects: Annotated[
        str, typer.Option(help="--live-sim: test, train, primitives or a glob.")
    ] = "test",
    n_objects: Annotated[int, typer.Option(min=0, max=20, help="--live-sim: how many.")] = 5,
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--bundle", help="A bundle's folder; the shipped one if left out."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The drawing, a PNG.")] = Path("look.png"),
    save: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--save", help="--live-sim: folder for the views, as files to look at."),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Draw detections, oriented boxes and grasp candidates; leaves a picture."""
    from perception.detector import OnnxDetector
    from policies.bundle.format import Bundle, shipped

    files, depths, cameras = images or [], depth or [], camera or []
    _check_files(files, depths, cameras, live_sim, save)
    if out.suffix.lower() != ".png":
        raise ConfigError(f"out: expected a .png file, got {out}")
    loaded = Bundle.load(bundle or shipped())
    detector = OnnxDetector(loaded.model("detector"))
    if live_sim:
        with _simulated(loaded, detector, objects, n_objects, seed) as eyes:
            result, views = _whole_look(eyes, seed, save)
    elif depths:
        eyes = _from_files(detector, files, depths, cameras, depth_unit, max_skew)
        result, views = _whole_look(eyes, seed)
    else:
        result, views = _colour_alone(detector, files)
    _write(out, views)
    result |= {"seed": seed, "bundle": str(bundle) if bundle else "shipped", "out": str(out)}
    if json:
        emit(result, True)
        return
    _tell(result)


def _check_files(
    files: Sequence[Path],
    depths: Sequence[Path],
    cameras: Sequence[Path],
    live_sim: bool,
    save: Path | None,
) -> None:
    if live_sim == bool(files):
        raise ConfigError("look: give either images or --live-sim")
    if live_sim and (depths or cameras):
        raise ConfigError("look: --depth and --camera belong to images, not to --live-sim")
    if save is not None and not live_sim:
        raise ConfigError("save: belongs to --live-sim")
    if len(files) > 4:
        raise ConfigError(f"look: at most 4 views, got {len(files)}")
    if cameras and not depths:
        raise ConfigError("look: --camera without --depth; the camera's pose needs a depth image")
    if depths and not (len(files) == len(depths) == len(cameras)):
        raise ConfigError(
            f"look: {len(files)} images, {len(depths)} --depth and {len(cameras)} --camera; each "
            "image needs one of both, in the same order"
        )


def _from_files(
    detector: OnnxDetector,
    files: Sequence[Path],
    depths: Sequence[Path],
    cameras: Sequence[Path],
    depth_unit: float,
    max_skew: float,
) -> CameraPerception:
    from perception.frames import FileCamera
    from perception.fusion import Fusion, FusionConfig
    from perception.look import CameraPerception

    eyes = [
        FileCamera(colour, depth, camera, depth_unit, max_skew)
        for colour, depth, camera in zip(files, depths, cameras, strict=True)
    ]
    names = [eye.name for eye in eyes]
    if len(set(names)) < len(names):
        raise ConfigError(f"name: two cameras have the same name: {', '.join(names)}")
    return CameraPerception(eyes, detector, Fusion(FusionConfig(max_skew_s=max_skew)))


@contextmanager
def _simulated(
    bundle: Bundle, detector: OnnxDetector, objects: str, n_objects: int, seed: int
) -> Iterator[CameraPerception]:
    """The cameras over the very scene with which ``run`` of the same seed begins."""
    from envs.objects import object_set
    from envs.physics import physics
    from envs.station import Station
    from perception.look import CameraPerception
    from policies.edge.runtime import EdgePolicy
    from policies.evaluation.protocols import protocol
    from robot.limits import load_limits
    from steadyhand.run import draw_models

    rng = np.random.default_rng((seed, 11))
    chosen = draw_models(objects, object_set(objects), n_objects, rng)
    limits = load_limits(bundle.limits_path)
    station = Station(EdgePolicy(bundle), physics("nominal"), "camera", detector, limits=limits)
    try:
        with ERR.status("dropping objects"):
            station.begin(chosen, protocol("clutter").drop, int(rng.integers(2**31)))
        eyes = station.perception
        if not isinstance(eyes, CameraPerception):
            raise ConfigError("look: the station does not look through cameras")
        yield eyes
    finally:
        station.close()


def _whole_look(
    eyes: CameraPerception, seed: int, save: Path | None = None
) -> tuple[dict[str, Any], list[Drawn]]:
    """One look, its candidates, and what of them is to be drawn."""
    from perception.frames import write_frame
    from robot.limits import load_limits
    from robot.planning.grasps import GraspPlanner

    seen = eyes.look()
    if save is not None:
        for frame in seen.frames:
            write_frame(frame, save)
    planner = GraspPlanner(load_limits("panda").gripper)
    candidates = planner.propose(seen, np.random.default_rng(seed))
    rows = [_object_row(state, seen, candidates) for state in seen.objects]
    result = {
        "verdict": _verdict(seen, candidates),
        "views": [
            {
                "camera": frame.camera,
                "used": frame.camera in eyes.fusion.report.used,
                "detections": [
                    {"class": d.class_name, "score": d.score, "box_xywh_px": list(d.box_xywh_px)}
                    for d in found
                ],
            }
            for frame, found in zip(seen.frames, seen.detections, strict=True)
        ],
        "left_out": eyes.left_out,
        "objects": rows,
        "candidates": [_candidate_row(candidate) for candidate in candidates],
    }
    views = []
    for frame, found in zip(seen.frames, seen.detections, strict=True):
        reason = eyes.left_out.get(frame.camera)
        title = f"{frame.camera}: {_count(len(found), 'detection')}"
        if reason is None:
            views.append(Drawn.of(frame, title, found, seen.objects, candidates))
        else:
            views.append(Drawn(frame.rgb, f"{frame.camera}: left out"))
    return result, views


def _object_row(
    state: ObjectState, seen: Look, candidates: Sequence[GraspCandidate]
) -> dict[str, Any]:
    rotation = state.X_world_obj.rotation
    share = seen_share(seen.height_map, state)
    return {
        "id": state.object_id,
        "class": state.class_name,
        "confidence": round(state.confidence, 4),
        "position_m": _rounded(state.X_world_obj.position_m),
        "yaw_rad": round(math.atan2(rotation[1, 0], rotation[0, 0]), 4),
        "quat_xyzw": _rounded(state.X_world_obj.quat_xyzw),
        "dimensions_m": _rounded(state.dimensions_m),
        "seen_share": round(share, 3),
        "partly_seen": share < _PARTLY_SEEN,
        "candidates": sum(c.object_id == state.object_id for c in candidates),
    }


def _candidate_row(candidate: GraspCandidate) -> dict[str, Any]:
    return {
        "object_id": candidate.object_id,
        "score": round(candidate.score, 4),
        "position_m": _rounded(candidate.X_world_grasp.position_m),
        "quat_xyzw": _rounded(candidate.X_world_grasp.quat_xyzw),
        "width_m": round(candidate.width_m, 4),
        "opening_m": round(candidate.opening_m, 4),
    }


def _verdict(seen: Look, candidates: Sequence[GraspCandidate]) -> str:
    if not seen.objects:
        return "nothing on the table"
    things = _count(len(seen.objects), "object")
    if not candidates:
        return f"{things}, but no grasp from above fits any of them"
    return f"{things}, {_count(len(candidates), 'grasp candidate')}"


def _colour_alone(
    detector: OnnxDetector, files: Sequence[Path]
) -> tuple[dict[str, Any], list[Drawn]]:
    from perception.frames import read_colour

    views, rows = [], []
    for file in files:
        rgb = read_colour(file)
        found = detector.detect_colour(rgb, file.stem)
        title = f"{file.stem}: {_count(len(found), 'detection')}, colour alone"
        views.append(Drawn(rgb, title, found))
        rows.append(
            {
                "camera": file.stem,
                "used": True,
                "detections": [
                    {"class": d.class_name, "score": d.score, "box_xywh_px": list(d.box_xywh_px)}
                    for d in found
                ],
            }
        )
    result = {
        "verdict": "colour alone: the detector also needs heights, so most objects are overlooked; "
        "there are no poses and no grasps without --depth and --camera",
        "views": rows,
        "left_out": {},
        "objects": [],
        "candidates": [],
    }
    return result, views


def _write(out: Path, views: Sequence[Drawn]) -> None:
    from perception.coco import write_png

    out.parent.mkdir(parents=True, exist_ok=True)
    write_png(out, side_by_side([draw_view(view) for view in views])[..., ::-1])


def _tell(result: dict[str, Any]) -> None:
    emit(
        {
            "detections": {v["camera"]: len(v["detections"]) for v in result["views"]},
            "left out": result["left_out"],
            "candidates": len(result["candidates"]),
            "picture": result["out"],
        },
        False,
        result["verdict"],
    )
    if result["objects"]:
        table(
            ("object", "class", "sure", "x, y (m)", "size (mm)", "seen", "grasps"),
            [
                (
                    f"#{row['id']}",
                    row["class"],
                    f"{row['confidence']:.2f}",
                    " ".join(f"{v:.3f}" for v in row["position_m"][:2]),
                    " x ".join(f"{1e3 * v:.0f}" for v in row["dimensions_m"]),
                    f"{row['seen_share']:.0%}" + (" partly" if row["partly_seen"] else ""),
                    str(row["candidates"]),
                )
                for row in result["objects"]
            ],
        )


def _rounded(values: Any) -> list[float]:
    return [round(float(v), 5) for v in values]


def _count(n: int, noun: str) -> str:
    return f"{n or 'no'} {noun}{'' if n == 1 else 's'}"
