"""Demonstrations in Minari's layout on disk (``data/main_data.hdf5``), out and in.

``data/metadata.json`` carries the spaces and totals; ``episode_N`` carries ``id``, ``seed`` and
``total_steps`` and holds ``observations`` (T + 1, n), ``actions`` (T, m), ``rewards``,
``terminations`` and ``truncations`` (T,) and ``infos/...`` (T + 1, ...). A set does not hold what
is observed after the last action, so the last observation stands there twice; nor does it tell an
end from a time limit, so a success is written as a termination and the rest as truncations. Films
are left out.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.demos.hdf5 import floats, reading, writing
from policies.demos.spec import DemoSpec, numbered
from policies.evaluation.rollouts import Episode
from policies.storage import read_json, replace_json
from robot.errors import SteadyhandError

METADATA = "metadata.json"
MAIN = "main_data.hdf5"
# The release whose files look like this; Minari refuses versions that it does not know.
_VERSION = "0.5.0"


def data_folder(root: Path) -> Path | None:
    """Where the files of a Minari set lie: ``root/data`` or ``root``; None where there is none."""
    return next((f for f in (root / "data", root) if (f / METADATA).is_file()), None)


def write(root: Path, spec: DemoSpec, episodes: Iterable[Episode]) -> None:
    """Write into a folder that is empty or not there; the metadata come last.

    Args:
        root: folder of the set; its name becomes the name in the set's id.
        spec: names, units and rate.
        episodes: recorded ones.

    Raises:
        SteadyhandError: it cannot be written.
    """
    steps = count = 0
    with writing(root / "data" / MAIN) as file:
        for count, episode in enumerate(episodes, 1):
            _write_episode(file.create_group(f"episode_{count - 1}"), count - 1, episode)
            steps += episode.length
    replace_json(
        root / "data" / METADATA,
        {
            "total_episodes": count,
            "total_steps": steps,
            "data_format": "hdf5",
            "observation_space": _box(len(spec.observation_names), np.inf),
            "action_space": _box(len(spec.action_names), 1.0),
            "dataset_id": "steadyhand/demonstrations-v0",
            "minari_version": _VERSION,
            "dataset_size": round((root / "data" / MAIN).stat().st_size / 1e6, 1),
            "description": spec.task,
            "steadyhand": replace(spec, image_shape=()).as_json(),
            **_env_spec(spec),
        },
    )


def _env_spec(spec: DemoSpec) -> dict[str, str]:
    """What Minari makes the environment from, where Gymnasium knows it here."""
    import gymnasium

    name = str(spec.env.get("id", ""))
    if name.startswith("Steadyhand/"):
        import envs  # noqa: F401 (registers the ids)
    try:
        found = copy.deepcopy(gymnasium.spec(name))
        found.kwargs.update(spec.env.get("kwargs", {}))
        return {"env_spec": found.to_json()}
    except (gymnasium.error.Error, TypeError, ValueError):
        return {}


def _box(size: int, bound: float) -> str:
    """A Box space as Minari writes one."""
    return json.dumps(
        {
            "type": "Box",
            "dtype": "float32",
            "shape": [size],
            "low": [-bound] * size,
            "high": [bound] * size,
        }
    )


def _write_episode(group: Any, number: int, episode: Episode) -> None:
    if episode.observation is None or episode.action is None or episode.reward is None:
        raise SteadyhandError("minari: an episode was not recorded (record=True)")
    last = np.arange(episode.length) == episode.length - 1
    ended = np.zeros(episode.length + 1, dtype=bool)
    ended[-1] = episode.success
    group.attrs["id"] = number
    group.attrs["total_steps"] = episode.length
    if episode.seed >= 0:
        group.attrs["seed"] = episode.seed
    group.attrs["steadyhand"] = json.dumps(dict(episode.facts))
    group.create_dataset("observations", data=_with_last_twice(episode.observation))
    group.create_dataset("actions", data=episode.action)
    group.create_dataset("rewards", data=episode.reward)
    group.create_dataset("terminations", data=last & episode.success)
    group.create_dataset("truncations", data=last & (not episode.success))
    group.create_dataset("infos/is_success", data=ended)
    if episode.privileged is not None:
        group.create_dataset("infos/privileged", data=_with_last_twice(episode.privileged))


def _with_last_twice(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([values, values[-1:]])


def read_spec(root: Path, rate_hz: float | None) -> DemoSpec:
    """What the set holds.

    Args:
        root: folder of the set.
        rate_hz: of a set of another origin, which does not say it.

    Raises:
        SteadyhandError: it is no such set, its spaces are no vectors, or its rate is not known.
    """
    folder = _folder(root)
    metadata = read_json(folder / METADATA)
    if not isinstance(metadata, dict):
        raise SteadyhandError(f"{folder / METADATA}: expected a mapping")
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise SteadyhandError(
            f"{folder / METADATA}: data_format {metadata['data_format']!r} is not supported, "
            "expected 'hdf5'"
        )
    if "steadyhand" in metadata:
        return DemoSpec.from_json(metadata["steadyhand"], str(folder / METADATA))
    if rate_hz is None:
        raise SteadyhandError(f"{root}: does not say its rate; give it in Hz (--rate)")
    with reading(folder / MAIN) as file:
        first = file["episode_0"]
        sizes = [floats(first[key], f"{folder / MAIN}: {key}").shape[1] for key in _VECTORS]
    env = _env(metadata)
    return DemoSpec(numbered(sizes[0]), numbered(sizes[1]), rate_hz, robot="unknown", env=env)


_VECTORS = ("observations", "actions")


def _env(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        told = json.loads(metadata["env_spec"])
        return {"id": told["id"], "kwargs": told.get("kwargs", {})}
    except (KeyError, TypeError, ValueError):
        return {}


def episodes(root: Path, spec: DemoSpec) -> Iterator[Episode]:
    """The episodes in order, one after the other in memory.

    What a set of another origin does not say: an episode is a success unless its infos have
    ``is_success`` or ``success``, and is its own group.
    """
    folder = _folder(root)
    total = int(read_json(folder / METADATA)["total_episodes"])
    with reading(folder / MAIN) as file:
        for number in range(total):
            group, where = file[f"episode_{number}"], f"{folder / MAIN}: episode_{number}"
            action = floats(group["actions"], f"{where}/actions")
            observation = floats(group["observations"], f"{where}/observations")
            if len(observation) != len(action) + 1:
                raise SteadyhandError(
                    f"{where}: {len(observation)} observations for {len(action)} actions, "
                    "expected one more"
                )
            reward = floats(group["rewards"], f"{where}/rewards").ravel()
            infos = group.get("infos", {})
            told = next((infos[k] for k in ("is_success", "success") if k in infos), None)
            facts = {"group": str(number), "source": f"minari:{number}"}
            if "steadyhand" in group.attrs:
                facts = json.loads(group.attrs["steadyhand"])
            kept = infos["privileged"] if spec.privileged_names else None
            yield Episode(
                seed=int(group.attrs.get("seed", -1)),
                success=True if told is None else bool(np.asarray(told[()]).ravel()[-1]),
                total_reward=float(reward.sum()),
                length=len(action),
                facts=facts,
                observation=observation[:-1],
                action=action,
                reward=reward,
                privileged=None if kept is None else floats(kept, f"{where}/privileged")[:-1],
            )


def _folder(root: Path) -> Path:
    folder = data_folder(root)
    if folder is None:
        raise SteadyhandError(f"{root}: is no Minari set (data/{METADATA} is missing)")
    return folder
