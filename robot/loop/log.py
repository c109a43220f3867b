"""The log of one run: what a report needs, and the one call for each event of who runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.loop.publisher import Publisher, PublisherConfig
from robot.types import (
    OK,
    Array,
    Detection,
    GraspCandidate,
    GripperCommand,
    JointCommand,
    ObjectState,
    PickResult,
    Pose,
    RgbdFrame,
    RobotState,
    SafetyVerdict,
    Trajectory,
)


@dataclass
class Span:
    """A phase of the run, from ``start_s`` until ``end_s``."""

    name: str
    start_s: float
    end_s: float


@dataclass
class VerdictSpan:
    """A stretch in which the verdict was not OK: its worst scale and its first reason."""

    verdict: SafetyVerdict
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Look:
    """One camera's image with what was found in it, and the objects that all cameras gave."""

    stamp_s: float
    camera: str
    rgb: NDArray[np.uint8]
    detections: tuple[Detection, ...]
    objects: tuple[ObjectState, ...]


@dataclass(frozen=True)
class Pick:
    """One attempt; ``class_name`` is what the object was taken for, or empty."""

    result: PickResult
    class_name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Plan:
    """One planning step: how many candidates there were, and the path's length (s) or None."""

    stamp_s: float
    candidates: int
    chosen: GraspCandidate | None
    duration_s: float | None


@dataclass(frozen=True)
class Series:
    """The sampled signals of a run; n samples, dof joints.

    Attributes:
        time_s: (n,) s.
        position_rad, command_rad: (n, dof) rad; the command is NaN where there was none.
        effort_nm: (n, dof) N·m.
        opening_m, force_n: (n,) of the gripper.
        level: (n,) int, the worst verdict since the sample before.
        scale: (n,) the smallest scale since the sample before; 0 at a halt.
    """

    time_s: Array
    position_rad: Array
    command_rad: Array
    effort_nm: Array
    opening_m: Array
    force_n: Array
    level: NDArray[np.int64]
    scale: Array


class Sink(Protocol):
    """Where messages go: a ``Recorder``, or a bus."""

    def write(self, topic: str, message: Any, stamp_s: float) -> object:
        """Take one message."""

    def fail(self, reason: str) -> None:
        """A message could not be made."""


