"""An annotated scene: what the cameras gave, and the truth behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.types import RgbdFrame


@dataclass(frozen=True, slots=True)
class View:
    """One image of a scene: what the camera gives, and the truth behind it.

    Attributes:
        frame: colour, noisy depth, believed pose.
        mask: (H, W) uint8 instance numbers, 0 where there is no object.
        labels: COCO annotations without ids, as ``perception.coco`` describes them.
    """

    frame: RgbdFrame
    mask: NDArray[np.uint8]
    labels: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Scene:
    """One settled table: its views, and every object on or off it."""

    number: int
    views: tuple[View, ...]
    objects: tuple[dict[str, Any], ...]
