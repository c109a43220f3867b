"""Recording: episodes of any actor in any environment into a demonstration set."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from configs.load import bounded
from policies.demos.dataset import load_demonstrations
from policies.demos.layout import DemoSpec
from policies.demos.writer import DemoWriter, episode_columns
from policies.evaluation.rollouts import Behaviour, Episode, Rollouts, episode_seeds, rendered
from policies.evaluation.specs import ActorSpec, EnvSpec
from robot.errors import SteadyhandError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordConfig:
    """How many demonstrations, and of which kind.

    Attributes:
        episodes: kept episodes that the set shall hold in the end.
        seed: fixes every episode; the i-th attempt depends on it and on i alone.
        workers: processes; 0 runs in this one.
        keep: failed episodes too, or successes only; where the environment does not tell one from
            the other, all are kept.
        noise_std: Gaussian noise on the executed action (its label stays clean), so that the set
            shows how to come back from a deviation; one number for all or one for each number of
            an action, empty for none.
        max_attempts_per_episode: give up when this many attempts an episode did not suffice.
    """

    episodes: int = bounded(300, 1, 1_000_000)
    seed: int = bounded(0, 0, 2**31 - 1)
    workers: int = bounded(2, 0, 64)
    keep: Literal["success", "all"] = "success"
    noise_std: tuple[float, ...] = bounded((), 0.0, 1.0)
    max_attempts_per_episode: float = bounded(5.0, 1.0, 1000.0)


@dataclass(frozen=True)
class RecordResult:
    """What a recording came to.

    Attributes:
        episodes: kept in the set, those of earlier runs included.
        frames: likewise.
        attempts: episodes run this time.
        successes: of these; where the environment does not tell, every one counts.
        resumed_at: attempt with which this run began.
    """

    episodes: int
    frames: int
    attempts: int
    successes: int
    resumed_at: int


def describe_env(env: EnvSpec, task: str = "") -> DemoSpec:
    """The names, units and rate of an environment, as its demonstrations will carry them.

    An environment may offer ``observation_names``, ``observation_units``, ``action_names`` and
    ``privileged_names``, and its rate as :func:`stated_rate` looks for it; the keys of a Dict,
    numbers and 20 Hz stand in where it does not. With
    ``render_mode="rgb_array"`` it has films.
    """
    instance = env.make()
    try:
        base = instance.unwrapped
        n_obs = int(instance.observation_space.shape[0])
        n_act = int(instance.action_space.shape[0])
        names, actions, units = _names(env, instance, n_obs, n_act)
        low, high = (
            tuple(float(v) for v in getattr(instance, end, getattr(instance.action_space, end)))
            for end in ("low", "high")
        )
        ours = env.id.startswith("Steadyhand/")
        kwargs = {k: v for k, v in env.kwargs.items() if k != "render_mode"}
        image_shape: tuple[int, ...] = ()
        if env.kwargs.get("render_mode") == "rgb_array":
            instance.reset(seed=0)
            image_shape = rendered(instance).shape
        return DemoSpec(
            observation_names=names,
            action_names=actions,
            rate_hz=stated_rate(instance) or 20.0,
            task=task or ("pick the object up" if ours else env.id),
            observation_units=units,
            privileged_names=tuple(getattr(base, "privileged_names", ())),
            robot="panda" if ours else env.id,
            env={"id": env.id, "kwargs": kwargs, "imports": list(env.imports)},
            # What the grasp policy's actions mean stands in its action scale.
            action_low=() if ours else low,
            action_high=() if ours else high,
            image_shape=image_shape,
        )
    finally:
        instance.close()


def stated_rate(instance: Any) -> float | None:
    """How often an environment is acted on, Hz, as far as it says.

    ``metadata["control_hz"]``, else its step ``dt`` in seconds (as Gymnasium's classics and MuJoCo
    environments name it), else ``metadata["render_fps"]``.
    """
    base = instance.unwrapped
    metadata = getattr(base, "metadata", None) or {}
    dt = getattr(base, "dt", None)
    step = round(1.0 / dt, 6) if isinstance(dt, float | int) and dt > 0 else None
    rate = metadata.get("control_hz") or step or metadata.get("render_fps")
    return float(rate) if rate else None


Names = tuple[str, ...]


def _names(env: EnvSpec, instance: Any, n_obs: int, n_act: int) -> tuple[Names, Names, Names]:
    """Names of observations and actions, and the observations' units."""
    if env.id.startswith("Steadyhand/"):
        from robot import observation
        from robot.execution.action import ACTION

        units = tuple(u for _, size, u in observation.OBSERVATION for _ in range(size))
        return tuple(observation.names()), tuple(ACTION), units
    base = instance.unwrapped
    names = getattr(base, "observation_names", None) or getattr(instance, "names", None)
    names = names or [f"observation_{i}" for i in range(n_obs)]
    actions = getattr(base, "action_names", None) or [f"action_{i}" for i in range(n_act)]
    return tuple(names), tuple(actions), tuple(getattr(base, "observation_units", ()))


