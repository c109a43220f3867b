"""Calibrates what counts as new to a bundle's policy, on nominal picks of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from envs.objects import object_set
from envs.physics import physics
from envs.scene import DropConfig
from envs.station import Sensing, Station
from policies.bundle.format import Bundle, add_file
from policies.bundle.manifest import NOVELTY
from policies.edge.runtime import EdgePolicy
from policies.evaluation.grasping import load_detector, load_scorer
from robot.errors import SteadyhandError
from robot.limits import load_limits
from robot.safety.novelty import NoveltyFile, fit

Floats = NDArray[np.float32]

SENSINGS: tuple[Sensing, ...] = ("truth", "camera")


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
    workers: int = 0,
    objects: str = "train",
    on_pick: Callable[[], None] | None = None,
) -> list[Floats]:
    """Each nominal pick's observations (steps, n), of the policy's part alone.

    Every other pick is seen through the cameras, which go on looking while the policy acts; the
    rest as it is, once. The calibration is to hold for both.

    Args:
        source: the bundle's folder.
        picks: how many.
        seed: fixes them all.
        workers: with two and more, both kinds at once, in processes of their own.
        objects: object set.
        on_pick: called after each, or, with workers, when all of a kind are done.
    """
    kinds = [(SENSINGS[k], len(range(k, picks, 2))) for k in range(2)]
    if workers < 2:
        seen = [_observe(source, *kind, seed, objects, on_pick) for kind in kinds]
    else:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_observe, source, *kind, seed, objects) for kind in kinds]
            seen = [future.result() for future in futures]
        if on_pick is not None:
            for _ in range(picks):
                on_pick()
    return [pick for pair in zip_longest(*seen) for pick in pair if pick is not None]


def _observe(
    source: Path,
    sensing: Sensing,
    picks: int,
    seed: int,
    objects: str,
    on_pick: Callable[[], None] | None = None,
) -> list[Floats]:
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
        watches=camera,
    )
    models = object_set(objects)
    out: list[Floats] = []
    try:
        for number in range(8 * picks):
            if len(out) == picks:
                break
            rng = np.random.default_rng((seed, 23, SENSINGS.index(sensing), number))
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
                    on_pick()
    finally:
        station.close()
    return out


def least_picks(alpha: float) -> int:
    """So many make a calibration of which ``alpha`` of further picks may count as new."""
    held_out = math.ceil(1.0 / alpha - 1e-9) - 1
    return next(n for n in range(held_out, 3 * held_out + 9) if n - _fitted_n(n) >= held_out)


def _fitted_n(picks: int) -> int:
    return sum(k % 8 < 2 for k in range(picks))


def calibrate(picks: list[Floats], alpha: float, bundle: Bundle, origin: str = "") -> NoveltyFile:
    """Fit on one pick in four, set the threshold on the others, and put it into the bundle.

    A pick has a hundred observations, which the fit has plenty of; for the threshold it counts as
    one, and a single odd pick should not decide it.

    Args:
        picks: each pick's observations, as ``observe_picks`` gives them.
        alpha: share of further picks that may count as new.
        bundle: whose picks they are.
        origin: how they came about, for the reader of the file.
    """
    seen = [pick.astype(np.float64) for pick in picks]
    # In eights, so that both ways of seeing, which take turns, are in either part.
    fitted = [pick for k, pick in enumerate(seen) if k % 8 < 2]
    held_out = [pick for k, pick in enumerate(seen) if k % 8 >= 2]
    observed = EdgePolicy(bundle).metadata.observation_names
    file = fit(fitted, held_out, alpha, bundle.model("policy"), observed)
    head = f"# What the policy has seen in nominal picks. {origin}".rstrip() + "\n"
    plain = asdict(file)
    plain["observed"] = list(plain["observed"])
    plain["mean"] = list(plain["mean"])
    plain["whitening"] = [list(row) for row in plain["whitening"]]
    text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=10_000)
    add_file(bundle, NOVELTY, (head + text).encode())
    return file
