"""Calibrates what counts as new to a bundle's policy, on nominal picks of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from envs.objects import object_set
from envs.physics import physics
from envs.scene import DropConfig
from envs.station import Station
from policies.bundle.format import Bundle
from policies.edge.runtime import EdgePolicy
from policies.evaluation.grasping import load_detector, load_scorer
from robot.errors import SteadyhandError
from robot.limits import load_limits
from robot.safety.novelty import NoveltyFile, fit

Floats = NDArray[np.float32]


class _Noting:
    """A policy that remembers what it sees."""

    def __init__(self, policy: EdgePolicy) -> None:
        self._policy = policy
        self.seen: list[Floats] = []

    def reset(self) -> None:
        self.seen = []
        self._policy.reset()

    def act(self, observation: Floats) -> Floats:
        self.seen.append(observation.copy())
        return self._policy.act(observation)


def observe_picks(
    source: Path,
    picks: int,
    seed: int,
    sensing: Literal["truth", "camera"] = "truth",
    objects: str = "train",
    on_pick: Callable[[int], None] | None = None,
) -> list[Floats]:
    """Each nominal pick's observations (steps, n), of the policy's part alone.

    Args:
        source: the bundle's folder.
        picks: how many.
        seed: fixes them all.
        sensing: how the station sees.
        objects: object set.
        on_pick: called after each, with how many there are.
    """
    bundle = Bundle.load(source)
    policy = _Noting(EdgePolicy(bundle))
    camera = sensing == "camera"
    station = Station(
        policy,
        physics("nominal"),
        sensing,
        load_detector(source) if camera else None,
        limits=load_limits(bundle.limits_path),
        scorer=load_scorer(source) if camera else None,
    )
    models = object_set(objects)
    out: list[Floats] = []
    try:
        for number in range(8 * picks):
            if len(out) == picks:
                break
            rng = np.random.default_rng((seed, 23, number))
            model = models[int(rng.integers(len(models)))]
            policy.seen = []
            try:
                station.begin([model], DropConfig(), int(rng.integers(2**31)))
                station.picker.grasp(station.picker.look())
            except SteadyhandError:
                continue  # no nominal pick
            if policy.seen:
                out.append(np.array(policy.seen))
                if on_pick is not None:
                    on_pick(len(out))
    finally:
        station.close()
    return out


def calibrate(picks: list[Floats], alpha: float, bundle: Bundle, out: Path) -> NoveltyFile:
    """Fit on half of a bundle's picks, set the threshold on the others, and write the file."""
    half = len(picks) // 2
    seen = [pick.astype(np.float64) for pick in picks]
    observed = EdgePolicy(bundle).metadata.observation_names
    file = fit(seen[:half], seen[half:], alpha, bundle.model("policy"), observed)
    part = out.with_name(out.name + ".part")
    head = "# What the shipped policy has seen in nominal picks: steadyhand faults --calibrate.\n"
    plain = asdict(file)
    plain["observed"] = list(plain["observed"])
    plain["mean"] = list(plain["mean"])
    plain["whitening"] = [list(row) for row in plain["whitening"]]
    text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=10_000)
    part.write_text(head + text, encoding="utf-8")
    part.replace(out)
    return file
