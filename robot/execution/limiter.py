"""Joint velocities cut to what the joints may do, so that they can always still stop in time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.limits import JointLimits

Array = NDArray[np.float64]

_AT_END_RAD_S = 0.02
"""A joint that may go no faster than this towards its limit stands at it."""


class JointLimiter:
    """Keeps position, velocity, acceleration and jerk of all joints within limits at every tick.

    Args:
        joints: the limits.
        tick_s: period of the control loop.
        velocity_share: share of the velocity limits to use.
        acceleration_share: share of the acceleration limits to use.
        margin_rad: distance to keep from the position limits.
        jerk_share: share of the jerk limits to use where a change of acceleration is asked about.
    """

    def __init__(
        self,
        joints: JointLimits,
        tick_s: float,
        velocity_share: float = 1.0,
        acceleration_share: float = 1.0,
        margin_rad: float = 0.0,
        jerk_share: float = 1.0,
    ) -> None:
        self._dt = tick_s
        self.lower_rad = joints.lower_rad + margin_rad
        self.upper_rad = joints.upper_rad - margin_rad
        self._speed = joints.velocity_rad_s * velocity_share
        self._accel = joints.acceleration_rad_s2 * acceleration_share
        self._step = self._accel * tick_s
        self._bend = joints.jerk_rad_s3 * (jerk_share * tick_s**2)
        # Within this half width of the middle even full speed can be stopped.
        stop = self._speed * tick_s + self._speed**2 / (2.0 * self._accel)
        self._middle = 0.5 * (self.lower_rad + self.upper_rad)
        self._free_half = 0.5 * (self.upper_rad - self.lower_rad) - stop
        self._blocks: dict[tuple[int, bool], tuple[Array, Array]] = {}

    def free(self, q: Array, qd_last: Array, qd: Array, qd_before: Array | None = None) -> bool:
        """Whether no limit can bind in the coming ticks; true only well within position limits.

        Args:
            q: (n,) rad, where the joints are.
            qd_last: (n,) rad/s of the last tick.
            qd: (ticks, n) rad/s, the coming velocities.
            qd_before: (n,) rad/s of the tick before the last one, where jerk counts, too.
        """
        ticks, bends = len(qd), qd_before is not None
        if (ticks, bends) not in self._blocks:
            half = self._free_half - ticks * self._dt * self._speed
            most = np.array(
                [
                    half,
                    *[self._speed] * (ticks + 1),
                    *[self._step] * ticks,
                    *[self._bend] * (ticks * bends),
                ]
            )
            self._blocks[(ticks, bends)] = np.empty_like(most), most
        # One comparison for all: where the joints are, the speeds, their changes, and how these do.
        rows, most = self._blocks[(ticks, bends)]
        np.subtract(q, self._middle, rows[0])
        rows[1] = qd_last
        rows[2 : ticks + 2] = qd
        changes = rows[ticks + 2 : 2 * ticks + 2]
        np.subtract(qd, rows[1 : ticks + 1], changes)
        if qd_before is not None:
            bent = rows[2 * ticks + 2 :]
            np.subtract(changes[0], qd_last - qd_before, bent[0])
            np.subtract(changes[1:], changes[:-1], bent[1:])
        np.abs(rows, rows)
        return int(np.count_nonzero(rows <= most)) == rows.size

    def limit(self, q: Array, qd_last: Array, wanted: Array) -> tuple[Array, float]:
        """Velocities for the coming tick.

        All of ``wanted`` is scaled so that the tool keeps its direction; then the change since the
        last tick is scaled; what is left is cut joint by joint, so that braking before a position
        limit is always possible.

        Args:
            q: (n,) rad, where the joints are.
            qd_last: (n,) rad/s of the last tick.
            wanted: (n,) rad/s.

        Returns:
            (n,) rad/s (``wanted`` itself when nothing binds), and the share of ``wanted`` in it,
            in [0, 1].
        """
        if self.free(q, qd_last, wanted[None]):
            return wanted, 1.0
        up = np.minimum(self._speed, self.stoppable(self.upper_rad - q))
        down = np.minimum(self._speed, self.stoppable(q - self.lower_rad))
        room = np.where(wanted > 0, up, down)
        size = np.abs(wanted)
        over = size > room
        target = wanted * float((room[over] / size[over]).min()) if over.any() else wanted
        change = target - qd_last
        over = np.abs(change) > self._step
        if over.any():
            change = change * float((self._step[over] / np.abs(change[over])).min())
        qd = np.minimum(np.maximum(qd_last + change, -down), up)
        qd = np.minimum(np.maximum(qd, qd_last - self._step), qd_last + self._step)
        norm = float(wanted.dot(wanted))
        share = float(qd.dot(wanted)) / norm if norm > 0.0 else 1.0
        return qd, min(max(share, 0.0), 1.0)

    def at_end(self, q: Array, wanted: Array) -> NDArray[np.bool_]:
        """(n,) which joints stand at a position limit and are wanted to go on.

        Args:
            q: (n,) rad, where the joints are.
            wanted: (n,) rad/s.
        """
        room = np.where(wanted > 0, self.upper_rad - q, q - self.lower_rad)
        return np.asarray((self.stoppable(room) < _AT_END_RAD_S) & (wanted != 0.0))

    def stoppable(self, room_rad: Array) -> Array:
        """(n,) rad/s: the highest speeds from which the joints still stop within ``room_rad``.

        The highest v with ``v dt + v²/(2a) <= room``: after one tick at v and braking at a, a joint
        stops in its room, and the same holds at every later tick.
        """
        dt, accel = self._dt, self._accel
        speed = accel * (np.sqrt(dt * dt + 2.0 * np.maximum(room_rad, 0.0) / accel) - dt)
        return np.asarray(speed)

    def ease(self, q: Array, before: Array, last: Array, wanted: Array) -> Array:
        """``wanted`` with no more jerk than allowed, approached so that it is not shot past.

        What would leave no room to brake before a position limit comes first, and no acceleration
        above its limit.

        Args:
            q: (n,) rad, where the joints are.
            before: (n,) rad/s, two ticks ago.
            last: (n,) rad/s of the last tick.
            wanted: (n,) rad/s, within the other limits.
        """
        drift, most, change = last - before, self._bend, wanted - last
        # The largest change that can still run out, ever smaller by ``most``, within ``change``.
        ending = np.sqrt(0.25 * most * most + 2.0 * most * np.abs(change)) - 0.5 * most
        change = np.minimum(np.maximum(change, -ending), ending)
        change = np.minimum(np.maximum(change, drift - most), drift + most)
        up = np.minimum(self._speed, self.stoppable(self.upper_rad - q))
        down = np.minimum(self._speed, self.stoppable(q - self.lower_rad))
        qd = np.minimum(np.maximum(last + change, -down), up)
        return np.asarray(np.minimum(np.maximum(qd, last - self._step), last + self._step))
