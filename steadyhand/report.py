"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from robot.errors import SteadyhandError
from robot.limits import RobotLimits
from robot.loop.log import RunLog
from robot.loop.recorder import Recorder
from robot.types import VerdictLevel
from steadyhand.pictures import class_colours, look_figure, table_map
from steadyhand.signals import signal_charts, span, timeline_figure
from steadyhand.stylesheet import SCRIPT, STYLE

_VIDEO_INLINE_BYTES = 12_000_000
_LOOKS_SHOWN = 6


def write_report(
    path: Path,
    log: RunLog,
    result: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    config: Mapping[str, Any] | None = None,
    video: Path | None = None,
    recording: Recorder | None = None,
    limits: RobotLimits | None = None,
    title: str = "",
) -> None:
    """Write the report of a run, to a temporary name first.

    Args:
        path: the file, e.g. ``report.html``.
        log: what happened.
        result: what ``result.json`` holds: ``objects, cleared, attempts, success_rate,
            cleared_rate, wall_s`` and whatever else is worth showing.
        provenance: seed, version, commit, config hash, ...: shown as they are.
        config: the resolved configuration, folded away at the end.
        video: the film; up to 12 MB it goes into the page, a larger one is linked.
        recording: the recorder, to say what is in the file or why it stopped.
        limits: of the robot; torques are then given as a share of them.
        title: heading; the outcome in words if left out.
    """
    path = Path(path)
    span_s = span(log)
    parts = [
        _head(log, result, provenance, title, recording),
        _tiles(log, result),
        _film(path, log, video),
        _section(
            "Time line", timeline_figure(log, span_s), "hover a bar for its times and reasons"
        ),
        _section("Attempts", _attempts(log)),
        _section("Failures", _failures(log)),
        _section("Signals", signal_charts(log, span_s, limits), _signals_note(log)),
        _section("What the cameras saw", _looks(log)),
        _section("Recording", _recording(recording)),
        _section("Provenance", _provenance(result, provenance, config)),
    ]
    name = escape(title or _outcome(log, result)[0])
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>Steadyhand: {name}</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(parts)}<footer>Steadyhand {escape(str(provenance.get('version', '')))}."
        " Times are the run's own clock; all units are SI.</footer></main>"
        f"<script>{SCRIPT}</script></body></html>"
    )
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise SteadyhandError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _outcome(log: RunLog, result: Mapping[str, Any]) -> tuple[str, str]:
    """The result in words, and the CSS class of its colour."""
    total, cleared = int(result.get("objects", 0)), int(result.get("cleared", 0))
    if total == 0:
        return "The table was empty: nothing to do", "good"
    if cleared >= total:
        return (
            f"Table cleared: all {total} objects put away" if total > 1 else "Table cleared",
            "good",
        )
    if any(v.verdict.level is VerdictLevel.HALT for v in log.verdicts):
        return f"Halted with {cleared} of {total} objects put away", "bad"
    return f"{cleared} of {total} objects put away", "warn" if cleared else "bad"


def _head(
    log: RunLog,
    result: Mapping[str, Any],
    provenance: Mapping[str, Any],
    title: str,
    recording: Recorder | None,
) -> str:
    words = title or _outcome(log, result)[0]
    told = [
        f"{key} {provenance[key]}"
        for key in ("bundle", "objects", "sensing", "physics", "seed")
        if key in provenance
    ]
    warning = ""
    if recording is not None and recording.failed:
        warning = (
            f'<p class="warning">The recording stopped early: {escape(recording.failed)}. '
            "What was written up to then can be read.</p>"
        )
    return (
        f'<header class="top"><div class="kicker">Steadyhand run report</div>'
        f"<h1>{escape(words)}</h1>"
        f'<p class="lead">{escape(" · ".join(told))}</p></header>{warning}'
    )


def _tiles(log: RunLog, result: Mapping[str, Any]) -> str:
    total, cleared = int(result.get("objects", 0)), int(result.get("cleared", 0))
    attempts = int(result.get("attempts", len(log.picks)))
    good = sum(p.result.success for p in log.picks)
    seconds = [p.result.attempt_s for p in log.picks if p.result.success]
    halts = sum(v.verdict.level is VerdictLevel.HALT for v in log.verdicts)
    slowed = sum(v.end_s - v.start_s for v in log.verdicts if v.verdict.level == VerdictLevel.SCALE)
    share = slowed / log.duration_s if log.duration_s > 0 else 0.0
    rate = result.get("success_rate")
    tiles = [
        ("Objects cleared", f"{cleared} / {total}", _percent(result.get("cleared_rate")),
         _outcome(log, result)[1]),
        ("Successful attempts", f"{good} / {attempts}", _percent(rate), ""),
        ("Time a pick", f"{np.mean(seconds):.1f} s" if seconds else "\N{EN DASH}",
         f"mean of {len(seconds)}" if seconds else "no pick succeeded", ""),
        ("Run", f"{log.duration_s:.1f} s",
         f"took {float(result['wall_s']):.1f} s" if "wall_s" in result else "", ""),
        ("Safety", "halted" if halts else "no halt",
         f"slowed {100 * share:.1f} % of the time" if share else "never slowed",
         "bad" if halts else ""),
    ]  # fmt: skip
    return '<div class="tiles">' + "".join(
        f'<div class="tile {css}"><span>{escape(name)}</span><b>{escape(value)}</b>'
        f"<small>{escape(note)}</small></div>"
        for name, value, note, css in tiles
    ) + "</div>"  # fmt: skip


