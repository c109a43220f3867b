"""A pick as a state machine: each state has its longest time, each trouble its own recovery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from configs.load import bounded
from robot.errors import PlanningError, SensorError
from robot.execution.attempt import GraspAttempt
from robot.execution.grasp import Outcome
from robot.execution.pick import Picker
from robot.execution.states import (
    RECOVERIES,
    MotionTrouble,
    PickFeedback,
    PickState,
    StateTimes,
    Trouble,
)
from robot.types import PickResult


@dataclass(frozen=True)
class MachineConfig:
    """How long a pick goes on.

    Attributes:
        attempts_n: attempts until the pick is given up.
        looks_n: looks in a row that may show nothing.
        times: the longest each state may take.
    """

    attempts_n: int = bounded(3, 1, 20)
    looks_n: int = bounded(2, 1, 20)
    times: StateTimes = StateTimes()


_TROUBLE = {
    Outcome.MISSED.value: Trouble.EMPTY_HAND,
    Outcome.TOUCHED.value: Trouble.EMPTY_HAND,
    Outcome.STRAYED.value: Trouble.EMPTY_HAND,
    Outcome.TIMEOUT.value: Trouble.TOO_LONG,
    Outcome.UNSURE.value: Trouble.UNSURE,
    "no_path": Trouble.BLOCKED_PATH,
    "no_candidate": Trouble.NOTHING_SEEN,
}


class PickMachine:
    """Runs picks through a picker.

    Args:
        picker: knows how to do each part.
        config: see :class:`MachineConfig`.
        tell: gets every change of state.
    """

    def __init__(
        self,
        picker: Picker,
        config: MachineConfig | None = None,
        tell: Callable[[PickFeedback], None] = lambda _: None,
    ) -> None:
        self.picker = picker
        self.config = config or MachineConfig()
        self.tell = tell
        self.troubles: dict[Trouble, int] = {}
        self._now = picker.player.clock.now_s
        self._attempt = 0
        self.feedback = PickFeedback(PickState.LOOK, 0.0, 0)

    def pick(self) -> PickResult:
        """One object from the table into the tray, with the recoveries that it takes.

        Raises:
            SafetyError: the arm was halted.
        """
        began_s = self._now()
        result = PickResult(False, "no_candidate", -1, 0.0, "nothing was tried")
        looks = 0
        for attempt in range(1, self.config.attempts_n + 1):
            self._attempt = attempt
            result, trouble = self._one()
            looks = looks + 1 if trouble is Trouble.NOTHING_SEEN else 0
            if result.success or looks >= self.config.looks_n:
                break
            if trouble is not None and not self._recover(trouble):
                break
        return replace(result, attempt_s=self._now() - began_s)

    def enter(self, state: PickState) -> None:
        """Say that a state begins."""
        self._say(PickFeedback(state, self._now(), self._attempt))

    def _say(self, feedback: PickFeedback) -> None:
        self.feedback = feedback
        self.tell(feedback)

    def _one(self) -> tuple[PickResult, Trouble | None]:
        """One attempt; what went wrong with it."""
        picker = self.picker
        try:
            self.enter(PickState.LOOK)
            look = picker.look()
        except SensorError as error:
            return self._failed("blind", str(error)), Trouble.NOTHING_SEEN
        except MotionTrouble as error:  # the arm is held still for the images, or should be
            return self._failed(error.trouble.value, str(error)), error.trouble
        self.enter(PickState.APPROACH)
        try:
            attempt = picker.grasp(look)
        except MotionTrouble as error:
            return self._failed(error.trouble.value, str(error)), error.trouble
        except PlanningError as error:
            return self._failed("no_path", str(error)), Trouble.BLOCKED_PATH
        if not attempt.held:
            return self._not_held(attempt), self._why(attempt)
        return self._carry(attempt)

    def _carry(self, attempt: GraspAttempt) -> tuple[PickResult, Trouble | None]:
        self.enter(PickState.CARRY)
        result = self.picker.put_away(attempt)
        trouble = {
            "lost_on_the_way": Trouble.LOST_OBJECT,
            "blocked_on_the_way": Trouble.BLOCKED_PATH,
            "no_path_to_tray": Trouble.BLOCKED_PATH,
        }.get(result.category)
        if trouble is None:
            self.enter(PickState.HOME)
            if not self._go_home():
                return replace(result, detail="no way home"), None
        return result, trouble

    def _recover(self, trouble: Trouble) -> bool:
        """What the trouble asks for; whether another attempt makes sense."""
        self.troubles[trouble] = self.troubles.get(trouble, 0) + 1
        now = self._now()
        self._say(PickFeedback(PickState.RECOVER, now, self._attempt, trouble, RECOVERIES[trouble]))
        try:
            if trouble is Trouble.NOTHING_SEEN:
                self.picker.player.hold(0.2)
                return True
            if trouble is Trouble.BLOCKED_PATH:
                self.picker.back_off()
            else:
                self.picker.release()
        except PlanningError:  # neither forth nor back
            return False
        done = self._go_home()
        return done and self._now() - now <= self.config.times.recover_s

    def _go_home(self) -> bool:
        try:
            self.picker.home()
        except MotionTrouble:
            try:  # once more, another way: the planners' next choice differs
                self.picker.back_off()
                self.picker.home()
            except PlanningError:
                return False
        except PlanningError:
            return False
        return True

    def _why(self, attempt: GraspAttempt) -> Trouble | None:
        return _TROUBLE.get(attempt.outcome)

    def _not_held(self, attempt: GraspAttempt) -> PickResult:
        late = "" if attempt.late is None else f"too long in {attempt.late.value!r}; "
        return PickResult(
            False,
            attempt.outcome,
            -1 if attempt.candidate is None else attempt.candidate.object_id,
            self._now() - attempt.started_s,
            late + "; ".join(attempt.reasons),
            attempt.refused.as_dict(),
        )

    def _failed(self, category: str, detail: str) -> PickResult:
        return PickResult(False, category.replace(" ", "_"), -1, 0.0, detail)
