"""When to be where: smooth curves in joint space and their timing within limits (Ruckig).

A path is one curve q(s). Ruckig moves the single number s from 0 to the end, so every joint stays
on the path exactly, however the speed is chosen; the joints' limits become limits of s.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ruckig import InputParameter, Result, Ruckig, RuckigError
from ruckig import Trajectory as RuckigTrajectory

from robot.errors import PlanningError
from robot.limits import JointLimits
from robot.types import Trajectory

Array = NDArray[np.float64]

# Fractions of a section's acceleration and jerk limits that Ruckig may use where the curve bends:
# the bend itself needs the rest.
_BENT_ACCELERATION, _BENT_JERK = 0.6, 0.4


@dataclass(frozen=True, slots=True, eq=False)
class MotionLimits:
    """What a planned motion may use of each joint: (n,) rad/s, rad/s², rad/s³."""

    velocity: Array
    acceleration: Array
    jerk: Array

    @classmethod
    def scaled(
        cls, joints: JointLimits, velocity: float, acceleration: float, jerk: float
    ) -> MotionLimits:
        """Fractions (0 to 1) of the arm's own limits."""
        return cls(
            joints.velocity_rad_s * velocity,
            joints.acceleration_rad_s2 * acceleration,
            joints.jerk_rad_s3 * jerk,
        )


