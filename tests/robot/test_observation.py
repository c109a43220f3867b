"""The policy's observation: its layout, its frames, and what it says without an object."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.geometry import grasp_rotation, quat_from_axis_angle
from robot.observation import (
    OBSERVATION,
    OLD_S,
    PATCH_LIMIT_M,
    PATCH_SHAPE,
    PATCH_STEP_M,
    SIZE,
    Target,
    names,
    observe,
    offset,
    part,
    patch,
)
from robot.types import GraspCandidate, GripperState, HeightMap, ObjectState, Pose

Z = np.array([0.0, 0.0, 1.0])


def number(lo: float, hi: float):
    return st.floats(lo, hi)


def vector(size: int, lo: float, hi: float):
    return st.lists(number(lo, hi), min_size=size, max_size=size).map(np.array)


def matrix(rotation: np.ndarray, position: np.ndarray) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, position
    return out


def thing(position, yaw: float, dims=(0.09, 0.04, 0.05), stamp_s: float = 1.5) -> ObjectState:
    pose = Pose("world", "obj", np.asarray(position), quat_from_axis_angle(Z, yaw))
    return ObjectState(3, "box", pose, np.array(dims), 0.8, False, stamp_s)


def candidate(position, yaw: float, stamp_s: float = 1.0) -> GraspCandidate:
    pose = Pose.from_matrix("world", "grasp", grasp_rotation(yaw), position)
    return GraspCandidate(pose, 0.03, 0.06, 1.0, 3, stamp_s)


#: One situation: where tool, grasp and object are, and how the tool moves.
situations = st.fixed_dictionaries(
    {
        "tool": vector(3, -0.8, 0.8),
        "tool_yaw": number(-3.0, 3.0),
        "twist": vector(6, -1.0, 1.0),
        "grasp": vector(3, -0.8, 0.8),
        "grasp_yaw": number(-3.0, 3.0),
        "obj": vector(3, -0.8, 0.8),
        "obj_yaw": number(-3.0, 3.0),
    }
)


def seen(s: dict, turn_rad: float = 0.0, with_object: bool = True) -> np.ndarray:
    """The observation of a situation, the whole of it turned about the world's z."""
    turn = Pose("world", "world", np.zeros(3), quat_from_axis_angle(Z, turn_rad)).rotation
    X_tool = matrix(turn @ grasp_rotation(s["tool_yaw"]), turn @ s["tool"])
    twist = np.concatenate([turn @ s["twist"][:3], turn @ s["twist"][3:]])
    obj = thing(turn @ s["obj"], s["obj_yaw"] + turn_rad) if with_object else None
    target = Target.make(candidate(turn @ s["grasp"], s["grasp_yaw"] + turn_rad), obj)
    grip = GripperState(0.05, 12.0, True, False)
    return observe(X_tool, twist, grip, np.full(5, 0.25, np.float32), target, 2.0)


@given(situations, number(-3.1, 3.1), st.booleans())
def test_turning_the_whole_scene_changes_nothing(situation, turn_rad, with_object):
    before, after = seen(situation, 0.0, with_object), seen(situation, turn_rad, with_object)
    # A yaw near half a turn may come out with either sign: it is compared on the circle.
    yaw = part("tool_yaw").start
    gap = (before[yaw] - after[yaw] + math.pi) % (2 * math.pi) - math.pi
    assert abs(gap) < 1e-4
    before[yaw] = after[yaw] = 0.0
    np.testing.assert_allclose(after, before, atol=2e-5)


@given(situations, st.booleans())
def test_it_is_float32_of_its_size_and_finite(situation, with_object):
    out = seen(situation, 0.0, with_object)
    assert out.shape == (SIZE,)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


@given(situations)
def test_moving_the_whole_scene_sideways_changes_nothing(situation):
    shift = np.array([0.1, -0.2, 0.0])
    moved = {k: v + shift if k in ("tool", "grasp", "obj") else v for k, v in situation.items()}
    np.testing.assert_allclose(seen(moved), seen(situation), atol=2e-5)


@given(situations)
def test_half_a_turn_of_the_object_is_the_same_object(situation):
    turned = {**situation, "obj_yaw": situation["obj_yaw"] + math.pi}
    np.testing.assert_allclose(seen(turned), seen(situation), atol=2e-5)


