"""Over the tray: clear of what stands there, and let go no lower than above it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot.errors import PlanningError
from robot.geometry import grasp_rotation
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.planning.collision import CollisionChecker
from robot.planning.obstacles import Box, HeldBox
from robot.planning.paths import PathPlanner
from robot.planning.placing import PlacePlanner, TrayConfig
from robot.planning.scene import SceneModel
from robot.types import GraspCandidate, ObjectState, Pose

LIMITS = load_limits("panda")
KINEMATICS = Kinematics(LIMITS)
TRAY = TrayConfig()
GRIP_M, HALF_M = 0.03, 0.03
"""Height of the grip over the table, and half of the held cube's edge."""


def pose(child: str, x: float, y: float, z: float) -> Pose:
    return Pose.from_matrix("world", child, grasp_rotation(0.0), (x, y, z))


def upright(height_m: float, x: float = TRAY.centre_m[0], y: float = TRAY.centre_m[1]) -> Box:
    return Box((x, y, 0.5 * height_m), (0.08, 0.08, height_m), name="put down")


@pytest.fixture
def placing() -> PlacePlanner:
    return planner(TRAY)


def planner(tray: TrayConfig) -> PlacePlanner:
    checker = CollisionChecker(LIMITS, KINEMATICS)
    around = SceneModel(checker, tray.walls)
    return PlacePlanner(
        KINEMATICS, checker, PathPlanner(LIMITS, KINEMATICS, checker, 3), around, tray
    )


def carried(placing: PlacePlanner, *there: Box):
    """The way of a cube that is held at the top of a lift."""
    grip = GraspCandidate(pose("grasp", 0.5, 0.0, GRIP_M), 0.06, 0.08, 1.0, 0, 0.0)
    cube = ObjectState(
        0, "box", pose("obj", 0.5, 0.0, HALF_M), np.full(3, 2 * HALF_M), 1.0, False, 0.0
    )
    q = KINEMATICS.inverse(pose("tool0", 0.5, 0.0, 0.25), LIMITS.home_rad)
    assert q is not None
    placing._around.put_down = there
    return placing.path(q, grip, cube, None), HeldBox.between(grip, cube)


def over_m(way) -> float:
    """How high over the tray's floor the lowest point of the cube is let go."""
    return float(KINEMATICS.forward(way.position_rad[-1]).position_m[2]) - GRIP_M


USUAL_M = TRAY.wall_m + TRAY.release_above_wall_m


def test_into_an_empty_tray_and_over_what_lies_flat_it_is_let_go_at_the_usual_height(placing):
    for there in ((), (upright(0.05),), (upright(placing.passed_m),)):
        way, _ = carried(placing, *there)
        assert over_m(way) == pytest.approx(USUAL_M, abs=2e-3)


@pytest.mark.parametrize("aside_m", [0.0, 0.14])
def test_it_is_let_go_above_what_stands_upright_anywhere_in_the_tray(placing, aside_m):
    tall = upright(0.16, TRAY.centre_m[0] + aside_m)
    way, held = carried(placing, tall)
    assert over_m(way) == pytest.approx(tall.top_m + 0.02, abs=2e-3)
    # No posture on the way has the cube, or the hand, in what stands there.
    checker = CollisionChecker(LIMITS, KINEMATICS)
    checker.set_scene(None, [*TRAY.walls, tall])
    checker.attach_box(held.size_m, held.X_tool_box)
    assert all(checker.in_collision(q, 0.06, 0.0) is None for q in way.position_rad[::4])


def test_where_all_is_barred_it_goes_over_what_would_tip(placing):
    way, _ = carried(placing, upright(1.5))
    assert over_m(way) == pytest.approx(USUAL_M, abs=2e-3)
    # What holds is shown to whoever asks for the scene next: no higher than what is passed.
    assert max(box.top_m for box in placing._checker.boxes) <= placing.passed_m + 1e-9


def test_where_even_that_is_barred_it_says_so(placing):
    lid = Box((*TRAY.centre_m, 0.3), (0.6, 0.5, 0.6), name="lid")
    placing._around.declared = (lid,)
    with pytest.raises(PlanningError, match="lid"):
        carried(placing, upright(0.16))


def test_a_mat_instead_of_a_tray_will_do() -> None:
    low = planner(TrayConfig(wall_m=0.001, release_above_wall_m=0.0))
    way, _ = carried(low, upright(0.06))
    assert over_m(way) == pytest.approx(0.08, abs=2e-3)
    low._around.show(None, highest_m=low.passed_m)  # as on the way home
    assert min(box.size_m[2] for box in low._checker.boxes) > 0.0


@pytest.mark.parametrize("top_m", [0.05, 0.1, 0.2, math.inf])
def test_a_box_is_cut_from_above(top_m: float) -> None:
    box = Box((0.1, 0.2, 0.1), (0.05, 0.06, 0.16), yaw_rad=0.3, name="it")
    cut = box.cut(top_m)
    assert cut.bottom_m == pytest.approx(box.bottom_m)
    assert cut.top_m == pytest.approx(min(top_m, box.top_m))
    assert cut.size_m[:2] == box.size_m[:2] and cut.center_m[:2] == box.center_m[:2]
    assert (cut.yaw_rad, cut.name) == (box.yaw_rad, box.name)
