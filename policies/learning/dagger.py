"""DAgger: the clone drives, the expert labels the states it gets into, and the clone learns them.

Source: S. Ross, G. Gordon, J. A. Bagnell, "A reduction of imitation learning and structured
prediction to no-regret online learning", AISTATS 2011.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from configs.load import bounded
from policies.demos.dataset import Demonstrations, load_demonstrations
from policies.demos.record import RecordConfig, record
from policies.evaluation.specs import ActorSpec, EnvSpec
from policies.learning.clone import NETWORK, CloneConfig, CloneResult, clone
from policies.learning.folds import cross_validate
from robot.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DaggerConfig:
    """Rounds of corrections after the first cloning.

    Attributes:
        clone: how each round is fitted; every round begins from the one before.
        folds: before it, cross-validation by object over so many parts, for its figures alone; 0
            leaves it out.
        rounds: 0 is plain cloning.
        episodes: recorded in each round, failures included: they are what is to be learned from.
        expert_share: probability of the expert's action in the first round; it is halved in each
            further one.
        workers: processes.
        seed: of the rounds' episodes; none is an episode of the demonstrations.
    """

    clone: CloneConfig = field(default_factory=CloneConfig)
    folds: int = bounded(0, 0, 100)
    rounds: int = bounded(0, 0, 100)
    episodes: int = bounded(100, 1, 1_000_000)
    expert_share: float = bounded(0.0, 0.0, 1.0)
    workers: int = bounded(2, 0, 64)
    seed: int = bounded(1_000_000, 0, 2**31 - 1)

    def __post_init__(self) -> None:
        if self.folds == 1:
            raise ConfigError("bc.folds: expected 2 or more, or 0 for none, got 1")


def dagger(
    demos: Demonstrations,
    env: EnvSpec,
    expert: ActorSpec | None,
    out: Path | str,
    config: DaggerConfig,
    *,
    progress: Callable[[str], None] | None = None,
    curves: Callable[[int, dict[str, float]], None] | None = None,
) -> CloneResult:
    """Clone, then as many rounds of corrections as asked for; resumes where it stopped.

    Args:
        demos: the expert's demonstrations.
        env: environment in which the clone drives.
        expert: labels each visited state; it may look into the environment. None where there is
            none to ask, for plain cloning only.
        out: folder; ``folds`` holds the cross-validation, ``round-0`` is the plain clone,
            ``round-k`` the k-th round with its episodes in ``round-k/demos``; ``network.pt`` is the
            last round's.
        config: how.
        progress: called with one line for each stage.
        curves: called after each epoch with its number, counted over all rounds as if each took all
            of its epochs, and its figures.
    """
    folder = Path(out)
    if config.rounds > 0 and expert is None:
        raise ConfigError("bc.rounds: corrections need an expert that labels (--actor), or 0")

    def tell(k: int) -> Callable[[int, int, dict[str, float]], None]:
        def point(done: int, epochs: int, values: dict[str, float]) -> None:
            if curves is not None:
                curves(k * epochs + done, values)

        return point

    say = progress or (lambda line: log.info("%s", line))
    if config.folds:
        found = cross_validate(demos, folder / "folds", config.clone, config.folds, progress=say)
        say(
            f"{config.folds} folds by object: validation loss {found.loss_mean:.5f} on average, "
            f"{found.loss_std:.5f} from one to another"
        )
    sets = [demos]
    result = clone(sets, folder / "round-0", config.clone, progress=tell(0))
    say(f"round 0: validation loss {result.validation_loss:.5f} after {result.epochs} epochs")
    for k in range(1, config.rounds + 1):
        home = folder / f"round-{k}"
        recorded = record(
            home / "demos",
            env,
            result.network.actor(),
            RecordConfig(
                episodes=config.episodes,
                seed=config.seed + k,
                workers=config.workers,
                keep="all",
            ),
            spec=demos.spec,
            expert=expert,
            expert_share=config.expert_share * 0.5 ** (k - 1),
        )
        sets.append(load_demonstrations(home / "demos"))
        result = clone(sets, home, config.clone, initial=result.network, progress=tell(k))
        driven = sets[-1]
        figure = f"a mean return of {driven.returns.mean():.4g}"
        if driven.judged:
            figure = f"{float(driven.success.mean()):.1%} success"
        say(
            f"round {k}: drove {recorded.episodes} episodes with {figure}, "
            f"validation loss {result.validation_loss:.5f}"
        )
    result.network.save(folder / NETWORK)
    return result
