"""Episodes of any Gymnasium environment, run by worker processes and returned in order.

Recording, DAgger, the guards of PPO and evaluation all run episodes here, so that one seed means
one episode everywhere. Workers are spawned, not forked: they inherit no thread of torch, import
only what the environment needs, and behave alike on every system.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.evaluation.specs import Actor, ActorSpec, EnvSpec, Floats
from policies.film import encode
from robot.errors import SteadyhandError


@dataclass(frozen=True)
class Episode:
    """One finished episode; the arrays are None unless it was recorded.

    Attributes:
        seed: given to the environment's reset.
        success: ``info["is_success"]`` or ``info["success"]`` of the last step; None where the
            environment gives neither, so that only its return can be compared.
        total_reward: undiscounted sum.
        length: steps.
        facts: the JSON-able scalars of the last ``info``: failure category and the like.
        observation: (T, n_obs) float32, before each action.
        action: (T, n_act) float32, the label: what the expert would do, or what was done.
        executed: (T, n_act) float32, what was really sent (differs under noise and in DAgger).
        reward: (T,) float32.
        privileged: (T, n_priv) float32 from ``info["privileged"]``, where there is one.
        film: MP4 of what the environment rendered before each action.
    """

    seed: int
    success: bool | None
    total_reward: float
    length: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    observation: Floats | None = None
    action: Floats | None = None
    executed: Floats | None = None
    reward: Floats | None = None
    privileged: Floats | None = None
    film: bytes | None = None


@dataclass(frozen=True)
class Behaviour:
    """Who acts in an episode, and who labels it.

    Attributes:
        actor: acts, and labels unless an expert is given.
        expert: labels every visited state with its action (DAgger).
        expert_share: probability of executing the expert's action instead of the actor's.
        noise_std: standard deviation of Gaussian noise on the executed action, one number for
            all or one for each; empty is none. The label stays clean, so that the set shows how
            to come back (DART). What opens and closes a gripper is better left without.
        record: return the arrays of the episode.
        film_hz: rate of the film to return besides; 0 for none. Needs ``render_mode="rgb_array"``.
    """

    actor: ActorSpec
    expert: ActorSpec | None = None
    expert_share: float = 0.0
    noise_std: tuple[float, ...] = ()
    record: bool = False
    film_hz: float = 0.0


_FACTS = (bool, int, float, str)


def run_episode(
    env: Any, actor: Actor, expert: Actor | None, behaviour: Behaviour, seed: int
) -> Episode:
    """Run one episode in this process; the seed fixes environment, noise and mixture."""
    rng = np.random.default_rng([seed, 1])
    low, high = env.action_space.low, env.action_space.high
    noise_std = _noise(behaviour.noise_std, env.action_space.shape[0])
    observation, info = env.reset(seed=seed)
    actor.reset()
    if expert is not None:
        expert.reset()
    rows: dict[str, list[Any]] = {"observation": [], "action": [], "executed": [], "reward": []}
    privileged: list[Any] = []
    frames: list[Any] = []
    total, length, over = 0.0, 0, False
    while not over:
        if behaviour.film_hz:
            frames.append(rendered(env))
        action = _checked(actor.act(observation), low.shape, behaviour)
        label = action
        if expert is not None:
            label = _checked(expert.act(observation), low.shape, behaviour)
            if behaviour.expert_share > 0 and rng.random() < behaviour.expert_share:
                action = label
        if noise_std.any():
            action = (action + noise_std * rng.normal(size=action.shape)).astype(np.float32)
        action = np.clip(action, low, high)
        if behaviour.record:
            rows["observation"].append(np.array(observation, dtype=np.float32))
            rows["action"].append(np.clip(label, low, high))
            rows["executed"].append(action)
            if "privileged" in info:
                privileged.append(np.array(info["privileged"], dtype=np.float32))
        observation, reward, terminated, truncated, info = env.step(action)
        over = bool(terminated or truncated)
        if not np.isfinite(reward):
            name = env.spec.id if env.spec else type(env.unwrapped).__name__
            raise SteadyhandError(
                f"environment {name}: gave a reward of {reward} at step {length + 1}; rewards must "
                "be finite"
            )
        rows["reward"].append(np.float32(reward))
        total += float(reward)
        length += 1
    arrays: dict[str, Any] = {}
    if behaviour.record:
        arrays = {name: np.asarray(row, dtype=np.float32) for name, row in rows.items()}
        if len(privileged) == length:
            arrays["privileged"] = np.stack(privileged)
    return Episode(
        seed=seed,
        success=success_of(info),
        total_reward=total,
        length=length,
        film=encode(np.stack(frames), behaviour.film_hz) if frames else None,
        facts={k: _plain(v) for k, v in info.items() if isinstance(_plain(v), _FACTS)},
        **arrays,
    )


def success_of(info: Mapping[str, Any]) -> bool | None:
    """What a step's ``info`` says of success; None where it says nothing."""
    flag = info.get("is_success", info.get("success"))
    return None if flag is None else bool(flag)


