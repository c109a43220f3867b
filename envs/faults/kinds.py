"""All kinds of faults, and what is stated of each beforehand."""

from __future__ import annotations

from envs.faults import commands, loop, readings, surroundings
from envs.faults.fault import Kind
from robot.safety.config import Zone

ZONE = Zone((0.45, 0.36, -0.1), (0.85, 0.75, 0.6), "the corner that is closed off")
"""Where nobody picks; the campaign closes it to the tool."""

_MOVES = ("approach", "carry", "home")
_STALE = 50  # periods: 0.2 s and the next

KINDS: tuple[Kind, ...] = (
    # What is read
    Kind("reading_frozen", readings.Frozen, ("halt",), 12, monitor="sensor", phases=_MOVES),
    Kind("reading_dropped", readings.Lost, ("halt",), _STALE),
    Kind("reading_dropped_thrice", lambda: readings.Lost(3), ("none",), lasts=None),
    Kind("reading_late", lambda: readings.Late(60), ("halt",), _STALE, monitor="stale"),
    Kind("reading_a_little_late", lambda: readings.Late(6), ("none",), lasts=120, phases=_MOVES),
    Kind("reading_backdated", lambda: readings.Backdated(0.3), ("halt",), 2, phases=_MOVES),
    Kind("reading_ahead", lambda: readings.Backdated(-0.05), ("halt",), 2),
    Kind("reading_reordered", readings.Reordered, ("halt",), 8),
    Kind("reading_noisy", lambda: readings.Noisy(1e-4), ("none",), lasts=None),
    Kind("reading_wild", lambda: readings.Noisy(0.2), ("halt",), 10),
    Kind("reading_nan", lambda: readings.NoNumber("position_rad"), ("halt",)),
    Kind("reading_torque_nan", lambda: readings.NoNumber("effort_nm"), ("halt",)),
    Kind("gripper_reading_nan", lambda: readings.NoNumber("opening_m"), ("halt",)),
    Kind("motor_warm", lambda: readings.Hot(76.0), ("slow",), 3, phases=_MOVES),
    Kind("motor_hot", lambda: readings.Hot(90.0), ("halt",), 3, monitor="temperature"),
    # What is commanded
    Kind("command_nan", lambda: commands.Altered("nan"), ("halt",)),
    Kind("command_infinite", lambda: commands.Altered("inf"), ("halt",)),
    Kind("command_of_six", lambda: commands.Altered("size"), ("halt",)),
    Kind("command_jump", lambda: commands.Altered("jump"), ("halt",)),
    Kind("command_feed_forward", lambda: commands.Altered("feed_forward"), ("slow",)),
    Kind(
        "command_position",
        lambda: commands.JointDrive(6, 0.9),
        ("slow",),
        400,
        500,
        monitor="position",
    ),
    Kind("command_velocity", lambda: commands.JointDrive(6, 1.5), ("slow",), monitor="velocity"),
    Kind("command_acceleration", lambda: commands.Shaken(1.6, 48),
         ("slow",), monitor="acceleration"),
    Kind("command_jerk", lambda: commands.Shaken(0.9, 2), ("slow",), monitor="jerk"),
    Kind("gripper_command_nan", lambda: commands.Gripping(float("nan"), 10.0),
         ("halt",), monitor="finite"),
    Kind("gripper_command_wild", lambda: commands.Gripping(1.0, 500.0),
         ("none",), lasts=60, phases=("approach", "home")),
    Kind("tool_too_fast", commands.Swung,
         ("slow",), 130, 140, monitor="tool_speed"),
    Kind("too_much_power", lambda: commands.Hauled((0.45, 0.0, 0.8), 1.6, 60.0),
         ("slow", "halt"), 200, 200, phases=("carry", "home"), monitor="power"),
    Kind("tool_out_of_the_box", lambda: commands.JointDrive(0, 0.8, -1.0),
         ("slow",), 700, 700, monitor="workspace", phases=_MOVES),
    Kind("tool_into_a_zone", lambda: commands.Reaching((0.55, 0.5, 0.35), 0.6),
         ("slow",), 500, 500, monitor="zones", phases=("approach", "grasp", "carry")),
    Kind("tool_into_the_table", lambda: commands.Lowered((0.4, 0.1, -0.2), 0.4),
         ("slow", "halt"), 500, 500, monitor="nearing"),
    Kind("arm_stretched", lambda: commands.Reaching((0.0, 0.0, 0.4), 0.5, outward=True),
         ("slow",), 500, 500, monitor="singularity"),
    Kind("arm_folded", commands.Folded, ("slow", "halt"), 900, 900, monitor="distance"),
    # What happens around
    # At the fingertips the sixth joint is at its limit, too, and its torque halts; on the wrist
    # no motor is.
    Kind("push", lambda: surroundings.Pushed(150.0), ("halt",), 24, phases=_MOVES),
    Kind("lean", lambda: surroundings.Pushed(150.0, wrist=True),
         ("halt",), 24, monitor="contact", phases=_MOVES),
    Kind("wrench", lambda: surroundings.Wrung(11.93), ("halt",), 48, monitor="torque"),
    Kind("obstacle", surroundings.Blocked, ("slow", "halt"), 36),
    # Heavier than the arm may carry: it slips out, or is too much for the wrist.
    Kind("heavy_object", lambda: surroundings.Weighty(5.0),
         ("recover", "halt"), lasts=None, phases=("grasp",)),
    Kind("slippery_object", surroundings.Slippery, ("recover",), lasts=None, phases=("grasp",)),
    Kind("object_snatched", surroundings.Snatched,
         ("slow",), 36, lasts=None, phases=("carry",), monitor="slip"),
    Kind("fingers_squeezed", lambda: surroundings.Squeezed(60.0),
         ("halt",), 60, monitor="gripper", phases=("place",)),
    # The loop itself
    Kind("policy_dead", lambda: loop.Thinking(300),
         ("halt",), 16, phases=("grasp",), monitor="policy"),
    Kind("policy_slow", lambda: loop.Thinking(8), ("slow",), 9, lasts=120, phases=("grasp",)),
    Kind("policy_stuck", lambda: loop.Acting("stuck"),
         ("recover", "slow", "halt"), 0, lasts=None, phases=("grasp",)),
    Kind("policy_random", lambda: loop.Acting("random"),
         ("recover", "slow", "halt"), lasts=None, phases=("grasp",)),
    Kind("policy_adversarial", lambda: loop.Acting("adversarial"),
         ("recover", "slow", "halt"), lasts=None, phases=("grasp",)),
    Kind("policy_nan", lambda: loop.Acting("nan"), ("halt",), phases=("grasp",)),
    # Slowly; what it then runs into halts it.
    Kind("policy_confused", loop.Confused,
         ("slow", "halt"), 3, lasts=180, phases=("grasp",), monitor="novelty"),
    Kind("process_paused", lambda: loop.Paused(30),
         ("halt",), 32, phases=_MOVES, monitor="overrun"),
    # The arm lurches, and may be slowed for that; it must not halt.
    Kind("process_paused_briefly", lambda: loop.Paused(3), ("recover",), lasts=60, phases=_MOVES),
    Kind("process_stutters", lambda: loop.Paused(3, 6), ("slow",), 48, phases=_MOVES),
    Kind("process_killed", loop.Killed, ("halt",), 45),
    Kind("clock_forward", lambda: loop.ClockJump(1.0), ("halt",)),
    Kind("clock_back", lambda: loop.ClockJump(-0.5), ("halt",)),
    Kind("message_storm", lambda: loop.Storm(20), ("slow", "halt"), 1, phases=_MOVES),
    Kind("disk_full", loop.DiskFull, ("none",), lasts=None),
    Kind("e_stop_api", lambda: loop.Stopped("api"), ("halt",), 1),
    Kind("e_stop_signal", lambda: loop.Stopped("signal"), ("halt",), 1),
)  # fmt: skip
