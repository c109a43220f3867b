"""Rounding takes part in learning: what int8 will do to a layer is done to it while it learns.

Torch's fake quantization rounds forward and lets the gradient pass straight through backward, as
far as a value lies within the range. Works on linear and convolutional layers of any network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from policies.compression.quantize import affine


class _RoundedWeight(nn.Module):
    """Symmetric int8, a scale for each output channel."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.detach().reshape(len(weight), -1).abs().amax(dim=1)
        scale = (rows / self.most).clamp_min(1e-12)
        zero = torch.zeros(len(weight), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -self.most, self.most)


class Rounding:
    """Rounds the weights and inputs of layers, from when it is made until ``remove``.

    Args:
        layers: linear or convolutional ones.
        decay: of the running ranges of the inputs, which follow while the layers are in training.
        reduce_range: 7 bits instead of 8.
    """

    def __init__(
        self, layers: Sequence[nn.Module], decay: float = 0.99, reduce_range: bool = False
    ) -> None:
        self.layers = list(layers)
        self._decay, self._reduced = decay, reduce_range
        self._ranges: list[tuple[float, float] | None] = [None] * len(self.layers)
        self._handles: list[Any] = []
        for i, layer in enumerate(self.layers):
            parametrize.register_parametrization(
                layer, "weight", _RoundedWeight(64 if reduce_range else 127)
            )
            self._handles.append(layer.register_forward_pre_hook(self._hook(i)))

    def _hook(self, i: int) -> Any:
        def rounded(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = given[0]
            if layer.training or self._ranges[i] is None:
                self._follow(i, float(x.detach().min()), float(x.detach().max()))
            low, high = self._ranges[i] or (0.0, 0.0)
            scale, zero = affine(low, high, self._reduced)
            most = 127 if self._reduced else 255
            return (torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, most), *given[1:])

        return rounded

    def _follow(self, i: int, low: float, high: float) -> None:
        before = self._ranges[i]
        if before is not None:
            # Wider at once, narrower slowly: a range that lags behind would cut what is there.
            share = 1.0 - self._decay
            low = min(low, before[0] + share * (low - before[0]))
            high = max(high, before[1] + share * (high - before[1]))
        self._ranges[i] = (low, high)

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Of each layer's input, as far as anything was seen."""
        return [r or (0.0, 0.0) for r in self._ranges]

    def remove(self) -> None:
        """Leave the layers as they were, with the weights that they learned, not rounded."""
        for handle in self._handles:
            handle.remove()
        for layer in self.layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
