"""What the cameras saw, with what was found drawn over it, and the table from above."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from robot.errors import RecordingError
from robot.loop.log import Look, Pick, Plan
from robot.types import ObjectState

# The reachable part of the table and the put-away tray, m, in the world frame.
_TABLE = (-0.12, 0.82, -0.66, 0.42)
_TRAY = (0.15, -0.48, 0.36, 0.26)


def class_colours(looks: Sequence[Look]) -> dict[str, str]:
    """A CSS colour for each class that occurs, the same throughout the page."""
    names = {d.class_name for look in looks for d in look.detections}
    names |= {o.class_name for look in looks for o in look.objects}
    return {name: f"var(--c{1 + i % 8})" for i, name in enumerate(sorted(names))}


def data_uri(rgb: NDArray[np.uint8], quality: int = 88) -> str:
    """An image (H, W, 3) uint8 as a JPEG data URI."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RecordingError(f"image of shape {rgb.shape} could not be coded as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def look_figure(look: Look, colours: Mapping[str, str]) -> str:
    """One image with its detections."""
    h, w = look.rgb.shape[:2]
    size = w / 320  # strokes and letters keep their size on the page whatever the image's
    boxes = []
    for d in sorted(look.detections, key=lambda d: d.score):
        x, y, wide, tall = d.box_xywh_px
        colour = colours.get(d.class_name, "var(--c1)")
        label = f"{d.class_name} {100 * d.score:.0f}"
        text_w = (5.1 * len(label) + 6) * size
        at_x = min(max(x - 0.75 * size, 0.0), max(w - text_w, 0.0))
        above = y >= 12 * size
        at_y = y - 12 * size if above else y
        boxes.append(
            f"<g><title>{escape(d.class_name)}, score {d.score:.3f}</title>"
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="none"'
            f' rx="{1.5 * size:.1f}" style="stroke:{colour}" stroke-width="{1.6 * size:.2f}"/>'
            f'<rect x="{at_x:.1f}" y="{at_y:.1f}" width="{text_w:.1f}" height="{12 * size:.1f}"'
            f' rx="{1.5 * size:.1f}" style="fill:{colour}"/>'
            f'<text x="{at_x + 3 * size:.1f}" y="{at_y + 9 * size:.1f}"'
            f' font-size="{9 * size:.1f}" class="boxlabel">{escape(label)}</text></g>'
        )
    n = len(look.detections)
    found = "nothing found" if n == 0 else "1 detection" if n == 1 else f"{n} detections"
    return (
        f'<figure class="look"><svg viewBox="0 0 {w} {h}" role="img"'
        f' aria-label="{escape(look.camera, True)} camera at {look.stamp_s:.1f} s: {found}">'
        f'<image href="{data_uri(look.rgb)}" width="{w}" height="{h}"/>{"".join(boxes)}</svg>'
        f"<figcaption><b>{escape(look.camera)}</b><span>{look.stamp_s:.1f} s</span>"
        f"<span>{found}</span></figcaption></figure>"
    )


def table_map(looks: Sequence[Look], plans: Sequence[Plan], picks: Sequence[Pick]) -> str:
    """The table from above: the objects of the first look, and each attempt's chosen grasp."""
    first = next((look for look in looks if look.objects), None)
    grasps = _grasps(plans, picks)
    if first is None and not grasps:
        return ""
    colours = class_colours(looks)
    scale, margin = 420.0, 2.0  # px a metre
    x0, x1, y0, y1 = _TABLE
    width, height = (y1 - y0) * scale + 2 * margin, (x1 - x0) * scale + 2 * margin

    def at(x_m: float, y_m: float) -> tuple[float, float]:
        """World x points up the page, world y to the left, as seen from behind the robot."""
        return margin + (y1 - y_m) * scale, margin + (x1 - x_m) * scale

    def box(x_m: float, y_m: float, dx: float, dy: float, yaw: float, css: str) -> str:
        c, s = math.cos(yaw), math.sin(yaw)
        corners = [(sx * dx / 2, sy * dy / 2) for sx, sy in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
        points = (at(x_m + c * u - s * v, y_m + s * u + c * v) for u, v in corners)
        return f'<polygon {css} points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'

    parts = [box((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, 0.0, 'class="table"')]
    for step in (0.2, 0.4, 0.6, 0.8):
        _, line = at(step, 0)
        parts.append(
            f'<line class="grid" x1="{margin}" x2="{width - margin}" y1="{line}" y2="{line}"/>'
            f'<text class="tick" x="{margin + 6}" y="{line + 14:.1f}">'
            f"x = {step:.1f} m</text>"
        )
    tray_x, tray_y = at(_TRAY[0], _TRAY[1])
    parts.append(box(*_TRAY, 0.0, 'class="tray"'))
    parts.append(
        f'<text class="tick" x="{tray_x}" y="{tray_y + 4}" text-anchor="middle">tray</text>'
    )
    base_x, base_y = at(0.0, 0.0)
    parts.append(f'<circle class="base" cx="{base_x}" cy="{base_y}" r="30"/>')
    parts.append(
        f'<text class="tick" x="{base_x}" y="{base_y + 4}" text-anchor="middle">arm</text>'
    )
    for thing in first.objects if first else ():
        parts.append(_object(thing, colours, box))
    for number, plan, success in grasps:
        if plan.chosen is not None:
            gx, gy = at(*(float(v) for v in plan.chosen.X_world_grasp.position_m[:2]))
            css = "good" if success else "bad" if success is not None else "plain"
            parts.append(
                f'<g class="grasp {css}"><title>attempt {number}</title>'
                f'<circle cx="{gx:.1f}" cy="{gy:.1f}" r="11"/>'
                f'<text x="{gx:.1f}" y="{gy + 4:.1f}" text-anchor="middle">{number}</text></g>'
            )
    chips = "".join(
        f'<li><i style="background:{c}"></i>{escape(name)}</li>' for name, c in colours.items()
    )
    return (
        f'<figure class="map"><svg viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
        f' aria-label="The table from above">{"".join(parts)}</svg>'
        f"<figcaption>Objects as fused at the first look, and where each attempt gripped."
        f'<ul class="legend">{chips}</ul></figcaption></figure>'
    )


def _object(thing: ObjectState, colours: Mapping[str, str], box: Callable[..., str]) -> str:
    r = thing.X_world_obj.rotation
    yaw = math.atan2(r[1, 0], r[0, 0])
    x, y, _ = (float(v) for v in thing.X_world_obj.position_m)
    dx, dy, dz = (float(v) for v in thing.dimensions_m)
    colour = colours.get(thing.class_name, "var(--c1)")
    tip = (
        f"{thing.class_name} {thing.object_id}: {1000 * dx:.0f} x {1000 * dy:.0f} x "
        f"{1000 * dz:.0f} mm, confidence {thing.confidence:.2f}"
    )
    drawn = box(x, y, dx, dy, yaw, f'class="thing" style="fill:{colour};stroke:{colour}"')
    return f"<g><title>{escape(tip)}</title>{drawn}</g>"


def _grasps(plans: Sequence[Plan], picks: Sequence[Pick]) -> list[tuple[int, Plan, bool | None]]:
    """Each attempt's last plan: (number from 1, plan, whether it went well)."""
    found: list[tuple[int, Plan, bool | None]] = []
    for i, pick in enumerate(picks):
        own = [p for p in plans if pick.start_s - 1e-6 <= p.stamp_s <= pick.end_s + 1e-6]
        if own and own[-1].chosen is not None:
            found.append((i + 1, own[-1], pick.result.success))
    return found
