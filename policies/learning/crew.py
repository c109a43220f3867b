"""Workers that each step an environment of their own with a copy of the policy.

Stable-Baselines3 steps all environments together: at each step all wait for the slowest, which is
resetting or breaks a contact, and each waits while the policy acts. Between two updates the policy
stays what it is, so here each worker takes all its steps at once and brings back what came of them.
The same seed gives the same steps, however many run at a time and however fast.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from policies.evaluation.actors import MlpActor
from policies.evaluation.rollouts import success_of
from policies.evaluation.specs import ActorSpec, EnvSpec, Floats
from policies.learning.curriculum import Changeable
from robot.errors import SteadyhandError


@dataclass(frozen=True)
class Explorer:
    """Who acts while steps are collected: a network, and noise on what it does.

    Attributes:
        actor: a perceptron's; it sees the first numbers of the observation.
        sees: how many.
        std: (n_act,) standard deviation of the noise.
        persistence: share of the noise that lasts from step to step; its spread is ``std`` all the
            same. White noise at 20 Hz averages out before a hand has gone anywhere (Hollenstein et
            al. 2024, Colored Noise in PPO).
    """

    actor: ActorSpec
    sees: int
    std: Floats
    persistence: float


@dataclass(frozen=True)
class Stretch:
    """Consecutive steps of one environment.

    Attributes:
        observation: (n, n_obs) float32, before each action.
        action: (n, n_act) float32, not clipped to the environment's box.
        reward: (n,) float32.
        starts: (n,) whether an episode begins with this step.
        last: (n_obs,) the observation after the last step.
        over: whether the last step ended an episode.
        cut: steps that a time limit ended, each with the observation it ended in.
        successes: one for each episode that ended and told.
    """

    observation: Floats
    action: Floats
    reward: Floats
    starts: NDArray[np.bool_]
    last: Floats
    over: bool
    cut: tuple[tuple[int, Floats], ...]
    successes: tuple[bool, ...]


class Stepper:
    """One environment and where it stands.

    Args:
        spec: how to make it.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self.env = Changeable(spec)
        self._name = spec.id

    def begin(self, seed: int) -> Floats:
        """A first episode; the seed fixes it, all that follow, and the noise."""
        self._rng = np.random.default_rng([seed, 2])
        self._noise: NDArray[np.float64] | None = None
        self._steps, self._over = 0, True
        self._observation = cast(Floats, self.env.reset(seed=seed)[0])
        return self._observation

    def collect(self, explorer: Explorer, n: int) -> Stretch:
        """Go on for n steps, through the ends of episodes.

        Raises:
            SteadyhandError: a reward is not finite.
        """
        actor = cast(MlpActor, explorer.actor.make(self.env))
        box = cast(spaces.Box, self.env.action_space)
        observation = np.empty((n, len(self._observation)), np.float32)
        action = np.empty((n, len(explorer.std)), np.float32)
        reward, starts = np.empty(n, np.float32), np.empty(n, np.bool_)
        cut: list[tuple[int, Floats]] = []
        successes: list[bool] = []
        for i in range(n):
            observation[i], starts[i] = self._observation, self._over
            action[i] = actor.raw(self._observation[: explorer.sees])
            action[i] += explorer.std * self._next_noise(explorer)
            now, reward[i], ended, late, info = self.env.step(np.clip(action[i], box.low, box.high))
            self._steps += 1
            if not np.isfinite(reward[i]):
                raise SteadyhandError(
                    f"environment {self._name}: gave a reward of {reward[i]} at step "
                    f"{self._steps}; rewards must be finite"
                )
            self._over = bool(ended or late)
            if self._over:
                told = success_of(info)
                successes += [] if told is None else [told]
                if late and not ended:
                    cut.append((i, np.array(now, dtype=np.float32)))
                now, _ = self.env.reset()
            self._observation = now
        last = np.array(self._observation, dtype=np.float32)
        return Stretch(
            observation, action, reward, starts, last, self._over, tuple(cut), tuple(successes)
        )

    def change(self, changes: dict[str, Any]) -> None:
        """Other keyword arguments from the next episode on."""
        self.env.change(changes)

    def close(self) -> None:
        """End the environment."""
        self.env.close()

    def _next_noise(self, explorer: Explorer) -> NDArray[np.float64]:
        fresh = self._rng.normal(size=len(explorer.std))
        kept = explorer.persistence
        if self._noise is not None:
            fresh = kept * self._noise + (1.0 - kept**2) ** 0.5 * fresh
        self._noise = fresh
        return fresh


