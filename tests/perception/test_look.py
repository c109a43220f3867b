"""A look through cameras of which some fail: what is left out, and what is only partly seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.fusion import Fusion, FusionConfig
from perception.look import CameraPerception, seen_share
from robot.errors import SensorError
from robot.limits import load_limits
from robot.planning.grasps import GraspPlanner
from robot.types import Pose, RgbdFrame
from tests.perception.blocks import Block, look

BLOCK = Block((0.45, 0.05), (0.10, 0.04, 0.05), yaw=0.3)


class Shown:
    """A camera that shows one frame, or nothing."""

    def __init__(self, name: str, frame: RgbdFrame | None) -> None:
        self.name = name
        self.frame = frame

    def read(self) -> RgbdFrame:
        if self.frame is None:
            raise SensorError(f"camera {self.name}: returned no frame; check that it is connected")
        return self.frame


class Perfect:
    """Finds in each frame what ray casting says is there."""

    def __init__(self, found: dict[str, list]) -> None:
        self.found = found

    def detect(self, frame: RgbdFrame) -> list:
        return self.found[frame.camera]


def perception(blocks=(BLOCK,), config=None, now_s=None, **changes) -> CameraPerception:
    """Both cameras; ``changes`` maps a camera to a change of its frame, or to None."""
    cameras, known = [], {}
    for name in ("overhead", "wrist"):
        frame, known[name] = look(list(blocks), name)
        change = changes.get(name, lambda frame: frame)
        cameras.append(Shown(name, change and change(frame)))
    return CameraPerception(cameras, Perfect(known), Fusion(config), now_s)


def black(frame):
    return replace(frame, rgb=np.zeros_like(frame.rgb))


def blind(frame):
    return replace(frame, depth_m=np.full_like(frame.depth_m, np.nan))


def old(frame):
    return replace(frame, stamp_s=frame.stamp_s - 0.8)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "returned no frame"),
        (black, "all black"),
        (blind, "no pixel has a valid depth"),
        (old, "0.800 s older than the newest one, at most 0.500 s"),
    ],
)
def test_a_camera_that_fails_is_left_out_and_reported(change, reason):
    eyes = perception(wrist=change)
    seen = eyes.look()
    assert list(eyes.left_out) == ["wrist"]
    assert reason in eyes.left_out["wrist"]
    assert eyes.fusion.report.used == ("overhead",)
    assert len(seen.objects) == 1
    # The next look starts afresh.
    eyes.cameras[1].frame = look([BLOCK], "wrist")[0]
    eyes.look()
    assert eyes.left_out == {}


def test_how_far_frames_may_be_apart_is_a_setting():
    eyes = perception(wrist=old, config=FusionConfig(max_skew_s=1.0))
    eyes.look()
    assert eyes.left_out == {}
    assert eyes.fusion.report.used == ("overhead", "wrist")


@pytest.mark.parametrize(
    ("change", "reason"),
    [(None, "overhead: returned no frame"), (black, "black"), (blind, "valid depth")],
)
def test_without_any_usable_frame_the_look_fails_in_one_line(change, reason):
    with pytest.raises(SensorError, match=reason) as caught:
        perception(overhead=change, wrist=change).look()
    assert "\n" not in str(caught.value)


def test_cameras_that_all_hang_are_noticed_by_the_clock():
    assert len(perception(now_s=lambda: 0.4).look().objects) == 1
    with pytest.raises(SensorError, match=r"overhead: newest image is 5\.000 s old"):
        perception(now_s=lambda: 5.0).look()


def test_an_empty_table_is_an_answer_and_a_camera_that_looks_elsewhere_an_error():
    seen = perception(blocks=()).look()
    assert seen.objects == ()
    assert seen.height_map.seen.any()

    def away(frame):
        pose = frame.X_world_cam
        shifted = Pose("world", pose.child, pose.position_m + np.array([5.0, 0, 0]), pose.quat_xyzw)
        return replace(frame, X_world_cam=shifted)

    with pytest.raises(SensorError, match=r"sees nothing of the table .* X_world_cam"):
        perception(overhead=away, wrist=away).look()


def test_a_depth_in_the_wrong_unit_is_no_empty_table():
    def millimetres_for_centimetres(frame):
        return replace(frame, depth_m=frame.depth_m * np.float32(10.0))

    eyes = perception(wrist=millimetres_for_centimetres)
    eyes.look()
    assert "below z = 0; check the depth's unit" in eyes.left_out["wrist"]


def test_what_is_seen_in_part_says_so_and_is_gripped_only_where_it_was_seen():
    block = Block((0.48, 0.0), (0.18, 0.04, 0.05), yaw=np.pi / 2)
    whole = perception([block], overhead=None).look()
    assert seen_share(whole.height_map, whole.objects[0]) > 0.95

    def cut(frame):
        """As if the image ended in the middle of the block: its far half was not measured."""
        depth = frame.depth_m.copy()
        depth[:, :150] = 0.0
        return replace(frame, depth_m=depth)

    eyes = perception([block], overhead=None, wrist=cut)
    part = eyes.look()
    (state,) = part.objects
    assert state.dimensions_m[0] < 0.13  # it is not made longer than it was seen to be
    assert 0.5 < seen_share(part.height_map, state) < 0.87
    planner = GraspPlanner(load_limits("panda").gripper)
    candidates = planner.propose(part, np.random.default_rng(0))
    assert candidates
    grid = part.height_map
    for candidate in candidates:
        pose = candidate.X_world_grasp
        line = np.linspace(-0.5, 0.5, 9)[:, None] * candidate.width_m * pose.rotation[:2, 1]
        cells = np.rint((pose.position_m[:2] + line - grid.origin_m) / grid.resolution_m)
        i, j = cells.astype(int).T
        assert grid.seen[i, j].mean() >= 0.6
