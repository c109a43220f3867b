"""Whatever a motion of the recovery itself runs into, a pick ends as a pick."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from robot.errors import SensorError
from robot.execution.attempt import GraspAttempt
from robot.execution.closer import look_closer
from robot.execution.machine import PickMachine
from robot.execution.states import MotionTrouble, PathBlocked, Trouble


class Blocked:
    """A picker whose arm is held back in the motions that are named."""

    def __init__(self, blocked: set[str], outcome: str = "missed") -> None:
        self.blocked, self.outcome, self.calls = blocked, outcome, []
        clock = SimpleNamespace(now_s=lambda: 0.0)
        self.player = SimpleNamespace(clock=clock, hold=lambda seconds: self._do("hold"))

    def _do(self, name: str) -> None:
        self.calls.append(name)
        if name in self.blocked:
            raise MotionTrouble(Trouble.BLOCKED_PATH)

    def look(self) -> None:
        self._do("look")
        if self.outcome == "blind":
            raise SensorError("nothing")

    def grasp(self, look: None) -> GraspAttempt:
        self._do("grasp")
        return GraspAttempt(self.outcome)

    def back_off(self) -> None:
        self._do("back_off")

    def release(self) -> None:
        self._do("release")

    def home(self) -> None:
        self._do("home")


@pytest.mark.parametrize(
    ("blocked", "outcome", "category"),
    [
        ({"grasp", "back_off"}, "", "blocked_path"),
        ({"release"}, "missed", "missed"),
        ({"hold"}, "blind", "blind"),
        ({"look", "back_off"}, "", "blocked_path"),
        ({"grasp", "home"}, "", "blocked_path"),
    ],
)
def test_a_recovery_that_is_blocked_itself_ends_the_pick_and_not_the_process(
    blocked, outcome, category
):
    picker = Blocked(blocked, outcome)
    result = PickMachine(picker).pick()
    assert not result.success and result.category == category
    assert len(picker.calls) <= 6


def test_a_look_that_is_held_back_is_tried_again_after_its_recovery():
    picker = Blocked({"look"})
    machine = PickMachine(picker)
    assert machine.pick().category == "blocked_path"
    assert machine.troubles == {Trouble.BLOCKED_PATH: 3}
    assert picker.calls == ["look", "back_off", "home"] * 3


def test_on_the_way_to_a_look_from_near_an_arm_that_is_held_back_is_told_of():
    obj = SimpleNamespace(X_world_obj=SimpleNamespace(position_m=np.array([0.5, 0.0, 0.02])))
    look = SimpleNamespace(source="camera", objects=(obj,))

    def picker(error: Exception):
        def travel(*_: object) -> None:
            raise error

        inverse = SimpleNamespace(inverse=lambda *_: np.zeros(7))
        return SimpleNamespace(
            limits=SimpleNamespace(tool_frame="tool0"),
            loop=SimpleNamespace(kinematics=inverse),
            player=SimpleNamespace(q_sent=np.zeros(7)),
            travel=travel,
        )

    assert look_closer(picker(PathBlocked("a pole")), look) is None
    with pytest.raises(MotionTrouble, match="blocked path"):
        look_closer(picker(MotionTrouble(Trouble.BLOCKED_PATH)), look)
