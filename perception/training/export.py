"""From trained weights to the graphs that are shipped: fp32 and int8 ONNX, with parity checks."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from configs.load import bounded, load
from perception.coco import CocoDataset, write_bytes
from perception.detector import (
    INPUT,
    OUTPUTS,
    THRESHOLD,
    OnnxDetector,
    detector_metadata,
    network_input,
)
from perception.precision import Found, average_precision, best_threshold
from perception.session import ModelError
from perception.training.network import ExportedDetector, NetworkConfig, build_network

_OPSET = 17
_BACKBONE = "/backbone/"

Calibration = Literal["minmax", "percentile", "entropy"]


@dataclass(frozen=True)
class QuantizeConfig:
    """How the detector becomes int8 (static QDQ, weights per channel).

    Attributes:
        images: images from which the ranges of activations are taken, spread over the set.
        methods: how ranges are found; of several the one with the best AP on validation images is
            kept. ONNX Runtime's entropy starts with as many bins as int8 has levels and hardly
            differs from minmax.
        percentile: of activations that lie within the range.
        operators: kinds of nodes that are quantized everywhere.
        backbone_operators: kinds that are quantized in the backbone alone. Elsewhere they compute
            boxes, which eight bits would ruin.
        reduce_range: 7-bit weights, for processors without VNNI, whose sums could saturate.
    """

    images: int = bounded(60, 1, 10_000)
    methods: tuple[Calibration, ...] = ("minmax", "percentile")
    percentile: float = bounded(99.99, 90.0, 100.0)
    operators: tuple[str, ...] = ("Conv", "Gemm", "MatMul")
    backbone_operators: tuple[str, ...] = ("Resize", "Add")
    reduce_range: bool = False


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two detectors differ over the same images, in what both are sure of.

    Attributes:
        images: compared.
        same_count: share of images with equal numbers of detections above the detector's
            ``score_threshold``.
        box_px: largest difference of a box edge over images of ``same_count``, px.
        score: largest difference of a score, likewise.
    """

    images: int
    same_count: float
    box_px: float
    score: float


@dataclass(slots=True)
class Weights:
    """A trained network and what it was trained with."""

    network: Any
    config: NetworkConfig
    digest: str
    raw: dict[str, Any] = field(default_factory=dict)


def load_weights(path: Path | str) -> Weights:
    """Reads ``weights.pt`` or ``checkpoint.pt`` of a training run.

    Raises:
        ModelError: the file is missing or not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected the weights of a detector run")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        raw = state["config"]["network"]
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        config = NetworkConfig(**values)
        network = build_network(config)
        network.load_state_dict(state["network"])
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        raise ModelError(f"{path}: not a detector's weights: {error!s:.200}") from error
    return Weights(network.eval(), config, str(state["digest"]), state["config"])


def export_fp32(weights: Weights, path: Path | str, git_commit: str = "unknown") -> Path:
    """Writes the detector as one ONNX file with its metadata.

    Raises:
        ModelError: the network is the one to compare with, which no runtime takes.
    """
    path = Path(path)
    if weights.config.architecture != "slim":
        raise ModelError(
            f"{path}: {weights.config.architecture} is there to compare with and is not exported; "
            "network.architecture must be slim"
        )
    module = ExportedDetector(weights.network).eval()
    example = _example(weights.config)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draft = Path(folder) / "detector.onnx"
        torch.onnx.export(
            module,
            (example,),
            str(draft),
            input_names=[str(INPUT["name"])],
            output_names=OUTPUTS,
            dynamic_axes={name: {0: "n"} for name in OUTPUTS},
            opset_version=_OPSET,
            # The exporter built on torch.export fails on data-dependent sizes.
            dynamo=False,
        )
        model = onnx.load(str(draft))
    _annotate(model, weights, "fp32", git_commit)
    write_bytes(path, model.SerializeToString())
    return path


def quantize(
    source: Path | str,
    path: Path | str,
    calibration: Sequence[NDArray[np.float32]],
    config: QuantizeConfig | None = None,
    method: Calibration = "minmax",
) -> Path:
    """Writes the int8 form of a detector: static QDQ, weights per channel. Needs no torch.

    Args:
        source: the fp32 file.
        path: where to write.
        calibration: network inputs (4, H, W) float32 from which activations' ranges are taken.
        config: how.
        method: how ranges are found.
    """
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    config = config or QuantizeConfig()
    if not len(calibration):
        raise ModelError("quantize: needs at least one calibration image")
    path = Path(path)
    kinds = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    # Histograms are filled image by image (the name is ONNX Runtime's, it does so for all): images
    # differ in how many boxes they have, and activations of all at once would take gigabytes.
    options = {"CalibStridedMinMax": 1, "CalibPercentile": config.percentile}
    # They are announced on standard output, which belongs to --json.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        prepared, draft = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        # Symbolic shapes fail on the data-dependent part behind the proposals.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(draft),
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*config.operators, *config.backbone_operators],
            nodes_to_exclude=[
                node.name
                for node in onnx.load(str(prepared)).graph.node
                if node.op_type in config.backbone_operators and _BACKBONE not in node.name
            ],
            per_channel=True,
            reduce_range=config.reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=kinds[method],
            extra_options={} if method == "minmax" else options,
        )
        model = onnx.load(str(draft))
    metadata = {p.key: p.value for p in onnx.load(str(source)).metadata_props}
    _set_metadata(model, {**metadata, "precision": "int8"})
    write_bytes(path, model.SerializeToString())
    return path


def calibration_images(dataset: CocoDataset, count: int) -> list[NDArray[np.float32]]:
    """``count`` network inputs spread evenly over a set."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    return [network_input(dataset.frame(int(index))) for index in chosen]


