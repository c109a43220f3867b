"""From a cloned network to a better one by PPO, measured against the clone all the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from configs.load import bounded, digest
from policies.demos.dataset import Demonstrations
from policies.evaluation.rollouts import Rollouts, episode_seeds
from policies.evaluation.specs import EnvSpec
from policies.evaluation.statistics import (
    PairedDifference,
    bootstrap_difference,
    paired_difference,
)
from policies.learning.crew import Crew
from policies.learning.curriculum import Lesson, check
from policies.learning.guard import Guard, MeasureConfig
from policies.learning.guarded import GuardConfig, GuardedPPO
from policies.learning.network import PolicyNetwork
from policies.learning.residual import ResidualConfig, beside, learning
from policies.provenance import provenance
from policies.storage import replace_json
from robot.errors import SteadyhandError

NETWORK = "network.pt"
RESULT = "result.json"


@dataclass(frozen=True)
class PpoConfig:
    """How a cloned network is improved.

    Attributes:
        guards: what keeps it from collapsing.
        steps: environment steps.
        seed: of everything.
        workers: processes that step environments; 0 steps one in this process.
        rollout_steps: steps of each environment between two updates.
        batch_size: of an update.
        epochs: passes over the rollouts in an update.
        learning_rate: of the actor, at the start; falls linearly to zero.
        critic_learning_rate: of the critic.
        critic_hidden: layers of the critic.
        fresh: forget what was cloned; begin from fresh weights in the clone's shape: what PPO does
            alone, to compare with.
        residual: lets a correction learn beside the clone instead of the clone itself.
        critic_sees: keyword arguments of the environment under which it appends to its observation
            what only the critic may see; the actor never does.
        curriculum: lessons in changed environments, one after the other; what is left of the steps
            is the environment itself. It is measured in that one all the time.
        timeout_fails: an episode that is cut short counts as over. Otherwise its end is worth what
            the critic thinks of it, and a policy that waits for the end never learns better.
        gamma: discount a policy step.
        gae_lambda: of the advantages.
        clip_range: of the ratio.
        target_kl: the actor stops within an update beyond 1.5 times this.
        max_gradient_norm: of actor and of critic.
        reward_scale: rewards are multiplied with this; fixed, nothing is normalized by running
            statistics that would have to travel with the policy. 0 takes what brings the
            demonstrations' discounted returns to a standard deviation of 1.
        measure: how it is measured while it learns and at the end.
        threads: of torch.
    """

    guards: GuardConfig = field(default_factory=GuardConfig)
    steps: int = bounded(200_000, 1, 10**9)
    seed: int = bounded(0, 0, 2**31 - 1)
    workers: int = bounded(2, 0, 64)
    rollout_steps: int = bounded(1024, 2, 10**6)
    batch_size: int = bounded(256, 2, 10**6)
    epochs: int = bounded(5, 1, 100)
    learning_rate: float = bounded(1e-4, 1e-8, 1.0)
    critic_learning_rate: float = bounded(1e-3, 1e-8, 1.0)
    critic_hidden: tuple[int, ...] = bounded((256, 256), 1, 4096)
    fresh: bool = False
    residual: ResidualConfig = field(default_factory=ResidualConfig)
    critic_sees: dict[str, bool] = field(default_factory=dict)
    curriculum: tuple[Lesson, ...] = ()
    timeout_fails: bool = False
    gamma: float = bounded(0.99, 0.0, 1.0)
    gae_lambda: float = bounded(0.95, 0.0, 1.0)
    clip_range: float = bounded(0.2, 1e-3, 1.0)
    target_kl: float = bounded(0.02, 1e-4, 10.0)
    max_gradient_norm: float = bounded(0.5, 1e-3, 1e6)
    reward_scale: float = bounded(1.0, 0.0, 1e6)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    threads: int = bounded(2, 1, 64)

    def __post_init__(self) -> None:
        check(self.curriculum)


@dataclass(frozen=True)
class PpoResult:
    """What PPO came to.

    Attributes:
        network: the best PPO weights, where the final paired episodes show that they are better
            than the clone; otherwise the clone.
        chosen: which of them it is.
        before: the metric of the clone on the final seeds.
        after: the metric of the best PPO weights on the same seeds.
        difference: their paired difference (None for returns; see ``interval``).
        interval: 95 % interval of the difference.
        steps: environment steps.
        rollbacks: how often it went back.
        history: one dict for each evaluation.
    """

    network: PolicyNetwork
    chosen: Literal["ppo", "clone"]
    before: float
    after: float
    difference: PairedDifference | None
    interval: tuple[float, float]
    steps: int
    rollbacks: int
    history: tuple[dict[str, Any], ...]


def improve(
    network: PolicyNetwork,
    demos: Demonstrations,
    env: EnvSpec,
    out: Path | str,
    config: PpoConfig,
    *,
    evaluation_env: EnvSpec | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> PpoResult:
    """Improve a cloned network; called again after an interruption it goes on.

    Args:
        network: the clone.
        demos: for the cloning loss.
        env: where it learns.
        out: folder for checkpoint, network and result.
        config: how.
        evaluation_env: where it is measured; ``env`` when left out.
        progress: called with the figures of each evaluation.
    """
    if not isinstance(network, PolicyNetwork):
        raise SteadyhandError(
            "PPO: begins from a perceptron (bc.clone.architecture=mlp); a chunk was chosen before "
            "the state that its likelihood would be asked in"
        )
    folder = Path(out)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    learns = None
    if config.fresh:
        normalizer = network.normalizer
        network = PolicyNetwork(
            network.config, normalizer.mean.numpy(), normalizer.std.numpy(), network.action_size
        )
    start = network
    if config.residual.hidden:
        start = beside(network, config.residual, demos)
        learns = learning(network, config.residual)
    crew = Crew(replace(env, kwargs={**env.kwargs, **config.critic_sees}), config.workers)
    try:
        model = GuardedPPO(
            crew,
            start,
            (demos.observation, demos.action),
            config.guards,
            learns=learns,
            critic_hidden=config.critic_hidden,
            critic_learning_rate=config.critic_learning_rate,
            reward_scale=config.reward_scale or demos.return_scale(config.gamma),
            timeout_fails=config.timeout_fails,
            learning_rate=lambda remaining: config.learning_rate * remaining,
            n_steps=config.rollout_steps,
            batch_size=config.batch_size,
            n_epochs=config.epochs,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            clip_range=config.clip_range,
            target_kl=config.target_kl,
            max_grad_norm=config.max_gradient_norm,
            seed=config.seed,
        )
        # Its own would leave an empty folder below /tmp for each run.
        model.set_logger(Logger(folder=None, output_formats=[]))
        fingerprint = digest(config)
        with Rollouts(evaluation_env or env, config.workers) as rollouts:
            guard = Guard(start, config.measure, rollouts, folder, fingerprint, progress)
            guard.attach(model)
            guard.lessons = config.steps, config.curriculum
            left = config.steps - model.num_timesteps
            if left > 0 and not guard.stopped:
                crew.seed(config.seed + model.num_timesteps)
                _learn(model, left, guard, env)
                guard.look()  # the last update counts too
            return _finish(model, guard, network, config, rollouts, folder)
    finally:
        crew.close()


def _learn(model: GuardedPPO, steps: int, guard: Guard, env: EnvSpec) -> None:
    try:
        model.learn(steps, callback=guard, reset_num_timesteps=False)
    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
        raise SteadyhandError(
            f"environment {env.id}: a training worker died; the last checkpoint is kept, "
            "run again to resume"
        ) from error


def _finish(
    model: GuardedPPO,
    guard: Guard,
    clone: PolicyNetwork,
    config: PpoConfig,
    rollouts: Rollouts,
    folder: Path,
) -> PpoResult:
    """Compare best and clone on seeds that chose nothing so far, and write one of them."""
    seeds = list(
        episode_seeds(config.measure.evaluation_seed + 1, 0, config.measure.final_episodes)
    )
    before = guard.scores(guard.clone, seeds)
    after = before if guard.best is guard.clone else guard.scores(guard.best, seeds)
    difference: PairedDifference | None = None
    if guard.metric == "success":
        difference = paired_difference(after > 0.5, before > 0.5)
        interval = (difference.low, difference.high)
    else:
        rng = np.random.default_rng(config.seed)
        _, *ends = bootstrap_difference(after, before, rng)
        interval = (ends[0], ends[1])
    # The best of several looks flatters itself; on fresh episodes PPO has to earn its place.
    better = interval[0] > 0.0 and guard.best is not guard.clone
    result = PpoResult(
        network=guard.best if better else clone,
        chosen="ppo" if better else "clone",
        before=float(before.mean()),
        after=float(after.mean()),
        difference=difference,
        interval=interval,
        steps=int(model.num_timesteps),
        rollbacks=guard.rollbacks,
        history=tuple(guard.history),
    )
    result.network.save(folder / NETWORK)
    replace_json(
        folder / RESULT,
        {
            **provenance(config, config.seed),
            "env": {"id": rollouts.env.id, "kwargs": dict(rollouts.env.kwargs)},
            "metric": guard.metric,
            "chosen": result.chosen,
            "before": result.before,
            "after": result.after,
            "difference": None if difference is None else difference.as_dict(),
            "interval": list(interval),
            "final_episodes": config.measure.final_episodes,
            "steps": result.steps,
            "rollbacks": result.rollbacks,
            "history": list(result.history),
        },
    )
    return result
