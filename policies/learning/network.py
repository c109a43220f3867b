"""The policy's network: normalization, a small perceptron and the clip, in one module."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.load import as_dict, bounded
from policies.evaluation.specs import ActorSpec
from policies.storage import replace_file
from robot.errors import SteadyhandError

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a policy network.

    Attributes:
        hidden: width of each hidden layer.
        activation: between the layers.
        input_limit: normalized observations are clipped to this many standard deviations, so
            that a reading never seen in a demonstration cannot drive the network arbitrarily far.
    """

    hidden: tuple[int, ...] = bounded((256, 256), 1, 4096)
    activation: Literal["relu", "tanh"] = "relu"
    input_limit: float = bounded(5.0, 1.0, 1e6)


class Normalizer(nn.Module):
    """``clip((x - mean) / std)`` with statistics fixed when it is made.

    Args:
        mean: (n,) of the demonstrations.
        std: (n,) of the demonstrations; numbers that do not vary are left unscaled.
        limit: of the result's absolute value.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: NDArray[Any], std: NDArray[Any], limit: float) -> None:
        super().__init__()
        safe = np.where(np.asarray(std) > 1e-6, std, 1.0)
        self.register_buffer("mean", torch.as_tensor(np.array(mean, dtype=np.float32)))
        self.register_buffer("std", torch.as_tensor(safe.astype(np.float32)))
        self.limit = float(limit)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n) to (batch, n)."""
        return torch.clamp((x - self.mean) / self.std, -self.limit, self.limit)


class PolicyNetwork(nn.Module):
    """Observation to action; the action, clipped to [-1, 1], is the only output.

    Args:
        config: the shape.
        mean: (n_obs,) mean of the demonstrations' observations.
        std: (n_obs,) their standard deviation.
        action_size: numbers in an action.
    """

    def __init__(
        self, config: NetworkConfig, mean: NDArray[Any], std: NDArray[Any], action_size: int
    ) -> None:
        super().__init__()
        self.config = config
        self.normalizer = Normalizer(mean, std, config.input_limit)
        sizes = [len(mean), *config.hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), ACTIVATIONS[config.activation]()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], action_size)
        with torch.no_grad():  # a timid start: the first rollouts of a fresh network stay small
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return int(self.normalizer.mean.shape[0])

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return int(self.head.out_features)

    @property
    def first(self) -> nn.Linear:
        """The layer that the normalized observation enters."""
        return self.linears()[0]

    def raw(self, observation: Tensor) -> Tensor:
        """The action before it is clipped: what the losses see, so that gradients stay alive."""
        out: Tensor = self.head(self.body(self.normalizer(observation)))
        return out

    def forward(self, observation: Tensor) -> Tensor:
        """(batch, n_obs) float32 to (batch, n_act) float32 in [-1, 1]."""
        return torch.clamp(self.raw(observation), -1.0, 1.0)

    def linears(self) -> list[nn.Linear]:
        """The linear layers from input to output."""
        return [m for m in self.body if isinstance(m, nn.Linear)] + [self.head]

    def actor(self) -> ActorSpec:
        """This network as an actor for worker processes that do not load torch."""

        def array(tensor: Tensor) -> NDArray[np.float32]:
            return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)

        return ActorSpec(
            "policies.evaluation.actors:MlpActor",
            {
                "mean": array(self.normalizer.mean),
                "std": array(self.normalizer.std),
                "input_limit": self.normalizer.limit,
                "activation": self.config.activation,
                "layers": [(array(m.weight), array(m.bias)) for m in self.linears()],
            },
        )

    def save(self, path: Path | str) -> None:
        """Write shape and weights to one file."""
        content = {
            "config": as_dict(self.config),
            "action_size": self.action_size,
            "weights": self.state_dict(),
        }
        replace_file(Path(path), torch_bytes(content))

    @classmethod
    def load(cls, path: Path | str) -> PolicyNetwork:
        """Read what ``save`` wrote; no code of the file is run."""
        content = torch_load(Path(path))
        try:
            shape = dict(content["config"])
            shape["hidden"] = tuple(shape["hidden"])
            weights = content["weights"]
            zeros = np.zeros(len(weights["normalizer.mean"]))
            network = cls(NetworkConfig(**shape), zeros, zeros, content["action_size"])
            network.load_state_dict(weights)
        except (KeyError, TypeError, RuntimeError) as error:
            raise SteadyhandError(f"{path}: is not a policy network ({error})") from error
        return network


def torch_bytes(content: Any) -> bytes:
    """``torch.save`` into memory, so that the file can be replaced in one go."""
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def torch_load(path: Path) -> Any:
    """``torch.load`` of tensors and plain values only; a broken file is one clear error."""
    try:
        return torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    except OSError as error:
        raise SteadyhandError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises many kinds on a damaged file
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SteadyhandError(f"{path}: is not a whole checkpoint: {line}") from error
