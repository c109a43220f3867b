"""From torch to ONNX, with a proof that both compute the same."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from perception.session import open_session
from policies.demos.dataset import Demonstrations
from policies.demos.spec import DemoSpec
from policies.edge.metadata import PolicyMetadata
from policies.learning.chunking import Network
from policies.learning.clone import IGNORED_STD
from policies.learning.network import PolicyNetwork
from policies.provenance import git_commit
from robot.errors import SteadyhandError

OPSET = 17
TOLERANCE = 1e-5

N = TypeVar("N", bound=Network)


@dataclass(frozen=True)
class Parity:
    """How far an ONNX policy is from the torch network it came from.

    Attributes:
        recorded: largest difference over recorded observations.
        random: largest difference over random ones, far outside the recorded too.
        observations: how many were compared.
        nan_passes_on: a NaN observation gives NaN in every number of the action in both.
    """

    recorded: float
    random: float
    observations: int
    nan_passes_on: bool


def policy_metadata(
    spec: DemoSpec, config_hash: str, *, frames: dict[str, str] | None = None
) -> PolicyMetadata:
    """The metadata of a policy learned from demonstrations with this spec."""
    scale: dict[str, float] = {}
    action_frames: dict[str, str] = frames or {}
    env = spec.policy_env
    if not env and spec.env.get("id"):
        from dataclasses import asdict

        from robot.execution.action import DEFAULT_SCALE

        scale = {k: float(v) for k, v in asdict(DEFAULT_SCALE).items()}
        action_frames = frames or {"observation": "grasp", "action": "grasp"}
    return PolicyMetadata(
        observation_names=spec.observation_names,
        observation_units=spec.observation_units,
        action_names=spec.action_names,
        action_scale=scale,
        policy_rate_hz=spec.rate_hz,
        frames=action_frames,
        config_hash=config_hash,
        git_commit=git_commit(),
        control_rate_hz=spec.rate_hz if env else 240.0,
        env=env,
        action_low=spec.action_low,
        action_high=spec.action_high,
    )


def narrowed(network: N, demos: Demonstrations) -> tuple[N, Demonstrations]:
    """Network and demonstrations without the observations that the network ignores.

    It acts as before; the robot, which hands them over by name, need not make them. In an
    environment of one's own they come as one vector, and all stay.
    """
    std = network.normalizer.std.numpy()
    if demos.spec.policy_env:
        return network, demos
    seen = np.flatnonzero(std < IGNORED_STD)
    if not isinstance(network, PolicyNetwork) or len(seen) == len(std):
        return network, demos
    mean = network.normalizer.mean.numpy()
    out = PolicyNetwork(network.config, mean[seen], std[seen], network.action_size)
    with torch.no_grad():
        for own, full in zip(out.linears(), network.linears(), strict=True):
            own.bias.copy_(full.bias)
            own.weight.copy_(full.weight[:, seen] if own is out.first else full.weight)
    spec = demos.spec
    units = spec.observation_units
    spec = replace(
        spec,
        observation_names=tuple(spec.observation_names[i] for i in seen),
        observation_units=tuple(units[i] for i in seen) if units else units,
    )
    return cast("N", out), replace(demos, spec=spec, observation=demos.observation[:, seen])


def export_onnx(network: Network, metadata: PolicyMetadata) -> bytes:
    """The network as an ONNX model: normalization and clip inside, any batch size.

    Args:
        network: what to export; it is not changed.
        metadata: written into ``metadata_props``, with what a chunking network adds to it.

    Returns:
        The model's bytes.
    """
    sizes = (len(metadata.observation_names), len(metadata.action_names))
    if sizes != (network.observation_size, network.action_size):
        raise SteadyhandError(
            f"export: the network maps {network.observation_size} to {network.action_size} "
            f"numbers, the metadata names {sizes[0]} and {sizes[1]}"
        )
    shape: tuple[int, ...] = (network.observation_size,)
    if not isinstance(network, PolicyNetwork):
        c = network.config
        metadata = replace(metadata, history=c.history, horizon=c.horizon, decay=c.decay)
        shape = (c.history, *shape)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces its other exporter at each call
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, *shape),),
            stream,  # type: ignore[arg-type]  # this exporter writes to files and streams
            dynamo=False,
            opset_version=OPSET,
            input_names=["observation"],
            output_names=["action"],
            dynamic_axes={"observation": {0: "batch"}, "action": {0: "batch"}},
        )
    model = onnx.load_from_string(stream.getvalue())
    set_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def set_props(model: onnx.ModelProto, metadata: PolicyMetadata) -> None:
    """Replace the model's ``metadata_props``."""
    onnx.helper.set_model_props(model, metadata.props())


def random_observations(
    network: Network, rng: np.random.Generator, count: int, window: tuple[int, ...] = ()
) -> NDArray[np.float32]:
    """(count, *window, n_obs) within, around and far outside of what it was normalized for."""
    mean, std = (t.numpy() for t in (network.normalizer.mean, network.normalizer.std))
    scale = std * rng.choice([1.0, 3.0, 100.0], size=(count, *(1 for _ in window), 1))
    return (rng.normal(size=(count, *window, len(mean))) * scale + mean).astype(np.float32)


def in_torch(network: Network, observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, n_act) what torch gives."""
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(observations)).numpy(), np.float32)


def check_parity(
    network: Network,
    model: bytes,
    observations: NDArray[np.float32],
    rng: np.random.Generator,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Compare ONNX with torch on recorded and random observations, in several batch sizes.

    Args:
        network: the torch network.
        model: its export.
        observations: (N, n_obs) recorded ones, or (N, history, n_obs) windows of them.
        rng: draws the random ones.
        tolerance: largest difference allowed.

    Raises:
        SteadyhandError: they differ by more, or treat NaN differently.
    """
    session = open_session(model, "export")

    def difference(x: NDArray[np.float32]) -> float:
        ours: Any = session.run(None, {"observation": x})[0]
        return float(np.abs(ours - in_torch(network, x)).max())

    random = random_observations(network, rng, 1000, observations.shape[1:-1])
    recorded = max(
        difference(np.ascontiguousarray(observations[:size]))
        for size in (1, 2, 7, 64, len(observations))
    )
    apart = max(difference(random), *(difference(random[i : i + 1]) for i in range(20)))
    if max(recorded, apart) > tolerance:
        raise SteadyhandError(
            f"export: ONNX and torch differ by {max(recorded, apart):.2e}, "
            f"more than {tolerance:.0e}"
        )
    bad = random[:3].copy()
    bad[1].flat[0] = np.nan
    ours = session.run(None, {"observation": bad})[0]
    passes = bool(np.isnan(ours[1]).all() and np.isfinite(ours[[0, 2]]).all())
    if not passes:
        raise SteadyhandError("export: a NaN observation does not come out as a NaN action")
    return Parity(recorded, apart, len(observations) + len(random), passes)
