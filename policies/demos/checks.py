"""What makes an episode unfit to learn from: asked when it is written and when it is read."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.demos.spec import DemoSpec
from robot.errors import ConfigError
from robot.limits import JointLimits, load_limits

JOINT = "joint_position"
"""What the columns of joint positions are called: ``joint_position.0``, ..., in rad."""

# A simulated joint gives a little under load before its motor holds it.
_GIVE_RAD = 0.02


def fault(spec: DemoSpec, columns: Mapping[str, NDArray[Any]], length: int) -> str | None:
    """What is wrong with an episode, in one line, or None.

    Args:
        spec: names and rate.
        columns: its columns by their LeRobot names, (length, n) or (length,).
        length: how many frames its record says it has.
    """
    shapes = {"observation.state": spec.observation_names, "action": spec.action_names}
    if spec.privileged_names:
        shapes["observation.privileged"] = spec.privileged_names
    found = len(columns["action"])
    if length == 0 or found != length:
        return f"holds {found} frames, expected {length or 'at least 1'}"
    for key, names in shapes.items():
        if key not in columns:
            return f"{key} is missing"
        if columns[key].shape != (length, len(names)):
            return f"{key} has shape {columns[key].shape}, expected {(length, len(names))}"
    if columns["next.reward"].shape != (length,):
        return f"next.reward has shape {columns['next.reward'].shape}, expected {(length,)}"
    for key in (*shapes, "next.reward"):
        whole = np.isfinite(columns[key].reshape(length, -1)).all(axis=1)
        if not whole.all():
            return f"{key} holds NaN or infinity at frame {int(np.flatnonzero(~whole)[0])}"
    largest = float(np.abs(columns["action"]).max())
    if largest > 1.0 + 1e-6:
        return f"an action of {largest:.4g} lies outside [-1, 1]"
    return _time_fault(spec, columns, length) or _joint_fault(spec, columns)


def _time_fault(spec: DemoSpec, columns: Mapping[str, NDArray[Any]], length: int) -> str | None:
    frame = np.arange(length)
    if not np.array_equal(columns["frame_index"], frame):
        return "frame_index does not count from 0 in steps of 1"
    late = np.abs(columns["timestamp"] - frame / spec.rate_hz)
    # LeRobot's own tolerance is 0.1 ms; float32 seconds need more as an episode grows long.
    # Written so that NaN fails too.
    if not late.max() <= 1e-4 + 1e-6 * length:
        row = int(late.argmax())
        return (
            f"timestamp {columns['timestamp'][row]:.4f} s at frame {row} does not fit "
            f"{spec.rate_hz:g} Hz (expected {row / spec.rate_hz:.4f} s)"
        )
    if not columns["next.done"][-1] or columns["next.done"][:-1].any():
        return "next.done must be true at the last frame and only there"
    return None


def _joint_fault(spec: DemoSpec, columns: Mapping[str, NDArray[Any]]) -> str | None:
    if not any(n.startswith(JOINT) for n in spec.observation_names + spec.privileged_names):
        return None
    limits = _joint_limits(spec.robot)
    if limits is None:
        return None
    for key, names in (
        ("observation.state", spec.observation_names),
        ("observation.privileged", spec.privileged_names),
    ):
        for joint in range(limits.count):
            name = f"{JOINT}.{joint}"
            if name not in names:
                continue
            q = columns[key][:, names.index(name)]
            low, high = float(limits.lower_rad[joint]), float(limits.upper_rad[joint])
            beyond = (q < low - _GIVE_RAD) | (q > high + _GIVE_RAD)
            if beyond.any():
                row = int(np.flatnonzero(beyond)[0])
                return (
                    f"{name} of {q[row]:.4g} rad at frame {row} lies outside {spec.robot}'s "
                    f"limits [{low:g}, {high:g}]"
                )
    return None


@functools.cache
def _joint_limits(robot: str) -> JointLimits | None:
    try:
        return load_limits(robot).joints
    except ConfigError:
        return None  # a robot that is not known here has no limits that could be checked