def _checked(action: Any, shape: tuple[int, ...], behaviour: Behaviour) -> Floats:
    """An action as float32; one that is not in the form every actor owes is an error."""
    out = np.asarray(action, dtype=np.float32)
    problem = ""
    if out.shape != shape:
        problem = f"has shape {out.shape}, expected {shape}"
    elif not np.isfinite(out).all():
        problem = "holds NaN or infinity"
    elif behaviour.record and np.abs(out).max() > 1.0 + 1e-3:
        # Clipped in silence, an action in the environment's own units would teach nonsense.
        problem = f"holds {np.abs(out).max():.4g}, expected [-1, 1]: a share of the action box"
    if problem:
        raise SteadyhandError(f"actor {behaviour.actor.entry}: its action {problem}")
    return out


def rendered(env: Any) -> NDArray[np.uint8]:
    """What the environment shows now, (H, W, 3) uint8.

    Raises:
        SteadyhandError: it shows nothing.
    """
    frame = env.render()
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise SteadyhandError("the environment renders no image; it needs render_mode='rgb_array'")
    return frame.astype(np.uint8)


def _noise(noise_std: tuple[float, ...], size: int) -> NDArray[np.float64]:
    """One standard deviation for each number of an action."""
    if len(noise_std) not in (0, 1, size):
        raise SteadyhandError(
            f"noise_std: expected no, one or {size} numbers, got {len(noise_std)}"
        )
    return np.broadcast_to(np.array(noise_std or (0.0,)), (size,))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


class _Bench:
    """One environment and the actors last used with it."""

    def __init__(self, env: EnvSpec) -> None:
        self.env = env.make()
        self._key = -1
        self._actors: tuple[Actor, Actor | None] | None = None

    def run(self, key: int, behaviour: Behaviour, seed: int) -> Episode:
        if self._actors is None or key != self._key:
            expert = behaviour.expert.make(self.env) if behaviour.expert else None
            self._actors, self._key = (behaviour.actor.make(self.env), expert), key
        return run_episode(self.env, *self._actors, behaviour, seed)


_bench: _Bench | None = None


def _start(env: EnvSpec) -> None:
    global _bench
    # The parent decides what Ctrl-C means; a worker that dies of it would look like a crash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _bench = _Bench(env)


def _work(key: int, behaviour: Behaviour, seed: int) -> Episode:
    if _bench is None:
        raise SteadyhandError("worker: has no environment; its start failed")
    return _bench.run(key, behaviour, seed)


class Rollouts:
    """A standing pool that runs episodes of one environment.

    Use it as a context manager. With ``workers=0`` everything runs in this process.
    """

    _keys = itertools.count()

    def __init__(self, env: EnvSpec, workers: int = 2) -> None:
        self.env = env
        self.workers = workers
        self._local: _Bench | None = None
        self._pool: ProcessPoolExecutor | None = None
        if workers > 0:
            self._pool = ProcessPoolExecutor(
                workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=(env,),
            )

    def run(self, behaviour: Behaviour, seeds: Iterable[int]) -> Iterator[Episode]:
        """The episodes of ``seeds``, in their order, as they are finished.

        Raises:
            SteadyhandError: a worker died, or the environment cannot be made there.
        """
        key = next(self._keys)
        if self._pool is None:
            if self._local is None:
                self._local = _Bench(self.env)
            for seed in seeds:
                yield self._local.run(key, behaviour, int(seed))
            return
        waiting: deque[Future[Episode]] = deque()
        source = iter(seeds)
        try:
            for seed in source:
                waiting.append(self._pool.submit(_work, key, behaviour, int(seed)))
                if len(waiting) >= 4 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise SteadyhandError(
                f"environment {self.env.id}: a worker process died (out of memory, killed, or the "
                "environment cannot be made); what was finished is kept, run again to resume"
            ) from error
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        if self._local is not None:
            self._local.env.close()
            self._local = None

    def __enter__(self) -> Rollouts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def episode_seeds(seed: int, start: int = 0, stop: int | None = None) -> Iterator[int]:
    """Independent episode seeds of one run: the i-th depends on ``seed`` and i alone."""
    indices = itertools.count(start) if stop is None else range(start, stop)
    for i in indices:
        yield int(np.random.SeedSequence([seed, i]).generate_state(1)[0] & 0x7FFFFFFF)