def _percent(share: Any) -> str:
    return f"{100 * float(share):.0f} %" if isinstance(share, (int, float)) else ""


def _film(path: Path, log: RunLog, video: Path | None) -> str:
    parts = []
    if video is not None and video.is_file():
        source = escape(video.name, True)
        if video.stat().st_size <= _VIDEO_INLINE_BYTES:
            data = base64.b64encode(video.read_bytes()).decode()
            source = f"data:video/mp4;base64,{data}"
        parts.append(
            f'<figure class="film"><video controls muted playsinline preload="metadata"'
            f' src="{source}"></video><figcaption>Also beside this page as '
            f"{escape(video.name)}.</figcaption></figure>"
        )
    parts.append(table_map(log.looks, log.plans, log.picks))
    shown = "".join(parts)
    return f'<h2>The run</h2><div class="split">{shown}</div>' if shown else ""


def _section(name: str, body: str, note: str = "") -> str:
    if not body:
        return ""
    small = f"<small>{escape(note)}</small>" if note else ""
    return f"<section><h2>{escape(name)}{small}</h2>{body}</section>"


def _attempts(log: RunLog) -> str:
    rows = []
    for i, pick in enumerate(log.picks):
        r = pick.result
        css = "good" if r.success else "bad"
        rows.append(
            f'<tr><td class="n">{i + 1}</td><td>{escape(pick.class_name or "object")}</td>'
            f'<td class="n">{r.object_id if r.object_id >= 0 else ""}</td>'
            f'<td><span class="pill {css}">{escape(r.category)}</span></td>'
            f'<td class="n">{pick.start_s:.1f} s</td><td class="n">{r.attempt_s:.1f} s</td>'
            f'<td class="dim">{escape(r.detail)}</td></tr>'
        )
    if not rows:
        return '<p class="empty boxed">No attempt was made.</p>'
    return (
        '<div class="card"><table><thead><tr><th class="n">#</th><th>Class</th>'
        '<th class="n">Object</th><th>Result</th><th class="n">Began</th><th class="n">Took</th>'
        f"<th>Detail</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _failures(log: RunLog) -> str:
    failed = [p for p in log.picks if not p.result.success]
    if not log.picks:
        return ""
    if not failed:
        return '<p class="empty boxed">None: every attempt succeeded.</p>'
    rows = []
    for category, n in Counter(p.result.category for p in failed).most_common():
        own = [p for p in failed if p.result.category == category]
        details = Counter(p.result.detail for p in own if p.result.detail).most_common(2)
        rows.append(
            f'<tr><td><span class="pill bad">{escape(category)}</span></td>'
            f'<td class="n">{n}</td><td class="n">{100 * n / len(log.picks):.0f} %</td>'
            f'<td class="n">{np.mean([p.result.attempt_s for p in own]):.1f} s</td>'
            f'<td class="dim">{escape("; ".join(text for text, _ in details))}</td></tr>'
        )
    return (
        '<div class="card"><table><thead><tr><th>Category</th><th class="n">Attempts</th>'
        '<th class="n">Of all</th><th class="n">Mean time</th><th>Most often</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _signals_note(log: RunLog) -> str:
    return "lines: beginnings of attempts; shaded: those that failed" if log.picks else ""


def _looks(log: RunLog) -> str:
    if not log.looks:
        return '<p class="empty boxed">No image was taken.</p>'
    colours = class_colours(log.looks)
    figures = [look_figure(look, colours) for look in log.looks]
    shown = f'<div class="looks">{"".join(figures[:_LOOKS_SHOWN])}</div>'
    rest = figures[_LOOKS_SHOWN:]
    if rest:
        shown += (
            f"<details><summary>{len(rest)} more images</summary>"
            f'<div class="looks" style="margin-top:12px">{"".join(rest)}</div></details>'
        )
    return shown


def _recording(recording: Recorder | None) -> str:
    if recording is None:
        return ""
    rows = "".join(
        f'<tr><td>{escape(topic)}</td><td class="dim">{escape(kind)}</td>'
        f'<td class="n">{n}</td></tr>'
        for topic, (kind, n) in sorted(recording.topics.items())
    )
    size = recording.bytes_written / 1e6
    return (
        f'<p class="empty">{escape(recording.path.name)}: {recording.messages} messages, '
        f"{size:.1f} MB. MCAP with ROS 2 messages; Foxglove and rosbags open it.</p>"
        '<div class="card"><table><thead><tr><th>Topic</th><th>Type</th><th class="n">Messages</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _provenance(
    result: Mapping[str, Any], provenance: Mapping[str, Any], config: Mapping[str, Any] | None
) -> str:
    pairs = "".join(
        f"<div><dt>{escape(str(k))}</dt><dd>{escape(_plain(v))}</dd></div>"
        for k, v in provenance.items()
    )
    folded = ""
    for name, value in (("Result", result), ("Configuration", config)):
        if value:
            text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
            folded += f"<details><summary>{name}</summary><pre>{escape(text)}</pre></details>"
    return f'<dl class="card pairs">{pairs}</dl>{folded}'


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)
