"""Whether demonstrations, whoever recorded them, were made in the environment to be learned."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from policies.demos.dataset import Demonstrations
from policies.demos.describe import describe_env, stated_rate
from policies.evaluation.specs import EnvSpec
from robot.errors import ConfigError

_STAND_IN = re.compile(r"((observation|action)_)?\d+")
#: Recorded readings may leave the observation box by this share of its width: rounding, no more.
SLACK = 0.01


def matched(demos: Demonstrations, env: EnvSpec) -> Demonstrations:
    """The same demonstrations with the names, units and bounds of ``env``.

    Names, units, rate and action bounds count only where both sides state them; sizes always do,
    and so does the observation box where it is finite: readings in degrees do not fit one in
    radians.

    Args:
        demos: a whole set.
        env: where its policy shall act.

    Raises:
        ConfigError: they do not belong together; the message names what differs.
    """
    ours, theirs = describe_env(env), demos.spec
    where = f"demonstrations for {env.id}"
    for what, mine, other in (
        ("observation", ours.observation_names, theirs.observation_names),
        ("action", ours.action_names, theirs.action_names),
    ):
        if len(mine) != len(other):
            raise ConfigError(
                f"{where}: hold {len(other)} numbers an {what}, the environment has {len(mine)}"
            )
        for i, (a, b) in enumerate(zip(mine, other, strict=True)):
            if a != b and not _STAND_IN.fullmatch(a) and not _STAND_IN.fullmatch(b):
                raise ConfigError(
                    f"{where}: {what} {i} is {b!r} in the set and {a!r} in the environment"
                )
    pairs = zip(ours.observation_units, theirs.observation_units, strict=False)
    for name, (a, b) in zip(ours.observation_names, pairs, strict=False):
        if a != b:
            raise ConfigError(
                f"{where}: {name} is in {b!r} in the set and in {a!r} in the environment"
            )
    for end in ("action_low", "action_high"):
        a_end, b_end = getattr(ours, end), getattr(theirs, end)
        if a_end and b_end and not np.allclose(a_end, b_end, rtol=1e-5):
            raise ConfigError(
                f"{where}: {end} is {list(b_end)} in the set and {list(a_end)} in the environment"
            )
    instance = env.make()
    try:
        rate, box = stated_rate(instance), instance.observation_space
    finally:
        instance.close()
    if rate is not None and abs(rate - theirs.rate_hz) > 1e-3 * rate:
        raise ConfigError(
            f"{where}: are at {theirs.rate_hz:g} Hz, the environment is acted on at {rate:g} Hz"
        )
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    with np.errstate(invalid="ignore"):
        slack = np.where(np.isfinite(high - low), SLACK * (high - low), 0.0) + 1e-4
    worst = np.maximum(low - demos.observation.min(0), demos.observation.max(0) - high)
    if (worst > slack).any():
        i = int(np.argmax(worst - slack))
        raise ConfigError(
            f"{where}: {ours.observation_names[i]} goes from {demos.observation[:, i].min():.4g} "
            f"to {demos.observation[:, i].max():.4g}, the environment's lies within "
            f"[{low[i]:.4g}, {high[i]:.4g}]; other units?"
        )
    return replace(demos, spec=replace(ours, rate_hz=rate or theirs.rate_hz))
