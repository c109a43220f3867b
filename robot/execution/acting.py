"""The policy's part of a pick, as one motion: whoever has a pace of their own can drive it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from robot.errors import SafetyError
from robot.execution.grasp import TICKS, GraspLoop, Outcome
from robot.execution.player import Motion, Player
from robot.execution.states import PartStates, PickState
from robot.interface import Policy, Watch
from robot.observation import OLD_S, Around
from robot.safety.novelty import Novelty
from robot.safety.signals import Signals
from robot.types import GraspCandidate, Look, ObjectState

T = TypeVar("T")


class Asked(Protocol):
    """A policy that may take its time, such as one in a process of its own."""

    def reset(self) -> None:
        """Forget the previous episode."""

    def ask(self, observation: NDArray[np.float32]) -> None:
        """Begin to work on an observation."""

    def answer(self) -> NDArray[np.float32] | None:
        """The action, once; None while there is none yet."""


class AtOnce:
    """A ``Policy`` that answers as soon as it is asked."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._action: NDArray[np.float32] | None = None

    def reset(self) -> None:
        """Forget the previous episode."""
        self._policy.reset()

    def ask(self, observation: NDArray[np.float32]) -> None:
        """Work it out now."""
        self._action = self._policy.act(observation)

    def answer(self) -> NDArray[np.float32] | None:
        """The action, once."""
        action, self._action = self._action, None
        return action


class Watched:
    """A policy of which it is told how new what it sees is.

    Args:
        policy: acts.
        novelty: scores what it sees.
        signals: gets the score; 1 is the threshold.
    """

    def __init__(self, policy: Asked, novelty: Novelty, signals: Signals) -> None:
        self._policy, self._novelty, self._signals = policy, novelty, signals

    def reset(self) -> None:
        """Forget the previous episode."""
        self._signals.novelty = None
        self._policy.reset()

    def ask(self, observation: NDArray[np.float32]) -> None:
        """Score it, and pass it on."""
        self._signals.novelty = self._novelty.score(observation) / self._novelty.threshold
        self._policy.ask(observation)

    def answer(self) -> NDArray[np.float32] | None:
        """The action, once."""
        return self._policy.answer()


@dataclass(frozen=True)
class Acted:
    """How the policy's part ended, and where its target was in the end.

    Attributes:
        trouble: the state in which it took too long, or None.
    """

    outcome: Outcome
    candidate: GraspCandidate
    obj: ObjectState | None
    trouble: PickState | None = None


