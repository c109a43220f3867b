"""A curriculum: an environment whose keyword arguments change while a policy learns in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import gymnasium as gym

from configs.load import bounded
from policies.evaluation.specs import EnvSpec
from robot.errors import ConfigError


@dataclass(frozen=True)
class Lesson:
    """A part of the training in another environment.

    Attributes:
        until: share of the steps at which it ends.
        changes: keyword arguments of the environment that are different until then.
    """

    until: float = bounded(1.0, 0.0, 1.0)
    changes: dict[str, bool | int | float | str] = field(default_factory=dict)


def check(curriculum: Sequence[Lesson]) -> None:
    """Refuse lessons that do not follow each other."""
    for i, (before, after) in enumerate(pairwise(curriculum)):
        if after.until <= before.until:
            raise ConfigError(
                f"ppo.curriculum[{i + 1}].until: {after.until} must be larger than "
                f"{before.until}, where the lesson before it ends"
            )


def changes_at(curriculum: Sequence[Lesson], share: float) -> dict[str, Any]:
    """The changed keyword arguments after this share of the steps; none after the last lesson."""
    return next((dict(lesson.changes) for lesson in curriculum if share < lesson.until), {})


class Changeable(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that is made anew, at its next reset, where other arguments are asked for.

    Args:
        spec: the environment without changes.
    """

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__(spec.make())
        self._spec = spec
        self._now: dict[str, Any] = {}
        self._wanted: dict[str, Any] = {}

    def change(self, changes: dict[str, Any]) -> None:
        """From the next reset on, with these keyword arguments and the rest as at first."""
        self._wanted = changes

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment's own."""
        if self._wanted != self._now:
            if seed is None:  # the new one goes on from where the old one's chance stood
                seed = int(self.env.unwrapped.np_random.integers(2**31))
            spaces = self.env.observation_space, self.env.action_space
            self.env.close()
            spec = self._spec
            self.env = replace(spec, kwargs={**spec.kwargs, **self._wanted}).make()
            self._now = self._wanted
            if (self.env.observation_space, self.env.action_space) != spaces:
                raise ConfigError(
                    f"ppo.curriculum: environment {spec.id} has other observations or actions "
                    f"with {self._wanted}; a policy can learn in one kind only"
                )
        return self.env.reset(seed=seed, options=options)
