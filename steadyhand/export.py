"""``steadyhand export``: a training run to a bundle, with proof."""

from __future__ import annotations

import json as json_module
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from perception.coco import write_bytes
from perception.detector import OnnxDetector
from robot.errors import ConfigError, SteadyhandError
from steadyhand.console import CORES, ERR, Json, Seed, Store, Workers, emit

if TYPE_CHECKING:
    from policies.compression.quantize import QuantizeConfig
    from steadyhand.packing import Parts


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder: bc/, ppo/, demos/, detector/.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle.")],
    stage: Annotated[str, typer.Option(help="Which policy: ppo or bc.")] = "ppo",
    detector: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option(
            "--detector", help="int8 detector file; the run's own, or the shipped bundle's."
        ),
    ] = None,
    scorer: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--scorer", help="Grasp scorer file; the run's own where it has one."),
    ] = None,
    keep_fp32: Annotated[
        bool,
        typer.Option(
            "--keep-fp32", help="Leave the fp32 detector beside the bundle, to compare with."
        ),
    ] = False,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", help="Make the policy smaller first: a file or name as in compress."
        ),
    ] = "",
    note: Annotated[str, typer.Option("--note", help="A remark for the card.")] = "",
    episodes: Annotated[int, typer.Option(min=2, help="Paired episodes of the proof.")] = 200,
    seed: Seed = 1000,
    workers: Workers = CORES,
    tracking: Store = None,
    json: Json = False,
) -> None:
    """Export to ONNX, quantize to int8, prove parity and success, write the bundle."""
    from policies.bundle.format import Bundle, shipped
    from policies.compression.quantize import QuantizeConfig
    from policies.demos.dataset import load_demonstrations
    from policies.learning.chunking import load_network
    from policies.learning.tracking import Tracking
    from steadyhand.own_env import env_of, pack_env
    from steadyhand.packing import Parts, pack
    from steadyhand.train import reference_frame

    if stage not in ("ppo", "bc"):
        raise SteadyhandError(f"stage: expected ppo or bc, got {stage!r}")
    weights = run / stage / "network.pt"
    if not weights.is_file():
        raise SteadyhandError(f"{weights}: no trained policy there; run: steadyhand train {stage}")
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def say(line: str) -> None:
        ERR.print(line, highlight=False)

    env = env_of(run)
    if env is not None:
        if detector is not None or scorer is not None or keep_fp32 or recipe:
            raise ConfigError(
                f"export: {run} is a policy for {env.id}; --detector, --scorer, --keep-fp32 and "
                "--recipe go with the grasp task (compress --recipe makes a bundle of any policy)"
            )
        own_bundle = pack_env(
            run, env, stage, out, _origin(run, note), episodes, seed, say, workers
        )
        with Tracking(run, tracking) as record:
            record.bundle(out)
        wall = round(time.monotonic() - began, 1)
        proof = own_bundle.card["proof"]
        emit({"bundle": str(out), "bytes": own_bundle.size, "proof": proof, "wall_s": wall},
             json, "exported")  # fmt: skip
        return
    file = detector or run / "detector" / "detector.onnx"
    own = run / "scorer" / "scorer.onnx"
    if not file.is_file():
        if detector is not None:
            raise SteadyhandError(f"{detector}: no such detector file")
        models = Bundle.load(shipped()).root / "models"
        file = models / "detector.onnx"
        own = own if own.is_file() else models / "scorer.onnx"  # it knows that detector's looks
        say(f"export: the run has no detector; the shipped one and {own} are taken")
    if scorer is not None and not scorer.is_file():
        raise SteadyhandError(f"{scorer}: no such scorer file")
    fp32 = _fp32_of(file) if keep_fp32 else None
    clone = run / "bc" / "network.pt"
    parts = Parts(
        load_network(weights),
        load_network(clone) if stage == "ppo" and clone.is_file() else None,
        load_demonstrations(run / "demos"),
        file,
        reference_frame(0),
        _origin(run, note),
        scorer or (own if own.is_file() else None),
    )
    quantize = QuantizeConfig()
    if recipe:
        parts, quantize = _smaller(parts, weights, recipe, say)
    bundle = pack(parts, out, quantize, episodes, seed, say, workers, run / "proof")
    result: dict[str, Any] = {"bundle": str(out), "bytes": bundle.size}
    with Tracking(run, tracking) as record:
        record.bundle(out)
    if fp32 is not None:
        kept = fp32_beside(out)
        write_bytes(kept, fp32)
        result["detector_fp32"] = str(kept)
    result["wall_s"] = round(time.monotonic() - began, 1)
    emit(result, json, "exported")


def _smaller(
    parts: Parts, weights: Path, name: str, say: Callable[[str], None]
) -> tuple[Parts, QuantizeConfig]:
    """The parts with the policy that a recipe makes, and how it becomes int8."""
    from configs.load import as_dict
    from policies.compression.recipe import named
    from policies.compression.variant import compress
    from policies.learning.network import PolicyNetwork

    key, wanted = named(name)
    if not wanted.quantizes:
        raise ConfigError(
            f"--recipe {name}: leaves the policy fp32, and a bundle acts in int8; its last step "
            "must be ptq or qat"
        )
    made = compress(PolicyNetwork.load(weights), parts.demos, wanted, say)
    taken = {"name": key, "about": wanted.about, "steps": as_dict(wanted)["steps"]}
    return (
        replace(
            parts,
            policy=made.network,
            clone=None,
            demos=made.demos,
            origin={**parts.origin, "recipe": taken},
            trained=parts.policy,
            ranges=made.ranges,
        ),
        made.quantize,
    )


def fp32_beside(bundle: Path) -> Path:
    """Where ``--keep-fp32`` leaves the fp32 detector: beside the bundle, which stays small."""
    return bundle.parent / f"{bundle.name}_detector_fp32.onnx"


def _fp32_of(int8: Path) -> bytes:
    """The fp32 file from which an int8 detector was made; the trainer leaves it beside it."""
    file = int8.with_name("detector_fp32.onnx")
    if not file.is_file():
        raise SteadyhandError(
            f"{file}: --keep-fp32 needs the fp32 detector, which training leaves beside {int8.name}"
        )
    ours, theirs = (OnnxDetector(path).metadata.get("config_hash") for path in (int8, file))
    if ours != theirs:
        raise SteadyhandError(
            f"{file}: is of another training ({theirs}) than {int8.name} beside it ({ours})"
        )
    return file.read_bytes()


def _origin(run: Path, note: str) -> dict[str, Any]:
    """For the card: the command, and what the run's own files say of how it was made."""
    origin: dict[str, Any] = {"command": shlex.join(["steadyhand", *sys.argv[1:]])}
    if note:
        origin["note"] = note
    for name, file in (("run", run / "run.json"), ("detector", run / "detector" / "config.json")):
        if file.is_file():
            origin[name] = json_module.loads(file.read_text(encoding="utf-8"))
    origin["config_hash"] = origin.get("run", {}).get("config_hash", "")
    metrics = run / "detector" / "metrics.jsonl"
    if metrics.is_file():
        last = metrics.read_text(encoding="utf-8").splitlines()[-1]
        origin["detector_validation"] = json_module.loads(last)
    return origin