def test_layout():
    assert sum(size for _, size, _ in OBSERVATION) == SIZE == len(names())
    stops = [part(name) for name, _, _ in OBSERVATION]
    assert stops[0].start == 0
    assert stops[-1].stop == SIZE
    assert all(a.stop == b.start for a, b in itertools.pairwise(stops))
    assert names()[part("tool_position")] == [f"tool_position.{i}" for i in range(3)]
    assert names()[part("slip")] == ["slip"]


def test_every_part_stands_where_its_name_says():
    """One situation by hand: the grasp looks along the world's x, tool 0.1 m above it."""
    X = matrix(grasp_rotation(0.0), np.array([0.52, 0.03, 0.14]))
    target = Target.make(candidate((0.5, 0.0, 0.04), 0.0, 1.0), thing((0.5, -0.02, 0.02), 0.25))
    previous = np.array([0.1, 0.2, 0.3, 0.4, 0.5], dtype=np.float32)
    twist = np.array([0.01, 0.02, -0.03, 0.0, 0.0, -0.6])
    o = observe(X, twist, GripperState(0.05, 7.0, True, True), previous, target, 3.0)

    def value(name: str) -> list[float]:
        return o[part(name)].tolist()

    # Grasp axes: x is the world's x, y the world's -y, z down.
    assert value("tool_position") == pytest.approx([0.02, -0.03, -0.1])
    assert value("tool_yaw") == pytest.approx([0.0])
    assert value("tool_velocity") == pytest.approx([0.01, -0.02, 0.03])
    assert value("tool_yaw_rate") == pytest.approx([0.6])
    assert value("opening") == pytest.approx([0.05])
    assert value("force") == pytest.approx([7.0])
    assert value("contact") == [1.0]
    assert value("slip") == [1.0]
    assert value("previous_action") == pytest.approx(previous.tolist())
    assert value("width") == pytest.approx([0.03])
    assert value("candidate_opening") == pytest.approx([0.06])
    assert value("grasp_height") == pytest.approx([0.04])
    assert value("candidate_age") == pytest.approx([2.0])
    assert value("object_position") == pytest.approx([-0.02, 0.05, 0.12])
    assert value("object_dimensions") == pytest.approx([0.09, 0.04, 0.05])
    # The object's x axis at +0.25 in the world is at -0.25 in the grasp's axes; it is doubled.
    assert value("object_yaw") == pytest.approx([math.cos(0.5), -math.sin(0.5)])
    assert value("object_confidence") == pytest.approx([0.8])
    assert value("object_age") == pytest.approx([OLD_S])  # 1.5 s, and nobody watches


@given(number(-1.5, 1.5))
def test_the_yaw_is_that_of_the_tool_seen_from_the_grasp(turn):
    """A hand that is turned by ``turn`` about the approach shows just that."""
    yaw = 0.7
    about_z = Pose("a", "b", np.zeros(3), quat_from_axis_angle(Z, turn)).rotation
    X = matrix(grasp_rotation(yaw) @ about_z, np.zeros(3))
    target = Target.make(candidate((0.5, 0.0, 0.04), yaw), None)
    o = observe(X, np.zeros(6), GripperState(0.08, 0.0), np.zeros(5, np.float32), target, 0.0)
    assert o[part("tool_yaw")][0] == pytest.approx(turn, abs=1e-5)


@given(situations)
def test_without_an_object_the_candidate_stands_in(situation):
    o = seen(situation, 0.0, with_object=False)
    # The object is taken to be where the grasp is: the two positions point at each other.
    np.testing.assert_allclose(
        o[part("object_position")], -o[part("tool_position")], rtol=0, atol=1e-6
    )
    assert o[part("object_dimensions")].tolist() == pytest.approx(
        [0.03, 0.03, situation["grasp"][2]], abs=1e-6
    )
    assert o[part("object_yaw")].tolist() == [1.0, 0.0]
    assert o[part("object_confidence")].tolist() == [0.0]
    assert o[part("object_age")] == o[part("candidate_age")]


def test_an_unknown_part_is_a_key_error():
    with pytest.raises(KeyError, match="depth_patch"):
        part("depth_patch")


