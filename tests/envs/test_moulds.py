"""What is loaded again is made of the same shapes: nothing of it may be told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from envs.bullet import pybullet
from envs.moulds import Moulds
from envs.objects import object_set
from envs.synthesis.truth import vertices
from envs.world import World
from robot.errors import SteadyhandError

MODELS = object_set("train")[3:300:60]


def seen(world: World) -> np.ndarray:
    view = pybullet.computeViewMatrix((0.8, 0.2, 0.4), (0.5, 0.0, 0.05), (0, 0, 1))
    lens = pybullet.computeProjectionMatrixFOV(50, 1.0, 0.05, 3.0)
    _, _, rgb, depth, segments = pybullet.getCameraImage(
        96, 96, view, lens, renderer=pybullet.ER_TINY_RENDERER, physicsClientId=world.client
    )
    parts = (np.reshape(rgb, (-1,)), np.reshape(depth, (-1,)), np.reshape(segments, (-1,)) != -1)
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def dropped(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Where a heap of objects goes, and what it looks like."""
    ids = [
        world.add(model, (0.5, 0.02 * k, 0.1 + 0.07 * k), (0.2, 0.3, 0.1, 0.927))
        for k, model in enumerate(MODELS)
    ]
    ways = []
    for _ in range(150):
        world.step()
        ways.append(
            [
                part
                for i in ids
                for end in pybullet.getBasePositionAndOrientation(i, physicsClientId=world.client)
                for part in end
            ]
        )
    return np.array(ways), seen(world)


def test_a_heap_falls_and_looks_the_same_to_the_last_bit() -> None:
    world = World()
    try:
        assert {m.urdf for m in MODELS} and None not in {m.urdf for m in MODELS}
        first = dropped(world)  # from the files
        world.reset()
        again = dropped(world)  # from the shapes
        for a, b in zip(first, again, strict=True):
            assert np.array_equal(a, b)
        assert all(m is not None for m in world._moulds._known.values())
        for body, entry in world.bodies.items():
            assert vertices(world, body).shape[1] == 3
            (_, _, kind, _, file, *_), *_ = world.solids(body)
            assert (
                kind == pybullet.GEOM_MESH and Path(file.decode()).parent == entry.model.urdf.parent
            )
    finally:
        world.close()


def test_loading_the_same_again_costs_hardly_any_memory() -> None:
    def resident_kb() -> int:
        status = Path("/proc/self/status").read_text()
        return int(next(x for x in status.splitlines() if x.startswith("VmRSS")).split()[1])

    world = World()
    try:
        before = 0
        for k in range(400):
            world.add(MODELS[0], (0.5, 0.0, 0.1), (0.0, 0.0, 0.0, 1.0))
            world.reset()
            if k == 99:
                before = resident_kb()
        assert resident_kb() - before < 300 * 20  # 70 each from the file
    finally:
        world.close()


def test_what_is_more_than_one_mesh_comes_from_its_file_each_time(tmp_path: Path) -> None:
    box = """<link name="{0}"><inertial><mass value="0.1"/><inertia ixx="1e-4" iyy="1e-4"
    izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial><collision><geometry>
    <box size="0.03 0.03 0.03"/></geometry></collision></link>"""
    file = tmp_path / "box.urdf"
    file.write_text(f"<robot name='box'>{box.format('box')}</robot>")
    world = World()
    moulds = Moulds(world.client)
    try:
        ids = [moulds.load(file, (0.5, 0.0, 0.1), (0, 0, 0, 1)) for _ in range(2)]
        assert moulds._known == {file: None} and len(set(ids)) == 2
        with pytest.raises(SteadyhandError, match="cannot load"):
            moulds.load(tmp_path / "none.urdf", (0, 0, 0), (0, 0, 0, 1))
    finally:
        world.close()
