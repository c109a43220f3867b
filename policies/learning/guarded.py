"""PPO that does not forget what was cloned: Stable-Baselines3's with another update."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from configs.load import bounded
from policies.learning.actor_critic import (
    GuardedPolicy,
    actor_parameters,
    critic_parameters,
    extract_actor,
    hold,
    load_actor,
    policy_kwargs,
)
from policies.learning.crew import Crew, Explorer, Stretch
from policies.learning.network import PolicyNetwork
from robot.errors import SteadyhandError

#: What a stretch calls it, and what Stable-Baselines3's buffer does.
_BUFFERS = {
    "observation": "observations",
    "action": "actions",
    "reward": "rewards",
    "starts": "episode_starts",
}


@dataclass(frozen=True)
class GuardConfig:
    """What keeps PPO from collapsing after cloning; each can be switched off.

    Attributes:
        critic_warmup_steps: environment steps in which only the critic learns. A fresh critic's
            advantages are noise, and the first updates after them would spoil the actor.
        log_std_start: logarithm of the exploration noise at the start (-2 is 0.135; 0.37 costs a
            cloned policy 18 points at once).
        log_std_min: lower bound while it learns.
        log_std_max: upper bound while it learns.
        noise_persistence: share of the exploration noise that lasts from step to step; 0 is white.
        clone_coefficient: weight of the cloning loss (mean squared error of the actor's mean on
            demonstrations) beside PPO's, at the start; 0 is off.
        clone_coefficient_end: the same at the end; linear between.
        kl_coefficient: weight of the KL divergence from the cloned policy (with the starting
            noise) on the visited states; 0 is off.
    """

    critic_warmup_steps: int = bounded(20_000, 0, 10**9)
    log_std_start: float = bounded(-2.0, -6.0, 1.0)
    log_std_min: float = bounded(-3.0, -8.0, 1.0)
    log_std_max: float = bounded(-1.6, -6.0, 2.0)
    noise_persistence: float = bounded(0.0, 0.0, 0.999)
    clone_coefficient: float = bounded(1.0, 0.0, 1000.0)
    clone_coefficient_end: float = bounded(0.1, 0.0, 1000.0)
    kl_coefficient: float = bounded(0.02, 0.0, 100.0)

    def __post_init__(self) -> None:
        if not self.log_std_min <= self.log_std_start <= self.log_std_max:
            raise SteadyhandError(
                f"log_std_start: {self.log_std_start} must lie between log_std_min "
                f"{self.log_std_min} and log_std_max {self.log_std_max}"
            )


class GuardedPPO(PPO):
    """PPO from a cloned network, with the guards of ``GuardConfig``.

    Actor and critic share no weight and have an optimizer each, so that a frozen actor is frozen
    to the bit and the critic may learn faster.

    Args:
        env: the workers; what their observations hold beyond the network's is for the critic alone.
        network: the cloned policy; it is copied.
        demonstrations: observations (N, n_obs) and actions (N, n_act) for the cloning loss.
        guards: the guards.
        learns: for each of the network's layers which weights and biases may change, 1 or 0 each;
            all where None.
        critic_hidden: layers of the critic.
        critic_learning_rate: of its optimizer; ``learning_rate`` is the actor's.
        reward_scale: rewards are multiplied with this.
        timeout_fails: an episode that is cut short counts as over; otherwise its end is worth what
            the critic thinks of it.
        **kwargs: as for Stable-Baselines3's ``PPO``.
    """

    def __init__(
        self,
        env: Any,
        network: PolicyNetwork,
        demonstrations: tuple[NDArray[np.float32], NDArray[np.float32]],
        guards: GuardConfig,
        *,
        learns: Sequence[tuple[Tensor, Tensor]] | None = None,
        critic_hidden: tuple[int, ...] = (256, 256),
        critic_learning_rate: float = 1e-3,
        reward_scale: float = 1.0,
        timeout_fails: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            GuardedPolicy,
            env,
            policy_kwargs=policy_kwargs(network, critic_hidden, guards.log_std_start),
            device="cpu",
            **kwargs,
        )
        self.guards = guards
        self.cloned = copy.deepcopy(network).requires_grad_(False)
        self.reward_scale, self.timeout_fails = reward_scale, timeout_fails
        load_actor(self.policy, network)
        if learns is not None:
            hold(self.policy, learns)
        self._demos = tuple(torch.from_numpy(np.asarray(d)) for d in demonstrations)
        self.actor_optimizer = torch.optim.Adam(
            actor_parameters(self.policy), lr=self.lr_schedule(1.0), eps=1e-5
        )
        self.critic_optimizer = torch.optim.Adam(
            critic_parameters(self.policy), lr=critic_learning_rate, eps=1e-5
        )
        #: The actor's learning rate is multiplied with this; a rollback halves it.
        self.rate_scale = 1.0
        self.figures: dict[str, float] = {}

    @property
    def warming_up(self) -> bool:
        """Whether only the critic learns."""
        return bool(self.num_timesteps <= self.guards.critic_warmup_steps)

    def clone_coefficient(self) -> float:
        """The weight of the cloning loss now."""
        start, end = self.guards.clone_coefficient, self.guards.clone_coefficient_end
        return end + (start - end) * max(0.0, float(self._current_progress_remaining))

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Steps of all workers into the buffer; False where the callback ends the training."""
        callback.on_rollout_start()
        explorer = Explorer(
            extract_actor(self.policy, self.cloned).actor(),
            self.cloned.observation_size,
            self.policy.log_std.detach().exp().numpy().copy(),
            self.guards.noise_persistence,
        )
        stretches = cast(Crew, env).collect(explorer, n_rollout_steps)
        self.num_timesteps += n_rollout_steps * len(stretches)
        callback.update_locals({"stretches": stretches})
        if not callback.on_step():
            return False
        self._fill(rollout_buffer, stretches)
        callback.on_rollout_end()
        return True

    @torch.no_grad()
    def _fill(self, buffer: RolloutBuffer, stretches: Sequence[Stretch]) -> None:
        self.policy.set_training_mode(False)
        buffer.reset()
        for name in ("observation", "action", "reward", "starts"):
            filled = np.stack([getattr(s, name) for s in stretches], axis=1)
            getattr(buffer, _BUFFERS[name])[:] = filled
        buffer.rewards *= self.reward_scale
        if not self.timeout_fails:
            for i, stretch in enumerate(stretches):
                for step, ended_in in stretch.cut:
                    buffer.rewards[step, i] += self.gamma * self._worth(ended_in[None])[0]
        shape = buffer.rewards.shape
        values, likely, _ = self.policy.evaluate_actions(
            torch.from_numpy(buffer.observations).flatten(0, 1),
            torch.from_numpy(buffer.actions).flatten(0, 1),
        )
        buffer.values[:] = values.numpy().reshape(shape)
        buffer.log_probs[:] = likely.numpy().reshape(shape)
        buffer.pos, buffer.full = buffer.buffer_size, True
        last = torch.from_numpy(self._worth(np.stack([s.last for s in stretches])))
        buffer.compute_returns_and_advantage(last, np.array([s.over for s in stretches]))

    def _worth(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) what the critic thinks of (n, n_obs)."""
        values = self.policy.predict_values(torch.from_numpy(observations))
        out: NDArray[np.float32] = values.detach().numpy().reshape(-1)
        return out

    def train(self) -> None:
        """One update on the rollouts just collected."""
        self.policy.set_training_mode(True)
        remaining = max(0.0, float(self._current_progress_remaining))
        for group in self.actor_optimizer.param_groups:
            group["lr"] = self.lr_schedule(remaining) * self.rate_scale
        clip = float(cast(Schedule, self.clip_range)(remaining))
        sums: dict[str, float] = {}
        batches = 0
        actor_learns = not self.warming_up
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                values, log_prob, _ = self.policy.evaluate_actions(
                    batch.observations, batch.actions
                )
                value_loss = nn.functional.mse_loss(values.flatten(), batch.returns)
                figures = {"value_loss": float(value_loss.detach())}
                self._step(self.critic_optimizer, value_loss)
                if actor_learns:
                    loss, more = self._actor_loss(batch, log_prob, clip)
                    figures |= more
                    if self.target_kl is not None and more["kl_step"] > 1.5 * self.target_kl:
                        actor_learns = False  # far enough for one update; the critic goes on
                    else:
                        self._step(self.actor_optimizer, loss)
                        with torch.no_grad():
                            self.policy.log_std.clamp_(
                                self.guards.log_std_min, self.guards.log_std_max
                            )
                for key, value in figures.items():
                    sums[key] = sums.get(key, 0.0) + value
                batches += 1
            self._n_updates += 1
        self.figures = {k: v / batches for k, v in sums.items()}
        self.figures["std"] = float(self.policy.log_std.detach().exp().mean())
        self.figures["explained_variance"] = float(
            explained_variance(
                self.rollout_buffer.values.flatten(), self.rollout_buffer.returns.flatten()
            )
        )
        for key, value in self.figures.items():
            self.logger.record(f"train/{key}", value)

    def _actor_loss(
        self, batch: Any, log_prob: Tensor, clip: float
    ) -> tuple[Tensor, dict[str, float]]:
        guards = self.guards
        advantages = batch.advantages
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = log_prob - batch.old_log_prob
        ratio = log_ratio.exp()
        clipped = advantages * ratio.clamp(1 - clip, 1 + clip)
        loss = -torch.min(advantages * ratio, clipped).mean()
        figures = {
            "policy_loss": float(loss.detach()),
            "kl_step": float(((ratio - 1) - log_ratio).mean().detach()),
        }
        coefficient = self.clone_coefficient()
        if coefficient > 0:
            rows = torch.randint(len(self._demos[0]), (len(advantages),))
            error = nn.functional.mse_loss(self._mean(self._demos[0][rows]), self._demos[1][rows])
            loss = loss + coefficient * error
            figures["clone_loss"] = float(error.detach())
        if guards.kl_coefficient > 0:
            divergence = self.kl_to_clone(batch.observations)
            loss = loss + guards.kl_coefficient * divergence
            figures["kl_to_clone"] = float(divergence.detach())
        return loss, figures

    def _mean(self, observations: Tensor) -> Tensor:
        """The actor's action before noise and clipping."""
        features = cast(Tensor, self.policy.extract_features(observations))
        latent = self.policy.mlp_extractor.forward_actor(features)
        out: Tensor = self.policy.action_net(latent)
        return out

    def kl_to_clone(self, observations: Tensor) -> Tensor:
        """Mean KL divergence of the policy from the cloned one, both Gaussian.

        The cloned policy's standard deviation is the starting noise.
        """
        log_std = self.policy.log_std
        start = self.guards.log_std_start
        seen = observations[:, : self.cloned.observation_size]
        shift = self._mean(observations) - self.cloned.raw(seen)
        ratio = torch.exp(2 * (log_std - start))
        scaled = shift.pow(2) * float(np.exp(-2 * start))
        return (start - log_std + 0.5 * (ratio + scaled) - 0.5).sum(dim=1).mean()

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        if not bool(torch.isfinite(loss)):
            raise SteadyhandError(
                "PPO: the loss became NaN; lower the learning rate or the reward scale"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], self.max_grad_norm)
        optimizer.step()
