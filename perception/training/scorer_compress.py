"""The grasp scorer in int8: rounded afterwards, or with rounding in training; figures of both."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from configs.load import as_dict, bounded, digest
from perception.scorer import INPUTS, OnnxGraspScorer
from perception.session import ModelError
from perception.training.calibration import figures
from perception.training.rounding import Rounding, affine
from perception.training.scorer import Samples, ScorerNetwork, load_network
from perception.training.scorer_export import CalibratedScorer, calibrate, export_onnx


@dataclass(frozen=True)
class ScorerCompressConfig:
    """How the scorer becomes int8.

    Attributes:
        method: ``ptq`` rounds a finished network; ``qat`` lets it learn with rounding first, from
            what it said before.
        samples: trials that the ranges of activations are taken from.
        reduce_range: 7 bits, for processors without VNNI.
        float_head: the last layer stays fp32; it is small and makes the probability.
        epochs: of ``qat``.
        batch: trials a step.
        learning_rate: of AdamW.
        max_auc_loss: refuse when int8 orders held-out trials worse by more.
        seed: of order and samples.
        threads: of torch.
    """

    method: Literal["ptq", "qat"] = "ptq"
    samples: int = bounded(2000, 10, 1_000_000)
    reduce_range: bool = False
    float_head: bool = True
    epochs: int = bounded(5, 1, 1000)
    batch: int = bounded(128, 1, 100_000)
    learning_rate: float = bounded(1e-4, 1e-8, 1.0)
    max_auc_loss: float = bounded(0.005, 0.0, 1.0)
    seed: int = bounded(0, 0, 2**31 - 1)
    threads: int = bounded(1, 1, 256)


def compress_scorer(
    weights: Path | str,
    data: Samples,
    held_out: Samples,
    config: ScorerCompressConfig | None = None,
    git_commit: str = "unknown",
) -> tuple[bytes, dict[str, Any]]:
    """An int8 scorer and what it costs.

    Args:
        weights: ``weights.pt`` of a run.
        data: trials of training, for ranges and for ``qat``.
        held_out: trials on objects that were not trained on: they calibrate and they measure.
        config: how.
        git_commit: for the metadata.

    Returns:
        The ONNX model, and ``bytes``, ``fp32_bytes``, ``difference`` of the probabilities (mean and
        largest), and the figures of ``fp32`` and ``int8`` on planned held-out trials.

    Raises:
        ModelError: int8 orders the trials worse than the config allows.
    """
    config = config or ScorerCompressConfig()
    torch.set_num_threads(config.threads)
    network, trained = load_network(weights)
    plain = _exported(network, held_out, digest(trained), git_commit)
    student, ranges = copy.deepcopy(network), []
    if config.method == "qat":
        ranges = _learn(student, network, data, config)
    source = _exported(student, held_out, digest(trained), git_commit)
    model = _quantized(source, data, config, ranges)
    planned = held_out.planned
    found = {}
    probability = {}
    for name, bytes_ in (("fp32", plain), ("int8", model)):
        probability[name] = OnnxGraspScorer(bytes_).run(held_out.patch, held_out.number)
        found[name] = figures(probability[name][planned].astype(np.float64), held_out.held[planned])
    loss = found["fp32"].auc - found["int8"].auc
    if loss > config.max_auc_loss:
        raise ModelError(
            f"scorer: int8 loses {loss:.4f} of AUC, more than {config.max_auc_loss} "
            "(max_auc_loss); try method: qat"
        )
    apart = np.abs(probability["fp32"] - probability["int8"])
    return model, {
        "bytes": len(model),
        "fp32_bytes": len(plain),
        "difference": {"mean": float(apart.mean()), "max": float(apart.max())},
        "fp32": as_dict(found["fp32"]),
        "int8": as_dict(found["int8"]),
        "config": as_dict(config),
    }


def _exported(network: ScorerNetwork, held_out: Samples, config_hash: str, commit: str) -> bytes:
    calibration, _ = calibrate(network, held_out)
    return export_onnx(CalibratedScorer(network, calibration.platt).eval(), config_hash, commit)


def _layers(network: ScorerNetwork, config: ScorerCompressConfig) -> list[nn.Module]:
    kinds = (nn.Conv2d, nn.Linear)
    found: list[nn.Module] = [m for m in network.modules() if isinstance(m, kinds)]
    return found[:-1] if config.float_head else found


def _learn(
    student: ScorerNetwork, teacher: ScorerNetwork, data: Samples, config: ScorerCompressConfig
) -> list[tuple[float, float]]:
    """Soft targets while the layers are rounded; the ranges that were settled on."""
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    patch, number = torch.from_numpy(data.patch), torch.from_numpy(data.number)
    rounding = Rounding(_layers(student, config), reduce_range=config.reduce_range)
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    try:
        for _ in range(config.epochs):
            student.train()
            for pick in torch.randperm(len(patch), generator=generator).split(config.batch):
                with torch.no_grad():
                    target = torch.sigmoid(teacher(patch[pick], number[pick]))
                found = student(patch[pick], number[pick])
                loss = nn.functional.binary_cross_entropy_with_logits(found, target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    finally:
        rounding.remove()
    student.eval()
    return rounding.ranges


def _quantized(
    source: bytes,
    data: Samples,
    config: ScorerCompressConfig,
    ranges: list[tuple[float, float]],
) -> bytes:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    graph = onnx.load_from_string(source)
    nodes = [n for n in graph.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    overrides = {}
    for node, bounds in zip(nodes, ranges, strict=False):
        scale, zero = affine(*bounds, config.reduce_range)
        point = {"scale": np.array(scale, np.float32), "zero_point": np.array(zero, np.uint8)}
        overrides[node.input[0]] = [point]
    options: dict[str, Any] = {"OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "MatMul"]}
    if overrides:
        options["TensorQuantOverrides"] = overrides
    rng = np.random.default_rng(config.seed)
    chosen = rng.permutation(len(data))[: config.samples]
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        before.write_bytes(source)
        quantize_static(
            before,
            after,
            _Reader(data.patch[chosen], data.number[chosen]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            nodes_to_exclude=[nodes[-1].name] if config.float_head else [],
            per_channel=True,
            reduce_range=config.reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=options,
        )
        model = onnx.load(after)
    kept = {p.key: p.value for p in graph.metadata_props}
    onnx.helper.set_model_props(model, {**kept, "precision": "int8"})
    data_bytes: bytes = model.SerializeToString()
    return data_bytes


class _Reader:
    """Feeds recorded trials to the calibrator, a hundred at a time."""

    def __init__(self, patch: NDArray[np.float32], number: NDArray[np.float32]) -> None:
        names = list(INPUTS)
        self._batches: Iterator[dict[str, Any]] = iter(
            [
                {names[0]: patch[i : i + 100], names[1]: number[i : i + 100]}
                for i in range(0, len(patch), 100)
            ]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)
