from __future__ import annotations

import numpy as np

from perception.camera import project
from perception.drawing import Drawn, class_colour, draw_view, side_by_side
from perception.fusion import Fusion
from robot.limits import load_limits
from robot.planning.grasps import GraspPlanner
from robot.types import Look
from tests.perception.blocks import Block, look

BLOCK = Block((0.47, 0.04), (0.10, 0.04, 0.05), yaw=0.4)


def whole_look():
    frame, found = look([BLOCK], "wrist")
    objects, grid = Fusion().update([frame], [found])
    seen = Look(tuple(objects), grid, 0.0, "camera", (frame,), (tuple(found),))
    planner = GraspPlanner(load_limits("panda").gripper)
    return seen, planner.propose(seen, np.random.default_rng(0))


def near(image, colour, x, y, reach=3) -> bool:
    """Whether a pixel of about this colour lies near (x, y)."""
    part = image[y - reach : y + reach + 1, x - reach : x + reach + 1].astype(int)
    return bool((np.abs(part - colour).sum(axis=-1) < 60).any())


def test_what_was_found_is_drawn_where_it_is():
    seen, candidates = whole_look()
    frame, scale = seen.frames[0], 3
    view = Drawn.of(frame, "wrist", seen.detections[0], seen.objects, candidates)
    image = draw_view(view, scale)
    bar = len(image) - scale * 240
    assert 0 < bar < 60
    assert image.shape[1] == scale * 320
    drawn = image[bar:]
    x, y, w, h = (round(scale * v) for v in seen.detections[0][0].box_xywh_px)
    for corner in ((x, y), (x + w, y), (x, y + h), (x + w, y + h)):
        assert near(drawn, class_colour("box"), *corner)
    # The oriented box's upper corners are those of the block itself.
    top = BLOCK.corners()
    pixels, _ = project(top[top[:, 2] > 0.01], frame.intrinsics, frame.X_world_cam)
    for u, v in np.rint((pixels + 0.5) * scale).astype(int).tolist():
        assert near(drawn, (248, 249, 250), u, v, reach=9)
    # The best grasp's fingertips, to both sides of the block.
    half = 0.5 * candidates[0].opening_m
    tips = candidates[0].X_world_grasp.transform(np.array([[0, half, 0], [0, -half, 0]]))
    pixels, _ = project(tips, frame.intrinsics, frame.X_world_cam)
    for u, v in np.rint((pixels + 0.5) * scale).astype(int).tolist():
        assert near(drawn, (64, 255, 96), u, v)


def test_without_a_camera_only_the_detections_are_drawn():
    seen, candidates = whole_look()
    frame = seen.frames[0]
    bare = Drawn(frame.rgb, "colour alone", seen.detections[0])
    full = Drawn(frame.rgb, "colour alone", seen.detections[0], seen.objects, candidates)
    a, b = draw_view(bare)[40:], draw_view(full)[40:]
    np.testing.assert_array_equal(a, b)


def test_what_lies_outside_the_image_or_behind_the_camera_is_no_trouble():
    seen, candidates = whole_look()
    frame, _ = look([], "overhead")
    pose = frame.X_world_cam
    for turned in (pose.rotation @ np.diag([1, -1, -1]), pose.rotation @ np.diag([-1, 1, -1])):
        behind = type(pose).from_matrix("world", "overhead", turned, pose.position_m)
        view = Drawn(
            frame.rgb, "away", (), seen.objects, candidates, (frame.intrinsics, behind)
        )  # fmt: skip
        assert draw_view(view).shape[1] == 960


def test_views_of_any_size_stand_side_by_side():
    images = [np.full((20 + i, 30 - i, 3), 50 + i, np.uint8) for i in range(3)]
    sheet = side_by_side(images, gap_px=4)
    assert sheet.shape == (21 + 4 + 22, 30 + 4 + 29, 3)
    assert (sheet[:20, :30] == 50).all()
    assert (sheet[:21, 34:63] == 51).all()
    assert (sheet[25:47, :28] == 52).all()
