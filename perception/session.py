"""Opening a model: ONNX Runtime on one core unless told otherwise, and one clear error.

Detector, scorer and policy all run in sessions that are opened here.
"""

from __future__ import annotations

import ctypes
import functools
import io
import logging
import os
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from configs.load import bounded
from robot.errors import ConfigError, SteadyhandError

Provider = Literal["cpu", "cuda", "tensorrt", "openvino", "xnnpack"]

_PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
_PACKAGES = {
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu and TensorRT",
    "openvino": "onnxruntime-openvino",
    "xnnpack": "a build of ONNX Runtime with --use_xnnpack",
}

LOG = logging.getLogger(__name__)
_told: set[str] = set()


class ModelError(SteadyhandError):
    """A model file is missing, damaged, or not what its user expects."""


@dataclass(frozen=True)
class SessionConfig:
    """On what a model runs.

    Attributes:
        providers: execution providers, first choice first. One that this ONNX Runtime does not
            have is left out with a warning; the processor is always the last resort.
        threads: that a model may use. With one, it runs on the thread that calls.
        cores: processors that these threads are bound to, one each; empty binds none. The first is
            the calling thread's own, so sessions of one thread name the same one.
        engine_cache: folder where TensorRT and OpenVINO keep what they compiled; None keeps
            nothing, and each start compiles anew.
        device: which accelerator, where there are several.
    """

    providers: tuple[Provider, ...] = ("cpu",)
    threads: int = bounded(1, 1, 64)
    cores: tuple[int, ...] = bounded((), 0, 1023)
    engine_cache: Path | None = None
    device: int = bounded(0, 0, 63)

    def __post_init__(self) -> None:
        if self.cores and len(self.cores) != self.threads:
            raise ConfigError(
                f"cores: {len(self.cores)} given for {self.threads} threads; name one for each"
            )


def open_session(
    model: bytes, name: str, config: SessionConfig | None = None
) -> ort.InferenceSession:
    """An ONNX Runtime session from a model in memory.

    Args:
        model: an ONNX file's content.
        name: for messages.
        config: on what it runs.

    Raises:
        ModelError: ``model`` is no ONNX model that this runtime can run.
        ConfigError: a core is named that this process may not use.
    """
    config = config or SessionConfig()
    options = ort.SessionOptions()
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A spinning pool would take the core from the control loop between two actions.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if config.cores:
        pin(config.cores[0])
        others = ";".join(str(core + 1) for core in config.cores[1:])  # counted from 1 there
        if others:
            options.add_session_config_entry("session.intra_op_thread_affinities", others)
    names = _that_start(config.providers)
    if names:
        ort.set_default_logger_severity(3)  # it warns of plugins that nobody asked for
    providers = [(_PROVIDERS[n], _options(n, config)) for n in names] + [(_PROVIDERS["cpu"], {})]
    try:
        # Its own fallback prints a page for each session, and passes over the second choice.
        return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime raises a dozen classes with no common base
        if not names:
            raise ModelError(f"{name}: is not a model that runs here: {_line(error)}") from error
        _tell(f"{name}: {names[0]} cannot run it ({_line(error)}); going on without")
        return open_session(model, name, replace(config, providers=names[1:]))


def open_model(
    model: Path | str | bytes, what: str, config: SessionConfig | None = None
) -> ort.InferenceSession:
    """A session from a file or its bytes.

    A file is read here, so that a model that keeps data in other files finds none.

    Args:
        model: path of the ``.onnx`` file, or its bytes.
        what: it should be, for messages: ``detector``.
        config: on what it runs.

    Raises:
        ModelError: the file is missing or no ONNX model that runs here.
    """
    if isinstance(model, bytes):
        return open_session(model, what, config)
    if not Path(model).is_file():
        raise ModelError(f"{model}: no such file; expected a {what}'s .onnx file")
    return open_session(Path(model).read_bytes(), str(model), config)


def available() -> tuple[Provider, ...]:
    """Execution providers that this ONNX Runtime has, by their names here."""
    have = set(ort.get_available_providers())
    return tuple(name for name, full in _PROVIDERS.items() if full in have)  # type: ignore[misc]


def pin(core: int) -> None:
    """Bind the calling thread to one processor.

    Raises:
        ConfigError: this process may not use it.
    """
    try:
        os.sched_setaffinity(0, {core})
    except OSError as error:
        raise ConfigError(
            f"cores: {core} cannot be used here; this process may use "
            f"{sorted(os.sched_getaffinity(0))}"
        ) from error


def _that_start(wanted: tuple[Provider, ...]) -> tuple[Provider, ...]:
    """Those besides the processor that this ONNX Runtime has and whose libraries load here."""
    have = available()
    chosen: list[Provider] = []
    for name in wanted:
        if name not in have:
            _tell(
                f"{name}: this ONNX Runtime has no such execution provider "
                f"(it comes with {_PACKAGES.get(name, 'another build')}); going on without"
            )
        elif name != "cpu":
            problem = _cannot_load(name)
            if problem:
                _tell(f"{name}: does not start here ({problem}); going on without")
            else:
                chosen.append(name)
    return tuple(chosen)


@functools.cache
def _cannot_load(name: Provider) -> str:
    """Why the provider's library does not load; empty where it does, or is part of the runtime.

    ONNX Runtime prints its own error for each session, and goes on without a word of the choice.
    """
    if name in ("cuda", "tensorrt") and hasattr(ort, "preload_dlls"):
        with redirect_stdout(io.StringIO()):  # it prints what it does not find
            ort.preload_dlls()  # CUDA's libraries, where they were installed as packages
    folder = Path(ort.__file__).parent / "capi"
    library = folder / f"libonnxruntime_providers_{name}.so"
    if not library.is_file():
        return ""
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return _line(error)
    return ""


def _options(name: str, config: SessionConfig) -> dict[str, Any]:
    cache = config.engine_cache
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
    if name == "tensorrt":
        kept = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache),
                "trt_timing_cache_enable": True} if cache else {}  # fmt: skip
        return {"device_id": config.device, **kept}
    if name == "cuda":
        # Rounded to 10 bits, products are off by a hundred times what parity allows.
        return {"device_id": config.device, "use_tf32": 0}
    if name == "openvino":
        return {"num_of_threads": config.threads, **({"cache_dir": str(cache)} if cache else {})}
    if name == "xnnpack":
        return {"intra_op_num_threads": config.threads}
    return {}


def _tell(line: str) -> None:
    """Once each: a message a tick would hide all others."""
    if line not in _told:
        _told.add(line)
        LOG.warning(line)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
