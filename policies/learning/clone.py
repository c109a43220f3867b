"""Behaviour cloning: a network that acts as the demonstrations do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from configs.load import bounded
from policies.demos.dataset import Demonstrations
from policies.demos.spec import DemoSpec
from policies.learning.chunking import ChunkingConfig, ChunkingNetwork, Network
from policies.learning.fitter import Fitter
from policies.learning.frames import split_frames
from policies.learning.network import NetworkConfig, PolicyNetwork, torch_bytes
from policies.provenance import provenance
from policies.storage import replace_file, replace_json
from robot.errors import SteadyhandError

CHECKPOINT = "checkpoint.pt"
NETWORK = "network.pt"
RESULT = "result.json"
IGNORED_STD = 1e30
"""What an ignored observation is divided by, so that it is zero whatever it reads."""


@dataclass(frozen=True)
class CloneConfig:
    """How a network is cloned from demonstrations.

    Attributes:
        architecture: a perceptron, which sees the newest observation and gives one action, and
            from which PPO can begin; or a transformer, which sees a few and plans a chunk.
        network: shape of the perceptron.
        chunking: shape of the transformer.
        seed: fixes split, initial weights, order and noise.
        loss: per number of an action; Huber is calmer where the expert switches abruptly.
        huber_delta: error at which the Huber loss becomes linear, in action units.
        epochs: at most.
        patience: stop after this many epochs without a better validation loss.
        batch_size: frames a step.
        learning_rate: of AdamW, at the start of the cosine.
        weight_decay: of AdamW.
        validation_share: of the object groups, held out.
        observation_noise: standard deviation of noise added to normalized observations.
        max_gradient_norm: gradients are scaled down to this.
        std_floor: smallest standard deviation to normalize with, by unit. Clean demonstrations keep
            some readings within a fraction of a millimetre; normalized by that, the first real
            deviation would look like nothing ever seen.
        ignored: observations that the network shall not see, by name, or by the part of the name
            before its last dot. A clock among them, for example, is a cause of nothing.
        untaught: observations that tell the expert nothing, so that its clone could only learn
            them by heart: their weights stay zero here, and what comes after may learn to use them.
        threads: of torch; at these sizes a second one gains little and suffers much from other
            load on the machine.
    """

    architecture: Literal["mlp", "chunking"] = "mlp"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    chunking: ChunkingConfig = field(default_factory=ChunkingConfig)
    seed: int = bounded(0, 0, 2**31 - 1)
    loss: Literal["huber", "mse"] = "huber"
    huber_delta: float = bounded(0.2, 1e-3, 10.0)
    epochs: int = bounded(60, 1, 10_000)
    patience: int = bounded(15, 1, 10_000)
    batch_size: int = bounded(256, 1, 1_000_000)
    learning_rate: float = bounded(1e-3, 1e-7, 1.0)
    weight_decay: float = bounded(1e-4, 0.0, 1.0)
    validation_share: float = bounded(0.1, 0.01, 0.9)
    observation_noise: float = bounded(0.0, 0.0, 1.0)
    max_gradient_norm: float = bounded(1.0, 1e-3, 1e6)
    std_floor: dict[str, float] = field(
        default_factory=lambda: {
            "m": 0.003,
            "rad": 0.03,
            "m/s": 0.02,
            "rad/s": 0.05,
            "N": 1.0,
            "s": 0.1,
            "1": 0.05,
        }
    )
    ignored: tuple[str, ...] = ()
    untaught: tuple[str, ...] = ()
    threads: int = bounded(1, 1, 64)


@dataclass(frozen=True)
class CloneResult:
    """What cloning came to.

    Attributes:
        network: the weights with the lowest validation loss.
        best_epoch: when they were seen, from 0.
        epochs: trained.
        validation_loss: of these weights.
        validation_error: (n_act,) mean absolute error of each number of an action, of the first
            one of a chunk.
        history: one dict an epoch.
    """

    network: Network
    best_epoch: int
    epochs: int
    validation_loss: float
    validation_error: tuple[float, ...]
    history: tuple[dict[str, float], ...]


def clone(
    sets: Demonstrations | Sequence[Demonstrations],
    out: Path | str | None,
    config: CloneConfig,
    *,
    initial: Network | None = None,
    held: Collection[str] | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> CloneResult:
    """Clone one network from one set or several.

    With ``out`` every epoch is checkpointed there; called again with the same config it goes on
    from the last one, to the same weights, bit for bit, as without the interruption.

    Args:
        sets: the demonstrations; normalization statistics come from the first set alone, so that
            rounds of corrections do not shift what the network sees.
        out: folder for checkpoint, network and result, or None.
        config: how.
        initial: start from these weights and keep their normalization.
        held: groups of objects to validate on; drawn with ``config.validation_share`` when None.
        progress: called after each epoch with (epoch, epochs, figures).
    """
    sets = [sets] if isinstance(sets, Demonstrations) else list(sets)
    folder = None if out is None else Path(out)
    torch.set_num_threads(config.threads)
    if held is None:
        rng = np.random.default_rng([config.seed, 7])
        held = {sets[0].groups[e] for e in sets[0].split(config.validation_share, rng)[1]}
    chunking = config.chunking.chunking if config.architecture == "chunking" else None
    train, validation = split_frames(sets, held, chunking)
    network = _network(sets[0], config, initial)
    untaught = rows_of("untaught", config.untaught, sets[0].spec)
    fitter = Fitter(network, train, validation, config, untaught)
    if folder is not None and (folder / CHECKPOINT).exists():
        fitter.restore(folder / CHECKPOINT)
    while not fitter.over:
        figures = fitter.epoch()
        if folder is not None:
            replace_file(folder / CHECKPOINT, torch_bytes(fitter.state()))
        if progress is not None:
            progress(fitter.done, config.epochs, figures)
    error = fitter.judge()
    result = CloneResult(
        network, fitter.best_epoch, fitter.done, fitter.best_loss, error, tuple(fitter.history)
    )
    if folder is not None:
        result.network.save(folder / NETWORK)
        replace_json(
            folder / RESULT,
            {
                **provenance(config, config.seed),
                "frames": {"train": len(train), "validation": len(validation)},
                "demonstrations": [s.summary() for s in sets],
                "best_epoch": result.best_epoch,
                "epochs": result.epochs,
                "validation_loss": result.validation_loss,
                "validation_error": list(result.validation_error),
                "history": list(result.history),
            },
        )
    return result


def _network(demos: Demonstrations, config: CloneConfig, initial: Network | None) -> Network:
    torch.manual_seed(config.seed)
    mean, std = normalization(demos, config)
    n_act = demos.action.shape[1]
    network: Network
    if config.architecture == "chunking":
        network = ChunkingNetwork(config.chunking, mean, std, n_act)
    else:
        network = PolicyNetwork(config.network, mean, std, n_act)
    if initial is not None:
        try:
            network.load_state_dict(initial.state_dict())
        except RuntimeError as error:
            raise SteadyhandError(f"initial network: does not fit the config: {error}") from error
    return network


def normalization(
    demos: Demonstrations, config: CloneConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation (n_obs,) that the network normalizes with."""
    mean, std = demos.observation.mean(axis=0), demos.observation.std(axis=0)
    spec = demos.spec
    units = spec.observation_units or ("",) * len(std)
    for i, unit in enumerate(units):
        if std[i] > 1e-6:  # what never varies stays unscaled
            std[i] = max(std[i], config.std_floor.get(unit, 0.0))
    std[rows_of("ignored", config.ignored, spec)] = IGNORED_STD
    return mean, std


def rows_of(field: str, wanted: Sequence[str], spec: DemoSpec) -> list[int]:
    """Where the observations called ``wanted``, or the parts of that name, stand."""
    found = []
    for name in wanted:
        rows = [
            i
            for i, own in enumerate(spec.observation_names)
            if name in (own, own.rsplit(".", 1)[0])
        ]
        if not rows:
            parts = dict.fromkeys(own.rsplit(".", 1)[0] for own in spec.observation_names)
            raise SteadyhandError(
                f"{field}: there is no observation {name!r}; they are {', '.join(parts)}"
            )
        found += rows
    return found
