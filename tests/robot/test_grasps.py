"""Grasp candidates on made-up height maps: where, which way, how wide, and what forbids them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robot.geometry import grasp_rotation, quat_from_axis_angle, yaw_between
from robot.limits import load_limits
from robot.planning.grasps import GraspPlanner
from robot.planning.grips import GraspConfig
from robot.types import GraspCandidate, HeightMap, Look, ObjectState, Pose

GRIPPER = load_limits().gripper
STEP = 0.003
CENTRE = np.array([0.5, 0.0])
#: A box as (x, y, yaw, length, width, height) in m and rad; "length" lies along its x.
Box = tuple[float, float, float, float, float, float]


def corners(shape: int = 121) -> tuple[np.ndarray, np.ndarray]:
    origin = CENTRE - STEP * (shape // 2)
    cells = np.stack(np.meshgrid(*(np.arange(shape),) * 2, indexing="ij"), axis=-1)
    return origin, origin + STEP * cells


def local(box: Box, xy: np.ndarray) -> np.ndarray:
    """World positions (..., 2) along the box's own axes, from its middle."""
    x, y, yaw = box[:3]
    turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    return (xy - (x, y)) @ turn


def look_at(*boxes: Box, objects: tuple[Box, ...] | None = None) -> Look:
    """What a perfect look at ``boxes`` gives; ``objects`` are those told apart (all if None)."""
    origin, xy = corners()
    height = np.zeros(xy.shape[:2], dtype=np.float32)
    for box in boxes:
        inside = (np.abs(local(box, xy)) <= np.array(box[3:5]) / 2 + 1e-9).all(axis=-1)
        height[inside] = np.maximum(height[inside], box[5])
    states = []
    for i, (x, y, yaw, length, width, h) in enumerate(boxes if objects is None else objects):
        if width > length:
            length, width, yaw = width, length, yaw + math.pi / 2
        pose = Pose(
            "world", "obj", np.array([x, y, h / 2]), quat_from_axis_angle(np.array([0, 0, 1]), yaw)
        )
        states.append(ObjectState(i, "box", pose, np.array([length, width, h]), 1.0, False, 0.0))
    seen = np.ones_like(height, dtype=bool)
    return Look(tuple(states), HeightMap(origin, STEP, height, seen, 2.5), 2.5, "truth")


def propose(look: Look, seed: int = 0, **config) -> list[GraspCandidate]:
    planner = GraspPlanner(GRIPPER, GraspConfig(**config))
    return planner.propose(look, np.random.default_rng(seed))


def closing(candidate: GraspCandidate) -> np.ndarray:
    return candidate.X_world_grasp.rotation[:2, 1]


def misalignment_deg(candidate: GraspCandidate, direction_rad: float) -> float:
    """Angle between the closing direction and a direction on the table, sign left out."""
    along = np.array([math.cos(direction_rad), math.sin(direction_rad)])
    return math.degrees(math.acos(min(1.0, abs(float(closing(candidate) @ along)))))


def finger_cells(candidate: GraspCandidate) -> np.ndarray:
    """(n, 2) world positions that the two fingers, open, pass through on their way down."""
    c = GraspConfig()
    x_axis, y_axis = candidate.X_world_grasp.rotation[:2, 0], closing(candidate)
    a = np.linspace(-0.5, 0.5, 7) * GRIPPER.finger_breadth_m
    half = candidate.opening_m / 2
    b = np.linspace(half + STEP / 2, half + c.finger_thickness_m - STEP / 2, 5)
    b = np.concatenate([b, -b])
    out = a[:, None, None] * x_axis + b[None, :, None] * y_axis
    return candidate.X_world_grasp.position_m[:2] + out.reshape(-1, 2)


@pytest.mark.parametrize("yaw", [0.0, 0.4, -1.1, math.pi / 2])
def test_a_box_is_gripped_in_its_middle_across_its_narrow_side(yaw):
    candidates = propose(look_at((0.52, -0.03, yaw, 0.12, 0.04, 0.05)))
    assert candidates
    best = candidates[0]
    assert np.linalg.norm(best.X_world_grasp.position_m[:2] - (0.52, -0.03)) < 0.012
    assert misalignment_deg(best, yaw + math.pi / 2) < 7
    assert abs(best.width_m - 0.04) <= 2 * STEP
    assert best.object_id == 0
    assert best.stamp_s == 2.5


boxes = st.builds(
    lambda x, y, yaw, length, width, height: (x, y, yaw, length, width, height),
    st.floats(0.46, 0.54),
    st.floats(-0.04, 0.04),
    st.floats(-math.pi / 2, math.pi / 2),
    st.floats(0.08, 0.14),
    st.floats(0.02, 0.055),
    st.floats(0.02, 0.09),
)