def record(
    root: Path | str,
    env: EnvSpec,
    actor: ActorSpec,
    config: RecordConfig,
    *,
    spec: DemoSpec | None = None,
    expert: ActorSpec | None = None,
    expert_share: float = 0.0,
    film: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> RecordResult:
    """Record until the set in ``root`` holds ``config.episodes`` episodes.

    Run it again after an interruption and it goes on where it stopped; the finished set is the
    same as that of an uninterrupted run.

    Args:
        root: folder of the set, made when it does not exist.
        env: the environment, made in each worker.
        actor: who demonstrates.
        config: how many, which kind.
        spec: names and rate; asked of the environment when left out.
        expert: labels every visited state in the actor's place (DAgger).
        expert_share: probability of executing its action.
        film: keep a film of what the environment renders.
        progress: called with (episodes kept, episodes wanted, attempts of this run).

    Raises:
        SteadyhandError: the actor fails too often, or a worker died; what is finished is kept.
    """
    if film:
        env = replace(env, kwargs={**env.kwargs, "render_mode": "rgb_array"})
    spec = spec or describe_env(env)
    with DemoWriter(root, spec) as writer:
        start = next_attempt(root, config.seed) if writer.episodes else 0
        attempts = successes = 0
        limit = int(config.episodes * config.max_attempts_per_episode)
        if writer.episodes < config.episodes:
            behaviour = Behaviour(
                actor,
                expert=expert,
                expert_share=expert_share,
                noise_std=config.noise_std,
                record=True,
                film_hz=spec.rate_hz if film else 0.0,
            )
            with Rollouts(env, config.workers) as rollouts:
                for episode in rollouts.run(behaviour, episode_seeds(config.seed, start)):
                    attempt = start + attempts
                    attempts += 1
                    problem = _problem(spec, episode, attempt)
                    successes += episode.success is not False
                    if not problem and (episode.success is not False or config.keep == "all"):
                        source: dict[str, Any] = {"source": actor.label, "attempt": attempt}
                        writer.add(episode, **source, record_seed=config.seed)
                    if progress is not None:
                        progress(writer.episodes, config.episodes, attempts)
                    if writer.episodes >= config.episodes:
                        break
                    if attempts >= limit:
                        raise SteadyhandError(
                            f"{env.id}: {actor.label} succeeded in only {successes} of "
                            f"{attempts} attempts; {writer.episodes} episodes are kept{problem}"
                        )
        writer.finalize()
        return RecordResult(writer.episodes, writer.frames, attempts, successes, start)


def _problem(spec: DemoSpec, episode: Episode, attempt: int) -> str:
    """Why an episode cannot be kept; one bad attempt must not end a long recording."""
    try:
        episode_columns(spec, episode, attempt, 0)
    except SteadyhandError as error:
        log.warning("left out: %s", error)
        return f"; {error}"
    return ""


def next_attempt(root: Path | str, seed: int) -> int:
    """The first attempt with ``seed`` that comes after those of the set's episodes."""
    facts = load_demonstrations(root).facts
    done = [int(f["attempt"]) for f in facts if f.get("record_seed") == seed and "attempt" in f]
    return max(done, default=-1) + 1
