"""How long a model may take, and what happens when it takes longer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from configs.load import bounded
from perception.session import SessionConfig
from robot.errors import SafetyError

Missed = Literal["use", "drop", "halt"]


@dataclass(frozen=True)
class DeadlineConfig:
    """A model's deadline.

    A run is not cut short: what came late is known only when it has come. The supervisor's own
    watch over stale readings stays in force meanwhile.

    Attributes:
        limit_s: a run that takes longer is late.
        missed: ``use`` takes the late result and counts it; ``drop`` does without it (the policy
            stands still with its fingers as they are, the look has no frame, candidates keep the
            planner's order); ``halt`` stops the arm.
        patience: late results in a row that are borne; one more halts. None bears any number.
    """

    limit_s: float = bounded(0.01, 1e-6, 60.0)
    missed: Missed = "use"
    patience: int | None = bounded(4, 0, 1_000_000)


@dataclass(frozen=True)
class EdgeConfig:
    """How a bundle's models run on the robot; ``configs/edge/*.yaml``.

    Attributes:
        precision: of the policy.
        session: on what the models run, the same for all.
        policy: the policy's deadline: a tenth of its period.
        detector: the detector's: a camera's period at 5 Hz.
        scorer: the scorer's.
        probation: actions after a change of models within which a failure brings the old ones back.
    """

    precision: Literal["int8", "fp32"] = "int8"
    session: SessionConfig = field(default_factory=SessionConfig)
    policy: DeadlineConfig = field(default_factory=lambda: DeadlineConfig(0.005, "drop"))
    detector: DeadlineConfig = field(default_factory=lambda: DeadlineConfig(0.2))
    scorer: DeadlineConfig = field(default_factory=lambda: DeadlineConfig(0.1))
    probation: int = bounded(100, 0, 1_000_000)


class Deadline:
    """Counts the late results of one model.

    Args:
        name: of the model, for messages.
        config: how long, and what then.
    """

    def __init__(self, name: str, config: DeadlineConfig) -> None:
        self.name = name
        self.config = config
        self.missed = 0
        self.in_a_row = 0
        self._limit_ns = round(config.limit_s * 1e9)
        self._drops = config.missed == "drop"

    def judge(self, taken_ns: int) -> bool:
        """Whether a result that took so long is to be used.

        Raises:
            SafetyError: it is late and the configuration says halt, or too many in a row were.
        """
        if taken_ns <= self._limit_ns:
            self.in_a_row = 0
            return True
        self.missed += 1
        self.in_a_row += 1
        patience = self.config.patience
        if self.config.missed == "halt" or (patience is not None and self.in_a_row > patience):
            raise SafetyError(
                f"{self.name}: took {taken_ns / 1e6:.1f} ms, its deadline is "
                f"{self.config.limit_s * 1e3:g} ms ({self.in_a_row} in a row)"
            )
        return not self._drops
