"""How to make an environment and who acts in it, in any process."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.errors import ConfigError, SteadyhandError

Floats = NDArray[np.float32]


class Actor(Protocol):
    """Anything that acts: a policy, or an expert that looks into its environment."""

    def reset(self) -> None:
        """Forget the previous episode; called after the environment's reset."""

    def act(self, observation: Floats) -> Floats:
        """(n_obs,) float32 to (n_act,) float32 in [-1, 1]."""


@dataclass(frozen=True)
class EnvSpec:
    """How to make an environment in any process.

    Attributes:
        id: its Gymnasium id.
        kwargs: JSON-able keyword arguments.
        imports: modules that register the id when they are imported.
    """

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()

    def make(self) -> Any:
        """A new ``gymnasium.Env`` with a flat observation and actions in [-1, 1].

        Raises:
            ConfigError: a module is missing, the id or a keyword argument is unknown, or its
                spaces are of a kind that cannot be learned.
        """
        import gymnasium

        from policies.evaluation.flat_env import flattened

        modules = self.imports
        if not modules and self.id.startswith("Steadyhand/"):
            modules = ("envs",)
        try:
            for module in modules:
                importlib.import_module(module)
            env = gymnasium.make(self.id, **self.kwargs)
        except ImportError as error:
            raise ConfigError(
                f"environment {self.id}: its package cannot be imported ({error}); install it "
                "into this environment, or correct --import"
            ) from error
        except (gymnasium.error.Error, TypeError) as error:
            hint = "" if modules else "; --import names the package that registers it"
            raise ConfigError(f"environment {self.id}: {error}{hint}") from error
        try:
            return flattened(env, self.id)
        except ConfigError:
            env.close()
            raise


@dataclass(frozen=True)
class ActorSpec:
    """How to make an actor in any process.

    Attributes:
        entry: ``"module:callable"``, called as ``callable(env, **kwargs)`` with the environment
            of that process; a policy ignores it, an expert may look into it.
        kwargs: picklable keyword arguments.
        name: what to call it where it is recorded; its entry if left out.
    """

    entry: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name or self.entry

    def make(self, env: Any) -> Actor:
        """The actor, bound to ``env``."""
        module, _, name = self.entry.partition(":")
        try:
            factory = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise SteadyhandError(
                f"actor {self.entry!r}: expected 'module:callable' ({error})"
            ) from error
        actor: Actor = factory(env, **self.kwargs)
        return actor