@dataclass
class RunLog:
    """Collects a run in memory and forwards it to a recorder, if there is one.

    Call ``state`` at every control tick: it keeps a sample at ``sample_rate_hz`` and costs a few
    microseconds otherwise. Nothing here raises because a recording fails.

    Attributes:
        phases, verdicts, looks, picks, plans, events: what happened, in order of time; events
            are (s, text).
        max_looks: images beyond this many are recorded but not kept in memory.
    """

    recorder: Sink | None = None
    publish: PublisherConfig = field(default_factory=PublisherConfig)
    sample_rate_hz: float = 20.0
    max_looks: int = 80
    now_s: float = 0.0
    phases: list[Span] = field(default_factory=list)
    verdicts: list[VerdictSpan] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    picks: list[Pick] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._samples: list[tuple[Any, ...]] = []
        self._next_s = -np.inf
        self._worst: SafetyVerdict = OK
        self._last: SafetyVerdict = OK
        self._out = Publisher(self.recorder.write, self.publish) if self.recorder else None

    def state(
        self,
        stamp_s: float,
        state: RobotState,
        q_command: Array | None,
        verdict: SafetyVerdict,
        phase: str,
        *,
        qd_command: Array | None = None,
        gripper: GripperCommand | None = None,
        X_world_tool: Pose | None = None,
    ) -> None:
        """One control tick.

        Args:
            stamp_s: time of the tick, s.
            state: the reading.
            q_command: (dof,) rad, the targets actually sent; None when nothing was.
            verdict: the supervisor's.
            phase: name of the current phase; a new name begins a new span.
            qd_command: (dof,) rad/s, sent with them.
            gripper: what the gripper was told.
            X_world_tool: the tool's pose, for viewers.
        """
        self.now_s = stamp_s
        if not self.phases or self.phases[-1].name != phase:
            self.phase(phase, stamp_s)
        self.phases[-1].end_s = stamp_s
        if verdict.level:
            self._note_verdict(verdict, stamp_s)
        out = self._out
        if out is not None:
            if verdict is not self._last or stamp_s >= self._next_s:
                self._forward(out.verdict, verdict, stamp_s)
            if out.state_is_due(stamp_s):
                command = None
                if q_command is not None:
                    rates = np.zeros_like(q_command) if qd_command is None else qd_command
                    command = JointCommand(q_command, rates)
                self._forward(out.state, state, command, gripper, X_world_tool)
        self._last = verdict
        if stamp_s >= self._next_s:
            self._sample(stamp_s, state, q_command)

    @property
    def last_verdict(self) -> SafetyVerdict:
        """That of the newest tick."""
        return self._last

    def phase(self, name: str, stamp_s: float | None = None) -> None:
        """Begin a phase; ``state`` does so by itself when the name changes."""
        now = self._stamp(stamp_s)
        if self.phases:
            self.phases[-1].end_s = now
        self.phases.append(Span(name, now, now))
        if self._out is not None:
            self._forward(self._out.phase, name, now)

    def look(
        self,
        frames: Sequence[RgbdFrame],
        detections: Sequence[Sequence[Detection]],
        objects: Sequence[ObjectState],
        stamp_s: float | None = None,
    ) -> None:
        """One look: a list of detections for each frame, and the fused objects."""
        now = self._stamp(stamp_s)
        for frame, found in zip(frames, detections, strict=True):
            if len(self.looks) < self.max_looks:
                self.looks.append(
                    Look(now, frame.camera, frame.rgb.copy(), tuple(found), tuple(objects))
                )
            if self._out is not None:
                self._forward(self._out.frame, frame)
                self._forward(self._out.detections, frame, found)
        if self._out is not None:
            self._forward(self._out.objects, objects, now)

    def plan(
        self,
        candidates: Sequence[GraspCandidate],
        trajectory: Trajectory | None,
        chosen: GraspCandidate | None = None,
        stamp_s: float | None = None,
    ) -> None:
        """The candidates, the path that was planned (None: there is none), and the one chosen."""
        now = self._stamp(stamp_s)
        duration_s = None if trajectory is None else trajectory.duration_s
        self.plans.append(Plan(now, len(candidates), chosen, duration_s))
        if self._out is not None:
            self._forward(self._out.plan, candidates, trajectory, chosen, now)

    def policy(self, observation: NDArray[np.float32], action: NDArray[np.float32]) -> None:
        """One step of the policy; it is recorded, not kept."""
        if self._out is not None:
            self._forward(self._out.policy, observation, action, self.now_s)

    def pick(self, result: PickResult, class_name: str = "", stamp_s: float | None = None) -> None:
        """The end of an attempt."""
        now = self._stamp(stamp_s)
        self.picks.append(Pick(result, class_name, max(now - result.attempt_s, 0.0), now))
        if self._out is not None:
            self._forward(self._out.pick, result, class_name, now)

    def event(self, text: str, stamp_s: float | None = None) -> None:
        """Anything else that a person should read."""
        now = self._stamp(stamp_s)
        self.events.append((now, text))
        if self._out is not None:
            self._forward(self._out.event, text, now)

    def series(self) -> Series:
        """The samples taken so far, as arrays."""
        columns = list(zip(*self._samples, strict=True)) if self._samples else [()] * 8
        arrays = [np.array(column, dtype=np.float64) for column in columns]
        for i in (1, 2, 3):
            arrays[i] = np.atleast_2d(arrays[i]).reshape(len(self._samples), arrays[i].shape[-1])
        time_s, q, command, effort, opening, force, level, scale = arrays
        return Series(time_s, q, command, effort, opening, force, level.astype(np.int64), scale)

    @property
    def duration_s(self) -> float:
        """From the first phase's start until the newest tick, s."""
        return self.now_s - self.phases[0].start_s if self.phases else 0.0

    def _stamp(self, stamp_s: float | None) -> float:
        if stamp_s is not None:
            self.now_s = max(self.now_s, stamp_s)
        return self.now_s

    def _sample(self, stamp_s: float, state: RobotState, q_command: Array | None) -> None:
        joints = state.joints
        command = (
            np.full(joints.position_rad.shape, np.nan)
            if q_command is None
            else np.array(q_command, dtype=np.float64)
        )
        scale = {0: 1.0, 1: self._worst.scale, 2: 0.0}[int(self._worst.level)]
        self._samples.append(
            (
                stamp_s,
                joints.position_rad,
                command,
                joints.effort_nm,
                state.gripper.opening_m,
                state.gripper.force_n,
                int(self._worst.level),
                scale,
            )
        )
        self._worst = OK
        # A hair early: stamps are sums of ticks and carry rounding.
        self._next_s = stamp_s + 1.0 / self.sample_rate_hz - 1e-6

    def _note_verdict(self, verdict: SafetyVerdict, stamp_s: float) -> None:
        if (verdict.level, -verdict.scale) > (self._worst.level, -self._worst.scale):
            self._worst = verdict
        open_span = self.verdicts[-1] if self.verdicts else None
        if open_span is None or self._last.level != verdict.level:
            self.verdicts.append(VerdictSpan(verdict, stamp_s, stamp_s))
            return
        open_span.end_s = stamp_s
        if verdict.scale < open_span.verdict.scale:
            open_span.verdict = SafetyVerdict(
                verdict.level, verdict.scale, open_span.verdict.reason
            )

    def _forward(self, send: Callable[..., None], *args: Any) -> None:
        # A message that cannot be made must not stop the arm's controller either.
        try:
            send(*args)
        except Exception as error:
            if self.recorder is not None:
                self.recorder.fail(f"{type(error).__name__}: {error}")
