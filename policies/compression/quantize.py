"""Post-training quantization of a policy to int8: static, QDQ, calibrated on demonstrations."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from configs.load import bounded
from perception.session import open_session
from perception.training.rounding import affine
from policies.edge.metadata import PolicyMetadata
from robot.errors import SteadyhandError

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


@dataclass(frozen=True)
class QuantizeConfig:
    """How a policy is made int8.

    Attributes:
        calibration: how the ranges of the activations are found; ``dynamic`` finds them anew at
            each call, which needs no samples and takes time.
        percentile: of the activations that lie within the range, with ``percentile``.
        samples: recorded observations to calibrate on.
        per_channel: one scale for each output of a layer instead of one for the layer.
        reduce_range: 7-bit weights, for processors without VNNI.
        float_layers: layers that stay fp32. The first sees positions whose last millimetre counts
            (a 256th of its input range is more than that), and the last makes the action; the
            layers between hold most of the weights.
        outputs: what a layer gives is rounded too, before the activation. Without it only what a
            layer takes is: one rounding less, and no half of the range spent on what ReLU cuts.
        max_mean_error: refuse when the mean absolute error of an action on the calibration set
            is larger, action units.
        seed: chooses the calibration samples.
    """

    calibration: Literal["minmax", "entropy", "percentile", "dynamic"] = "minmax"
    percentile: float = bounded(99.99, 50.0, 100.0)
    samples: int = bounded(2000, 10, 1_000_000)
    per_channel: bool = True
    reduce_range: bool = False
    float_layers: tuple[Literal["first", "last"], ...] = ("first", "last")
    outputs: bool = False
    max_mean_error: float = bounded(0.02, 0.0, 1.0)
    seed: int = bounded(0, 0, 2**31 - 1)


@dataclass(frozen=True)
class ActionError:
    """How far the int8 actions are from the fp32 ones, action units.

    Attributes:
        mean: mean absolute error.
        p99: 99th percentile of the absolute error.
        max: largest absolute error.
        observations: compared.
    """

    mean: float
    p99: float
    max: float
    observations: int


class _Reader(CalibrationDataReader):
    """Feeds recorded observations to the calibrator, a batch at a time."""

    def __init__(self, observations: NDArray[np.float32]) -> None:
        parts = np.array_split(observations, max(1, len(observations) // 100))
        self._batches: Iterator[NDArray[np.float32]] = iter(parts)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"observation": np.ascontiguousarray(batch)}


def quantize_policy(
    model: bytes,
    observations: NDArray[np.float32],
    config: QuantizeConfig,
    ranges: Sequence[tuple[float, float] | None] = (),
) -> tuple[bytes, ActionError]:
    """Make an exported policy int8.

    Args:
        model: the fp32 ONNX model.
        observations: (N, n_obs) recorded observations, or (N, history, n_obs) windows.
        config: how.
        ranges: of each layer's input, where training fixed them; calibration finds the others.

    Returns:
        The int8 model, and its error on observations that were not used for calibration.

    Raises:
        SteadyhandError: the error is larger than the config allows.
    """
    rng = np.random.default_rng(config.seed)
    order = rng.permutation(len(observations))
    chosen = observations[order[: config.samples]]
    rest = observations[order[config.samples :]]
    graph = onnx.load_from_string(model)
    quantized = _quantized(graph, chosen, config, ranges)
    props = {p.key: p.value for p in graph.metadata_props}
    metadata = replace(PolicyMetadata.from_props(props, "fp32 policy"), precision="int8")
    onnx.helper.set_model_props(quantized, metadata.props())
    data: bytes = quantized.SerializeToString()
    error = action_error(model, data, rest if len(rest) >= 100 else observations)
    if error.mean > config.max_mean_error:
        raise SteadyhandError(
            f"int8 policy: its actions differ from fp32 by {error.mean:.4f} on average, more than "
            f"{config.max_mean_error} (quantize.max_mean_error)"
        )
    return data, error


def _quantized(
    graph: onnx.ModelProto,
    chosen: NDArray[np.float32],
    config: QuantizeConfig,
    ranges: Sequence[tuple[float, float] | None],
) -> onnx.ModelProto:
    weights = {w.name for w in graph.graph.initializer}
    products = [n for n in graph.graph.node if n.op_type in ("Gemm", "MatMul")]
    # Of a transformer the perceptrons alone: what an attention multiplies are two activations, with
    # no weights to make small, and small errors of its projections move where it looks.
    layers = [n for n in products if weights & set(n.input) and "attention" not in n.name]
    kept = {n.name for n in layers}
    keep = [n.name for n in products if n.name not in kept]
    keep += [layers[0 if end == "first" else -1].name for end in config.float_layers]
    if config.calibration == "dynamic":
        keep += [f"{name}_MatMul" for name in keep]  # what a Gemm is called once it is split there
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(graph.SerializeToString())
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it recommends a shape inference that changes nothing
        common: dict[str, Any] = {
            "op_types_to_quantize": ["Gemm", "MatMul"],
            "nodes_to_exclude": keep,
            "per_channel": config.per_channel,
            "reduce_range": config.reduce_range,
            "weight_type": QuantType.QInt8,
        }
        try:
            # Percentiles are announced on standard output, which belongs to --json.
            with contextlib.redirect_stdout(io.StringIO()):
                if config.calibration == "dynamic":
                    quantize_dynamic(source, target, **common)
                else:
                    quantize_static(
                        source,
                        target,
                        _Reader(chosen),
                        quant_format=QuantFormat.QDQ,
                        activation_type=QuantType.QUInt8,
                        calibrate_method=_METHODS[config.calibration],
                        extra_options=_options(layers, config, ranges),
                        **common,
                    )
        finally:
            logging.disable(level)
        return onnx.load(target)


def _options(
    layers: list[Any], config: QuantizeConfig, ranges: Sequence[tuple[float, float] | None]
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if config.calibration == "percentile":
        options["CalibPercentile"] = config.percentile
    if not config.outputs:
        options["OpTypesToExcludeOutputQuantization"] = ["Gemm", "MatMul"]
    fixed = {}
    for layer, bounds in zip(layers, ranges, strict=False):
        if bounds is not None:
            scale, zero = affine(*bounds, config.reduce_range)
            point = {"scale": np.array(scale, np.float32), "zero_point": np.array(zero, np.uint8)}
            fixed[layer.input[0]] = [point]
    if fixed:
        options["TensorQuantOverrides"] = fixed
    return options


def action_error(reference: bytes, model: bytes, observations: NDArray[np.float32]) -> ActionError:
    """How far the actions of ``model`` are from those of ``reference``."""
    x = {"observation": np.ascontiguousarray(observations)}
    a = open_session(reference, "reference").run(None, x)[0]
    b = open_session(model, "model").run(None, x)[0]
    error = np.abs(np.asarray(a) - np.asarray(b))
    return ActionError(
        float(error.mean()), float(np.quantile(error, 0.99)), float(error.max()), len(observations)
    )
