"""Telling a station which of its objects is wanted, and which body that is."""

from __future__ import annotations

import re

import cv2
import numpy as np

from envs.objects import CLASSES
from envs.station import Station
from robot.errors import ConfigError
from robot.planning.target import Target, at_pixel

_PIXEL = re.compile(r"(\d+),(\d+)")
_CLICK_PX = 2.0
"""So far within its outline an object is clicked, at least."""


def want(station: Station, target: str) -> frozenset[int]:
    """Let the picker pick one object only.

    Args:
        station: an episode has begun.
        target: an object's name, one of the classes, or ``column,row`` of the overhead image.

    Returns:
        The bodies any of which will do.

    Raises:
        ConfigError: no such object lies there.
        SensorError: nothing is to be seen at the pixel.
    """
    world, picker = station.world, station.picker
    if target in CLASSES:
        picker.target = Target(class_name=target)
        return frozenset(b for b, body in world.bodies.items() if body.model.class_name == target)
    pixel = _PIXEL.fullmatch(target)
    if pixel is not None:
        point = at_pixel(station.cameras[0].read(), int(pixel[1]), int(pixel[2]))
    else:
        named = [b for b, body in world.bodies.items() if body.model.name == target]
        if not named:
            names = ", ".join(sorted({body.model.name for body in world.bodies.values()}))
            raise ConfigError(
                f"target: no object {target!r} on the table; there are {names}; or name a class "
                f"({', '.join(CLASSES)}) or a pixel (160,120)"
            )
        point = world.pose(named[0]).position_m
    picker.target = Target(position_m=np.array(point))
    away = {
        b: float(np.linalg.norm(world.pose(b).position_m[:2] - point[:2])) for b in world.bodies
    }
    return frozenset(sorted(away, key=away.__getitem__)[:1])


def clicked(station: Station, body: int) -> str | None:
    """Where somebody who wants ``body`` would click into the overhead image: ``column,row``.

    That is the middle of what is seen of it; None where that is less than a few pixels wide.
    """
    _, bodies = station.cameras[0].capture()
    seen = np.pad((bodies == body).astype(np.uint8), 1)
    inside = cv2.distanceTransform(seen, cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return f"{column},{row}" if inside[row, column] >= _CLICK_PX else None