@settings(max_examples=30)
@given(boxes, st.integers(0, 2**31))
@example((0.5, 0.0, 1.0, 0.125, 0.03125, 0.0625), 207)
@example((0.5, 0.02, 0.078125, 0.080078125, 0.02, 0.0625), 2)
def test_every_candidate_on_any_box_can_be_carried_out(box, seed):
    look = look_at(box)
    candidates = propose(look, seed)
    assert candidates
    c = GraspConfig()
    for candidate in candidates:
        position = candidate.X_world_grasp.position_m
        # Centred across the closing direction, and on the box along it.
        off = local(box, position[:2])
        assert abs(off[1]) < 0.006
        # The box ends somewhere within a cell of the map.
        assert abs(off[0]) < box[3] / 2 + look.height_map.resolution_m
        # Across the narrow side; steeper sides than the config allows are never tried. Edges lie
        # on cells: one cell over the breadth of a pad is what the map can be off by.
        blur_deg = math.degrees(math.atan(look.height_map.resolution_m / GRIPPER.finger_breadth_m))
        assert misalignment_deg(candidate, box[2] + math.pi / 2) < c.max_side_deg + blur_deg
        # As wide as the box is in the closing direction, to about a cell on each side.
        turn = math.radians(misalignment_deg(candidate, box[2] + math.pi / 2))
        across = box[4] / math.cos(turn) + 0.5 * GRIPPER.finger_breadth_m * 2 * math.tan(turn)
        assert candidate.width_m <= across + 3 * STEP
        assert candidate.width_m >= box[4] - 3 * STEP
        # Down to the fingertips above the table, and no deeper below the top than asked.
        tip = position[2] - GRIPPER.fingertip_beyond_tool_m
        assert tip >= c.floor_m - 1e-9
        assert position[2] >= box[5] - c.depth_m - 1e-6
        assert position[2] < box[5] + GRIPPER.fingertip_beyond_tool_m + 0.02
        # Room on both sides when open, and within what the gripper opens.
        assert candidate.opening_m >= candidate.width_m + 2 * c.side_clearance_m - 1e-9
        assert candidate.opening_m <= GRIPPER.max_opening_m + 1e-9
        # The open fingers come down beside the box.
        inside = np.abs(local(box, finger_cells(candidate))) <= np.array(box[3:5]) / 2 - STEP
        assert not inside.all(axis=1).any()
        np.testing.assert_allclose(candidate.X_world_grasp.rotation[:, 2], [0, 0, -1], atol=1e-9)
    assert [c.score for c in candidates] == sorted((c.score for c in candidates), reverse=True)


@settings(max_examples=15)
@given(boxes)
@example((0.53125, 0.0, -0.125, 0.0859375, 0.021484375, 0.0625))
def test_the_best_grip_faces_the_narrow_side(box):
    c, look = GraspConfig(), look_at(box)
    best = propose(look)[0]
    # Yaws are tried in steps, and sides are known to half a cell over the breadth of a pad: of a
    # thin box the yaw next to the best one may look as good.
    half_cell_m = 0.5 * look.height_map.resolution_m
    half_cell_deg = math.degrees(math.atan(half_cell_m / GRIPPER.finger_breadth_m))
    assert misalignment_deg(best, box[2] + math.pi / 2) < 180 / c.yaws_n + half_cell_deg
    assert np.linalg.norm(local(box, best.X_world_grasp.position_m[:2])) < 0.02


def test_what_is_wider_than_the_grip_gets_none():
    assert propose(look_at((0.5, 0.0, 0.3, 0.12, 0.09, 0.05))) == []


def test_a_block_just_narrow_enough_is_gripped_across_and_never_along():
    candidates = propose(look_at((0.5, 0.0, 0.0, 0.10, 0.055, 0.05)))
    assert candidates
    assert all(misalignment_deg(c, math.pi / 2) < 38 for c in candidates)


def test_a_wall_beside_the_box_keeps_fingers_out_of_it():
    box = (0.5, 0.0, 0.0, 0.10, 0.04, 0.05)
    # Along half of the box, so close that no finger fits between, and too high to go over.
    wall = (0.525, 0.042, 0.0, 0.05, 0.02, 0.08)
    free = propose(look_at(box), keep_n=100)
    beside = [c for c in free if c.X_world_grasp.position_m[0] > 0.51]
    assert beside  # without the wall that half is gripped
    candidates = propose(look_at(box, wall, objects=(box,)), keep_n=100)
    assert candidates
    for candidate in candidates:
        inside = np.abs(local(wall, finger_cells(candidate))) <= np.array(wall[3:5]) / 2 - STEP
        assert not inside.all(axis=1).any()
        assert candidate.X_world_grasp.position_m[0] < 0.5


