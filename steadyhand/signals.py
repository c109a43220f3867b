"""A run over time: the figures that the report makes of its log."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from robot.limits import RobotLimits
from robot.loop.log import RunLog
from robot.types import VerdictLevel
from steadyhand.charts import Band, Line, line_chart, timeline


def span(log: RunLog) -> tuple[float, float]:
    """Start and end of everything that was logged, s."""
    start = log.phases[0].start_s if log.phases else 0.0
    start = min([start, *(p.start_s for p in log.picks), *(look.stamp_s for look in log.looks)])
    return start, max(log.now_s, start + 1e-3)


def timeline_figure(log: RunLog, span_s: tuple[float, float]) -> str:
    """Attempts, phases, verdicts, looks and events over one axis of time."""
    if not log.phases and not log.picks:
        return '<p class="empty boxed">Nothing was logged.</p>'
    names = list(dict.fromkeys(p.name for p in log.phases))
    css = {name: f"p{1 + i % 8}" for i, name in enumerate(names)}
    attempts = [
        Band(
            p.start_s,
            p.end_s,
            f"{i + 1} {p.class_name}".strip(),
            "good" if p.result.success else "bad",
            f"attempt {i + 1}: {p.result.category}, {p.start_s:.1f} to {p.end_s:.1f} s. "
            f"{p.result.detail}",
        )
        for i, p in enumerate(log.picks)
    ]
    phases = [
        Band(p.start_s, p.end_s, p.name, css[p.name], f"{p.name}, {p.end_s - p.start_s:.2f} s")
        for p in log.phases
        if p.end_s > p.start_s
    ]
    safety = [
        Band(
            v.start_s,
            max(v.end_s, v.start_s + 1e-3),
            v.verdict.level.name,
            "bad" if v.verdict.level is VerdictLevel.HALT else "warn",
            f"{v.verdict.level.name} at {v.start_s:.2f} s, scale {v.verdict.scale:.2f}: "
            f"{v.verdict.reason}",
        )
        for v in log.verdicts
    ]
    stamps = dict.fromkeys(look.stamp_s for look in log.looks)
    looks = [Band(t, t, "", "plain", f"look at {t:.1f} s") for t in stamps]
    events = [Band(t, t, "", "plain", f"{t:.1f} s: {text}") for t, text in log.events]
    lanes = [("Attempts", attempts), ("Phases", phases), ("Safety", safety), ("Looks", looks)]
    if events:
        lanes.append(("Events", events))
    chips = "".join(
        f'<li><i style="background:var(--c{css[name][1:]})"></i>{escape(name)}</li>'
        for name in names
    )
    drawn = timeline(lanes, span_s)
    return drawn.replace(
        "</figure>", f'<figcaption><ul class="legend">{chips}</ul></figcaption></figure>'
    )


def signal_charts(log: RunLog, span_s: tuple[float, float], limits: RobotLimits | None) -> str:
    """Joints, gripper and verdicts over the run, with the attempts shaded behind them."""
    s = log.series()
    bands = [Band(p.start_s, p.end_s, "", "good" if p.result.success else "bad") for p in log.picks]
    joints = [f"J{i + 1}" for i in range(s.position_rad.shape[1])]
    colours = [f"var(--c{1 + i % 8})" for i in range(len(joints))]

    def each(values: np.ndarray) -> list[Line]:
        return [
            Line(n, values[:, i], c) for i, (n, c) in enumerate(zip(joints, colours, strict=True))
        ]

    def chart(name: str, unit: str, lines: list[Line], **more: Any) -> str:
        return line_chart(name, unit, s.time_s, lines, bands, span_s=span_s, **more)

    torque, unit = s.effort_nm, "N·m"
    if limits is not None and torque.size:
        torque, unit = 100 * torque / np.asarray(limits.joints.torque_nm), "% of the limit"
    tracking = 1000 * np.abs(s.command_rad - s.position_rad).max(axis=1, initial=0.0)
    found = [chart("Joint positions", "rad", each(s.position_rad), height=230)]
    if np.isfinite(tracking).any():
        line = Line("largest of the joints", tracking, "var(--c6)")
        found.append(
            chart("Distance from command", "mrad", [line], fill=True, height=140, note=line.label)
        )
    found.append(chart("Joint torques", unit, each(torque)))
    opening = [Line("opening", 1000 * s.opening_m, "var(--c1)")]
    found.append(
        chart("Gripper opening", "mm", opening, fill=True, height=140, y_range=(0.0, 88.0))
    )
    force = [Line("force", s.force_n, "var(--c2)")]
    found.append(chart("Gripper force", "N", force, fill=True, height=140))
    worst = [Line("allowed speed", 100 * s.scale, "var(--c3)")]
    found.append(
        chart("Safety verdict", "% of the commanded speed", worst, fill=True, step=True,
              y_range=(0.0, 105.0), height=130, note="100 is OK, less is SCALE, 0 is HALT")
    )  # fmt: skip
    return "".join(found)
