from __future__ import annotations

import numpy as np
import pytest

from envs.objects import object_set
from envs.physics import physics
from envs.scene import DropConfig
from envs.station import Station
from perception.segmenter import DepthSegmenter
from robot.execution.closer import HEIGHT_M
from robot.execution.scripted import ScriptedPolicy

BOX = next(m for m in object_set("primitives") if m.class_name == "box")


@pytest.fixture
def looks(monkeypatch):
    """Makes a station with a box on the table, of which so many looks show no place to grip."""
    made = []

    def make(sensing, blind_looks):
        station = Station(ScriptedPolicy(0.22), physics("nominal"), sensing, DepthSegmenter())
        made.append(station)
        station.begin((BOX,), DropConfig(area_m=0.05), 3)
        picker, seen = station.picker, []
        ranked, look = picker.ranking.ranked, picker.look

        def told(*arguments):
            return [] if len(seen) <= blind_looks else ranked(*arguments)

        def looked():
            seen.append(station.loop.kinematics.forward(picker.player.q_sent).position_m)
            return look()

        monkeypatch.setattr(picker.ranking, "ranked", told)
        monkeypatch.setattr(picker, "look", looked)
        return station, seen

    yield make
    for station in made:
        station.close()


def test_where_nothing_can_be_gripped_a_look_from_near_helps(looks):
    station, seen = looks("camera", 1)
    began_s = station.world.time_s
    attempt = station.picker.grasp(station.picker.look())
    (body,) = station.world.bodies
    assert len(seen) == 2
    assert seen[1][2] == pytest.approx(HEIGHT_M, abs=2e-3)
    assert attempt.candidate is not None
    assert attempt.held
    assert station.world.aabb(body)[0][2] > 0.1
    assert attempt.started_s == began_s


def test_it_looks_over_the_object_once_and_goes_home_without_a_grip(looks):
    station, seen = looks("camera", 9)
    (body,) = station.world.bodies
    at = station.world.pose(body).position_m
    attempt = station.picker.grasp(station.picker.look())
    assert (len(seen), attempt.outcome) == (2, "no_candidate")
    np.testing.assert_allclose(seen[1][:2], at[:2], atol=0.02)
    q = station.player.state.joints.position_rad
    np.testing.assert_allclose(q, station.limits.home_rad, atol=0.01)


def test_who_senses_the_truth_or_sees_no_object_does_not_look_again(looks):
    station, seen = looks("truth", 9)
    station.picker.grasp(station.picker.look())
    assert len(seen) == 1
    empty, seen = looks("camera", 9)
    for body in list(empty.world.bodies):
        empty.world.remove(body)
    attempt = empty.picker.grasp(empty.picker.look())
    assert (len(seen), attempt.outcome) == (1, "no_candidate")
