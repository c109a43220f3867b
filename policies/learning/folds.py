"""Cross-validation by object: how far the figures of cloning depend on which objects are held out.

One split says how a network does on a few objects that it has not seen; which few they are is
chance. Here each object is held out once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policies.demos.dataset import Demonstrations
from policies.learning.clone import CloneConfig, clone
from policies.provenance import provenance
from policies.storage import replace_json
from robot.errors import SteadyhandError

RESULT = "result.json"


@dataclass(frozen=True)
class Fold:
    """One of the networks.

    Attributes:
        groups: held out, how many.
        episodes: of them.
        epochs: trained.
        best_epoch: the one whose weights count, from 0.
        loss: on what was held out.
        error: (n_act,) mean absolute error of each number of an action there.
    """

    groups: int
    episodes: int
    epochs: int
    best_epoch: int
    loss: float
    error: tuple[float, ...]


@dataclass(frozen=True)
class FoldsResult:
    """What the folds come to.

    Attributes:
        folds: one a network.
        loss_mean: of their validation losses.
        loss_std: their standard deviation (n - 1), the spread from one choice of held-out objects
            to another.
        error_mean: (n_act,) of their mean absolute errors.
        error_std: (n_act,) likewise.
    """

    folds: tuple[Fold, ...]
    loss_mean: float
    loss_std: float
    error_mean: tuple[float, ...]
    error_std: tuple[float, ...]

    def summary(self) -> dict[str, Any]:
        """For a report: without the single folds."""
        out = asdict(self)
        return {"folds": len(out.pop("folds")), **out}


def object_folds(demos: Demonstrations, count: int, rng: np.random.Generator) -> list[set[str]]:
    """The groups of a set in so many parts, of as equally many episodes as whole groups allow.

    Raises:
        SteadyhandError: there are fewer groups than parts.
    """
    names = sorted(set(demos.groups))
    if len(names) < count:
        raise SteadyhandError(
            f"folds: {count} folds need as many objects, the demonstrations hold {len(names)}"
        )
    sizes = {name: demos.groups.count(name) for name in names}
    order = [names[i] for i in rng.permutation(len(names))]
    parts: list[set[str]] = [set() for _ in range(count)]
    filled = [0] * count
    for name in sorted(order, key=lambda n: -sizes[n]):  # the largest first, ties as drawn
        least = filled.index(min(filled))
        parts[least].add(name)
        filled[least] += sizes[name]
    return parts


def cross_validate(
    demos: Demonstrations,
    out: Path | str | None,
    config: CloneConfig,
    count: int,
    *,
    progress: Callable[[str], None] | None = None,
) -> FoldsResult:
    """Clone ``count`` networks, each with another part of the objects held out.

    Each has the same settings and the same first weights as the network that is trained in the end;
    what is held out chooses its epoch, as it does there. With ``out`` it resumes within a fold.

    Args:
        demos: the demonstrations.
        out: folder; ``fold-k`` holds the k-th network, ``result.json`` the figures. Or None.
        config: how.
        count: parts, at least 2.
        progress: called with one line after each fold.
    """
    if count < 2:
        raise SteadyhandError(f"folds: expected at least 2, got {count}")
    folder = None if out is None else Path(out)
    parts = object_folds(demos, count, np.random.default_rng([config.seed, 11]))
    folds = []
    for k, held in enumerate(parts):
        home = None if folder is None else folder / f"fold-{k}"
        result = clone(demos, home, config, held=held)
        folds.append(
            Fold(
                len(held),
                sum(group in held for group in demos.groups),
                result.epochs,
                result.best_epoch,
                result.validation_loss,
                result.validation_error,
            )
        )
        if progress is not None:
            progress(
                f"fold {k + 1} of {count}: validation loss {result.validation_loss:.5f} on "
                f"{folds[-1].episodes} episodes of {len(held)} objects"
            )
    losses = np.array([fold.loss for fold in folds])
    errors = np.array([fold.error for fold in folds])
    done = FoldsResult(
        tuple(folds),
        float(losses.mean()),
        float(losses.std(ddof=1)),
        tuple(errors.mean(axis=0).tolist()),
        tuple(errors.std(axis=0, ddof=1).tolist()),
    )
    if folder is not None:
        replace_json(
            folder / RESULT,
            {
                **provenance(config, config.seed),
                **done.summary(),
                "single": [asdict(fold) for fold in folds],
            },
        )
    return done
