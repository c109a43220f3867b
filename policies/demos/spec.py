"""What one frame of a demonstration set holds; says so without reading one, and needs no extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from policies.film import CODEC, PIXELS
from robot.errors import SteadyhandError

VIEW = "observation.images.view"
"""The films' place among the features."""


def numbered(count: int) -> tuple[str, ...]:
    """The names of numbers whose meaning nobody told: ``0``, ``1``, ..."""
    return tuple(str(i) for i in range(count))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class DemoSpec:
    """What one frame of a demonstration set holds.

    Attributes:
        observation_names: one name for each number of ``observation.state``.
        action_names: one name for each number of ``action``.
        rate_hz: frames a second.
        task: the task in words.
        observation_units: one unit for each observation ("" where it has none).
        privileged_names: names of ``observation.privileged``; empty where it is not recorded.
        robot: name of the robot.
        env: Gymnasium id and keyword arguments of the source, for the record.
        action_low: what an action of -1 means in the environment's own units; empty where nothing
            is said of it.
        action_high: what an action of 1 means.
        image_shape: (height, width, 3) of the films; empty where there are none.
    """

    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    rate_hz: float
    task: str = "pick the object up"
    observation_units: tuple[str, ...] = ()
    privileged_names: tuple[str, ...] = ()
    robot: str = "panda"
    env: Mapping[str, Any] = field(default_factory=dict)
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    image_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.observation_names or not self.action_names:
            raise SteadyhandError("DemoSpec: needs at least one observation and one action name")
        if not self.rate_hz > 0:
            raise SteadyhandError(f"DemoSpec.rate_hz: must be > 0, got {self.rate_hz}")
        if self.observation_units and len(self.observation_units) != len(self.observation_names):
            raise SteadyhandError(
                f"DemoSpec.observation_units: {len(self.observation_units)} units for "
                f"{len(self.observation_names)} observations"
            )

    @property
    def policy_env(self) -> str:
        """The Gymnasium id that a policy learned from this says it is for.

        Empty for the grasp, which runs in pick and place too, not only where it was learned.
        """
        env = str(self.env.get("id", ""))
        return "" if env.startswith("Steadyhand/") else env

    def fitted(self, wanted: DemoSpec, source: str) -> DemoSpec:
        """This spec as that of an environment, where it says the same or nothing.

        Args:
            wanted: what the environment has.
            source: where this one comes from, for the message.

        Raises:
            SteadyhandError: another number of observations or actions, another rate, other names
                or other units.
        """
        for what, mine, theirs in (
            ("observations", self.observation_names, wanted.observation_names),
            ("actions", self.action_names, wanted.action_names),
        ):
            if len(mine) != len(theirs):
                raise SteadyhandError(
                    f"{source}: has {len(mine)} {what}, the environment has {len(theirs)}"
                )
            if mine not in (numbered(len(mine)), theirs):
                i = next(i for i, name in enumerate(mine) if name != theirs[i])
                raise SteadyhandError(
                    f"{source}: number {i} of its {what} is {mine[i]}, "
                    f"the environment's is {theirs[i]}"
                )
        if self.rate_hz != wanted.rate_hz:
            raise SteadyhandError(
                f"{source}: has {self.rate_hz:g} Hz, the environment has {wanted.rate_hz:g} Hz"
            )
        units = self.observation_units or wanted.observation_units
        if wanted.observation_units and units != wanted.observation_units:
            i = next(i for i, unit in enumerate(units) if unit != wanted.observation_units[i])
            raise SteadyhandError(
                f"{source}: {wanted.observation_names[i]} is in {units[i] or 'no unit'!r}, "
                f"the environment's is in {wanted.observation_units[i]!r}"
            )
        return replace(
            self,
            observation_names=wanted.observation_names,
            action_names=wanted.action_names,
            observation_units=units,
            env=self.env or wanted.env,
        )

    def as_json(self) -> dict[str, Any]:
        """For a file of another format; :meth:`from_json` reads it."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, content: Any, source: str) -> DemoSpec:
        """The spec that :meth:`as_json` wrote; ``source`` is named where it is malformed."""
        try:
            told: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in content.items()
            }
            return cls(**told)
        except (AttributeError, TypeError) as error:
            raise SteadyhandError(f"{source}: its description is garbled: {error}") from error

    def features(self) -> dict[str, dict[str, Any]]:
        """The ``features`` of ``info.json``."""

        def vector(names: Sequence[str]) -> dict[str, Any]:
            return {"dtype": "float32", "shape": [len(names)], "names": list(names)}

        def scalar(dtype: str) -> dict[str, Any]:
            return {"dtype": dtype, "shape": [1], "names": None}

        out = {"observation.state": vector(self.observation_names)}
        if self.privileged_names:
            out["observation.privileged"] = vector(self.privileged_names)
        if self.image_shape:
            out[VIEW] = self._video()
        out |= {
            "action": vector(self.action_names),
            "next.reward": scalar("float32"),
            "next.done": scalar("bool"),
            "next.success": scalar("bool"),
            "timestamp": scalar("float32"),
            "frame_index": scalar("int64"),
            "episode_index": scalar("int64"),
            "index": scalar("int64"),
            "task_index": scalar("int64"),
        }
        return out

    def _video(self) -> dict[str, Any]:
        height, width, channels = self.image_shape
        return {
            "dtype": "video",
            "shape": list(self.image_shape),
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.channels": channels,
                "video.codec": CODEC,
                "video.pix_fmt": PIXELS,
                "video.fps": self.rate_hz,
                "video.is_depth_map": False,
                "has_audio": False,
            },
        }
