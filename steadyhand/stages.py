"""The stages that make a policy, in any environment; each goes on where it was interrupted.

Folder of a run: ``run.json`` (the resolved config), ``demos/``, ``bc/``, ``ppo/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from configs.load import completed, digest
from policies.demos.dataset import Demonstrations, load_demonstrations
from policies.demos.matching import matched
from policies.demos.record import RecordConfig, record
from policies.evaluation.specs import ActorSpec, EnvSpec
from policies.learning.chunking import Network, load_network
from policies.learning.dagger import DaggerConfig, dagger
from policies.learning.network import PolicyNetwork
from policies.learning.ppo import PpoConfig, improve
from policies.provenance import provenance
from policies.storage import read_json, replace_json
from robot.errors import ConfigError, SteadyhandError

#: PPO's likelihoods are those of one action in the state it is in; a chunk has been decided before.
NO_PPO = (
    "bc.clone.architecture: ppo cannot begin from a chunking clone, which plans several actions at "
    "once; train bc and export --stage bc use it as it is, or set mlp"
)

Say = Callable[[str], None]
Curves = Callable[[str, int, dict[str, Any]], None]


def begin(out: Path, config: Any, leads: bool = True) -> None:
    """Write the resolved config; refuse a folder that was begun with another.

    Args:
        out: the run's folder.
        config: a dataclass with defaults and a ``seed``.
        leads: of several processes only one writes.

    Raises:
        SteadyhandError: ``out`` holds a run of another config.
    """
    file = out / "run.json"
    fresh = provenance(config, config.seed)
    if file.exists():
        begun = json.loads(file.read_text(encoding="utf-8"))
        # A run from before a setting existed had what is its default now.
        known = digest(completed(begun.get("config", {}), type(config)()))
        if known != digest(config):
            raise SteadyhandError(
                f"{out}: holds a run of another configuration "
                f"({begun.get('config_hash')}, now {digest(config)}); choose another --out"
            )
    elif leads:
        out.mkdir(parents=True, exist_ok=True)
        replace_json(file, fresh)


@dataclass(frozen=True)
class PolicyStages:
    """Demonstrations, cloning and PPO over one folder.

    Attributes:
        out: the run's folder.
        env: where the policy learns.
        expert: demonstrates and labels; None where the demonstrations are there already.
        demos: how they are recorded.
        bc: cloning with rounds of corrections.
        ppo: what follows.
        say: called with one line for each step worth telling.
        curves: called with stage, step and figures as they come.
    """

    out: Path
    env: EnvSpec
    expert: ActorSpec | None
    demos: RecordConfig
    bc: DaggerConfig
    ppo: PpoConfig
    say: Say
    curves: Curves = lambda stage, step, values: None

    def demonstrations(self) -> Demonstrations:
        """The demonstrations in the run's folder, recorded by the expert if they are not there."""
        folder = self.out / "demos"
        wanted = self.demos.episodes

        def tell(kept: int, _: int, attempts: int) -> None:
            if kept % 50 == 0:
                self.say(f"demonstrations: {kept} of {wanted} kept in {attempts} attempts")

        if self.expert is not None:
            record(folder, self.env, self.expert, self.demos, progress=tell)
            return load_demonstrations(folder)
        return matched(load_demonstrations(folder), self.env)

    def clone(self) -> Network:
        """The cloned network, trained if it is not there."""
        folder = self.out / "bc"
        if (folder / "network.pt").exists():
            return load_network(folder / "network.pt")
        result = dagger(
            self.demonstrations(),
            self.env,
            self.expert,
            folder,
            self.bc,
            progress=lambda line: self.say(f"bc: {line}"),
            curves=lambda epoch, values: self.curves("bc", epoch, values),
        )
        return result.network

    def folds(self) -> dict[str, Any]:
        """The figures of the cross-validation that went before cloning."""
        done = read_json(self.out / "bc" / "folds" / "result.json")
        return {k: done[k] for k in ("folds", "loss_mean", "loss_std", "error_mean", "error_std")}

    def improve(self) -> PolicyNetwork:
        """The network after PPO (the clone, where PPO did not help)."""
        folder = self.out / "ppo"
        if (folder / "network.pt").exists():
            return PolicyNetwork.load(folder / "network.pt")
        can_improve(self.bc)
        clone = cast(PolicyNetwork, self.clone())

        def tell(row: dict[str, Any]) -> None:
            self.curves("ppo", int(row["steps"]), row)
            self.say("ppo: " + ", ".join(f"{k} {_short(v)}" for k, v in row.items()))

        result = improve(
            clone,
            self.demonstrations(),
            self.env,
            folder,
            self.ppo,
            progress=tell,
        )
        self.say(
            f"ppo: {result.before:.3f} before, {result.after:.3f} after; ships the {result.chosen}"
        )
        return result.network


def can_improve(bc: DaggerConfig) -> None:
    """Raise where PPO could not begin from what is cloned."""
    if bc.clone.architecture != "mlp":
        raise ConfigError(NO_PPO)


def seeded_stages(
    demos: RecordConfig, bc: DaggerConfig, ppo: PpoConfig, seed: int, workers: int
) -> dict[str, Any]:
    """The stages' settings, with ``seed`` added to each seed and so many workers, by name."""
    return {
        "demos": replace(demos, seed=demos.seed + seed, workers=workers),
        "bc": replace(
            bc,
            seed=bc.seed + 100 * seed,
            workers=workers,
            clone=replace(bc.clone, seed=bc.clone.seed + seed),
        ),
        "ppo": replace(ppo, seed=ppo.seed + seed, workers=workers),
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
