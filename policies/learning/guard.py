"""The watch over PPO: paired evaluations, the best weights kept, and the way back on a drop."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from configs.load import bounded
from policies.evaluation.rollouts import Behaviour, Rollouts, episode_seeds
from policies.learning.actor_critic import extract_actor
from policies.learning.crew import Crew
from policies.learning.curriculum import Lesson, changes_at
from policies.learning.guarded import GuardedPPO
from policies.learning.network import PolicyNetwork, torch_bytes, torch_load
from policies.storage import replace_file
from robot.errors import SteadyhandError

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
#: Standard deviations of the clone's returns that may be lost where success was to be counted and
#: the environment tells none; a drop meant for a rate would be within the noise of a mean return.
RETURN_DROP = 0.5


@dataclass(frozen=True)
class MeasureConfig:
    """How PPO is measured while it learns and at the end.

    Attributes:
        evaluate_every: steps between two deterministic evaluations.
        evaluation_episodes: of each, always on the same seeds.
        evaluation_seed: of these seeds; not those of the protocols.
        metric: what an evaluation counts; returns where the environment tells no success.
        rollback_drop: go back to the best weights when the metric is lower than the best by this
            (success rate; or standard deviations of the clone's returns), with half the rate.
        max_rollbacks: stop after so many.
        final_episodes: paired episodes of clone and result on fresh seeds at the end.
    """

    evaluate_every: int = bounded(20_000, 1, 10**9)
    evaluation_episodes: int = bounded(100, 1, 100_000)
    evaluation_seed: int = bounded(2_000_000, 0, 2**31 - 1)
    metric: Literal["success", "return"] = "success"
    rollback_drop: float = bounded(0.05, 0.0, 1e6)
    max_rollbacks: int = bounded(3, 0, 1000)
    final_episodes: int = bounded(200, 1, 100_000)


class Guard(BaseCallback):
    """Measures the policy between updates, keeps the best weights, and goes back on a drop."""

    def __init__(
        self,
        network: PolicyNetwork,
        config: MeasureConfig,
        rollouts: Rollouts,
        folder: Path,
        fingerprint: str,
        progress: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        super().__init__()
        self.clone = network
        self.config = config
        self.metric = config.metric
        self.drop = config.rollback_drop
        self.rollouts = rollouts
        self.folder = folder
        self._config_hash = fingerprint
        self.report = progress or (lambda figures: log.info("%s", figures))
        self.best: PolicyNetwork = network
        self.best_score = -np.inf
        self.unit = 1.0
        self.best_state: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.rollbacks = 0
        self.stopped = False
        self.next_look = config.evaluate_every
        self._recent: list[bool] = []
        #: All steps, and the curriculum over them.
        self.lessons: tuple[int, Sequence[Lesson]] = (1, ())

    def attach(self, model: GuardedPPO) -> None:
        """Measure the clone, or take up the checkpoint of an earlier run."""
        self.model = model
        if (self.folder / CHECKPOINT).exists():
            self._restore(torch_load(self.folder / CHECKPOINT))
            return
        scores = self.scores(self.clone)
        self.best_score = float(scores.mean())
        if self.metric == "return":
            self.unit = max(float(scores.std()), 1e-9)
        self.best_state = self._weights()
        self.history.append({"steps": 0, "score": self.best_score, "event": "clone"})
        self.report(self.history[-1])
        self._save()

    @property
    def _ppo(self) -> GuardedPPO:
        return cast(GuardedPPO, self.model)

    def scores(self, network: PolicyNetwork, seeds: list[int] | None = None) -> NDArray[Any]:
        """The metric of each evaluation episode, deterministic actions."""
        if seeds is None:
            seeds = list(
                episode_seeds(self.config.evaluation_seed, 0, self.config.evaluation_episodes)
            )
        episodes = list(self.rollouts.run(Behaviour(network.actor()), seeds))
        if self.metric == "success" and all(e.success is None for e in episodes):
            self.metric, self.drop = "return", RETURN_DROP
        if self.metric == "success":
            return np.array([float(bool(e.success)) for e in episodes])
        return np.array([e.total_reward for e in episodes])

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.next_look:
            self.look()
        steps, lessons = self.lessons
        if lessons:
            changes = changes_at(lessons, self._ppo.num_timesteps / steps)
            cast(Crew, self.training_env).change(changes)

    def _on_step(self) -> bool:
        for stretch in self.locals["stretches"]:
            self._recent += stretch.successes
        return not self.stopped

    def look(self) -> None:
        """Evaluate now; keep, go on or go back; write a checkpoint."""
        model = self._ppo
        self.next_look = model.num_timesteps + self.config.evaluate_every
        if self.history and self.history[-1]["steps"] == model.num_timesteps:
            return
        network = extract_actor(model.policy, self.clone)
        score = float(self.scores(network).mean())
        event = "kept"
        if score >= self.best_score:
            self.best, self.best_score, event = network, score, "best"
            self.best_state = self._weights()
        elif self.best_score - score > self.drop * self.unit:
            event = "rollback"
            self._go_back()
        recent, self._recent = self._recent[-200:], []
        self.history.append(
            {
                "steps": int(model.num_timesteps),
                "score": score,
                "best": self.best_score,
                "event": event,
                "training_success": float(np.mean(recent)) if recent else None,
                **{k: float(v) for k, v in model.figures.items()},
            }
        )
        self.report(self.history[-1])
        self._save()

    def _go_back(self) -> None:
        model = self._ppo
        model.policy.load_state_dict(self.best_state["policy"])
        model.actor_optimizer.load_state_dict(self.best_state["actor_optimizer"])
        model.critic_optimizer.load_state_dict(self.best_state["critic_optimizer"])
        model.rate_scale *= 0.5
        self.rollbacks += 1
        self.stopped = self.rollbacks >= self.config.max_rollbacks

    def _weights(self) -> dict[str, Any]:
        model = self._ppo
        return copy.deepcopy(
            {
                "policy": model.policy.state_dict(),
                "actor_optimizer": model.actor_optimizer.state_dict(),
                "critic_optimizer": model.critic_optimizer.state_dict(),
            }
        )

    def _fingerprint(self) -> str:
        weights = sum(float(p.detach().double().sum()) for p in self.clone.parameters())
        return f"{self._config_hash}:{weights:.12g}"

    def _save(self) -> None:
        model = self._ppo
        state = {
            "fingerprint": self._fingerprint(),
            "now": self._weights(),
            "best_state": self.best_state,
            "best_score": self.best_score,
            "unit": self.unit,
            "metric": self.metric,
            "drop": self.drop,
            "steps": int(model.num_timesteps),
            "rate_scale": model.rate_scale,
            "rollbacks": self.rollbacks,
            "stopped": self.stopped,
            "history": json.dumps(self.history),
        }
        replace_file(self.folder / CHECKPOINT, torch_bytes(state))

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("fingerprint") != self._fingerprint():
            raise SteadyhandError(
                f"{self.folder / CHECKPOINT}: belongs to another config or clone; choose another "
                "folder or remove it"
            )
        model = self._ppo
        self.best_state = state["best_state"]
        self.history = json.loads(state["history"])
        if any(look["event"] == "best" for look in self.history):
            model.policy.load_state_dict(self.best_state["policy"])
            self.best = extract_actor(model.policy, self.clone)
        model.policy.load_state_dict(state["now"]["policy"])
        model.actor_optimizer.load_state_dict(state["now"]["actor_optimizer"])
        model.critic_optimizer.load_state_dict(state["now"]["critic_optimizer"])
        model.num_timesteps = int(state["steps"])
        model.rate_scale = float(state["rate_scale"])
        self.best_score, self.unit = float(state["best_score"]), float(state["unit"])
        self.metric = state.get("metric", self.metric)
        self.drop = float(state.get("drop", self.drop))
        self.rollbacks, self.stopped = int(state["rollbacks"]), bool(state["stopped"])
        self.next_look = model.num_timesteps + self.config.evaluate_every
        log.info("%s: PPO goes on at step %d", self.folder, model.num_timesteps)