def test_a_low_kerb_under_the_fingers_is_a_wall_too():
    box = (0.5, 0.0, 0.0, 0.10, 0.04, 0.03)
    kerbs = [(0.5, side * 0.040, 0.0, 0.12, 0.014, 0.02) for side in (1, -1)]
    assert propose(look_at(box))
    assert propose(look_at(box, *kerbs, objects=(box,))) == []


def test_the_hand_opens_no_wider_than_the_neighbours_allow():
    box = (0.5, 0.0, 0.0, 0.12, 0.03, 0.05)
    walls = [(0.5, side * 0.047, 0.0, 0.16, 0.012, 0.05) for side in (1, -1)]
    free = propose(look_at(box))[0]
    between = propose(look_at(box, *walls, objects=(box,)))
    assert free.opening_m == pytest.approx(GRIPPER.max_opening_m)
    assert between
    for candidate in between:
        assert candidate.opening_m < 0.056
        for wall in walls:
            inside = np.abs(local(wall, finger_cells(candidate))) <= np.array(wall[3:5]) / 2 - STEP
            assert not inside.all(axis=1).any()


def test_the_palm_stays_above_a_tower_that_the_fingers_would_pass():
    box = (0.5, 0.0, 0.0, 0.06, 0.03, 0.03)
    # Beyond the open fingers' reach along the closing direction, yet under the palm.
    low, high = ((0.5, 0.08, 0.0, 0.06, 0.03, h) for h in (0.04, 0.15))
    free = propose(look_at(box, low, objects=(box,)))
    # Nothing there is as high as the palm.
    assert any(misalignment_deg(c, math.pi / 2) < 10 for c in free)
    blocked = propose(look_at(box, high, objects=(box,)), keep_n=100)
    assert all(misalignment_deg(c, math.pi / 2) > 20 for c in blocked)


def test_an_empty_table_has_nothing_to_grip():
    assert propose(look_at()) == []


def test_heights_that_belong_to_no_object_are_left_alone():
    assert propose(look_at((0.5, 0.0, 0.0, 0.1, 0.04, 0.05), objects=())) == []


def test_each_of_two_boxes_is_named_as_the_owner_of_its_grips():
    a, b = (0.44, -0.08, 0.2, 0.1, 0.04, 0.05), (0.56, 0.08, -0.3, 0.1, 0.035, 0.04)
    candidates = propose(look_at(a, b))
    assert {c.object_id for c in candidates} == {0, 1}
    for candidate in candidates:
        box = (a, b)[candidate.object_id]
        assert np.abs(local(box, candidate.X_world_grasp.position_m[:2])[1]) < 0.01


def test_a_seed_fixes_all_and_the_number_is_kept():
    look = look_at((0.5, 0.0, 0.3, 0.12, 0.04, 0.05))

    def numbers(candidates):
        return [
            (*c.X_world_grasp.matrix.ravel(), c.width_m, c.opening_m, c.score) for c in candidates
        ]

    assert numbers(propose(look, 5)) == numbers(propose(look, 5))
    assert numbers(propose(look, 5)) != numbers(propose(look, 6))
    assert len(propose(look, 5, keep_n=3)) == 3


def test_kept_candidates_differ_from_each_other():
    candidates = propose(look_at((0.5, 0.0, 0.3, 0.12, 0.04, 0.05)))
    for i, a in enumerate(candidates):
        for b in candidates[:i]:
            near = np.linalg.norm(a.X_world_grasp.position_m - b.X_world_grasp.position_m) < 0.012
            alike = abs(float(closing(a) @ closing(b))) > math.cos(math.radians(20))
            assert not (near and alike)


def seen_where(look: Look, seen: np.ndarray) -> Look:
    """The same look, of which only some cells were seen."""
    grid = look.height_map
    part = HeightMap(grid.origin_m, STEP, grid.height_m, seen, grid.stamp_s)
    return Look(look.objects, part, look.stamp_s, "camera")


def test_what_no_camera_saw_is_worth_less_and_a_little_of_it_is_allowed():
    look = look_at((0.5, 0.0, 0.0, 0.10, 0.04, 0.05))
    _, xy = corners()
    strip = seen_where(look, np.abs(xy[..., 1]) > 0.004)  # 3 of 13 cells across
    assert propose(strip)[0].score < propose(look)[0].score - 0.05


def test_nothing_that_is_only_imagined_is_gripped():
    look = look_at((0.5, 0.0, 0.0, 0.14, 0.04, 0.05))
    _, xy = corners()
    assert propose(seen_where(look, np.zeros(xy.shape[:2], bool))) == []
    # One end is hidden: every grip is on the end that was seen.
    candidates = propose(seen_where(look, xy[..., 0] < 0.49))
    assert candidates
    for candidate in candidates:
        assert candidate.X_world_grasp.position_m[0] < 0.49
    # The far half of its width is hidden: whatever lies between the fingers would be a guess.
    assert propose(seen_where(look, xy[..., 1] < 0.0)) == []


