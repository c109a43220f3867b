"""Every recipe on the same episodes: what it costs in success and what it saves.

What is finished is kept in the folder, so that a sweep goes on where it was interrupted.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.load import as_dict, bounded
from policies.bundle.format import Bundle
from policies.compression.frontier import RULE, Final, Point, choice, front, markdown, plot
from policies.compression.recipe import Recipe
from policies.compression.variant import Say, compress, write_variant
from policies.demos.dataset import Demonstrations
from policies.edge.runtime import ROLES, EdgePolicy
from policies.evaluation.grasping import GraspSetup, evaluate_grasp
from policies.evaluation.protocols import EpisodeResult
from policies.evaluation.rollouts import episode_seeds
from policies.evaluation.statistics import paired_difference, wilson_interval
from policies.evaluation.subjects import Subject
from policies.learning.network import PolicyNetwork
from policies.storage import replace_file, replace_json
from robot.errors import SteadyhandError


@dataclass(frozen=True)
class SweepConfig:
    """How variants are compared.

    Attributes:
        episodes: paired, of every variant.
        final_episodes: paired and fresh, of those that may be chosen, until one holds.
        seed: of the episodes.
        objects: to grasp. Choosing on the test objects would make their figure worth less.
        physics: the setting.
        workers: processes.
        calls: actions for the latency, of each variant.
        max_loss: bound of the rule, see ``RULE``.
        quantized: only what acts in int8 may be chosen, as bundles do unless they are told
            otherwise; the others are measured all the same.
    """

    episodes: int = bounded(200, 2, 1_000_000)
    final_episodes: int = bounded(1000, 2, 1_000_000)
    seed: int = bounded(2000, 0, 2**31 - 1)
    objects: str = "train"
    physics: str = "hard"
    workers: int = bounded(2, 0, 256)
    calls: int = bounded(3000, 100, 10_000_000)
    max_loss: float = bounded(0.02, 0.0, 1.0)
    quantized: bool = True


@dataclass(frozen=True)
class _Made:
    name: str
    recipe: Recipe
    folder: Path
    acts: str
    parameters: int


def sweep(
    network: PolicyNetwork,
    demos: Demonstrations,
    recipes: Mapping[str, Recipe],
    out: Path,
    config: SweepConfig,
    origin: Mapping[str, Any],
    say: Say,
) -> dict[str, Any]:
    """Make, measure and compare every variant; writes ``frontier.json``, ``.md`` and ``.svg``.

    Args:
        network: the policy as it was trained.
        demos: the run's demonstrations.
        recipes: by name; ``fp32`` is added.
        out: folder of the variants and the results.
        config: how they are compared.
        origin: for the variants' cards.
        say: progress.

    Returns:
        The content of ``frontier.json``.
    """
    if demos.spec.policy_env:
        raise SteadyhandError(
            f"sweep: measures grasps, and the run is a policy for {demos.spec.policy_env}; make "
            "single variants with --recipe and measure them with: steadyhand evaluate policy"
        )
    out.mkdir(parents=True, exist_ok=True)
    everything = {"fp32": Recipe("the policy as it was trained"), **recipes}
    made, refused = [], {}
    for name, recipe in everything.items():
        try:
            made.append(_made(name, recipe, network, demos, out, origin, say))
        except SteadyhandError as error:
            refused[name] = str(error)
            say(f"sweep: {name} is left out: {error}")
    outcomes = {m.name: _outcomes(m, out, config, say) for m in made}
    speed = _latencies(made, config.calls)
    base = outcomes["fp32"]
    reference = _actions(made[0])
    points = []
    for m in made:
        won = outcomes[m.name]
        difference = paired_difference(won, base)
        acting = Bundle.load(m.folder).model(ROLES[m.acts])
        points.append(
            Point(
                m.name,
                m.recipe.about,
                m.acts,
                float(np.mean(won)),
                wilson_interval(int(np.sum(won)), len(won)),
                difference.difference,
                (difference.low, difference.high) if m.name != "fp32" else (0.0, 0.0),
                len(won),
                len(acting),
                *speed[m.name],
                _memory_mb(m),
                m.parameters,
                float(np.abs(_actions(m) - reference).mean()),
            )
        )
    by_name = {m.name: m for m in made}

    def decide(name: str) -> Final:
        own, base = (_outcomes(by_name[n], out, config, say, fresh=True) for n in (name, "fp32"))
        found, rates = paired_difference(own, base), (float(np.mean(own)), float(np.mean(base)))
        ends = found.difference, found.low, found.high
        return Final(name, rates, *ends, config.final_episodes)

    rule = RULE.format(which="int8 " if config.quantized else "", loss=config.max_loss)
    chosen, finals = choice(points, config.max_loss, decide, config.quantized)
    result = {
        "points": [p.as_dict() for p in points],
        "front": front(points),
        "chosen": chosen,
        "finals": [asdict(final) for final in finals],
        "rule": rule,
        "bundle": str(by_name[chosen].folder),
        "refused": refused,
        "config": as_dict(config),
    }
    replace_json(out / "frontier.json", result)
    replace_file(out / "frontier.md", markdown(points, chosen, rule, finals).encode())
    replace_file(out / "frontier.svg", plot(points, chosen).encode())
    return result


def variant_folder(out: Path, name: str, recipe: Recipe, network: PolicyNetwork) -> Path:
    """Where a recipe's bundle lies; for another recipe or another network it is another folder."""
    weights = hashlib.sha256(recipe.digest.encode())
    for value in network.state_dict().values():
        weights.update(value.numpy().tobytes())
    return out / f"{name}-{weights.hexdigest()[:12]}"


