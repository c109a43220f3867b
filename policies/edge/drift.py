"""Has the work moved away from what the policy was made with? Recorded steps tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from perception.session import open_session
from policies.bundle.format import Bundle
from policies.edge.metadata import PolicyMetadata
from policies.edge.novelty import Novelty
from policies.edge.runtime import ROLES, EdgePolicy
from robot.errors import SteadyhandError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class DriftConfig:
    """From where on something counts as drift.

    Attributes:
        ks: largest distance of the two distribution functions of one number of the observation.
            Steps of one attempt resemble each other, so that no p-value would hold; with the 256
            steps of a reference 0.1 is noise.
        shift: difference of the two means, in the reference's standard deviations.
        novel_share: share of steps beyond the border of what was recorded.
        action: mean absolute difference of a recorded action from the bundle's own on the same
            observation; more says that something else acted.
    """

    ks: float = bounded(0.35, 0.0, 1.0)
    shift: float = bounded(1.0, 0.0, 100.0)
    novel_share: float = bounded(0.05, 0.0, 1.0)
    action: float = bounded(0.02, 0.0, 2.0)


@dataclass(frozen=True)
class Number:
    """One number of the observation.

    Attributes:
        name: of it.
        ks: largest distance of the distribution functions, 0 to 1.
        shift: of the mean, reference standard deviations.
        drifted: whether both lie beyond the config's borders.
    """

    name: str
    ks: float
    shift: float
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """What recorded steps say.

    Attributes:
        steps: recorded.
        numbers: one row each, the farthest first.
        novel_share: share of steps beyond the border.
        novelty_p99: 99th percentile of the novelty score.
        action_difference: mean absolute difference from the bundle's own actions; NaN without
            recorded actions.
        findings: in words; empty where nothing drifted.
    """

    steps: int
    numbers: tuple[Number, ...]
    novel_share: float
    novelty_p99: float
    action_difference: float
    findings: tuple[str, ...]


def distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Kolmogorov and Smirnov's: the largest gap between two empirical distribution functions."""
    a, b = np.sort(first), np.sort(second)
    both = np.concatenate([a, b])
    gap = np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)
    return float(np.abs(gap).max())


def drift(
    bundle: Bundle,
    observations: Floats,
    actions: Floats | None = None,
    config: DriftConfig | None = None,
    precision: str = "int8",
    ignored: Sequence[str] = (),
) -> Drift:
    """Compare recorded steps with the bundle's reference.

    Args:
        bundle: its reference holds observations of the demonstrations.
        observations: (n, n_obs) as recorded beside the robot.
        actions: (n, n_act) recorded with them, to be compared with the bundle's.
        config: see :class:`DriftConfig`.
        precision: of the policy that acted.
        ignored: beginnings of names that may drift (a clock does).

    Raises:
        SteadyhandError: the bundle has no reference, or the sizes differ.
    """
    config = config or DriftConfig()
    # That of the int8 policy: the other's holds random observations besides.
    reference = bundle.reference().get("policy/in/observation")
    if reference is None:
        raise SteadyhandError(f"{bundle.root}: its reference holds no observations to compare with")
    if observations.ndim != 2 or observations.shape[1] != reference.shape[1]:
        raise SteadyhandError(
            f"drift: recorded observations are {observations.shape}, the bundle's have "
            f"{reference.shape[1]} numbers"
        )
    if not len(observations):
        raise SteadyhandError("drift: the recordings hold no step of the policy")
    policy = _policy(bundle, precision)
    novelty = Novelty(reference)
    scores = novelty.scores(observations)
    names = policy.metadata.observation_names
    numbers = []
    for i, name in enumerate(names):
        ks = distance(reference[:, i], observations[:, i])
        shift = float((observations[:, i].mean() - novelty.mean[i]) / novelty.std[i])
        far = ks > config.ks and abs(shift) > config.shift
        numbers.append(Number(name, ks, shift, far and not name.startswith(tuple(ignored))))
    numbers.sort(key=lambda n: (not n.drifted, -n.ks))
    difference = float("nan")
    if actions is not None:
        own = np.stack([policy.act(row) for row in observations])
        difference = float(np.abs(own - actions).mean())
    share = float((scores > 1.0).mean())
    findings = [
        f"{n.name}: its mean lies {n.shift:+.1f} standard deviations off (distance {n.ks:.2f})"
        for n in numbers
        if n.drifted
    ]
    if share > config.novel_share:
        findings.append(f"{share:.1%} of the steps lie beyond what was recorded")
    if difference > config.action:
        findings.append(
            f"recorded actions differ from this bundle's by {difference:.3f} on average"
        )
    return Drift(
        len(observations),
        tuple(numbers),
        share,
        float(np.quantile(scores, 0.99)),
        difference,
        tuple(findings),
    )


def _policy(bundle: Bundle, precision: str) -> EdgePolicy:

    model = bundle.model(ROLES[precision])
    props = open_session(model, precision).get_modelmeta().custom_metadata_map
    names = PolicyMetadata.from_props(props, precision).observation_names
    return EdgePolicy(bundle, precision, names=names)
