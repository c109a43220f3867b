"""Demonstrations in robomimic's HDF5 layout (``data/demo_0/obs/...``), out and in.

``data`` carries ``total`` and ``env_args``; each ``demo_N`` carries ``num_samples`` and holds
``actions``, ``rewards``, ``dones``, ``obs/KEY`` and ``next_obs/KEY``, all (frames, n) or (frames,).
A part of the observation (``tool_position``) is one key there. A set does not hold what is observed
after the last action, so ``next_obs`` ends with the last observation twice, as robomimic's own
converter has it. What the layout has no place for stands in attributes called ``steadyhand``; films
are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.demos.hdf5 import floats, reading, writing
from policies.demos.spec import DemoSpec, numbered
from policies.evaluation.rollouts import Episode
from robot.errors import SteadyhandError

_GYM = 2  # robomimic's number for environments of Gym


def write(path: Path, spec: DemoSpec, episodes: Iterable[Episode]) -> None:
    """Write a file that does not exist yet, one episode at a time.

    Args:
        path: of the file.
        spec: names, units and rate.
        episodes: recorded ones.

    Raises:
        SteadyhandError: it cannot be written; nothing is left then.
    """
    with writing(path) as file:
        data = file.create_group("data")
        total = number = 0
        for number, episode in enumerate(episodes, 1):
            demo = data.create_group(f"demo_{number - 1}")
            _write_demo(demo, spec, episode)
            total += episode.length
        env = {
            "env_name": spec.env.get("id", "unknown"),
            "type": _GYM,
            "env_kwargs": dict(spec.env.get("kwargs", {})),
        }
        data.attrs["total"] = total
        data.attrs["env_args"] = json.dumps(env)
        data.attrs["steadyhand"] = json.dumps(replace(spec, image_shape=()).as_json())


def _write_demo(demo: Any, spec: DemoSpec, episode: Episode) -> None:
    if episode.observation is None or episode.action is None or episode.reward is None:
        raise SteadyhandError("robomimic: an episode was not recorded (record=True)")
    last = np.arange(episode.length) == episode.length - 1
    following = np.concatenate([episode.observation[1:], episode.observation[-1:]])
    demo.attrs["num_samples"] = episode.length
    demo.attrs["steadyhand"] = json.dumps(
        {"seed": episode.seed, "success": episode.success, "facts": dict(episode.facts)}
    )
    demo.create_dataset("actions", data=episode.action)
    demo.create_dataset("rewards", data=episode.reward)
    demo.create_dataset("dones", data=last.astype(np.int64))
    for key, columns in _keys(spec.observation_names).items():
        demo.create_dataset(f"obs/{key}", data=episode.observation[:, columns])
        demo.create_dataset(f"next_obs/{key}", data=following[:, columns])
    if episode.privileged is not None:
        demo.create_dataset("privileged", data=episode.privileged)


def _keys(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Which columns each key holds: ``tool_position.0`` to ``.2`` are one, in their order."""
    if names == numbered(len(names)):
        return {"flat": list(range(len(names)))}
    keys: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        part, _, place = name.rpartition(".")
        # A slash would make a group of it.
        key = (part if part and place.isdigit() else name).replace("/", "_")
        keys.setdefault(key, []).append(i)
    return keys


def read_spec(path: Path, rate_hz: float | None) -> DemoSpec:
    """What the file holds.

    Args:
        path: of the file.
        rate_hz: where the file does not say it (``env_kwargs.control_freq``).

    Raises:
        SteadyhandError: it is no such file, or does not say its rate and nor does ``rate_hz``.
    """
    with reading(path) as file:
        data = file["data"]
        if "steadyhand" in data.attrs:
            return DemoSpec.from_json(_json(data.attrs["steadyhand"], path), str(path))
        env = _json(data.attrs.get("env_args", "{}"), path)
        kwargs = env.get("env_kwargs", {})
        rate = kwargs.get("control_freq") or rate_hz
        if not rate:
            raise SteadyhandError(f"{path}: does not say its rate; give it in Hz (--rate)")
        if rate_hz is not None and float(rate) != rate_hz:
            raise SteadyhandError(f"{path}: says {rate} Hz, not {rate_hz:g} Hz")
        demo = data[_demos(data, path)[0]]
        names: list[str] = []
        for key in _low_dimensional(demo["obs"]):
            size = floats(demo["obs"][key], f"{path}: obs/{key}").shape[1]
            names += [f"{key}.{i}" for i in range(size)] if size > 1 else [key]
        if len(_low_dimensional(demo["obs"])) == 1:
            names = list(numbered(len(names)))  # one vector, whatever is in it
        actions = floats(demo["actions"], f"{path}: actions").shape[1]
        return DemoSpec(
            tuple(names),
            numbered(actions),
            float(rate),
            robot=str((kwargs.get("robots") or ["unknown"])[0]).lower(),
            env={"id": env.get("env_name", "unknown"), "kwargs": kwargs},
        )


def episodes(path: Path, spec: DemoSpec) -> Iterator[Episode]:
    """The episodes in the order of their numbers, one after the other in memory.

    What a file of another origin does not say: an episode is a success, and is its own group.
    """
    with reading(path) as file:
        data = file["data"]
        for number, name in enumerate(_demos(data, path)):
            demo, where = data[name], f"{path}: {name}"
            obs = demo["obs"]
            ours = "steadyhand" in data.attrs
            keys = _keys(spec.observation_names) if ours else {k: [] for k in _low_dimensional(obs)}
            parts = [floats(obs[key], f"{where}/obs/{key}") for key in keys]
            action = floats(demo["actions"], f"{where}/actions")
            observation = _joined(parts, list(keys), len(action), where)
            if ours:  # columns of a key need not have stood side by side
                order = np.concatenate([np.array(c, dtype=np.int64) for c in keys.values()])
                observation = observation[:, np.argsort(order)]
            reward = np.zeros(len(action), dtype=np.float32)
            if "rewards" in demo:
                reward = floats(demo["rewards"], f"{where}/rewards").ravel()
            told = _json(demo.attrs.get("steadyhand", "{}"), path)
            privileged = demo.get("privileged")
            yield Episode(
                seed=int(told.get("seed", -1)),
                success=bool(told.get("success", True)),
                total_reward=float(reward.sum()),
                length=int(demo.attrs.get("num_samples", len(action))),
                facts=told.get("facts", {"group": str(number), "source": f"robomimic:{name}"}),
                observation=observation,
                action=action,
                reward=reward,
                privileged=None
                if privileged is None
                else floats(privileged, f"{where}/privileged"),
            )


def _joined(
    parts: list[NDArray[np.float32]], keys: list[str], length: int, where: str
) -> NDArray[np.float32]:
    for key, part in zip(keys, parts, strict=True):
        if len(part) != length:
            raise SteadyhandError(f"{where}/obs/{key}: {len(part)} frames, actions has {length}")
    return np.concatenate(parts, axis=1)


def _demos(data: Any, path: Path) -> list[str]:
    names = [n for n in data if n.startswith("demo_") and n[5:].isdigit()]
    if not names:
        raise SteadyhandError(f"{path}: holds no demo_0, demo_1, ... under data")
    return sorted(names, key=lambda n: int(n[5:]))


def _low_dimensional(obs: Any) -> list[str]:
    """The keys of vectors and numbers, sorted; images and point clouds are left out."""
    keys = sorted(k for k in obs if getattr(obs[k], "ndim", 0) in (1, 2))
    if not keys:
        raise SteadyhandError("robomimic: obs holds no vector")
    return keys


def _json(text: Any, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SteadyhandError(f"{path}: an attribute is not valid JSON: {error}") from error