def _serve(pipe: Connection, spec: EnvSpec) -> None:
    """A worker's life: one environment, one answer to each call."""
    # The parent decides what Ctrl-C means; a worker that dies of it would look like a crash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stepper = Stepper(spec)
    except Exception as error:
        pipe.send(error)
        return
    pipe.send((stepper.env.observation_space, stepper.env.action_space))
    try:
        while True:
            method, arguments = pipe.recv()
            try:
                pipe.send(getattr(stepper, method)(*arguments))
            except SteadyhandError as error:
                pipe.send(error)
    except (EOFError, BrokenPipeError):  # the parent is gone, or done
        stepper.close()


class Crew(VecEnv):
    """One environment a worker, as what Stable-Baselines3 calls a vectorized environment.

    It cannot be stepped from outside; ``collect`` is what it is for. Workers are spawned: a forked
    child of a process with torch's threads can hang.

    Args:
        spec: the environment.
        workers: processes; 0 steps one environment in this process.
    """

    def __init__(self, spec: EnvSpec, workers: int) -> None:
        self._local: Stepper | None = None
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        if workers == 0:
            self._local = Stepper(spec)
            seen = self._local.env.observation_space, self._local.env.action_space
        else:
            context = multiprocessing.get_context("spawn")
            for _ in range(workers):
                here, there = context.Pipe()
                process = context.Process(target=_serve, args=(there, spec), daemon=True)
                process.start()
                there.close()
                self._pipes.append(here)
                self._processes.append(process)
            try:
                seen = self._answers()[0]
            except BaseException:
                self.close()
                raise
        super().__init__(max(workers, 1), *seen)
        self.seed(0)

    def collect(self, explorer: Explorer, n: int) -> list[Stretch]:
        """The next n steps of each environment."""
        return cast(list[Stretch], self._call("collect", [(explorer, n)] * self.num_envs))

    def change(self, changes: dict[str, Any]) -> None:
        """Other keyword arguments of the environments, from each one's next episode on."""
        self._call("change", [(changes,)] * self.num_envs)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """The next ``reset`` begins here; a seed of its own for each environment."""
        self._first = [(seed or 0) + i for i in range(self.num_envs)]
        return list(self._first)

    def reset(self) -> Floats:
        """Begin everywhere: (n_envs, n_obs) float32."""
        return np.stack(self._call("begin", [(seed,) for seed in self._first]))

    def close(self) -> None:
        """End the workers, also those that are dead or busy."""
        if self._local is not None:
            self._local.close()
            self._local = None
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=1)
            if process.is_alive():
                process.terminate()
                process.join(timeout=5)
        self._pipes, self._processes = [], []

    def _call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._local is not None:
            return [getattr(self._local, method)(*arguments[0])]
        for pipe, each in zip(self._pipes, arguments, strict=True):
            pipe.send((method, each))
        return self._answers()

    def _answers(self) -> list[Any]:
        answers = [pipe.recv() for pipe in self._pipes]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def step_async(self, actions: NDArray[Any]) -> None:
        """Not for a crew."""
        raise NotImplementedError("a crew collects; it is not stepped from outside")

    def step_wait(self) -> Any:
        """Not for a crew."""
        raise NotImplementedError("a crew collects; it is not stepped from outside")

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Nothing of the environments is told, but that they render nothing."""
        if attr_name == "render_mode":
            return [None] * self.num_envs
        raise AttributeError(attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Nothing of the environments can be set."""
        raise AttributeError(attr_name)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Nothing of the environments can be called."""
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Never by a wrapper of Stable-Baselines3."""
        return [False] * self.num_envs
