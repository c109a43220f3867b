"""Opening a model file: ONNX Runtime on one processor, and one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort

from robot.errors import SteadyhandError


class ModelError(SteadyhandError):
    """A model file is missing, damaged, or not what its user expects."""


def open_model(model: Path | str | bytes, what: str, threads: int = 1) -> Any:
    """An ONNX Runtime session.

    Args:
        model: path of the ``.onnx`` file, or its bytes.
        what: it should be, for messages: ``detector``.
        threads: that ONNX Runtime may use.

    Raises:
        ModelError: the file is missing or no ONNX model that runs here.
    """
    name = what if isinstance(model, bytes) else str(model)
    if not isinstance(model, bytes):
        if not Path(model).is_file():
            raise ModelError(f"{model}: no such file; expected a {what}'s .onnx file")
        model = str(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen classes with no common base
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"{name}: not a loadable ONNX model: {first}") from error
