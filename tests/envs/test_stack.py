"""One box is put onto another one, which stays in the way of what carries the first there."""

from __future__ import annotations

import pytest

from envs.expert import ExpertPolicy
from envs.objects import ObjectModel
from envs.physics import physics
from envs.scene import DropConfig
from envs.station import Station
from robot.execution.stack import base_for, stack

BOXES = [
    ObjectModel("box", "box", dimensions_m=(0.04, 0.05, 0.04)),
    ObjectModel("box", "box", dimensions_m=(0.07, 0.09, 0.05)),
]


@pytest.fixture()
def station():
    made = Station(ExpertPolicy(0.22), physics("nominal"), "truth")
    yield made
    made.close()


def test_the_other_box_is_in_the_way_and_what_is_held_moves_along(station, monkeypatch):
    station.begin(BOXES, DropConfig(area_m=0.3), 4)
    picker = station.picker
    look = picker.look()
    attempt = picker.grasp(look)
    assert attempt.held
    base = base_for(attempt, look)
    assert base is not None
    seen, to_joints = [], picker.paths.to_joints

    def plan(*args, **kwargs):
        seen.append((picker.checker.boxes, picker.checker._held))
        return to_joints(*args, **kwargs)

    monkeypatch.setattr(picker.paths, "to_joints", plan)
    stack(picker, attempt, base)
    picker.hold(1.0)
    boxes, held = seen[0]
    x, y, _ = base.X_world_obj.position_m
    assert any(abs(b.center_m[0] - x) < 0.06 and abs(b.center_m[1] - y) < 0.06 for b in boxes)
    assert held is not None and picker.checker._held is None
    low, high = sorted(station.world.aabb(body)[0][2] for body in station.world.bodies)
    assert low < 0.01 and high > 0.03