def parity(
    weights: Weights, detector: OnnxDetector, images: Sequence[NDArray[np.float32]]
) -> Parity:
    """Compares the torch network with an exported one; zeros are included as an empty image."""
    module = ExportedDetector(weights.network).eval()
    empty = np.zeros((4, weights.config.height_px, weights.config.width_px), np.float32)
    same, box, score = 0, 0.0, 0.0
    for image in [*images, empty]:
        with torch.no_grad():
            boxes, scores, _ = (o.numpy() for o in module(torch.from_numpy(image)))
        got_boxes, got_scores, _ = detector.run(image)
        sure, got_sure = (s >= detector.score_threshold for s in (scores, got_scores))
        boxes, scores = boxes[sure], scores[sure]
        got_boxes, got_scores = got_boxes[got_sure], got_scores[got_sure]
        if len(scores) != len(got_scores):
            continue
        same += 1
        if len(scores):
            box = max(box, float(np.abs(boxes - got_boxes).max()))
            score = max(score, float(np.abs(scores - got_scores).max()))
    count = len(images) + 1
    return Parity(count, same / count, box, score)


class _Reader:
    """Feeds calibration images to onnxruntime one by one."""

    def __init__(self, images: Sequence[NDArray[np.float32]]) -> None:
        self._images = images
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Only these images come next."""
        self._next: Iterator[NDArray[np.float32]] = iter(self._images[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._next, None)
        return None if image is None else {str(INPUT["name"]): image}


def _example(config: NetworkConfig) -> torch.Tensor:
    image = torch.full((4, config.height_px, config.width_px), 0.5)
    image[3] = 0.0
    image[:3, 80:130, 100:160] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    image[3, 80:130, 100:160] = 0.05
    return image


def _annotate(model: onnx.ModelProto, weights: Weights, precision: str, git_commit: str) -> None:
    size = f"{weights.config.width_px}x{weights.config.height_px}"
    extra = {
        "precision": precision,
        "size_px": size,
        "box_units": "px, x right, y down, from the image's top left corner",
        "frames": "camera_color_optical_frame; heights in world",
        "score_threshold": str(weights.config.score_threshold),
        "config_hash": weights.digest,
        "git_commit": git_commit,
    }
    _set_metadata(model, detector_metadata(weights.config.classes, **extra))


def _set_metadata(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    del model.metadata_props[:]
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=metadata[key])


def export_detector(
    weights_path: Path | str,
    out: Path | str,
    calibration: CocoDataset,
    config: QuantizeConfig | None = None,
    git_commit: str = "unknown",
    validation: CocoDataset | None = None,
) -> dict[str, Any]:
    """Weights to ``detector_fp32.onnx`` and ``detector.onnx`` (int8) in ``out``, with the figures.

    Args:
        weights_path: of a training run.
        out: folder of both files.
        calibration: training images, for the ranges of activations.
        config: how to quantize.
        git_commit: for the files' metadata.
        validation: images of objects that were not trained on. They choose the calibration, and
            the score from which a detection counts; without them the first method is used and
            the score stays at the runtime's default.

    Returns:
        paths (``fp32``, ``int8``), sizes in bytes, ``parity`` of fp32 and int8 against torch and,
        with ``validation``, ``ap`` ``{fp32, <method>}`` and ``method``.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    config = config or load(QuantizeConfig)
    weights = load_weights(weights_path)
    images = calibration_images(calibration, config.images)
    fp32 = export_fp32(weights, out / "detector_fp32.onnx", git_commit)
    int8 = out / "detector.onnx"
    chosen: dict[str, Any] = {}
    if validation is None:
        quantize(fp32, int8, images, config, config.methods[0])
    else:
        ap = {"fp32": _choose_threshold(fp32, validation)}
        for method in config.methods:
            draft = quantize(fp32, out / f"detector_{method}.onnx", images, config, method)
            ap[method] = _choose_threshold(draft, validation)
        best = max(config.methods, key=lambda name: ap[name])
        (out / f"detector_{best}.onnx").replace(int8)
        for method in config.methods:
            (out / f"detector_{method}.onnx").unlink(missing_ok=True)
        chosen = {"ap": ap, "method": best}
    return {
        "fp32": fp32,
        "int8": int8,
        "fp32_bytes": fp32.stat().st_size,
        "int8_bytes": int8.stat().st_size,
        "parity": {
            "fp32": parity(weights, OnnxDetector(fp32), images[:20]),
            "int8": parity(weights, OnnxDetector(int8), images[:20]),
        },
        **chosen,
    }


def _choose_threshold(path: Path, validation: CocoDataset) -> float:
    """Writes the score of the best F1 into a detector's metadata; returns its AP."""
    detector = OnnxDetector(path)
    found: list[Found] = []
    for index in range(len(validation)):
        boxes, scores, labels = detector.run(network_input(validation.frame(index)))
        boxes[:, 2:] -= boxes[:, :2]
        found.append((boxes, scores, labels))
    truth = [validation.boxes(int(entry["id"])) for entry in validation.images]
    model = onnx.load(str(path))
    metadata = {p.key: p.value for p in model.metadata_props}
    _set_metadata(model, {**metadata, THRESHOLD: f"{best_threshold(truth, found):.3f}"})
    write_bytes(path, model.SerializeToString())
    return float(average_precision(truth, found, validation.classes)["ap"])
