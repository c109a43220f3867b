"""Recording: episodes of any actor in any environment into a demonstration set."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from configs.load import bounded
from policies.demos.dataset import load_demonstrations
from policies.demos.describe import describe_env
from policies.demos.spec import DemoSpec
from policies.demos.writer import DemoWriter, episode_columns
from policies.evaluation.rollouts import Behaviour, Episode, Rollouts, episode_seeds
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
