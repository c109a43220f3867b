"""A policy for any environment, from its demonstrations to a bundle that was measured in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from configs.load import as_dict, bounded, digest
from policies.bundle.contents import card_markdown, record_reference
from policies.bundle.format import Bundle, write_bundle
from policies.compression.quantize import QuantizeConfig
from policies.demos.dataset import Demonstrations, load_demonstrations
from policies.demos.matching import matched
from policies.demos.record import RecordConfig
from policies.evaluation.returns import bundle_actor, compared, figures
from policies.evaluation.rollouts import Behaviour, Episode, Rollouts, episode_seeds
from policies.evaluation.specs import ActorSpec, EnvSpec
from policies.learning.chunking import load_network
from policies.learning.dagger import DaggerConfig
from policies.learning.ppo import PpoConfig
from policies.provenance import git_commit, package_versions
from policies.storage import read_json
from robot.errors import ConfigError, SteadyhandError
from steadyhand.packing import hold, policy_models, same_weights
from steadyhand.stages import PolicyStages, Say, begin, seeded_stages

#: int8 may lose this share of a standard deviation of fp32's returns, and so much of its success;
#: more is refused where the interval of the difference excludes zero.
MAX_RETURN_LOSS, MAX_SUCCESS_LOSS = 0.1, 0.01


@dataclass(frozen=True)
class EnvTrainingConfig:
    """All of ``train bc|ppo --env``.

    Attributes:
        env: where the policy learns; the command line names it.
        seed: added to that of every stage.
        demos: how demonstrations are recorded, where an expert is given.
        bc: cloning; its rounds of corrections need the expert.
        ppo: what follows.
    """

    env: EnvSpec = field(default_factory=lambda: EnvSpec(""))
    seed: int = bounded(0, 0, 2**31 - 1)
    demos: RecordConfig = field(default_factory=RecordConfig)
    bc: DaggerConfig = field(default_factory=DaggerConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)

    def of(self, env: EnvSpec, seed: int, workers: int) -> EnvTrainingConfig:
        """The same for ``env``, with ``seed`` added to every seed and so many workers."""
        changes = seeded_stages(self.demos, self.bc, self.ppo, seed, workers)
        return replace(self, env=env, seed=self.seed + seed, **changes)


def stages(
    out: Path, config: EnvTrainingConfig, demos: Path | None, actor: str | None, say: Say
) -> PolicyStages:
    """The stages of a run in ``out``, begun or taken up.

    Args:
        out: the run's folder; a given set is copied into it, so that the folder stands alone.
        config: see :class:`EnvTrainingConfig`.
        demos: a demonstration set of this environment, or None.
        actor: ``module:callable`` of an expert, or None.
        say: called with one line for each step worth telling.

    Raises:
        ConfigError: the environment cannot be learned, the set is not of it, or the run has
            another set.
    """
    # What is wrong with environment, set or expert shows here, before anything is written.
    instance = config.env.make()
    expert = None if actor is None else ActorSpec(actor)
    if expert is not None:
        expert.make(instance)
    instance.close()
    own = out / "demos"
    if demos is not None:
        given = matched(load_demonstrations(demos), config.env)
        begin(out, config)
        _take(given, demos, own)
    elif expert is None and not own.exists():
        raise ConfigError(
            f"{own}: no demonstrations; give a set with --demos DIR or an expert with --actor "
            "module:callable"
        )
    else:
        begin(out, config)
    return PolicyStages(out, config.env, expert, config.demos, config.bc, config.ppo, say)


def _take(given: Demonstrations, source: Path, own: Path) -> None:
    """Copy a set into the run, whole or not at all."""
    if own.exists():
        ours = load_demonstrations(own)
        same = np.array_equal(ours.observation, given.observation)
        if not same or not np.array_equal(ours.action, given.action):
            raise ConfigError(f"{own}: holds another set than {source}; choose another --out")
        return
    temporary = own.with_name(f".{own.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    temporary.rename(own)


def env_of(run: Path) -> EnvSpec | None:
    """The environment a run's policy was trained in; None for the grasp task's runs."""
    file = run / "run.json"
    said = read_json(file).get("config", {}).get("env") if file.is_file() else None
    if said is None:
        return None
    return EnvSpec(said["id"], dict(said["kwargs"]), tuple(said["imports"]))


def pack_env(
    run: Path,
    env: EnvSpec,
    stage: str,
    out: Path,
    origin: Mapping[str, Any],
    episodes: int,
    seed: int,
    say: Say,
    workers: int = 2,
    quantize: QuantizeConfig | None = None,
) -> Bundle:
    """Export, quantize, measure in the environment, and write the bundle.

    Args:
        run: folder of the run.
        env: where it was trained.
        stage: ``ppo`` or ``bc``.
        out: folder to be made.
        origin: for the card: command, config, note.
        episodes: paired episodes of int8, fp32 and, after PPO, the clone.
        seed: of these episodes.
        say: progress.
        workers: processes.
        quantize: how the policy becomes int8.

    Raises:
        SteadyhandError: a check does not hold, or int8 does worse than fp32 by more than
            ``MAX_RETURN_LOSS`` or ``MAX_SUCCESS_LOSS``; the message says by how much.
    """
    quantize = quantize or QuantizeConfig()
    policy = load_network(run / stage / "network.pt")
    demos = matched(load_demonstrations(run / "demos"), env)
    made = policy_models(policy, demos, quantize, seed, say)
    card: dict[str, Any] = {
        "policy": {
            "env": env.id,
            "observations": list(demos.spec.observation_names),
            "actions": list(demos.spec.action_names),
            "action_low": list(demos.spec.action_low),
            "action_high": list(demos.spec.action_high),
            "rate_hz": demos.spec.rate_hz,
        },
        "origin": dict(origin),
        "demonstrations": demos.summary(),
        "parity": as_dict(made.parity),
        "int8": {"config": as_dict(quantize), "action_error": as_dict(made.error)},
        "versions": package_versions(),
    }

    def write(folder: Path) -> Bundle:
        return write_bundle(
            folder,
            models=made.models,
            limits_yaml=None,
            card=card,
            card_text=card_markdown(card, f"Steadyhand bundle: {env.id}"),
            reference=record_reference(made.models, made.inputs, made.expected),
            created_from={
                "env": env.id,
                "git_commit": git_commit(),
                "config_hash": origin.get("config_hash") or digest(quantize),
            },
        )

    with TemporaryDirectory() as temporary:
        draft = Path(temporary) / "bundle"
        write(draft)
        hold(draft)
        actors = {p: bundle_actor(draft, p, demos.spec) for p in ("int8", "fp32")}
        clone = load_network(run / "bc" / "network.pt") if stage == "ppo" else None
        if clone is not None and not same_weights(clone, policy):
            actors["clone"] = clone.actor()
        done: dict[str, list[Episode]] = {}
        with Rollouts(env, workers) as rollouts:
            for name, actor in actors.items():
                seeds = episode_seeds(seed, 0, episodes)
                done[name] = list(rollouts.run(Behaviour(actor), seeds))
                say(f"proof: {name}: mean return {figures(done[name])['mean_return']:.4g}")
    proof: dict[str, Any] = {"env": env.id, "seed": seed}
    proof |= {name: figures(part) for name, part in done.items()}
    proof["int8_minus_fp32"] = compared(done["int8"], done["fp32"])
    if "clone" in done:
        proof["fp32_minus_clone"] = compared(done["fp32"], done["clone"])
    card["proof"] = proof
    _hold_int8(proof)
    bundle = write(out)
    hold(out)
    say(f"export: {out}, {bundle.size / 1e6:.2f} MB, every check holds")
    return bundle


def _hold_int8(proof: Mapping[str, Any]) -> None:
    """Refuse int8 weights that act noticeably worse."""
    difference, fp32 = proof["int8_minus_fp32"], proof["fp32"]
    lost = -difference["return"]["difference"]
    # A policy that always earns the same has no spread to compare with.
    unit = max(fp32["return_std"], 0.01 * abs(fp32["mean_return"]), 1e-9)
    if lost > MAX_RETURN_LOSS * unit and difference["return"]["ci95"][1] < 0:
        raise SteadyhandError(
            f"export: int8 earns {lost:.4g} less than fp32 an episode, more than "
            f"{MAX_RETURN_LOSS:g} standard deviations of its returns ({unit:.4g})"
        )
    success = difference["success"]
    worse = success is not None and success["ci95"][1] < 0
    if success is not None and worse and -success["difference"] > MAX_SUCCESS_LOSS:
        raise SteadyhandError(
            f"export: int8 succeeds in {-success['difference']:.1%} fewer episodes than fp32; at "
            f"most {MAX_SUCCESS_LOSS:.1%} is allowed"
        )
