"""Putting what is held onto another object."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from robot.errors import PlanningError
from robot.execution.attempt import GraspAttempt
from robot.planning.obstacles import HeldBox
from robot.types import GraspCandidate, Look, ObjectState, Pose, Trajectory

if TYPE_CHECKING:
    from robot.execution.pick import Picker

_ABOVE_M = 0.06
_GAP_M = 0.003
"""It is let go this far above the other, which is less than what depth is measured to."""
_DOWN_M_S = 0.06
_RISE_M = 0.10


def base_for(attempt: GraspAttempt, look: Look) -> ObjectState | None:
    """The object with the largest top but for the one that is held; None where there is none."""
    others = [
        obj for obj in look.objects if attempt.obj is None or obj.object_id != attempt.obj.object_id
    ]
    return max(others, key=lambda o: float(o.dimensions_m[0] * o.dimensions_m[1]), default=None)


def stack(picker: Picker, attempt: GraspAttempt, base: ObjectState) -> None:
    """Carry what is held over ``base``, let it down, let go, and rise.

    Args:
        picker: holds something at the top of the lift.
        attempt: the grasp that holds.
        base: what it is put onto.

    Raises:
        PlanningError: nothing is known of what is held, or no way leads there.
    """
    if attempt.candidate is None or attempt.obj is None:
        raise PlanningError("stack: nothing is known of what the hand holds")
    player, paths = picker.player, picker.paths
    player.phase = "carry"
    # What the cameras saw stays in the way, but for what is held; that moves with the hand.
    picker.around.show(picker._scene, attempt.candidate)
    player.see(picker.checker.boxes)
    picker.checker.set_hand(player.state.gripper.opening_m)
    problem = PlanningError("stack: out of reach")
    for turn in (0.0, math.pi / 2, math.pi, -math.pi / 2):
        above, on = _poses(attempt, base, turn)
        try:
            way = _way_with(picker, attempt.candidate, attempt.obj, above)
            down = paths.straight(way.position_rad[-1], on, speed_m_s=_DOWN_M_S, check=False)
        except PlanningError as error:
            problem = error
            continue
        player.play(way)
        player.phase = "place"
        player.play(down)
        picker.release()
        picker.rise(_RISE_M)
        return
    raise problem


def _way_with(
    picker: Picker, candidate: GraspCandidate, held: ObjectState, above: Pose
) -> Trajectory:
    """A way that is free for what is held, too: its box is an upper bound, so else without it."""
    box = HeldBox.between(candidate, held)
    picker.checker.attach_box(box.size_m, box.X_tool_box)
    try:
        return _way(picker, above)
    except PlanningError:
        picker.checker.detach()
        return _way(picker, above)
    finally:
        picker.checker.detach()


def _way(picker: Picker, above: Pose) -> Trajectory:
    q = picker.player.q_sent
    goal = picker.loop.kinematics.inverse(above, q, tries=4)
    if goal is None:
        raise PlanningError(f"stack: out of reach at {np.round(above.position_m, 3)} m")
    return picker.paths.to_joints(q, goal, speed_scale=0.6)


def _poses(attempt: GraspAttempt, base: ObjectState, turn_rad: float) -> tuple[Pose, Pose]:
    """The tool above the base, and where it lets go, so that both boxes' edges are parallel."""
    if attempt.candidate is None or attempt.obj is None:
        raise PlanningError("stack: nothing is known of what the hand holds")
    grasp, held = attempt.candidate.X_world_grasp, attempt.obj.X_world_obj
    X_world_tool = Pose("world", "tool0", grasp.position_m, grasp.quat_xyzw)
    X_tool_obj = X_world_tool.inverse() @ Pose("world", "obj", held.position_m, held.quat_xyzw)
    c, s = math.cos(turn_rad), math.sin(turn_rad)
    rotation = base.X_world_obj.rotation @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    at = np.array(base.X_world_obj.position_m)
    at[2] += 0.5 * (base.dimensions_m[2] + attempt.obj.dimensions_m[2]) + _GAP_M
    on = Pose.from_matrix("world", "obj", rotation, at) @ X_tool_obj.inverse()
    up = Pose("world", "tool0", on.position_m + np.array([0, 0, _ABOVE_M]), on.quat_xyzw)
    return up, Pose("world", "tool0", on.position_m, on.quat_xyzw)
