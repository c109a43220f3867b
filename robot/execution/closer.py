"""A second look, where the first one did not do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from robot.errors import PlanningError, SensorError
from robot.execution.states import MotionTrouble, PathBlocked
from robot.geometry import grasp_rotation
from robot.types import Look, Pose

if TYPE_CHECKING:
    from robot.execution.pick import Picker

# The hand stays above what the height map takes for the arm.
HEIGHT_M = 0.38


def look_closer(picker: Picker, look: Look) -> Look | None:
    """Brings a camera on the wrist over the surest object and looks again.

    Args:
        picker: whose arm and cameras.
        look: the first look; one that sensed the truth has nothing to gain.

    Returns:
        The second look, or None where there is no object, no way there, or nothing to see.

    Raises:
        MotionTrouble: the arm was held back on its way.
    """
    if look.source != "camera" or not look.objects:
        return None
    x, y, _ = look.objects[0].X_world_obj.position_m
    frame = picker.limits.tool_frame
    pose = Pose.from_matrix("world", frame, grasp_rotation(0.0), [x, y, HEIGHT_M])
    q = picker.loop.kinematics.inverse(pose, picker.player.q_sent)
    if q is None:
        return None
    return _look_from(picker, lambda: picker.travel(q, look))


def look_again(picker: Picker) -> Look | None:
    """Goes home with the hand open and looks again.

    Returns:
        The second look, or None where there is no way home or nothing to see.

    Raises:
        MotionTrouble: the arm was held back on its way.
    """
    return _look_from(picker, picker.home)


def _look_from(picker: Picker, go: Callable[[], None]) -> Look | None:
    try:
        go()
        return picker.look()
    except PathBlocked:  # by something known: no way there
        return None
    except MotionTrouble:
        raise
    except (PlanningError, SensorError):
        return None
