"""Where a network is trained and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from perception.training.parallel import place
from robot.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class Computing:
    """Device and precision of a training.

    Attributes:
        device: of weights and images.
        dtype: in which convolutions and products are computed; weights stay float32.
    """

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, device: Device, precision: Precision) -> Computing:
        """What a config asks for, as far as this machine has it.

        ``auto`` takes a GPU where there is one; there it computes in bfloat16 or, on a GPU without
        that, in float16, and on a processor in bfloat16 only where that is faster.

        Raises:
            ConfigError: there is no GPU, or none for this process, or float16 without one.
        """
        chosen = _device(device)
        cuda = chosen.type == "cuda"
        if precision == "fp16" and not cuda:
            raise ConfigError("precision: fp16 needs a GPU; choose auto, fp32 or bf16")
        if precision == "auto":
            half = torch.bfloat16 if _gpu_has_bf16() else torch.float16
            dtype = half if cuda else torch.bfloat16 if bf16_is_fast() else torch.float32
        else:
            dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
                precision
            ]
        return cls(chosen, dtype)

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        reduced = self.dtype != torch.float32
        return torch.autocast(
            self.device.type, self.dtype if reduced else torch.bfloat16, enabled=reduced
        )

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps small gradients from vanishing in float16; elsewhere it does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)


def bf16_is_fast() -> bool:
    """Whether the processor computes in bfloat16 itself."""
    flags = torch.backends.cpu.get_cpu_capability()
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return flags.startswith("AVX512") and native is not None and bool(native())


def _gpu_has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def _device(wanted: Device) -> torch.device:
    there = torch.cuda.is_available()
    if wanted == "cpu" or (wanted == "auto" and not there):
        return torch.device("cpu")
    if not there:
        raise ConfigError("device: cuda, but torch finds no GPU here; choose auto or cpu")
    _, size, local = place()
    if local >= torch.cuda.device_count():
        raise ConfigError(
            f"device: {size} processes, but this machine has {torch.cuda.device_count()} GPUs; "
            "start as many, or choose cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
