"""All monitors of one arm, by name, as a :class:`SafetyConfig` chooses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from configs.load import find, load
from robot.errors import ConfigError, SafetyError
from robot.interface import SafetyMonitor
from robot.kinematics import Kinematics
from robot.limits import RobotLimits
from robot.safety.config import SafetyConfig
from robot.safety.distance import DistanceMonitor
from robot.safety.forces import ContactMonitor, PowerMonitor, TorqueMonitor
from robot.safety.grip import GripperMonitor, SlipMonitor
from robot.safety.integrity import IntegrityMonitor
from robot.safety.joints import AccelerationMonitor, JerkMonitor, PositionMonitor, VelocityMonitor
from robot.safety.nearing import NearingMonitor
from robot.safety.novelty import NoveltyMonitor
from robot.safety.readings import (
    FiniteMonitor,
    OverrunMonitor,
    PolicyMonitor,
    SensorMonitor,
    StaleMonitor,
)
from robot.safety.sent import Sent
from robot.safety.signals import Signals
from robot.safety.space import (
    SingularityMonitor,
    ToolSpeedMonitor,
    WorkspaceMonitor,
    ZoneMonitor,
)
from robot.safety.thermal import TemperatureMonitor
from robot.safety.tick import Tick

MONITORS = (
    FiniteMonitor,
    StaleMonitor,
    SensorMonitor,
    OverrunMonitor,
    PolicyMonitor,
    PositionMonitor,
    VelocityMonitor,
    AccelerationMonitor,
    JerkMonitor,
    WorkspaceMonitor,
    ZoneMonitor,
    ToolSpeedMonitor,
    SingularityMonitor,
    DistanceMonitor,
    NearingMonitor,
    TorqueMonitor,
    ContactMonitor,
    PowerMonitor,
    TemperatureMonitor,
    SlipMonitor,
    GripperMonitor,
    NoveltyMonitor,
    IntegrityMonitor,
)
NAMES: tuple[str, ...] = tuple(kind.name for kind in MONITORS)
BATCH = ("finite", "stale", "position", "velocity", "acceleration", "workspace")
"""What judges many ticks at once, from the commands alone: the monitors of training."""
TURNS = {"distance": 0, "singularity": 1, "contact": 0, "temperature": 1, "nearing": 1}
"""Monitors that are asked at every other tick, half of them at even ones."""
NEED_TICK = ("zones", "tool_speed", "singularity", "distance", "nearing", "contact")


def for_batches(tick_s: float = SafetyConfig.tick_s) -> SafetyConfig:
    """The monitors that judge a batch of commands: none that needs forces or every tick."""
    return SafetyConfig(tick_s=tick_s, off=tuple(n for n in NAMES if n not in BATCH))


def load_safety(name_or_path: str | Path = "default") -> SafetyConfig:
    """Read a cell's settings.

    Args:
        name_or_path: the name of a file in ``configs/safety/``, or the path of an own YAML file.

    Raises:
        ConfigError: the file is missing or malformed, values contradict each other, or no monitor
            is called as one that is switched off.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith((".yaml", ".yml")) else find("safety", text)
    config = load(SafetyConfig, path)
    try:
        _known(config.off)
    except SafetyError as error:
        raise ConfigError(f"{path}: off: {error}") from error
    return config


def _known(names: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise SafetyError(f"no monitor is called {unknown[0]!r}; there are {', '.join(NAMES)}")


def make(
    limits: RobotLimits,
    kinematics: Kinematics,
    config: SafetyConfig,
    sent: Sent,
    tick: Tick,
    signals: Signals,
) -> dict[str, SafetyMonitor]:
    """The monitors that are on, in the order in which they are asked.

    Raises:
        SafetyError: ``off`` names what is none.
    """
    _known(config.off)
    c = config
    makers: dict[str, Callable[[], SafetyMonitor]] = {
        "finite": lambda: FiniteMonitor(limits, signals),
        "stale": lambda: StaleMonitor(c),
        "sensor": lambda: SensorMonitor(limits, c, sent),
        "overrun": lambda: OverrunMonitor(c, sent),
        "policy": lambda: PolicyMonitor(c, signals),
        "position": lambda: PositionMonitor(limits, c, sent),
        "velocity": lambda: VelocityMonitor(limits, c, sent),
        "acceleration": lambda: AccelerationMonitor(limits, c, sent),
        "jerk": lambda: JerkMonitor(limits, c, sent),
        "workspace": lambda: WorkspaceMonitor(limits, kinematics, c, sent, tick),
        "zones": lambda: ZoneMonitor(c, tick),
        "tool_speed": lambda: ToolSpeedMonitor(limits, c, tick),
        "singularity": lambda: SingularityMonitor(limits, c, tick, sent),
        "distance": lambda: DistanceMonitor(limits, kinematics, c, sent, tick, signals),
        "nearing": lambda: NearingMonitor(limits, c, tick, signals),
        "torque": lambda: TorqueMonitor(limits, c),
        "contact": lambda: ContactMonitor(c, tick),
        "power": lambda: PowerMonitor(c),
        "temperature": lambda: TemperatureMonitor(limits, c),
        "slip": lambda: SlipMonitor(c, signals),
        "gripper": lambda: GripperMonitor(limits.gripper, c, signals),
        "novelty": lambda: NoveltyMonitor(c, signals),
        "integrity": lambda: IntegrityMonitor(signals),
    }
    return {name: makers[name]() for name in NAMES if name not in c.off}
