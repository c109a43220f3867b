"""Adapting a detector to a look that nobody labelled: self-training, in stages that resume."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from configs.load import as_dict, bounded, digest
from perception import coco
from perception.coco import CocoDataset, DatasetError, write_bytes
from perception.detector import OnnxDetector, network_input
from perception.precision import (
    Found,
    average_precision,
    precision_difference,
    precision_intervals,
)
from perception.session import ModelError, SessionConfig
from perception.training.checkpoint import write
from perception.training.data import AugmentConfig
from perception.training.export import (
    QuantizeConfig,
    Weights,
    export_detector,
    export_fp32,
    load_weights,
)
from perception.training.pseudo import PseudoConfig, certain_part, write_pseudo_set
from perception.training.train import WEIGHTS, DetectorTrainConfig, train

FIGURES, RUN = "adapt.json", "run.json"
# Images from which batch norms take their statistics; more change nothing.
_STATISTICS = 160
# Images that choose how to quantize.
_CHOOSING = 100
_COUNTED = ("frames", "labels", "unknown", "restyled", "replayed")

Say = Callable[[str], None]


@dataclass(frozen=True)
class AdaptConfig:
    """How a detector adapts.

    Attributes:
        rounds: of judging the frames and training on the verdicts. The detector as it is judges
            first, on repaired frames; then each round's judges for the next, on frames as they are.
        recalibrate: whether training starts with batch norms that have seen the frames.
        seed: of draws, order and augmentation.
        threads: that torch may use.
        pseudo: how frames are judged.
        epochs: of a round.
        batch: images a step.
        learning_rate: of a round, at its highest.
        warmup_steps: over which it rises.
        keep: share of the first weights in the average with the last ones that is the result: the
            old look gains much by it, the new one loses little.
        augment: changes of the images, those of replayed ones included.
        int8: how the result is quantized.
    """

    rounds: int = bounded(1, 1, 20)
    recalibrate: bool = True
    seed: int = bounded(0, 0, None)
    threads: int = bounded(1, 1, 256)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    epochs: int = bounded(4, 1, 1000)
    batch: int = bounded(8, 1, 256)
    learning_rate: float = bounded(2.5e-4, 1e-7, 1.0)
    warmup_steps: int = bounded(30, 0, 100_000)
    keep: float = bounded(0.3, 0.0, 1.0)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    int8: QuantizeConfig = field(default_factory=QuantizeConfig)


@dataclass(frozen=True)
class Sets:
    """The data of an adaptation.

    Attributes:
        frames: of the new look; labels are not read.
        replay: labelled images of the old look, so that it is not forgotten.
        labelled: labelled frames of the new look, to measure on and for nothing else.
        old: labelled images of the old look, likewise.
    """

    frames: CocoDataset
    replay: CocoDataset | None = None
    labelled: CocoDataset | None = None
    old: CocoDataset | None = None


def adapt_detector(
    weights: Path | str, sets: Sets, out: Path | str, config: AdaptConfig, say: Say,
    git_commit: str = "unknown",
) -> dict[str, Any]:  # fmt: skip
    """Adapts a detector to the look of unlabelled frames.

    Leaves in ``out``: ``weights.pt``, ``detector_fp32.onnx``, ``detector.onnx`` (int8),
    ``adapt.json`` with the figures, and a folder for each round. What is there is not made again.

    Args:
        weights: ``weights.pt`` of a detector's run.
        sets: the data.
        out: folder of the run.
        config: how.
        say: called with one line for each step worth telling.
        git_commit: for the metadata of the files.

    Returns:
        ``rounds``: of each what ``write_pseudo_set`` counted; ``fp32, int8, weights``: paths; and
        where there is a set to measure on, ``new_look`` and ``old_look``:
        ``before, after, after_int8`` (``ap, ap50`` and their 95 % intervals) and ``gain`` of fp32
        and int8 with intervals over the same scenes.

    Raises:
        ModelError: the weights are no detector's, or ``out`` holds another run.
        DatasetError: a set does not fit.
    """
    out, source = Path(out), Path(weights)
    start = load_weights(source)
    _check(start, sets)
    _claim(out, source, sets, config)
    torch.set_num_threads(config.threads)
    current = _recalibrated(start, sets.frames, out / "start.pt", config, say)
    rounds = []
    for number in range(1, config.rounds + 1):
        folder = out / f"round_{number}"
        judge = source if number == 1 else current
        rounds.append(_judged(judge, sets, folder, number, config, say))
        current = _trained(current, start, folder, number, config, say)
    files = _exported(current, start, out, config, git_commit, say)
    result: dict[str, Any] = {"rounds": rounds, **files}
    before = out / "before_fp32.onnx"
    for name, data in (("new_look", sets.labelled), ("old_look", sets.old)):
        if data is not None:
            if not before.exists():
                export_fp32(start, before, git_commit)
            say(f"measure: {len(data)} images of the {name.replace('_', ' ')}")
            result[name] = compared(data, before, Path(files["fp32"]), Path(files["int8"]))
            gain = result[name]["gain"]
            say(f"measure: AP {result[name]['before']['ap']:.4f} before, "
                f"{result[name]['after']['ap']:.4f} after, gain {gain['ap']:+.4f}, "
                f"95 % {gain['ap_ci95']}")  # fmt: skip
    before.unlink(missing_ok=True)
    write_bytes(out / FIGURES, json.dumps({**result, "config": as_dict(config)}, indent=2).encode())
    return result


def recalibrate(network: nn.Module, backbone: nn.Module, images: list[torch.Tensor]) -> None:
    """Batch norms of ``backbone`` take their statistics from images, (4, H, W) as the network's.

    Y. Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation", 2016.
    """
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    with torch.no_grad():
        for first in range(0, len(images), 8):
            batch, _ = network.transform(images[first : first + 8])  # type: ignore[operator]
            backbone(batch.tensors)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


@torch.no_grad()
def average(network: nn.Module, first: nn.Module, keep: float) -> None:
    """Moves a network's weights and statistics by ``keep`` of the way back to those of ``first``.

    M. Wortsman et al., "Robust fine-tuning of zero-shot models", 2022.
    """
    back = first.state_dict()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(back[name], keep)


def found_by(detector: OnnxDetector, data: CocoDataset) -> list[Found]:
    """All that a detector's graph gives, image by image, [x, y, w, h] px."""
    out = []
    for index in range(len(data)):
        boxes, scores, labels = detector.run(network_input(data.frame(index)))
        boxes[:, 2:] -= boxes[:, :2]
        out.append((boxes, scores, labels))
    return out