class Curve:
    """A twice continuously differentiable curve q(s): a quintic polynomial between knots.

    Args:
        s: (m,) rising knots, from 0.
        q: (m, n) rad at the knots.
        dq: (m, n) first derivative by s.
        ddq: (m, n) second derivative by s.
    """

    def __init__(self, s: Array, q: Array, dq: Array, ddq: Array) -> None:
        self.s, self.q = s, q
        h = np.diff(s)[:, None]
        # Coefficients of the quintic Hermite interpolant in u = (s - s_i) / h, from the six
        # conditions at its ends.
        p0, v0, a0 = q[:-1], dq[:-1] * h, ddq[:-1] * h**2
        p1, v1, a1 = q[1:], dq[1:] * h, ddq[1:] * h**2
        d, e, f = p1 - p0 - v0 - 0.5 * a0, v1 - v0 - a0, a1 - a0
        self._c = np.stack(
            [p0, v0, 0.5 * a0, 10 * d - 4 * e + 0.5 * f, -15 * d + 7 * e - f,
             6 * d - 3 * e + 0.5 * f]
        )  # fmt: skip

    @property
    def length(self) -> float:
        """Where s ends."""
        return float(self.s[-1])

    def evaluate(self, s: Array) -> tuple[Array, Array, Array, Array]:
        """q, q', q'', q''' at (k,) values of s, each (k, n)."""
        s = np.clip(s, 0.0, self.length)
        i = np.clip(np.searchsorted(self.s, s, side="right") - 1, 0, len(self.s) - 2)
        h = (self.s[i + 1] - self.s[i])[:, None]
        u = (s - self.s[i])[:, None] / h
        c0, c1, c2, c3, c4, c5 = self._c[:, i]
        return (
            c0 + u * (c1 + u * (c2 + u * (c3 + u * (c4 + u * c5)))),
            (c1 + u * (2 * c2 + u * (3 * c3 + u * (4 * c4 + u * 5 * c5)))) / h,
            (2 * c2 + u * (6 * c3 + u * (12 * c4 + u * 20 * c5))) / h**2,
            (6 * c3 + u * (24 * c4 + u * 60 * c5)) / h**3,
        )


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a curve with one set of limits for s.

    Attributes:
        start, end: values of s.
        cruise: True where s must pass at constant speed (a rounded corner).
        velocity, acceleration, jerk: greatest ds/dt and its derivatives.
    """

    start: float
    end: float
    cruise: bool
    velocity: float
    acceleration: float
    jerk: float


def section(
    curve: Curve,
    start: float,
    end: float,
    limits: MotionLimits,
    cruise: bool = False,
    speed: float = math.inf,
) -> Section:
    """Limits of s between two of its values, from the joints' limits.

    Args:
        speed: a further bound on ds/dt.
    """
    _, d1, d2, d3 = (np.abs(x) for x in curve.evaluate(np.linspace(start, end, 40)))
    tiny = 1e-9
    velocity = min(speed, float((limits.velocity / np.maximum(d1, tiny)).min()))
    acceleration = float((limits.acceleration / np.maximum(d1, tiny)).min())
    jerk = float((limits.jerk / np.maximum(d1, tiny)).min())
    if d2.max() > 1e-6:
        share = 1.0 if cruise else 1.0 - _BENT_ACCELERATION
        bend = limits.acceleration / np.maximum(d2, tiny)
        twist = limits.jerk / np.maximum(d3, tiny)
        velocity = min(velocity, math.sqrt(share * bend.min()), float(np.cbrt(twist.min() * share)))
        acceleration, jerk = acceleration * _BENT_ACCELERATION, jerk * _BENT_JERK
    return Section(start, end, cruise, velocity, acceleration, jerk)


def time_curve(
    curve: Curve, sections: Sequence[Section], limits: MotionLimits, rate_hz: float = 240.0
) -> Trajectory:
    """The fastest way along a curve, from rest to rest, sampled at ``rate_hz``.

    Whatever still exceeds a limit is cured by stretching time as a whole, and the duration is
    rounded up to a whole number of samples, so that the last sample is the end of the curve.

    Args:
        curve: the path.
        sections: cover the curve without gaps, in order; cruise sections not at its ends.
        limits: hold at every sample; differences between samples hold them too.
        rate_hz: samples a second.

    Raises:
        PlanningError: Ruckig found no profile.
    """
    speeds = _junction_speeds(sections)
    parts = [
        _profile(part, v0, v1)
        for part, v0, v1 in zip(sections, speeds[:-1], speeds[1:], strict=True)
    ]
    total = sum(duration for duration, _ in parts)
    stretch = 1.0
    for _ in range(8):
        ticks = max(1, math.ceil(total * stretch * rate_hz - 1e-6))
        slow = ticks / rate_hz / total
        trajectory, excess = _sample(curve, parts, slow, ticks, limits, rate_hz)
        if excess <= 1.0 + 1e-6:
            return trajectory
        stretch = slow * (excess + 1e-4)
    raise PlanningError("timing: the path bends too sharply to be timed within the limits")


Profile = tuple[float, "RuckigTrajectory | tuple[float, float]"]


def _sample(
    curve: Curve,
    parts: Sequence[Profile],
    slow: float,
    ticks: int,
    limits: MotionLimits,
    rate_hz: float,
) -> tuple[Trajectory, float]:
    """Sample with time stretched by ``slow``; and by how much time must still be stretched."""
    time = np.arange(ticks + 1) / rate_hz
    s, ds, dds = (np.empty(ticks + 1) for _ in range(3))
    begin, part = 0.0, 0
    for k, t in enumerate(time / slow):
        while part < len(parts) - 1 and t > begin + parts[part][0]:
            begin += parts[part][0]
            part += 1
        duration, profile = parts[part]
        local = min(t - begin, duration)
        if isinstance(profile, tuple):
            start, speed = profile
            s[k], ds[k], dds[k] = start + speed * local, speed, 0.0
        else:
            s[k], ds[k], dds[k] = (float(v[0]) for v in profile.at_time(local))
    q, d1, d2, _ = curve.evaluate(s)
    ds, dds = ds[:, None] / slow, dds[:, None] / slow**2
    velocity = d1 * ds
    acceleration = d2 * ds**2 + d1 * dds
    q[0], q[-1] = curve.q[0], curve.q[-1]
    velocity[[0, -1]], acceleration[[0, -1]] = 0.0, 0.0
    trajectory = Trajectory(time, q, velocity, acceleration)
    return trajectory, _excess(trajectory, limits, rate_hz)


def _excess(trajectory: Trajectory, limits: MotionLimits, rate_hz: float) -> float:
    """The factor by which time must be stretched for all limits to hold; at most 1 when they do."""
    q, v, a = trajectory.position_rad, trajectory.velocity_rad_s, trajectory.acceleration_rad_s2
    velocity = max(np.abs(v / limits.velocity).max(), _rate(q, limits.velocity, rate_hz))
    acceleration = max(
        np.abs(a / limits.acceleration).max(), _rate(v, limits.acceleration, rate_hz)
    )
    jerk = _rate(a, limits.jerk, rate_hz)
    return max(float(velocity), math.sqrt(acceleration), float(np.cbrt(jerk)))


def _rate(values: Array, limit: Array, rate_hz: float) -> float:
    return float(np.abs(np.diff(values, axis=0) * rate_hz / limit).max())


def _junction_speeds(sections: Sequence[Section]) -> list[float]:
    """ds/dt where sections meet: as fast as both allow and as the stretches are long enough for."""
    speeds = [0.0]
    for before, after in itertools.pairwise(sections):
        speeds.append(min(before.velocity, after.velocity) if before.cruise or after.cruise else 0)
    speeds.append(0.0)
    order = list(range(len(sections)))
    for _ in range(2):  # a cruise section ties its two ends together, so once is not enough
        for i in order + order[::-1]:
            low = min(speeds[i], speeds[i + 1])
            if sections[i].cruise:
                speeds[i] = speeds[i + 1] = low
            else:
                top = _reachable(low, sections[i])
                speeds[i], speeds[i + 1] = min(speeds[i], top), min(speeds[i + 1], top)
    return speeds


def _reachable(slow: float, part: Section) -> float:
    """The highest speed that can be had at one end of a section from ``slow`` at the other."""

    def distance(fast: float) -> float:
        gain = fast - slow
        a, j = part.acceleration, part.jerk
        time = gain / a + a / j if gain > a * a / j else 2.0 * math.sqrt(max(gain, 0.0) / j)
        return 0.5 * (slow + fast) * time

    length = 0.999 * (part.end - part.start)
    low, high = slow, part.velocity
    if high <= low or distance(high) <= length:
        return max(low, high)
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if distance(middle) <= length else (low, middle)
    return low


def _profile(part: Section, v0: float, v1: float) -> Profile:
    """Duration and s(t) of one section, between two speeds."""
    if part.cruise and v0 > 1e-6:
        return (part.end - part.start) / v0, (part.start, v0)
    ask = InputParameter(1)
    ask.current_position, ask.target_position = [part.start], [part.end]
    ask.current_velocity, ask.target_velocity = [v0], [v1]
    # Ruckig's own arithmetic fails on rare numbers; a little less speed makes them others.
    for less in (1.0, 0.99, 0.95, 0.85):
        ask.max_velocity = [max(part.velocity * less, v0, v1)]
        ask.max_acceleration = [part.acceleration * less]
        ask.max_jerk = [part.jerk * less]
        answer = RuckigTrajectory(1)
        try:
            result = Ruckig(1).calculate(ask, answer)
        except RuckigError:
            continue
        if result in (Result.Working, Result.Finished):
            return float(answer.duration), answer
    raise PlanningError(
        f"timing: no profile over {part.end - part.start:.4g} from speed {v0:.4g} to {v1:.4g}"
    )
