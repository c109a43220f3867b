"""An environment in the words of a demonstration set: names, units, rate and bounds."""

from __future__ import annotations

from typing import Any

from policies.demos.spec import DemoSpec
from policies.evaluation.rollouts import rendered
from policies.evaluation.specs import EnvSpec


def describe_env(env: EnvSpec, task: str = "") -> DemoSpec:
    """The names, units and rate of an environment, as its demonstrations will carry them.

    An environment may offer ``observation_names``, ``observation_units``, ``action_names`` and
    ``privileged_names``, and its rate as :func:`stated_rate` looks for it; the keys of a Dict,
    numbers and 20 Hz stand in where it does not. With
    ``render_mode="rgb_array"`` it has films.
    """
    instance = env.make()
    try:
        base = instance.unwrapped
        n_obs = int(instance.observation_space.shape[0])
        n_act = int(instance.action_space.shape[0])
        names, actions, units = _names(env, instance, n_obs, n_act)
        low, high = (
            tuple(float(v) for v in getattr(instance, end, getattr(instance.action_space, end)))
            for end in ("low", "high")
        )
        ours = env.id.startswith("Steadyhand/")
        kwargs = {k: v for k, v in env.kwargs.items() if k != "render_mode"}
        image_shape: tuple[int, ...] = ()
        if env.kwargs.get("render_mode") == "rgb_array":
            instance.reset(seed=0)
            image_shape = rendered(instance).shape
        return DemoSpec(
            observation_names=names,
            action_names=actions,
            rate_hz=stated_rate(instance) or 20.0,
            task=task or ("pick the object up" if ours else env.id),
            observation_units=units,
            privileged_names=tuple(getattr(base, "privileged_names", ())),
            robot="panda" if ours else env.id,
            env={"id": env.id, "kwargs": kwargs, "imports": list(env.imports)},
            # What the grasp policy's actions mean stands in its action scale.
            action_low=() if ours else low,
            action_high=() if ours else high,
            image_shape=image_shape,
        )
    finally:
        instance.close()


def stated_rate(instance: Any) -> float | None:
    """How often an environment is acted on, Hz, as far as it says.

    ``metadata["control_hz"]``, else its step ``dt`` in seconds (as Gymnasium's classics and MuJoCo
    environments name it), else ``metadata["render_fps"]``.
    """
    base = instance.unwrapped
    metadata = getattr(base, "metadata", None) or {}
    dt = getattr(base, "dt", None)
    step = round(1.0 / dt, 6) if isinstance(dt, float | int) and dt > 0 else None
    rate = metadata.get("control_hz") or step or metadata.get("render_fps")
    return float(rate) if rate else None


Names = tuple[str, ...]


def _names(env: EnvSpec, instance: Any, n_obs: int, n_act: int) -> tuple[Names, Names, Names]:
    """Names of observations and actions, and the observations' units."""
    if env.id.startswith("Steadyhand/"):
        from robot import observation
        from robot.execution.action import ACTION

        units = tuple(u for _, size, u in observation.OBSERVATION for _ in range(size))
        return tuple(observation.names()), tuple(ACTION), units
    base = instance.unwrapped
    names = getattr(base, "observation_names", None) or getattr(instance, "names", None)
    names = names or [f"observation_{i}" for i in range(n_obs)]
    actions = getattr(base, "action_names", None) or [f"action_{i}" for i in range(n_act)]
    return tuple(names), tuple(actions), tuple(getattr(base, "observation_units", ()))
