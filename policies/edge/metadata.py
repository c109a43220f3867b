"""What a policy's ONNX file says of itself, and how the runtime checks that it fits the robot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from policies.edge.chunks import Chunking
from robot.errors import SteadyhandError

PREFIX = "steadyhand."
VERSION = 1
#: Came after the first files were written; such a file means what it always meant.
_LATER = ("env", "action_low", "action_high", "history", "horizon", "decay")


@dataclass(frozen=True)
class PolicyMetadata:
    """The ``metadata_props`` of a policy.

    Attributes:
        observation_names: one name for each number of the observation, in order.
        observation_units: one unit each ("" or "1" where there is none).
        action_names: one name for each number of the action.
        action_scale: what an action of 1 means, with the unit in each key.
        policy_rate_hz: how often it acts.
        control_rate_hz: how often the robot is commanded.
        frames: in which frame what is expressed.
        config_hash: of the config it was trained with.
        git_commit: of the source it was trained with.
        precision: "fp32" or "int8".
        version: of this list.
        env: Gymnasium id it was trained for; empty for this robot's own grasp.
        action_low: what an action of -1 means there, in the environment's own units; empty where
            ``action_scale`` says it.
        action_high: what an action of 1 means.
        history: observations that the network sees at once; 0 where it sees one and gives one
            action, without an axis for either.
        horizon: actions that it gives at once; 0 likewise.
        decay: how its overlapping chunks are blended; see ``policies.edge.chunks``.
    """

    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    observation_units: tuple[str, ...] = ()
    action_scale: Mapping[str, float] = field(default_factory=dict)
    policy_rate_hz: float = 20.0
    control_rate_hz: float = 240.0
    frames: Mapping[str, str] = field(default_factory=dict)
    config_hash: str = ""
    git_commit: str = "unknown"
    precision: str = "fp32"
    version: int = VERSION
    env: str = ""
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    history: int = 0
    horizon: int = 0
    decay: float = 0.0

    @property
    def chunking(self) -> Chunking | None:
        """How its chunks become actions; None where it gives one action at a time."""
        if not self.history and not self.horizon:
            return None
        return Chunking(self.history, self.horizon, self.decay)

    def props(self) -> dict[str, str]:
        """As ``metadata_props``: every value is JSON."""
        return {
            PREFIX + name: json.dumps(getattr(self, name), sort_keys=True)
            for name in self.__dataclass_fields__
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str], name: str = "model") -> PolicyMetadata:
        """Read back; ``name`` is for the message when something is missing."""
        version = props.get(PREFIX + "version")
        if version is None:
            raise SteadyhandError(f"{name}: carries no Steadyhand metadata; export it anew")
        values: dict[str, Any] = {}
        try:
            if json.loads(version) != VERSION:
                raise SteadyhandError(
                    f"{name}: metadata version {version} is not supported, expected {VERSION}"
                )
            for key in cls.__dataclass_fields__:
                if key in _LATER and PREFIX + key not in props:
                    continue
                value = json.loads(props[PREFIX + key])
                values[key] = tuple(value) if isinstance(value, list) else value
        except (KeyError, ValueError) as error:
            raise SteadyhandError(f"{name}: metadata lacks or garbles {error}") from error
        return cls(**values)

    def rows_in(self, names: Sequence[str], units: Sequence[str], name: str) -> tuple[int, ...]:
        """Where the policy's observations stand among those that the robot makes, by name.

        A policy may see less than the robot makes, in any order, but nothing else.

        Raises:
            SteadyhandError: one of them is not made, or in another unit.
        """
        places = {label: i for i, label in enumerate(names)}
        rows = []
        for i, own in enumerate(self.observation_names):
            if own not in places:
                raise SteadyhandError(
                    f"{name}: was made for {len(self.observation_names)} observations; "
                    f"observation {own!r} is none of those given here"
                )
            rows.append(places[own])
            unit = self.observation_units[i] if i < len(self.observation_units) else ""
            here = units[rows[-1]] if rows[-1] < len(units) else ""
            if unit and here and unit != here:
                raise SteadyhandError(
                    f"{name}: observation {own!r} is in {unit!r} in the policy and "
                    f"in {here!r} on the robot"
                )
        return tuple(rows)

    def must_act_in(self, env: str, low: Sequence[float], high: Sequence[float], name: str) -> None:
        """Refuse a policy for another environment, or whose actions mean something else there.

        Raises:
            SteadyhandError: names what differs.
        """
        ours, here = (e or "this robot's grasp" for e in (self.env, env))
        if self.env != env:
            raise SteadyhandError(f"{name}: was made for {ours}, not for {here}")
        mine, theirs = (*self.action_low, *self.action_high), (*low, *high)
        if len(mine) != len(theirs) or any(
            abs(a - b) > 1e-5 * max(1.0, abs(b)) for a, b in zip(mine, theirs, strict=True)
        ):
            raise SteadyhandError(
                f"{name}: actions lie in {list(self.action_low)} to {list(self.action_high)} in "
                f"the policy, in {list(low)} to {list(high)} in {here}"
            )

    def must_act_here(self, name: str) -> None:
        """Refuse a policy whose actions, scale, rates or frames are not this robot's.

        Raises:
            SteadyhandError: names the first that differs.
        """
        from robot.execution.action import ACTION, DEFAULT_SCALE, POLICY_TICKS

        scale = {key: float(value) for key, value in asdict(DEFAULT_SCALE).items()}
        ratio = self.control_rate_hz / self.policy_rate_hz
        for what, own, ours in (
            ("actions", list(self.action_names), list(ACTION)),
            ("action scale", dict(self.action_scale), scale),
            ("frames", dict(self.frames), {"observation": "grasp", "action": "grasp"}),
            ("control ticks a policy step", ratio, float(POLICY_TICKS)),
        ):
            if own != ours:
                raise SteadyhandError(f"{name}: {what}: {own} in the policy, {ours} on the robot")


def robot_observation() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of the observation that this robot makes."""
    from robot import observation

    units = tuple(unit for _, size, unit in observation.OBSERVATION for _ in range(size))
    return tuple(observation.names()), units
