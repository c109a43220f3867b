"""How fast a path may be driven, for where its tool goes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot.kinematics import Kinematics
from robot.planning.obstacles import Box
from robot.planning.timing import Curve

Array = NDArray[np.float64]

# Share of what is allowed that paths use; reckoned at so many places of each span.
_SHARE, _PLACES_N = 0.9, 12
# What the tool is to brake at before a closed zone. A zone comes with the room to brake from the
# speed below it, so that what passes along its side need not be slower.
_BRAKES_M_S2, _ANYWHERE_M_S = 2.0, 0.4


def fastest(
    kinematics: Kinematics, curve: Curve, start: float, end: float, closed: Sequence[Box]
) -> float:
    """ds/dt with which the tool keeps within its speed between two values of the curve's s.

    Monitors would slow it down, too, where it came towards a closed zone faster than it could
    brake before it.

    Args:
        kinematics: of the arm.
        curve: q(s).
        start: s from which on.
        end: s up to which.
        closed: zones, their sides along the world's axes.
    """
    q, dq, *_ = curve.evaluate(np.linspace(start, end, _PLACES_N))
    most = kinematics.limits.cartesian.velocity_m_s
    ways = [kinematics.jacobian(a)[:3] @ b for a, b in zip(q, dq, strict=True)]
    allowed = min(most / max(float(np.linalg.norm(way)), 1e-9) for way in ways)
    if closed:
        tools = [kinematics.forward_matrix(a)[:3, 3] for a in q]
        places = list(zip(tools, ways, strict=True))
        allowed = min(allowed, *(_before(zone, *place) for zone in closed for place in places))
    return _SHARE * allowed


def _before(zone: Box, tool_m: Array, way: Array) -> float:
    """ds/dt from which the tool, on its ``way`` dx/ds, can stop before a zone."""
    centre, half = np.array(zone.center_m), 0.5 * np.array(zone.size_m)
    to_zone = centre - tool_m
    gap = np.sign(to_zone) * np.maximum(np.abs(to_zone) - half, 0.0)
    distance = float(np.linalg.norm(gap))
    closing = float(gap @ way)
    if distance == 0.0 or closing <= 0.0:
        return math.inf
    speed = max(math.sqrt(2.0 * _BRAKES_M_S2 * distance), _ANYWHERE_M_S)
    return speed * distance / closing
