"""The bank of settled scenes: shared on disk, exact, and never worse than making them anew."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest

from envs import bank as bank_module
from envs import settled
from envs.arm import SimArm
from envs.bank import SceneBank
from envs.objects import from_urdf, object_set
from envs.physics import physics
from envs.scene import DropConfig
from envs.settled import CACHE_VARIABLE, SettledScene
from envs.sight import Sight
from envs.world import World
from robot.execution.grasp import GraspLoop
from robot.limits import load_limits


@pytest.fixture(scope="module")
def parts():
    world, limits = World(), load_limits()
    yield world, SimArm(world, limits), GraspLoop.make(limits)
    world.close()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "scenes"


def bank(parts, seed: int = 0, objects: str = "primitives", n_objects: int = 2) -> SceneBank:
    sight = Sight(*parts, physics("nominal"), None)
    return SceneBank(*parts, object_set(objects), n_objects, DropConfig(), seed, 3, sight)


def bits(scene: SettledScene) -> list[bytes]:
    arrays = [a for pose in scene.poses for a in (pose.position_m, pose.quat_xyzw)]
    for obj in scene.objects:
        arrays += [obj.X_world_obj.position_m, obj.X_world_obj.quat_xyzw, obj.dimensions_m]
    for candidate, q in scene.grasps:
        pose = candidate.X_world_grasp
        arrays += [pose.position_m, pose.quat_xyzw, q]
        arrays.append(np.array([candidate.width_m, candidate.opening_m, candidate.score]))
    arrays += [scene.heights.origin_m, scene.heights.height_m, scene.heights.seen]
    arrays += [a for pose in scene.truths for a in (pose.position_m, pose.quat_xyzw)]
    return [np.asarray(a, dtype=np.float64).tobytes() for a in arrays]


def never(*_: object) -> SettledScene:
    raise RuntimeError("it should have been on the disk")


def test_another_process_gets_the_same_scene_to_the_bit(parts, cache, monkeypatch):
    made = [bank(parts).scene(n) for n in range(3)]
    monkeypatch.setattr(bank_module.SceneBank, "_make", never)
    other = bank(parts)
    for n, scene in enumerate(made):
        found = other.scene(n)
        assert found.models == scene.models
        assert bits(found) == bits(scene)
        assert [c.object_id for c, _ in found.grasps] == [c.object_id for c, _ in scene.grasps]
        assert [o.class_name for o in found.objects] == [o.class_name for o in scene.objects]
    assert any(scene.grasps for scene in made)


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "other"])
def test_a_corrupt_file_is_made_anew(parts, cache, harm):
    scene = bank(parts).scene(1)
    (file,) = cache.glob("*/1.json")
    whole = file.read_bytes()
    at = whole.index(b"0.") + 3
    file.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "flipped": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
            "empty": b"",
            "other": b"\xff" + json.dumps([1]).encode(),
        }[harm]
    )
    assert bits(bank(parts).scene(1)) == bits(scene)
    assert bits(bank(parts)._store.load(1)) == bits(scene)  # and kept
    assert not list(cache.glob("*/.*"))  # nothing half-written stays


def test_what_changes_a_scene_makes_another_bank(parts, cache, monkeypatch, tmp_path):
    folders = [bank(parts)._store.folder]
    folders.append(bank(parts, seed=1)._store.folder)
    folders.append(bank(parts, n_objects=1)._store.folder)
    folders.append(bank(parts, objects="train")._store.folder)
    monkeypatch.setattr(settled, "_code", lambda: "changed")
    folders.append(bank(parts)._store.folder)
    assert len(set(folders)) == len(folders)
    assert {f.parent for f in folders} == {cache}


def test_a_users_object_counts_with_its_mesh(tmp_path):
    import pybullet_data

    source = Path(pybullet_data.getDataPath()) / "random_urdfs" / "000"
    own = shutil.copytree(source, tmp_path / "000")
    model = from_urdf(own / "000.urdf")
    before = settled._content(model.urdf)
    mesh = next(own.glob("*.obj"))
    mesh.write_bytes(mesh.read_bytes() + b"\n")
    assert settled._content(model.urdf) != before


def test_without_a_place_to_keep_them_scenes_are_made(parts, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    scene = bank(parts).scene(0)
    monkeypatch.setenv(CACHE_VARIABLE, "")
    switched_off = bank(parts)
    assert switched_off._store is None
    assert bits(switched_off.scene(0)) == bits(scene)


def _fill(folder: str) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv(CACHE_VARIABLE, folder)
    world, limits = World(), load_limits()
    own = bank((world, SimArm(world, limits), GraspLoop.make(limits)))
    for n in range(4):
        own.scene(n)


def test_several_processes_may_fill_one_bank(parts, cache, monkeypatch):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill, args=(str(cache.parent),)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    (folder,) = cache.iterdir()
    assert sorted(f.name for f in folder.iterdir()) == [f"{n}.json" for n in range(4)]
    found = [bank(parts).scene(n) for n in range(4)]
    monkeypatch.setenv(CACHE_VARIABLE, "")
    made = bank(parts)
    assert [bits(made.scene(n)) for n in range(4)] == [bits(scene) for scene in found]


def test_where_a_file_lies_makes_no_other_bank(tmp_path):
    from envs.settled import _key

    (tmp_path / "a").mkdir()
    here, there = tmp_path / "arm.urdf", tmp_path / "a" / "arm.urdf"
    here.write_text("<robot/>")
    there.write_text("<robot/>")
    key = _key([], {"limits": here})
    assert _key([], {"limits": there}) == key
    there.write_text("<robot name='other'/>")
    assert _key([], {"limits": there}) != key