def test_a_target_that_keeps_its_place_is_observed_from_there():
    """Only position and rotation are replaced, yet every number that depends on them follows."""
    obj = thing((0.5, -0.02, 0.02), 0.25)
    at, turned = candidate((0.5, 0.0, 0.04), 0.3), candidate((0.52, 0.01, 0.06), -0.4)
    kept = Target.make(at, obj)
    moved = dataclasses.replace(
        Target.make(turned, obj), position_m=kept.position_m, rotation=kept.rotation
    )
    np.testing.assert_array_equal(moved.constant[19:], kept.constant[19:])


def test_the_patch_shows_the_heights_in_the_grasps_own_axes():
    """A tilted plane: the height of each point follows from where it lies."""
    step, slope = 0.002, np.array([0.3, -0.2])
    cells = np.stack(np.meshgrid(np.arange(160), np.arange(160), indexing="ij"), axis=-1)
    origin = np.array([0.34, -0.16])
    heights = (0.03 + cells * step @ slope).astype(np.float32)
    grid = HeightMap(origin, step, heights, np.ones((160, 160), bool), 0.0)
    for yaw in (0.0, 0.7, -2.0):
        pose = candidate((0.5, 0.0, 0.04), yaw).X_world_grasp
        seen = patch(grid, candidate((0.5, 0.0, 0.04), yaw))
        assert seen.shape == PATCH_SHAPE and seen.dtype == np.float32
        for i, j in ((0, 0), (5, 9), (10, 3), (2, 18)):
            x, y = (i - 5) * PATCH_STEP_M, (j - 9) * PATCH_STEP_M
            at = pose.position_m + pose.rotation @ np.array([x, y, 0.0])
            expected = 0.03 + (at[:2] - origin) @ slope - 0.04
            assert seen[i, j] == pytest.approx(expected, abs=0.6 * step)


def test_outside_the_map_the_patch_is_table():
    grid = HeightMap(
        np.array([2.0, 2.0]), 0.01, np.full((3, 3), 0.1, np.float32), np.ones((3, 3), bool), 0.0
    )
    assert np.allclose(patch(grid, candidate((0.5, 0.0, 0.04), 0.3)), -0.04)
    assert np.allclose(patch(grid, candidate((0.5, 0.0, 0.2), 0.3)), -PATCH_LIMIT_M)


def test_the_age_of_an_object_that_nobody_watches_says_nothing():
    target = Target.make(candidate((0.5, 0.0, 0.04), 0.0), thing((0.5, 0.0, 0.02), 0.0))
    grip, still = GripperState(0.05, 0.0), np.zeros(5, np.float32)
    seen_s = target.obj.stamp_s
    for passed_s, told_s in ((0.3, 0.3), (5.0, OLD_S), (50.0, OLD_S)):
        out = observe(np.eye(4), np.zeros(6), grip, still, target, seen_s + passed_s)
        assert out[part("object_age")] == pytest.approx([told_s])


@given(
    st.tuples(*(st.floats(-0.03, 0.03),) * 3),
    st.floats(-1.5, 1.5),
    st.floats(-3.0, 3.0),
)
def test_the_way_to_another_grasp_is_told_in_the_first_ones_axes(way, turn, yaw):
    here = candidate((0.5, 0.1, 0.04), yaw).X_world_grasp
    spin = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    there = Pose.from_matrix(
        "world", "grasp", here.rotation @ spin, here.position_m + here.rotation @ np.array(way)
    )
    np.testing.assert_allclose(offset(here, there), [*way, turn], atol=1e-9)


def test_the_tool_is_seen_from_the_candidate_and_from_the_aim():
    grip = candidate(np.array([0.5, 0.1, 0.04]), 0.7)
    aim = np.array([0.01, -0.02, 0.003, 0.2])
    still = np.zeros(5, np.float32)

    def seen(tool: Pose, target: Target) -> np.ndarray:
        o = observe(tool.matrix, np.zeros(6), GripperState(0.05, 0.0), still, target, 0.1)
        return np.concatenate([o[part("aim_position")], o[part("aim_yaw")]])

    target, here = Target.make(grip, None, aim=aim), grip.X_world_grasp
    np.testing.assert_allclose(seen(here, target), -aim, atol=1e-6)
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    there = Pose.from_matrix(
        "world", "grasp", here.rotation @ turn, here.position_m + here.rotation @ aim[:3]
    )
    np.testing.assert_allclose(seen(there, target), np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(seen(here, Target.make(grip, None)), np.zeros(4), atol=1e-6)
