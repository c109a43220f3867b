"""Behaviour cloning: a network that acts as the demonstrations do."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.load import bounded, digest
from policies.demos.dataset import Demonstrations
from policies.demos.layout import DemoSpec
from policies.learning.network import NetworkConfig, PolicyNetwork, torch_bytes, torch_load
from policies.provenance import provenance
from policies.storage import replace_file, replace_json
from robot.errors import SteadyhandError

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
NETWORK = "network.pt"
RESULT = "result.json"


@dataclass(frozen=True)
class CloneConfig:
    """How a network is cloned from demonstrations.

    Attributes:
        network: its shape.
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

    network: NetworkConfig = field(default_factory=NetworkConfig)
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
        validation_error: (n_act,) mean absolute error of each number of an action.
        history: one dict an epoch.
    """

    network: PolicyNetwork
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
    initial: PolicyNetwork | None = None,
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
        progress: called after each epoch with (epoch, epochs, figures).
    """
    sets = [sets] if isinstance(sets, Demonstrations) else list(sets)
    folder = None if out is None else Path(out)
    torch.set_num_threads(config.threads)
    train, held = _frames(sets, config)
    network = _network(sets[0], config, initial)
    untaught = _rows("untaught", config.untaught, sets[0].spec)
    fitter = _Fitter(network, train, held, config, untaught)
    if folder is not None and (folder / CHECKPOINT).exists():
        fitter.restore(folder / CHECKPOINT)
    while not fitter.over:
        figures = fitter.epoch()
        if folder is not None:
            replace_file(folder / CHECKPOINT, torch_bytes(fitter.state()))
        if progress is not None:
            progress(fitter.done, config.epochs, figures)
    result = fitter.result()
    if folder is not None:
        result.network.save(folder / NETWORK)
        replace_json(
            folder / RESULT,
            {
                **provenance(config, config.seed),
                "frames": {"train": len(train[0]), "validation": len(held[0])},
                "demonstrations": [s.summary() for s in sets],
                "best_epoch": result.best_epoch,
                "epochs": result.epochs,
                "validation_loss": result.validation_loss,
                "validation_error": list(result.validation_error),
                "history": list(result.history),
            },
        )
    return result


Pair = tuple[Tensor, Tensor]


def _frames(sets: Sequence[Demonstrations], config: CloneConfig) -> tuple[Pair, Pair]:
    """Training and validation frames; an object is on one side only, over all sets."""
    spec = sets[0].spec
    for other in sets[1:]:
        if (other.spec.observation_names, other.spec.action_names, other.spec.rate_hz) != (
            spec.observation_names,
            spec.action_names,
            spec.rate_hz,
        ):
            raise SteadyhandError("demonstrations: sets differ in names or rate, cannot be joined")
    rng = np.random.default_rng([config.seed, 7])
    _, held = sets[0].split(config.validation_share, rng)
    held_groups = {sets[0].groups[e] for e in held}
    parts: dict[bool, list[tuple[NDArray[Any], NDArray[Any]]]] = {False: [], True: []}
    for demos in sets:
        mask = np.array([g in held_groups for g in demos.groups])
        for side in (False, True):
            rows = demos.frames_of(np.flatnonzero(mask == side))
            parts[side].append((demos.observation[rows], demos.action[rows]))

    def pair(side: bool) -> Pair:
        observation, action = zip(*parts[side], strict=True)
        return torch.from_numpy(np.concatenate(observation)), torch.from_numpy(
            np.concatenate(action)
        )

    return pair(False), pair(True)


def _network(
    demos: Demonstrations, config: CloneConfig, initial: PolicyNetwork | None
) -> PolicyNetwork:
    torch.manual_seed(config.seed)
    mean, std = normalization(demos, config)
    network = PolicyNetwork(config.network, mean, std, demos.action.shape[1])
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
    std[_rows("ignored", config.ignored, spec)] = 1e30  # so that it is zero whatever it reads
    return mean, std