class Acting:
    """Lets a policy act through a player.

    Args:
        player: sends the ticks.
        policy: is asked at every twelfth.
        watch: sees the object anew meanwhile; without one the look has to do.
        squeeze: press harder when what is held begins to slip.
        patience_ticks: without an action for so long the arm stops (24 ticks are 0.1 s).
        unsure_n: while the hand descends, so many observations in a row unlike any before (10 are
            0.5 s) end the part, so that the object is looked at anew. The part that follows goes
            on at the speed that is left: looking for ever would pick nothing.
        late_s: what was seen longer ago than this when it is told was not seen "just now"; in
            training sights come after 0.1 to 0.3 s.
    """

    def __init__(
        self,
        player: Player,
        policy: Asked,
        watch: Watch | None = None,
        squeeze: bool = False,
        patience_ticks: int = 24,
        unsure_n: int = 10,
        late_s: float = 0.3,
    ) -> None:
        self.player = player
        self.policy = policy
        self.watch = watch
        self.squeeze = squeeze
        self.patience_ticks = patience_ticks
        self.unsure_n = unsure_n
        self.late_s = late_s
        self.states = PartStates()
        self._strange_n, self._looked_again = 0, False

    def act(self, candidate: GraspCandidate, obj: ObjectState | None, look: Look | None) -> Acted:
        """The whole part, at the player's pace."""
        around = self.player.loop.around(None if look is None else look.height_map, candidate)
        return self.player.run(self.motion(candidate, obj, look, around))

    def motion(
        self,
        candidate: GraspCandidate,
        obj: ObjectState | None,
        look: Look | None,
        around: Around | None,
    ) -> Motion[Acted]:
        """From the pre-grasp until the outcome is known and the arm has come to rest.

        Raises:
            SafetyError: the policy refused, or was silent for too long; a HALT is latched, and
                whoever drives the motion brakes.
        """
        player, loop, policy = self.player, self.player.loop, self.policy
        player.phase = "grasp"
        self._begin(candidate, obj, look, around)
        watch = self.watch if obj is not None else None
        waiting, silent = False, 0
        while True:
            joints, now = player.state.joints, player.clock.now_s()
            if watch is not None and (seen := watch.read(now)) is not None:
                loop.track(self._aged(seen, now))
            observation = loop.observe(joints.position_rad, joints.velocity_rad_s, now)
            outcome = loop.outcome(now)
            trouble = self.states.update(loop, now)
            if outcome is Outcome.RUNNING and trouble is not None:
                outcome = Outcome.TIMEOUT
            if outcome is Outcome.RUNNING and self._unsure():
                outcome = Outcome.UNSURE
            if outcome is not Outcome.RUNNING:
                self._looked_again = outcome is Outcome.UNSURE
                yield from self._braking()
                target = loop.target
                return Acted(outcome, target.candidate, target.obj, trouble)
            if not waiting:
                self._or_stop(policy.ask, observation)
                waiting, silent = True, 0
            for _ in range(TICKS):
                if waiting and (action := self._or_stop(policy.answer)) is not None:
                    waiting = False
                    player.command_gripper(loop.act(action))
                    if player.log is not None:
                        player.log.policy(observation, action)
                silent += waiting
                if silent >= self.patience_ticks:
                    reason = f"policy: no action for {silent} ticks"
                    player.stop(reason)
                    raise SafetyError(reason)
                if self.squeeze and loop.gripper_state.slip:
                    player.press_harder()
                loop.feel_below(player.supervisor.pressed, player.state.joints.position_rad)
                yield from _tick(player, loop)

    def _begin(
        self,
        candidate: GraspCandidate,
        obj: ObjectState | None,
        look: Look | None,
        around: Around | None,
    ) -> None:
        player, now = self.player, self.player.clock.now_s()
        opening_m = player.state.gripper.opening_m
        player.loop.begin(candidate, obj, player.q_sent, opening_m, now, around)
        self.states.begin(now)
        self.policy.reset()
        self._strange_n = 0
        if self.watch is not None and obj is not None:
            self.watch.begin(look, obj, now)

    def _aged(self, seen: ObjectState, now_s: float) -> ObjectState:
        """Where the object went counts however late that is known, but its age is then no news.

        A policy that has learned to wait for a fresh sight would wait for ever.
        """
        late = now_s - seen.stamp_s > self.late_s
        return replace(seen, stamp_s=seen.stamp_s - OLD_S) if late else seen

    def _unsure(self) -> bool:
        """Whether another look is worth more than going on; not once the fingers close."""
        strange = self.player.supervisor.wants_look and not self.player.loop.closing
        self._strange_n = self._strange_n + 1 if strange else 0
        return self._strange_n >= self.unsure_n and not self._looked_again

    def _or_stop(self, call: Callable[..., T], *args: NDArray[np.float32]) -> T:
        try:
            return call(*args)
        except SafetyError as error:
            self.player.stop(str(error))
            raise

    def _braking(self) -> Motion[None]:
        """Come to rest after the policy's last action, within the servo's acceleration."""
        loop = self.player.loop
        loop.brake()
        for _ in range(120):
            if not loop.moving:
                return
            yield from _tick(self.player, loop)


def _tick(player: Player, loop: GraspLoop) -> Motion[None]:
    q, qd = loop.references(1)
    verdict = yield q[0], qd[0]
    if verdict.level:
        loop.servo.follow(player.q_sent)
