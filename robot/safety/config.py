"""What the monitors allow, in one place; the arm's own limits are in ``configs/robot/``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from configs.load import bounded
from robot.errors import SafetyError
from robot.planning.obstacles import Box

_BRAKING_M = 0.05


@dataclass(frozen=True)
class Zone:
    """A box in the world that the tool must not enter; paths keep the whole arm out of it.

    Attributes:
        min_m: (3,) its lowest corner, m.
        max_m: (3,) its highest corner.
        name: what it is called in messages.
    """

    min_m: tuple[float, float, float]
    max_m: tuple[float, float, float]
    name: str = "keep-out zone"

    def __post_init__(self) -> None:
        if any(low >= high for low, high in zip(self.min_m, self.max_m, strict=True)):
            raise SafetyError(f"{self.name}: min_m must be below max_m everywhere: {self}")

    @property
    def box(self) -> Box:
        """It as a solid, for those who plan around it.

        It is larger to all sides by what a fast arm needs to brake: the monitor judges where the
        tool would come to rest.
        """
        low, high = np.array(self.min_m) - _BRAKING_M, np.array(self.max_m) + _BRAKING_M
        centre, size = 0.5 * (low + high), high - low
        return Box(tuple(centre.tolist()), tuple(size.tolist()), name=self.name)


@dataclass(frozen=True)
class ForceConfig:
    """Torques, forces and power.

    Attributes:
        torque_share: a joint whose torque is above this share of its limit is at its limit.
        torque_s: for so long it may be there.
        taken_w: a motor at its limit that is driven against it, and takes up more than this, has
            met what is stronger than it.
        torque_rate_s: torque rates are means over so long; the simulated and the real joint both
            jump within a tick when the hand touches something.
        contact_n: pushing on against a force above this is slowed,
        contact_most_n: and against one above this not possible at all.
        contact_stop_n: a force above this halts. ISO/TS 15066's quasi-static limits are 65 N for
            a face and 140 N for a hand.
        contact_stop_nm: as a turn about the tool.
        filter_share: share of a tick's torque that enters the smoothed one.
        power_w: mechanical power of all joints, ISO 10218-1:2006's 80 W.
        power_s: the mean over so long counts.
    """

    torque_share: float = bounded(0.98, 0.1, 1.0)
    torque_s: float = bounded(0.1, 0.0, 5.0)
    taken_w: float = bounded(15.0, 0.0, 1000.0)
    torque_rate_s: float = bounded(0.05, 0.001, 1.0)
    contact_n: float = bounded(65.0, 1.0, 500.0)
    contact_most_n: float = bounded(90.0, 1.0, 500.0)
    contact_stop_n: float = bounded(140.0, 1.0, 500.0)
    contact_stop_nm: float = bounded(20.0, 0.1, 100.0)
    filter_share: float = bounded(0.2, 0.01, 1.0)
    power_w: float = bounded(80.0, 1.0, 2000.0)
    power_s: float = bounded(0.02, 0.0, 1.0)


@dataclass(frozen=True)
class ThermalConfig:
    """Temperature of the motors: a model in T² of the torque, beside what the robot reports.

    Attributes:
        ambient_c: of the room.
        rise_c: of a motor that holds its full torque for ever; Steadyhand's own guess, so that half
            the torque for ever leads to the warning. Franka publishes none.
        time_constant_s: of the motor's warming.
        warn_c: from here on the speed is cut.
        stop_c: here the arm halts.
    """

    ambient_c: float = bounded(25.0, -20.0, 60.0)
    rise_c: float = bounded(180.0, 1.0, 1000.0)
    time_constant_s: float = bounded(600.0, 1.0, 36000.0)
    warn_c: float = bounded(70.0, 0.0, 200.0)
    stop_c: float = bounded(85.0, 0.0, 200.0)


@dataclass(frozen=True)
class GripConfig:
    """What the fingers may feel.

    Attributes:
        slip_scale: speed that is left while what is held slips, and for ``slip_s`` after.
        slip_s: see ``slip_scale``.
        slip_speed_m_s: fingers that come closer more slowly than this, over ``slip_window_s``, have
            an object between them that settles. In nominal picks settling keeps below 9 mm/s;
            what was lost in the air closed by 12 mm/s and more.
        slip_window_s: see ``slip_speed_m_s``.
        held_s: contact that lasted so long was a hold, and losing it unasked is a loss.
        lost_scale: speed that is left after a loss, until the hand is told to open.
        overload_n: fingers that are told to open and are held by at least this,
        overload_s: for so long, are overloaded.
    """

    slip_scale: float = bounded(0.5, 0.0, 1.0)
    slip_s: float = bounded(0.2, 0.0, 5.0)
    slip_speed_m_s: float = bounded(0.01, 0.0, 1.0)
    slip_window_s: float = bounded(0.1, 0.0, 1.0)
    held_s: float = bounded(0.25, 0.0, 5.0)
    lost_scale: float = bounded(0.3, 0.0, 1.0)
    overload_n: float = bounded(25.0, 1.0, 200.0)
    overload_s: float = bounded(0.1, 0.0, 5.0)


@dataclass(frozen=True)
class TimingConfig:
    """Losses and delays of commands and readings, in controller periods where it says n.

    Attributes:
        missed_n: so many periods without a command halt an arm that moves (libfranka stops after
            20 lost packets).
        overrun_n: overruns within ``overrun_s`` that slow the arm.
        overrun_s: see ``overrun_n``.
        overrun_scale: speed that is left then.
        policy_late_s: a policy that acted longer ago than this is slowed,
        policy_deadline_s: and halted after this.
        frozen_n: readings that moved and now repeat to the bit for so many periods halt,
        frozen_start_n: or, where they never moved, for so many,
        frozen_rad: while the command moves at least so far.
        wild_n: of the last ten readings so many that moved faster than a joint can halt; one slows.
        wild_factor: faster than its limit by this factor, plus ``wild_rad``.
        wild_rad: see ``wild_factor``; what a tick's noise may be.
    """

    missed_n: int = bounded(20, 1, 1000)
    overrun_n: int = bounded(4, 1, 1000)
    overrun_s: float = bounded(0.5, 0.01, 10.0)
    overrun_scale: float = bounded(0.5, 0.0, 1.0)
    policy_late_s: float = bounded(0.075, 0.0, 5.0)
    policy_deadline_s: float = bounded(0.1, 0.001, 5.0)
    frozen_n: int = bounded(6, 2, 1000)
    frozen_start_n: int = bounded(30, 2, 1000)
    frozen_rad: float = bounded(0.002, 0.0, 1.0)
    wild_n: int = bounded(3, 1, 10)
    wild_factor: float = bounded(1.5, 1.0, 10.0)
    wild_rad: float = bounded(0.01, 0.0, 1.0)


@dataclass(frozen=True)
class SafetyConfig:
    """What the monitors allow. The arm's own limits are in its :class:`RobotLimits`.

    Attributes:
        tick_s: period of the control loop.
        off: names of monitors that are switched off; see :mod:`robot.safety.suite`.
        tolerance: relative excess over a joint's velocity or acceleration limit that still passes,
            for rounding.
        position_tolerance_rad: excess over a position limit that still passes.
        start_tolerance_rad: the first command after a reset may lie this far from the measured
            joints.
        jump_rad: a command further than this from the one before is a HALT, not a SCALE.
        jerk_share: of the arm's jerk limit that a command may use. A difference over a tick of
            240 Hz is a mean, the arm's own 1 kHz sees more.
        stale_after_s: a state older than this slows the arm.
        stale_deadline_s: a state older than this halts it.
        future_s: a state stamped further ahead than this halts it: two clocks disagree.
        workspace_deceleration_m_s2: the tool must be able to stop within the workspace at this.
        workspace_halt_m: outside the workspace by more than this and going further is a HALT.
        keep_out: boxes that the tool must not enter, either.
        singular_slow: condition number of the tool's Jacobian from which speed is cut,
        singular_stop: and at which nothing goes further in (MoveIt Servo's 17 and 30).
        singular_length_m: counts as 1 rad in it. With metres beside radians a third of all picks
            pass 17, and hardly any near a singular posture.
        self_slow_m: the arm's links keep at least this from each other at full speed,
        scene_slow_m: and this from what stands around (MoveIt Servo's 0.01 and 0.02 m).
        near_speed_m_s: the hand comes no faster to what stands around when it touches it,
        near_deceleration_m_s2: and from afar no faster than it can brake to that at this.
        near_hand_m: so far from the tool, level with it, its fingers and their sides reach.
        novelty_scale: speed that is left where the policy's observation is unlike any before.
        novelty_most: largest novelty that still passes; 1 is the calibrated threshold.
    """

    tick_s: float = bounded(1.0 / 240.0, 1e-4, 0.1)
    off: tuple[str, ...] = ()
    tolerance: float = bounded(1e-3, 0.0, 0.1)
    position_tolerance_rad: float = bounded(1e-6, 0.0, 0.01)
    start_tolerance_rad: float = bounded(0.1, 0.0, 1.0)
    jump_rad: float = bounded(0.2, 0.001, 3.2)
    jerk_share: float = bounded(0.7, 0.05, 1.0)
    stale_after_s: float = bounded(0.06, 0.0, 1.0)
    stale_deadline_s: float = bounded(0.2, 0.001, 5.0)
    future_s: float = bounded(0.01, 0.0, 1.0)
    workspace_deceleration_m_s2: float = bounded(2.0, 0.1, 13.0)
    workspace_halt_m: float = bounded(0.03, 0.0, 1.0)
    keep_out: tuple[Zone, ...] = ()
    singular_slow: float = bounded(17.0, 1.0, 1000.0)
    singular_stop: float = bounded(30.0, 1.0, 1000.0)
    singular_length_m: float = bounded(0.5, 0.01, 10.0)
    self_slow_m: float = bounded(0.01, 0.0, 0.2)
    scene_slow_m: float = bounded(0.02, 0.0, 0.2)
    near_speed_m_s: float = bounded(0.25, 0.01, 5.0)
    near_deceleration_m_s2: float = bounded(2.0, 0.1, 13.0)
    near_hand_m: float = bounded(0.05, 0.0, 0.5)
    novelty_scale: float = bounded(0.5, 0.05, 1.0)
    novelty_most: float = bounded(1.0, 0.0, 1000.0)
    force: ForceConfig = ForceConfig()
    thermal: ThermalConfig = ThermalConfig()
    grip: GripConfig = GripConfig()
    timing: TimingConfig = TimingConfig()

    def __post_init__(self) -> None:
        for part, low, high in (
            (self, "stale_after_s", "stale_deadline_s"),
            (self, "singular_slow", "singular_stop"),
            (self.timing, "policy_late_s", "policy_deadline_s"),
            (self.thermal, "warn_c", "stop_c"),
            (self.force, "contact_n", "contact_most_n"),
            (self.force, "contact_most_n", "contact_stop_n"),
        ):
            below, above = getattr(part, low), getattr(part, high)
            if below >= above:
                raise SafetyError(f"{low} ({below:g}) must be below {high} ({above:g})")

    def without(self, *names: str) -> SafetyConfig:
        """The same with these monitors off, too."""
        return replace(self, off=(*self.off, *(n for n in names if n not in self.off)))
