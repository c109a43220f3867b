"""Bin, shelf, obstacles on the way, and stacking: what counts, and that it can be done."""

from __future__ import annotations

import numpy as np
import pytest

from configs.load import digest
from envs.objects import object_set
from envs.physics import physics
from envs.station import Station
from policies.evaluation.grasping import summary
from policies.evaluation.protocols import PROTOCOLS, EpisodeResult, protocol, run_protocol
from policies.evaluation.wanted import clicked, want
from robot.errors import ConfigError
from robot.execution.grasp import GraspLoopConfig
from robot.execution.scripted import ScriptedPolicy
from robot.limits import load_limits


@pytest.fixture(scope="module")
def station():
    made = Station(
        ScriptedPolicy(GraspLoopConfig().lift_m), physics("nominal"), "truth",
        limits=load_limits("panda"),
    )  # fmt: skip
    yield made
    made.close()


def test_protocols_without_obstacles_keep_their_hashes() -> None:
    from configs.load import as_dict

    for name in PROTOCOLS:
        rules = protocol(name)
        content = as_dict(rules)
        had = [content.pop(late) for late in ("obstacles", "slip")]
        assert (rules.digest == digest(content)) == (not any(had))
    assert protocol("bin").obstacles and protocol("shelf").obstacles


def test_an_object_out_of_a_bin(station: Station) -> None:
    """Some of a few seeds: the script is no policy, but walls must not keep it from all."""
    models = object_set("primitives")
    results = [run_protocol(station, protocol("bin"), models, seed) for seed in (1, 2, 3)]
    assert all(isinstance(r, EpisodeResult) and r.attempts == 1 for r in results)
    assert sum(r.successes for r in results) >= 2
    assert len(station.world.fixtures) == 4
    station.world.reset()
    assert station.world.fixtures == []


def test_a_target_is_told_by_name_class_or_pixel(station: Station) -> None:
    models = object_set("primitives")
    chosen = [next(m for m in models if m.class_name == kind) for kind in ("box", "ball")]
    station.begin(chosen, protocol("clutter").drop, 5)
    ball = next(b for b, o in station.world.bodies.items() if o.model.class_name == "ball")
    assert want(station, "ball") == {ball}
    assert station.picker.target is not None and station.picker.target.class_name == "ball"
    assert want(station, chosen[1].name) == {ball}
    look = station.picker.look()
    found = station.picker.target.find(look)
    assert found is not None
    away = found.X_world_obj.position_m[:2] - station.world.pose(ball).position_m[:2]
    assert np.linalg.norm(away) < 0.02
    with pytest.raises(ConfigError, match="no object 'nothing' on the table; there are"):
        want(station, "nothing")
    station.begin(chosen, protocol("clutter").drop, 5)
    assert station.picker.target is None


def test_stacking_needs_boxes(station: Station) -> None:
    balls = [m for m in object_set("primitives") if m.class_name == "ball"]
    with pytest.raises(ConfigError, match="primitives"):
        run_protocol(station, protocol("stack"), balls, 0)


@pytest.mark.slow
def test_one_box_onto_the_other(station: Station) -> None:
    models = object_set("primitives")
    results = [run_protocol(station, protocol("stack"), models, seed) for seed in range(4)]
    assert sum(r.successes for r in results) >= 1
    assert all(len(r.names) == 2 for r in results)


def test_a_click_is_on_what_is_wanted(station: Station) -> None:
    station.begin(object_set("primitives")[:3], protocol("clutter").drop, 3)
    for body in sorted(station.world.bodies):
        pixel = clicked(station, body)
        assert pixel is not None
        want(station, pixel)
        at = station.picker.target.position_m
        low, high = station.world.aabb(body)
        assert (at >= low - 0.005).all() and (at <= high + 0.005).all()
    station.world.place(body, (-2.0, 0.0, 0.1), (0, 0, 0, 1))
    assert clicked(station, body) is None


def test_the_wanted_object_is_put_away_whatever_lies_around_it(station: Station) -> None:
    models = object_set("primitives")
    results = [run_protocol(station, protocol("target"), models, seed) for seed in (1, 2, 3)]
    assert sum(r.successes for r in results) >= 2
    assert all(r.successes in (0, 1) and r.objects == 5 and r.attempts >= 1 for r in results)
    assert all(r.successes or r.failures for r in results)
    told = summary(results, protocol("target"))
    assert told["successes"] == sum(r.successes for r in results)
    assert told["first_try"] == sum(r.successes and r.attempts == 1 for r in results)