def _made(
    name: str,
    recipe: Recipe,
    network: PolicyNetwork,
    demos: Demonstrations,
    out: Path,
    origin: Mapping[str, Any],
    say: Say,
) -> _Made:
    folder = variant_folder(out, name, recipe, network)
    if not folder.exists():
        say(f"sweep: making {name}: {recipe.about}")
        write_variant(compress(network, demos, recipe, say), folder, recipe, origin)
    card = Bundle.load(folder).card
    return _Made(name, recipe, folder, card["recipe"]["acts"], int(card["parameters"]))


def _outcomes(
    made: _Made, out: Path, config: SweepConfig, say: Say, fresh: bool = False
) -> list[bool]:
    """Which episodes it won: of those for all variants, or of the fresh ones for the choice."""
    episodes = config.final_episodes if fresh else config.episodes
    seed, which = config.seed + fresh, "-final" if fresh else ""
    done: dict[int, bool] = {}

    def note(result: EpisodeResult) -> None:
        done[result.seed] = result.successes > 0

    subject = Subject("bundle", made.folder, made.acts)
    setup = GraspSetup(subject, "single", config.objects, "truth", config.physics)
    file = out / f"{made.folder.name}{which}.jsonl"
    evaluate_grasp(setup, episodes, seed, config.workers, file, note)
    won = [done[s] for s in episode_seeds(seed, 0, episodes)]
    say(f"sweep: {made.name}: {np.mean(won):.3f} of {len(won)}{which}")
    return won


def _actions(made: _Made) -> Any:
    bundle = Bundle.load(made.folder)
    policy = EdgePolicy(bundle, made.acts)
    return np.stack([policy.act(row) for row in bundle.reference()["policy/in/observation"]])


def _latencies(made: list[_Made], calls: int) -> dict[str, tuple[float, float]]:
    """(p50, p99) us of an action, turn by turn: what slows the machine down slows all."""
    policies = []
    for m in made:
        bundle = Bundle.load(m.folder)
        policies.append((EdgePolicy(bundle, m.acts), bundle.reference()["policy/in/observation"]))
    times = np.empty((len(made), calls))
    action = np.zeros(policies[0][0].action_size, np.float32)
    for i in range(calls):
        for k, (policy, rows) in enumerate(policies):
            row = rows[i % len(rows)]
            policy.act(
                row, action
            )  # its own weights are in the cache then, as in a loop of its own
            began = time.perf_counter_ns()
            policy.act(row, action)
            times[k, i] = time.perf_counter_ns() - began
    p50, p99 = np.percentile(times / 1e3, [50, 99], axis=1)
    return {m.name: (float(p50[k]), float(p99[k])) for k, m in enumerate(made)}


_PROGRAM = """
import sys
import numpy as np
from policies.edge.runtime import EdgePolicy
def peak():
    for line in open('/proc/self/status'):
        if line.startswith('VmHWM'):
            return int(line.split()[1]) / 1024
import onnxruntime
before = peak()
policy = EdgePolicy(sys.argv[1], sys.argv[2])
row = np.zeros(policy.observation_size, np.float32)
for _ in range(1000):
    policy.act(row)
print(peak() - before)
"""


def _memory_mb(made: _Made) -> float:
    """What opening and running the policy adds to a process of its own, MB.

    It includes reading and checking the bundle's files.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(made.folder), made.acts],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode:
        raise SteadyhandError(f"{made.folder}: does not run: {done.stderr.strip()[-300:]}")
    return float(done.stdout.split()[-1])
