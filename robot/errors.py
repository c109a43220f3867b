"""The one family of errors that Steadyhand raises for bad input.

The command line turns any of them into one line on standard error and exit code 2.
"""


class SteadyhandError(Exception):
    """Base of every error that a user can cause and mend; the message names what and how."""


class ConfigError(SteadyhandError):
    """A configuration file, key or value is wrong."""


class SensorError(SteadyhandError):
    """A camera or a reading is missing, stale or malformed."""


class PlanningError(SteadyhandError):
    """No grasp, pose or path could be found; the message says on what each try failed."""


class SafetyError(SteadyhandError):
    """The supervisor halted the arm; the message is its verdict's reason."""


class RecordingError(SteadyhandError):
    """A recording cannot be opened, or is not one."""
