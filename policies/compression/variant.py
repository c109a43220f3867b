"""A policy made smaller by a recipe, as a bundle of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.load import as_dict, digest
from perception.training.rounding import Rounding
from policies.bundle.contents import card_markdown, record_reference, robot_files
from policies.bundle.format import Bundle, write_bundle
from policies.compression.fit import error, fit, twin
from policies.compression.low_rank import low_rank
from policies.compression.prune import prune, sparsity
from policies.compression.quantize import QuantizeConfig, quantize_policy
from policies.compression.recipe import DistillConfig, QatConfig, Recipe, Step
from policies.demos.dataset import Demonstrations
from policies.learning.export import check_parity, export_onnx, narrowed, policy_metadata
from policies.learning.network import PolicyNetwork
from policies.provenance import git_commit, package_versions
from robot.errors import ConfigError, SteadyhandError

Say = Callable[[str], None]

#: Where a recipe leaves the policy fp32, the bundle's int8 slot gets this, which nobody asked for.
_UNASKED = QuantizeConfig(max_mean_error=1.0)


@dataclass
class _Work:
    """What the steps pass on."""

    network: PolicyNetwork
    teacher: PolicyNetwork
    demos: Demonstrations
    quantize: QuantizeConfig = _UNASKED
    ranges: list[tuple[float, float] | None] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Variant:
    """What a recipe made.

    Attributes:
        network: in torch.
        demos: the run's, of the observations that it sees.
        models: ONNX bytes by role; ``acts`` says which one acts.
        acts: "int8" or "fp32".
        figures: of each step, and of the exports.
        quantize: how it became int8,
        ranges: and what training fixed of it.
    """

    network: PolicyNetwork
    demos: Demonstrations
    models: Mapping[str, bytes]
    acts: str
    figures: Mapping[str, Any]
    quantize: QuantizeConfig
    ranges: Sequence[tuple[float, float] | None]

    @property
    def acting(self) -> bytes:
        """The model that acts."""
        return self.models["policy" if self.acts == "int8" else "policy_fp32"]


def compress(
    network: PolicyNetwork, demos: Demonstrations, recipe: Recipe, say: Say = lambda line: None
) -> Variant:
    """Follow a recipe, without the observations that the policy ignores, as ``export`` ships it.

    Args:
        network: the trained policy; it is not changed.
        demos: the run's demonstrations.
        recipe: the steps.
        say: progress.

    Raises:
        SteadyhandError: a step does not fit the network, or an int8 step loses too much.
    """
    torch.manual_seed(0)
    seen, own = narrowed(network, demos)
    work = _Work(twin(seen), seen, own)
    for number, step in enumerate(recipe.steps, 1):
        _follow(work, step, demos)
        row = {
            "step": step.kind,
            "parameters": sum(p.numel() for p in work.network.parameters()),
            "zero_share": round(sparsity(work.network), 4),
            "action_error": error(work.teacher, work.demos, work.network.raw),
        }
        work.figures.append(row)
        say(
            f"compress: step {number} of {len(recipe.steps)}, {step.kind}: {row['parameters']} "
            f"parameters, actions {row['action_error']:.4f} off the teacher's"
        )
    own = work.demos
    fp32 = export_onnx(work.network, policy_metadata(own.spec, digest(network.config)))
    rng = np.random.default_rng(0)
    parity = check_parity(work.network, fp32, own.observation[:4000], rng)
    int8, loss = quantize_policy(fp32, own.observation, work.quantize, work.ranges)
    figures = {
        "steps": work.figures,
        "parity": as_dict(parity),
        "int8": {"config": as_dict(work.quantize), "action_error": as_dict(loss)},
    }
    acts = "int8" if recipe.quantizes else "fp32"
    models = {"policy": int8, "policy_fp32": fp32}
    return Variant(work.network, own, models, acts, figures, work.quantize, work.ranges)


def _follow(work: _Work, step: Step, every: Demonstrations) -> None:
    config = step.config
    if step.kind == "distill":
        _distill(work, config, every)
    elif step.kind == "prune":
        if config.structure == "channel" and len(work.network.linears()) != (
            len(work.network.config.hidden) + 1
        ):
            raise ConfigError("prune: channels must go before low_rank splits their layers")
        work.network = prune(work.network, work.teacher, work.demos, config)
    elif step.kind == "low_rank":
        work.network = low_rank(work.network, work.teacher, work.demos, config)
    elif step.kind == "qat":
        _train_rounded(work, config)
    else:
        work.quantize = config


def _distill(work: _Work, config: DistillConfig, every: Demonstrations) -> None:
    """``every`` holds all observations: another teacher may see others."""
    teacher = work.network
    if config.teacher is not None:
        path = config.teacher / "network.pt" if config.teacher.is_dir() else config.teacher
        other, size = PolicyNetwork.load(path), every.observation.shape[1]
        if other.observation_size != size:
            raise SteadyhandError(
                f"{path}: the teacher is for {other.observation_size} observed numbers, the run "
                f"records {size}"
            )
        teacher, work.demos = narrowed(other, every)
    own = teacher.config
    shape = type(own)(config.hidden, own.activation, own.input_limit)
    mean, std = teacher.normalizer.mean.numpy(), teacher.normalizer.std.numpy()
    student = PolicyNetwork(shape, mean, std, teacher.action_size)
    student.normalizer.load_state_dict(teacher.normalizer.state_dict())
    fit(student, teacher, work.demos, config.fit, student.raw)
    work.network, work.teacher = student, teacher


def _train_rounded(work: _Work, config: QatConfig) -> None:
    layers = work.network.linears()
    floats = {0 if end == "first" else len(layers) - 1 for end in config.float_layers}
    chosen = [layer for i, layer in enumerate(layers) if i not in floats]
    if not chosen:
        raise ConfigError("qat: every layer stays fp32; name fewer float_layers")
    rounding = Rounding(chosen, config.observer_decay, config.reduce_range)
    try:
        fit(work.network, work.teacher, work.demos, config.fit, work.network.raw)
    finally:
        rounding.remove()
    seen = iter(rounding.ranges)
    work.ranges = [None if i in floats else next(seen) for i in range(len(layers))]
    work.quantize = QuantizeConfig(
        reduce_range=config.reduce_range,
        float_layers=config.float_layers,
        outputs=False,
        max_mean_error=config.max_mean_error,
    )


def write_variant(variant: Variant, out: Path, recipe: Recipe, origin: Mapping[str, Any]) -> Bundle:
    """The variant as a bundle in ``out``, with its figures in the card.

    Args:
        variant: what was made.
        out: folder to be made.
        recipe: what made it.
        origin: what it was made from.
    """
    rng, demos = np.random.default_rng(0), variant.demos
    rows = rng.choice(len(demos.observation), min(256, len(demos.observation)), replace=False)
    x = {"observation": np.ascontiguousarray(demos.observation[np.sort(rows)])}
    env = demos.spec.policy_env
    files = {} if env else robot_files("panda")
    card = {
        "origin": dict(origin),
        "recipe": {"about": recipe.about, "steps": as_dict(recipe)["steps"], "acts": variant.acts},
        "steps": variant.figures["steps"],
        "parameters": sum(p.numel() for p in variant.network.parameters()),
        "parity": variant.figures["parity"],
        "int8": variant.figures["int8"],
        "versions": package_versions(),
    }
    return write_bundle(
        out,
        models=variant.models,
        limits_yaml=files.pop("limits.yaml", None),
        card=card,
        card_text=card_markdown(card, "A compressed policy"),
        reference=record_reference(variant.models, dict.fromkeys(variant.models, x)),
        created_from={
            "git_commit": git_commit(),
            "config_hash": recipe.digest,
            **({"env": env} if env else {}),
        },
        extra=files,
    )
