"""Any policy in any environment: returns, successes and lengths of episodes, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policies.demos.spec import DemoSpec
from policies.evaluation.rollouts import Episode
from policies.evaluation.specs import ActorSpec
from policies.evaluation.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    paired_difference,
    wilson_interval,
)
from policies.storage import read_json
from robot.errors import SteadyhandError

#: Intervals of returns are drawn with this seed, so that the same episodes give the same figures.
_BOOTSTRAP_SEED = 0


def figures(episodes: Sequence[Episode]) -> dict[str, Any]:
    """What episodes of one subject come to.

    Returns:
        ``mean_return`` with ``return_ci95`` (percentile bootstrap) and ``return_std``;
        ``successes``, ``success_rate`` and ``success_ci95`` (Wilson), None where the environment
        tells no success; ``length``: mean, min and max, in steps.
    """
    returns = np.array([e.total_reward for e in episodes])
    mean, low, high = bootstrap_mean(returns, np.random.default_rng(_BOOTSTRAP_SEED))
    told = [e.success for e in episodes if e.success is not None]
    lengths = [e.length for e in episodes]
    return {
        "episodes": len(episodes),
        "mean_return": mean,
        "return_ci95": [low, high],
        "return_std": float(returns.std()),
        "successes": sum(told) if told else None,
        "success_rate": sum(told) / len(told) if told else None,
        "success_ci95": list(wilson_interval(sum(told), len(told))) if told else None,
        "length": {"mean": float(np.mean(lengths)), "min": min(lengths), "max": max(lengths)},
    }


def compared(first: Sequence[Episode], second: Sequence[Episode]) -> dict[str, Any]:
    """The paired differences of two subjects on the same seeds.

    Returns:
        ``return``: ``difference`` and ``ci95`` (bootstrap over pairs); ``success``: as
        ``PairedDifference``, or None where the environment tells no success.
    """
    if [e.seed for e in first] != [e.seed for e in second]:
        raise SteadyhandError("paired episodes: the seeds differ")
    a, b = (np.array([e.total_reward for e in side]) for side in (first, second))
    mean, low, high = bootstrap_difference(a, b, np.random.default_rng(_BOOTSTRAP_SEED))
    success = None
    if all(e.success is not None for e in (*first, *second)):
        success = paired_difference(
            [bool(e.success) for e in first], [bool(e.success) for e in second]
        ).as_dict()
    return {"return": {"difference": mean, "ci95": [low, high]}, "success": success}


def bundle_actor(folder: Path, precision: str, spec: DemoSpec) -> ActorSpec:
    """A bundle's policy for the environment that ``spec`` describes.

    Raises:
        SteadyhandError: it was made for another environment, other observations or actions.
    """
    from policies.edge.runtime import EdgePolicy

    kwargs = {
        "folder": str(folder),
        "precision": precision,
        "names": spec.observation_names,
        "units": spec.observation_units,
    }
    policy = EdgePolicy(
        folder, precision, names=spec.observation_names, units=spec.observation_units
    )
    policy.metadata.must_act_in(spec.policy_env, spec.action_low, spec.action_high, str(folder))
    return ActorSpec("policies.evaluation.actors:edge_actor", kwargs)


def trained_actor(run: Path, spec: DemoSpec) -> ActorSpec:
    """The policy of a training run: its ``ppo/``, else its ``bc/``, or the folder or file given.

    Raises:
        SteadyhandError: there is none, or it is of another size than the environment.
    """
    from policies.learning.chunking import load_network

    places = [run, *(run / stage / "network.pt" for stage in (".", "ppo", "bc"))]
    file = next((p for p in places if p.is_file()), None)
    if file is None:
        raise SteadyhandError(f"{run}: no trained policy there (expected a run's network.pt)")
    record = next((p / "run.json" for p in file.parents[:2] if (p / "run.json").is_file()), None)
    env = (read_json(record)["config"].get("env") or {}).get("id") if record else None
    if env not in (None, spec.env["id"]):
        raise SteadyhandError(f"{file}: was trained in {env}, not in {spec.env['id']}")
    network = load_network(file)
    sizes = (network.observation_size, network.action_size)
    wanted = (len(spec.observation_names), len(spec.action_names))
    if sizes != wanted:
        raise SteadyhandError(
            f"{file}: maps {sizes[0]} to {sizes[1]} numbers, {spec.env['id']} needs "
            f"{wanted[0]} to {wanted[1]}"
        )
    return network.actor()