def compared(data: CocoDataset, before: Path, after: Path, int8: Path) -> dict[str, Any]:
    """AP of a detector before and after on the same labelled images, with 95 % intervals."""
    truth = [data.boxes(int(entry["id"])) for entry in data.images]
    scene = np.zeros(len(data), np.int64)
    for number, indices in enumerate(data.scenes()):
        scene[indices] = number
    at = scene.tolist()
    found = {
        name: found_by(OnnxDetector(path), data)
        for name, path in (("before", before), ("after", after), ("after_int8", int8))
    }
    result: dict[str, Any] = {"images": len(data), "scenes": len(data.scenes()), "gain": {}}
    for name, one in found.items():
        whole = average_precision(truth, one, data.classes)
        ranges = precision_intervals(truth, one, at)
        result[name] = {
            "ap": whole["ap"], "ap_ci95": ranges["ap"],
            "ap50": whole["ap50"], "ap50_ci95": ranges["ap50"],
        }  # fmt: skip
    for name, key in (("after", "ap"), ("after_int8", "ap_int8")):
        result["gain"][key] = result[name]["ap"] - result["before"]["ap"]
        result["gain"][f"{key}_ci95"] = precision_difference(
            truth, found["before"], found[name], at
        )
    return result


def _check(weights: Weights, sets: Sets) -> None:
    for data in (sets.frames, sets.replay, sets.labelled, sets.old):
        if data is None:
            continue
        if data.classes != weights.config.classes:
            raise DatasetError(
                f"{data.root}: has the classes {data.classes}, the detector knows "
                f"{weights.config.classes}"
            )
        size = (weights.config.width_px, weights.config.height_px)
        for entry in data.images:
            if (entry["width"], entry["height"]) != size:
                raise DatasetError(
                    f"{data.root}: {entry['file_name']} is {entry['width']}x{entry['height']} px, "
                    f"the detector takes {size[0]}x{size[1]}"
                )
        missing = [k for k in ("depth_file", "intrinsics_px", "X_world_cam") if data.images
                   and k not in data.images[0]]  # fmt: skip
        if not data.images or missing:
            problem = f"its images have no {missing[0]!r}" if missing else "holds no image"
            raise DatasetError(f"{data.root}: {problem}")


