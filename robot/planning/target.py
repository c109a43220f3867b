"""Which object is wanted, and which ones stand around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.errors import SensorError
from robot.planning.ranking import Ranked
from robot.types import Look, ObjectState, RgbdFrame

Array = NDArray[np.float64]

_SAME_M = 0.06
"""An object this near to where the wanted one was is taken for it."""
_BESIDE_M = 0.14
"""Objects this near may be in its way."""


@dataclass(slots=True)
class Target:
    """The object that is wanted, by its class or by where it is.

    Attributes:
        class_name: of any object that will do; "" where the place decides.
        position_m: (3,) where it was last, m; None until it was seen.
    """

    class_name: str = ""
    position_m: Array | None = None

    def find(self, look: Look) -> ObjectState | None:
        """The wanted object in a look, and from now on this one; None where it is not seen."""
        if self.position_m is None:
            same = [o for o in look.objects if o.class_name == self.class_name]
            found = same[0] if same else None
        else:
            found = min(look.objects, key=self._away, default=None)
            if found is not None and self._away(found) > _SAME_M:
                found = None
        if found is not None:
            self.position_m = np.array(found.X_world_obj.position_m)
        return found

    def order(self, ranked: Sequence[Ranked], look: Look) -> list[Ranked]:
        """Its own candidates first, then those of objects beside it, nearest first; no others.

        So where no grip on the wanted object can be reached, what is in its way is moved away.
        """
        wanted = self.find(look)
        if wanted is None:
            return []
        away = {o.object_id: self._away(o) for o in look.objects}
        away[wanted.object_id] = 0.0
        near = [r for r in ranked if away.get(r.candidate.object_id, 1.0) <= _BESIDE_M]
        return sorted(near, key=lambda r: (r.failed_before, away[r.candidate.object_id]))

    def _away(self, obj: ObjectState) -> float:
        """From where the wanted one was, in the table's plane, m."""
        if self.position_m is None:
            return 0.0
        return float(np.linalg.norm(obj.X_world_obj.position_m[:2] - self.position_m[:2]))


def at_pixel(frame: RgbdFrame, u: int, v: int) -> Array:
    """(3,) the world point that a camera sees at column ``u``, row ``v``, m.

    Raises:
        SensorError: no such pixel, or no depth there.
    """
    camera = frame.intrinsics
    if not (0 <= u < camera.width_px and 0 <= v < camera.height_px):
        raise SensorError(
            f"target: pixel {u},{v} is outside the image of {camera.width_px} x "
            f"{camera.height_px} px"
        )
    depth = float(frame.depth_m[v, u])
    if depth <= 0:
        raise SensorError(f"target: {frame.camera} measured nothing at pixel {u},{v}")
    ray = np.array([(u - camera.cx_px) / camera.fx_px, (v - camera.cy_px) / camera.fy_px, 1.0])
    X = frame.X_world_cam
    return np.asarray(X.rotation @ (ray * depth) + X.position_m)