def _rows(field: str, wanted: Sequence[str], spec: DemoSpec) -> list[int]:
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


class _Fitter:
    """The state of a cloning run between two epochs."""

    def __init__(
        self,
        network: PolicyNetwork,
        train: Pair,
        held: Pair,
        config: CloneConfig,
        untaught: list[int],
    ) -> None:
        self.network, self.train, self.held, self.config = network, train, held, config
        self._untaught = untaught
        self._forget()
        self.done = 0
        self.best_epoch = -1
        self.best_loss = math.inf
        self.best = {k: v.clone() for k, v in network.state_dict().items()}
        self.history: list[dict[str, float]] = []
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.steps = math.ceil(len(train[0]) / config.batch_size)
        self.loss: nn.Module = (
            nn.HuberLoss(delta=config.huber_delta) if config.loss == "huber" else nn.MSELoss()
        )

    @property
    def over(self) -> bool:
        waited = self.done - 1 - self.best_epoch
        return self.done >= self.config.epochs or waited >= self.config.patience

    def epoch(self) -> dict[str, float]:
        """One pass over the training frames, then the validation loss."""
        config, network = self.config, self.network
        # Seeded by the epoch: a resumed run draws what an uninterrupted one would.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.done)
        observation, action = self.train
        order = torch.randperm(len(observation), generator=generator)
        total = 0.0
        for i in range(self.steps):
            step = self.done * self.steps + i
            share = step / (config.epochs * self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
            rows = order[i * config.batch_size : (i + 1) * config.batch_size]
            x, y = observation[rows], action[rows]
            if config.observation_noise > 0:
                noise = torch.randn(x.shape, generator=generator) * config.observation_noise
                x = x + noise * network.normalizer.std
            loss = self.loss(network.raw(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.max_gradient_norm)
            self.optimizer.step()
            self._forget()
            total += float(loss.detach()) * len(rows)
        with torch.no_grad():
            held = float(self.loss(network.raw(self.held[0]), self.held[1]))
        if not math.isfinite(total) or not math.isfinite(held):
            raise SteadyhandError(
                f"cloning: the loss became NaN in epoch {self.done}; lower the learning rate "
                f"({config.learning_rate:g})"
            )
        figures = {"train_loss": total / len(observation), "validation_loss": held}
        if held < self.best_loss:
            self.best_loss, self.best_epoch = held, self.done
            self.best = {k: v.clone() for k, v in network.state_dict().items()}
        self.history.append(figures)
        self.done += 1
        return figures

    def _forget(self) -> None:
        with torch.no_grad():
            self.network.linears()[0].weight[:, self._untaught] = 0.0

    def _fingerprint(self) -> str:
        sizes = f"{len(self.train[0])}+{len(self.held[0])}"
        return f"{digest(self.config)}:{sizes}:{float(self.train[0].double().sum()):.9g}"

    def state(self) -> dict[str, Any]:
        return {
            "fingerprint": self._fingerprint(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "done": self.done,
            "history": json.dumps(self.history),
        }

    def restore(self, path: Path) -> None:
        state = torch_load(path)
        if state.get("fingerprint") != self._fingerprint():
            raise SteadyhandError(
                f"{path}: belongs to another config or other demonstrations; "
                "choose another folder or remove it"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.best_loss, self.done = state["best_loss"], state["done"]
        self.history = json.loads(state["history"])
        log.info("%s: cloning goes on after epoch %d", path, self.done)

    def result(self) -> CloneResult:
        self.network.load_state_dict(self.best)
        with torch.no_grad():
            error = (self.network(self.held[0]) - self.held[1]).abs().mean(dim=0)
        return CloneResult(
            network=self.network,
            best_epoch=self.best_epoch,
            epochs=self.done,
            validation_loss=self.best_loss,
            validation_error=tuple(float(e) for e in error),
            history=tuple(self.history),
        )
