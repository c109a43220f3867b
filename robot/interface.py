"""What the layers ask of each other: a robot, a camera and a policy are whatever does this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robot.types import (
    Detection,
    GraspCandidate,
    GripperCommand,
    HeightMap,
    JointCommand,
    Look,
    ObjectState,
    RgbdFrame,
    RobotState,
    SafetyVerdict,
)


@runtime_checkable
class Robot(Protocol):
    """An arm with a gripper, real or simulated."""

    def connect(self) -> None:
        """Make the arm ready to read and to be commanded."""

    def read(self) -> RobotState:
        """The newest state."""

    def send(self, joints: JointCommand, gripper: GripperCommand) -> JointCommand:
        """Command one control tick; returns the command actually applied."""

    def stop(self) -> None:
        """Hold still, at once; safe to call at any time and more than once."""


@runtime_checkable
class Camera(Protocol):
    """A calibrated RGB-D camera."""

    @property
    def name(self) -> str: ...

    def read(self) -> RgbdFrame:
        """The newest frame; raises ``SensorError`` when there is none."""


@runtime_checkable
class Detector(Protocol):
    """Finds objects in one frame."""

    def detect(self, frame: RgbdFrame) -> list[Detection]:
        """Detections, best first; an empty list where there is nothing."""


@runtime_checkable
class Perception(Protocol):
    """Turns what can be sensed into objects and heights."""

    def look(self) -> Look:
        """A fresh look at the table; raises ``SensorError`` when nothing can be seen."""


@runtime_checkable
class Watch(Protocol):
    """Keeps an eye on one object while the hand approaches it."""

    def begin(self, look: Look | None, obj: ObjectState, now_s: float) -> None:
        """Watch an object of a look from now on; None: of the look that the watch itself took."""

    def read(self, now_s: float) -> ObjectState | None:
        """Its state where it was seen anew, None otherwise; never guessed."""


@runtime_checkable
class GraspScorer(Protocol):
    """Rates candidates."""

    def score(
        self, height_map: HeightMap, candidates: Sequence[GraspCandidate]
    ) -> NDArray[np.float32]:
        """(n,) probability of a held lift for each candidate."""


@runtime_checkable
class Policy(Protocol):
    """Maps an observation to an action, 20 times a second."""

    def reset(self) -> None:
        """Forget the previous episode."""

    def act(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_obs,) float32 to (n_act,) float32 in [-1, 1]."""


@runtime_checkable
class SafetyMonitor(Protocol):
    """Judges the commands of one or more coming ticks."""

    def check(
        self, state: RobotState, position_rad: NDArray[np.float64], now_s: float
    ) -> SafetyVerdict:
        """A verdict on the joint targets (ticks, n) rad that are about to be sent."""


@runtime_checkable
class Clock(Protocol):
    """Time, real or simulated."""

    def now_s(self) -> float:
        """Seconds since the clock's start; never goes back."""

    def sleep_until(self, time_s: float) -> None:
        """Return at ``time_s`` or at once when it has passed; simulated clocks step the world."""