def _claim(out: Path, weights: Path, sets: Sets, config: AdaptConfig) -> None:
    """Write down what this run is made of; refuse a folder with another one."""
    mine = {
        "config_hash": digest(config),
        "weights": str(weights.resolve()),
        "frames": str(sets.frames.root.resolve()),
        "replay": str(sets.replay.root.resolve()) if sets.replay else None,
    }
    path = out / RUN
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        for key, value in mine.items():
            if known.get(key) != value:
                raise ModelError(
                    f"{out}: holds a run with {key} {known.get(key)}, now {value}; choose another "
                    "--out"
                )
        return
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps({**mine, "config": as_dict(config)}, indent=2).encode())


def _save(weights: Weights, path: Path) -> Path:
    state = {"network": weights.network.state_dict(), "config": weights.raw}
    write(path, {**state, "digest": weights.digest})
    return path


def _recalibrated(
    start: Weights, frames: CocoDataset, path: Path, config: AdaptConfig, say: Say
) -> Path:
    if not path.exists():
        weights = Weights(copy.deepcopy(start.network), start.config, start.digest, start.raw)
        if config.recalibrate:
            say(f"recalibrate: batch norms see {len(frames)} frames")
            rng = np.random.default_rng(config.seed)
            order = rng.permutation(len(frames))[:_STATISTICS]
            images = [torch.from_numpy(network_input(frames.frame(int(i)))) for i in order]
            recalibrate(weights.network, weights.network.backbone, images)
        _save(weights, path)
    return path


def _judged(
    weights: Path, sets: Sets, folder: Path, number: int, config: AdaptConfig, say: Say
) -> dict[str, int]:
    data = folder / "data"
    if not (data / coco.INSTANCES).exists():
        say(f"round {number}: judging {len(sets.frames)} frames")

        def tell(done: int, of: int) -> None:
            if done % 50 == 0 or done == of:
                say(f"round {number}: {done} of {of} images")

        folder.mkdir(parents=True, exist_ok=True)
        # ONNX Runtime is faster than torch, and whatever was exported can judge.
        judge = OnnxDetector(
            export_fp32(load_weights(weights), folder / "judge.onnx"),
            SessionConfig(threads=config.threads),
        )
        write_pseudo_set(
            data, judge.run, sets.frames, sets.replay, config.pseudo, config.seed + number, tell,
            repair=number == 1,
        )  # fmt: skip
    info = coco.read(data).info
    return {key: int(info[key]) for key in _COUNTED}


def _trained(
    current: Path, start: Weights, folder: Path, number: int, config: AdaptConfig, say: Say
) -> Path:
    path = folder / WEIGHTS
    if path.exists():
        return path

    def tell(metrics: dict[str, Any]) -> None:
        if "wall_s" in metrics:
            say(f"round {number}: epoch {metrics['epoch']}: loss {metrics['loss']:.3f}")

    how = DetectorTrainConfig(
        epochs=config.epochs, batch=config.batch, learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps, threads=config.threads, seed=config.seed + number,
        network=start.config, augment=config.augment,
    )  # fmt: skip
    train(folder / "data", folder, how, None, tell, initial=current)
    return path


def _exported(
    current: Path, start: Weights, out: Path, config: AdaptConfig, git_commit: str, say: Say
) -> dict[str, Any]:
    weights, int8, fp32 = out / WEIGHTS, out / "detector.onnx", out / "detector_fp32.onnx"
    if not (weights.exists() and int8.exists() and fp32.exists()):
        last = load_weights(current)
        average(last.network, start.network, config.keep)
        _save(last, weights)
        data = coco.read(current.parent / "data")
        # Trained on, but good enough to choose the quantization and the least score.
        files = export_detector(
            weights, out, data, config.int8, git_commit, certain_part(data, _CHOOSING)
        )
        say(f"export: int8 file of {files['int8_bytes'] / 1e6:.1f} MB")
    return {"weights": str(weights), "fp32": str(fp32), "int8": str(int8)}