@settings(max_examples=30)
@given(
    boxes,
    st.tuples(st.floats(-0.014, 0.014), st.floats(-0.014, 0.014)),
    st.floats(-20.0, 20.0),
)
@example((0.5, 0.03515625, 0.5, 0.125, 0.0234375, 0.0625), (0.0, 0.0), -16.0)  # 16.0° in the end
def test_close_to_a_candidate_that_is_off_a_better_one_is_found(box, off_m, turn_deg):
    yaw = box[2] + math.radians(turn_deg)
    wrong = Pose.from_matrix(
        "world", "grasp", grasp_rotation(yaw), (box[0] + off_m[0], box[1] + off_m[1], 0.03)
    )
    found = GraspPlanner(GRIPPER).near(
        look_at(box).height_map, GraspCandidate(wrong, box[4], 0.08, 1.0, 0, 2.5)
    )
    assert found is not None
    c = GraspConfig()
    assert np.linalg.norm(found.position_m[:2] - wrong.position_m[:2]) <= c.near_m + 1e-9
    assert abs(yaw_between(wrong.rotation, found.rotation)) <= math.radians(c.near_deg) + 1e-6
    assert abs(local(box, found.position_m[:2])[1]) < 0.006  # centred between the fingers
    better = GraspCandidate(found, box[4], 0.08, 1.0, 0, 2.5)
    # It weighs turning against fit: what is off by more may stay so, but is never made worse.
    off_deg = misalignment_deg(better, box[2] + math.pi / 2)
    assert off_deg < 15.0 or off_deg <= min(abs(turn_deg) + 0.1, 18.0)
    tips = found.position_m[2] - GRIPPER.fingertip_beyond_tool_m
    assert 0.0 < tips < box[5]


def test_close_to_nothing_and_close_to_what_is_too_wide_nothing_is_found():
    planner = GraspPlanner(GRIPPER)
    at = Pose.from_matrix("world", "grasp", grasp_rotation(0.3), (0.5, 0.0, 0.03))
    candidate = GraspCandidate(at, 0.04, 0.08, 1.0, 0, 2.5)
    assert planner.near(look_at().height_map, candidate) is None
    assert planner.near(look_at((0.5, 0.0, 0.0, 0.2, 0.2, 0.05)).height_map, candidate) is None
    beyond = Pose.from_matrix("world", "grasp", grasp_rotation(0.3), (3.0, 0.0, 0.03))
    outside = GraspCandidate(beyond, 0.04, 0.08, 1.0, 0, 2.5)
    assert planner.near(look_at((0.5, 0.0, 0.0, 0.1, 0.04, 0.05)).height_map, outside) is None


def test_what_is_no_object_is_neither_gripped_nor_taken_for_its_middle():
    box, wall = (0.5, 0.0, 0.0, 0.05, 0.03, 0.05), (0.5, 0.045, 0.0, 0.3, 0.012, 0.05)
    around = (0.5, 0.02, 0.0, 0.09, 0.09, 0.05)  # where a detector took part of the wall for it
    look = look_at(box, wall, objects=(around,))

    def solid(at_m: np.ndarray) -> np.ndarray:
        return np.abs(at_m[:, 1] - 0.045) < 0.016

    planner = GraspPlanner(GRIPPER)
    told = planner.propose(look, np.random.default_rng(0), solid)
    untold = planner.propose(look, np.random.default_rng(0))
    assert told and all(abs(c.X_world_grasp.position_m[1]) < 0.02 for c in told)
    assert any(abs(c.X_world_grasp.position_m[1] - 0.045) < 0.016 for c in untold)
    nothing = planner.propose(look, np.random.default_rng(0), lambda at_m: at_m[:, 0] > 0.0)
    assert nothing == []


def test_broad_fingers_need_room_for_their_breadth():
    bar = (0.5, 0.0, 0.0, 0.12, 0.03, 0.05)
    beside = [(0.5 + x, y, 0.0, 0.05, 0.05, 0.05) for x in (-0.038, 0.038) for y in (-0.05, 0.05)]
    look = look_at(bar, *beside, objects=(bar,))  # 26 mm between what stands beside it
    found = {}
    for breadth_m in (0.020, 0.034):
        gripper = replace(GRIPPER, finger_breadth_m=breadth_m)
        offered = GraspPlanner(gripper).propose(look, np.random.default_rng(0))
        found[breadth_m] = [c for c in offered if abs(c.X_world_grasp.position_m[0] - 0.5) < 0.02]
    assert found[0.020] and not found[0.034]
