"""Settled scenes, and where processes and runs share them: a folder of small checked files."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.objects import ObjectModel
from robot.types import GraspCandidate, HeightMap, ObjectState, Pose

Array = NDArray[np.float64]

log = logging.getLogger(__name__)

CACHE_VARIABLE = "STEADYHAND_CACHE"
"""Environment variable: the folder to share scenes in; empty for none."""
_KEPT_S = 30 * 86_400.0
_ROOT = Path(__file__).parents[1]
# What can change how a scene comes to rest, what is seen of it, or which grasps are planned.
_SOURCES = ("configs/**/*", "robot/**/*.py", "envs/*.py", "perception/*.py")
_PACKAGES = ("pybullet", "numpy", "scipy", "pin", "eigenpy", "coal")


@dataclass(frozen=True, slots=True)
class SettledScene:
    """Objects at rest, and how each of the best candidates can be reached.

    Attributes:
        models: what lies there.
        poses: where, one for each model.
        objects: what a look reports; ``object_id`` is the index into ``models``.
        grasps: (candidate, joints (7,) rad at its pre-grasp), best first; may be empty.
        heights: the look's, around the candidates.
        truths: ``X_world_grasp`` of grasps that the planner finds on the exact shapes.
    """

    models: tuple[ObjectModel, ...]
    poses: tuple[Pose, ...]
    objects: tuple[ObjectState, ...]
    grasps: tuple[tuple[GraspCandidate, Array], ...]
    heights: HeightMap
    truths: tuple[Pose, ...]


class SceneStore:
    """Settled scenes on disk, shared by all processes that want the same ones.

    Each scene is one file, renamed into place once it is whole. A file that is missing, cut or
    changed counts as none. Where nothing can be written, nothing is kept.

    Args:
        folder: of this bank.
        models: what its scenes can hold; their names tell them apart.
    """

    def __init__(self, folder: Path, models: Sequence[ObjectModel]) -> None:
        self.folder = folder
        self._models = {model.name: model for model in models}
        self._writes = True

    @classmethod
    def shared(
        cls, models: Sequence[ObjectModel], settings: Mapping[str, Any]
    ) -> SceneStore | None:
        """The store of a bank below ``$STEADYHAND_CACHE``, or the user's cache folder.

        Args:
            models: the object set.
            settings: whatever else the scenes depend on besides code and packages.

        Returns:
            None where sharing is switched off.
        """
        named = os.environ.get(CACHE_VARIABLE)
        if named == "":
            return None
        if named is None:
            home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
            named = str(Path(home) / "steadyhand")
        scenes = Path(named) / "scenes"
        store = cls(scenes / _key(models, settings), models)
        try:
            if not store.folder.is_dir():
                store.folder.mkdir(parents=True)
                _drop_old(scenes)
            os.utime(store.folder)  # in use
        except OSError as error:
            log.info("%s: settled scenes are not kept: %s", store.folder, error.strerror or error)
            store._writes = False
        return store

    def load(self, number: int) -> SettledScene | None:
        """Scene ``number`` exactly as it was saved, or None."""
        try:
            digest, _, text = self._file(number).read_text(encoding="ascii").partition("\n")
            if digest != hashlib.sha256(text.encode()).hexdigest():
                raise ValueError("its checksum is wrong")
            return self._scene(json.loads(text))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, zlib.error) as error:
            log.warning("%s: made anew: %s", self._file(number), error)
            return None

    def save(self, number: int, scene: SettledScene) -> None:
        """Keep scene ``number``."""
        if not self._writes:
            return
        text = json.dumps(_plain(scene))
        content = hashlib.sha256(text.encode()).hexdigest() + "\n" + text
        try:
            with tempfile.NamedTemporaryFile(
                "w", encoding="ascii", dir=self.folder, prefix=".", suffix=".tmp", delete=False
            ) as stream:
                stream.write(content)
            Path(stream.name).replace(self._file(number))
        except OSError as error:
            log.info("%s: settled scenes are not kept: %s", self.folder, error.strerror or error)
            self._writes = False

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.json"

    def _scene(self, plain: dict[str, Any]) -> SettledScene:
        return SettledScene(
            tuple(self._models[name] for name in plain["models"]),
            tuple(Pose.stored(**p) for p in plain["poses"]),
            tuple(
                ObjectState(**{**o, "X_world_obj": Pose.stored(**o["X_world_obj"])})
                for o in plain["objects"]
            ),
            tuple(
                (
                    GraspCandidate(**{**c, "X_world_grasp": Pose.stored(**c["X_world_grasp"])}),
                    np.array(q, dtype=np.float64),
                )
                for c, q in plain["grasps"]
            ),
            _heights(plain["heights"]),
            tuple(Pose.stored(**p) for p in plain["truths"]),
        )


def _plain(value: Any) -> Any:
    """JSON of nouns; what is read back equals it to the last bit."""
    if isinstance(value, SettledScene):
        names = [model.name for model in value.models]
        kept = ("poses", "objects", "grasps", "heights", "truths")
        return {"models": names, **{key: _plain(getattr(value, key)) for key in kept}}
    if isinstance(value, HeightMap):
        return {
            "origin_m": value.origin_m.tolist(),
            "resolution_m": value.resolution_m,
            "shape": list(value.height_m.shape),
            "height_m": _packed(value.height_m.astype(np.float16)),
            "seen": _packed(np.packbits(value.seen)),
        }
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Path):  # what is in it counts, not where this copy of the project lies
        return hashlib.sha256(value.read_bytes()).hexdigest() if value.is_file() else value.name
    return value


def _packed(array: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode("ascii")


def _unpacked(text: str, kind: Any) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind)


def _heights(plain: dict[str, Any]) -> HeightMap:
    shape = tuple(plain["shape"])
    heights = _unpacked(plain["height_m"], np.float16).astype(np.float32).reshape(shape)
    bits = np.unpackbits(_unpacked(plain["seen"], np.uint8), count=heights.size)
    seen = bits.astype(bool).reshape(shape)
    return HeightMap(np.array(plain["origin_m"]), plain["resolution_m"], heights, seen, 0.0)


def _key(models: Sequence[ObjectModel], settings: Mapping[str, Any]) -> str:
    """Names everything that a bank's scenes depend on."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    shapes = [[m.name, m.class_name, m.dimensions_m, _content(m.urdf)] for m in models]
    plain = {key: _plain(value) for key, value in settings.items()}
    text = json.dumps([plain, shapes, versions, platform.machine(), _code()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _content(urdf: Path | None) -> str:
    """A digest of an object's file and of the meshes that it names."""
    import pybullet_data

    if urdf is None:
        return ""
    data = Path(pybullet_data.getDataPath())
    if data in urdf.parents:  # comes with Bullet, whose version is known
        return urdf.relative_to(data).as_posix()
    text = urdf.read_bytes()
    digest = hashlib.sha256(text)
    for name in re.findall(rb'filename\s*=\s*"([^"]+)"', text):
        mesh = urdf.parent / name.decode()
        if mesh.is_file():
            digest.update(mesh.read_bytes())
    return digest.hexdigest()


@functools.cache
def _code() -> str:
    """A digest of the sources; any change to them makes another bank."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for file in sorted(_ROOT.glob(pattern)):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.relative_to(_ROOT).as_posix().encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _drop_old(scenes: Path) -> None:
    """Remove banks that nobody has opened for a month; one that is in use makes them anew."""
    for folder in scenes.iterdir():
        if folder.is_dir() and time.time() - folder.stat().st_mtime > _KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)
