"""A pick from look to put-away, as a sequence of phases over protocols only.

look -> plan -> approach -> (policy) grasp -> carry -> place -> home. The policy acts from the
pre-grasp until the hold is confirmed; the planner does the rest. Nothing here knows whether the
robot is real.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from robot.errors import PlanningError
from robot.execution.arm import Arm, Hand
from robot.execution.attempt import GraspAttempt, why_failed
from robot.execution.closer import look_again, look_closer
from robot.execution.grasp import GraspLoop, Outcome
from robot.execution.states import MotionTrouble, PathBlocked, Trouble
from robot.interface import GraspScorer, Perception
from robot.limits import RobotLimits
from robot.loop.log import RunLog
from robot.planning.collision import CollisionChecker
from robot.planning.grasps import GraspPlanner
from robot.planning.paths import PathPlanner
from robot.planning.placing import PlacePlanner, TrayConfig
from robot.planning.ranking import FailedGrips, GraspRanking, Ranked, Refusal, near_first
from robot.planning.reach import reachable
from robot.planning.scene import SceneModel
from robot.planning.target import Target
from robot.types import GraspCandidate, Look, ObjectState, PickResult, Pose, Trajectory

Array = NDArray[np.float64]

_REPLANS = 3
"""So often a motion that was blocked is planned anew."""


@dataclass(frozen=True)
class PickConfig:
    """Where things go, and how long things take.

    Attributes:
        tray: where objects are put away.
        release_s: time for the fingers to open and the object to fall.
        tries_n: candidates that are planned for before giving up.
        retreat_m: the hand rises so far before it goes home after a failed grasp.
    """

    tray: TrayConfig = TrayConfig()
    release_s: float = bounded(0.6, 0.0, 10.0)
    tries_n: int = bounded(8, 1, 100)
    retreat_m: float = bounded(0.12, 0.0, 0.5)


class Picker:
    """Picks objects and puts them away.

    Args:
        limits: of the arm.
        player: moves.
        loop: knows the arm and the fingers.
        perception: looks.
        acting: does the policy's part.
        planner: proposes candidates.
        config: see :class:`PickConfig`.
        scorer: rates candidates, where there is one; else the planner's own order stands.
        log: gets looks, plans and picks.
        seed: of the planners' choices.
    """

    def __init__(
        self,
        limits: RobotLimits,
        player: Arm,
        loop: GraspLoop,
        perception: Perception,
        acting: Hand,
        planner: GraspPlanner | None = None,
        config: PickConfig | None = None,
        scorer: GraspScorer | None = None,
        log: RunLog | None = None,
        seed: int = 0,
    ) -> None:
        self.limits = limits
        self.player = player
        self.loop = loop
        self.perception = perception
        self.acting = acting
        self.log = log
        #: (2,) m: candidates near this place on the table come first; None: wherever they are.
        self.target_m: Array | None = None
        #: What happens to a candidate on its way to the hand: what do mistakes cost?
        self.misjudge: Callable[[GraspCandidate], GraspCandidate] | None = None
        #: The one object that is wanted; None: any.
        self.target: Target | None
        self.config = config or PickConfig()
        self.ranking = GraspRanking(limits.gripper, scorer, planner)
        self.checker = CollisionChecker(limits, loop.kinematics)
        self.paths = PathPlanner(limits, loop.kinematics, self.checker, seed)
        #: The scene that paths are planned in; declare there what stands on the table.
        self.around = SceneModel(self.checker, self.config.tray.walls)
        parts = (loop.kinematics, self.checker, self.paths, self.around)
        self.placing = PlacePlanner(*parts, self.config.tray)
        self.begin_episode(seed)

    def begin_episode(self, seed: int) -> None:
        """Forget earlier attempts and start the planners' choices from ``seed``."""
        self._rng = np.random.default_rng(seed)
        self.target = None
        self.paths.seed = seed % (2**31)
        self._failed = FailedGrips()
        self.around.put_down = ()
        self._scene: Look | None = None
        self._last_way: Trajectory | None = None
        self.player.sync()
        self.player.open(self.limits.gripper.max_opening_m)

    # Phases ---------------------------------------------------------------------------------

    def look(self) -> Look:
        """Look at the table from where the arm is now."""
        self.player.phase = "look"
        look = self.perception.look()
        if self.log is not None:
            self.log.look(look.frames, look.detections, look.objects, look.stamp_s)
        return look

    def grasp(self, look: Look) -> GraspAttempt:
        """Grasp the best that can be reached; look again where the first look did not do.

        From near where there is no place to grip, from home where the policy was unsure.
        """
        attempt = self._grasp(look)
        barred = attempt.outcome in ("no_candidate", "no_path")
        if barred and (nearer := look_closer(self, look)) is not None:
            attempt = replace(self._grasp(nearer), started_s=attempt.started_s)
            if attempt.candidate is None:
                self.travel(self.limits.home_rad, nearer)
        elif attempt.outcome == Outcome.UNSURE.value and (anew := look_again(self)) is not None:
            attempt = replace(self._grasp(anew), started_s=attempt.started_s)
        return attempt

    def travel(self, q: Array, look: Look | None) -> None:
        """A free way with the hand open; raises ``PlanningError`` where there is none.

        What comes into the way while the arm moves stops it, and it looks for another way.
        """
        self._follow(partial(self._way, q, look))

    def _follow(self, way: Callable[[], Trajectory], path: Trajectory | None = None) -> None:
        """Play ``path``, or what ``way`` plans; where something is in the way, plan anew."""
        for _ in range(_REPLANS):
            try:
                self._play(path or way())
                return
            except PathBlocked as error:
                path = None
                if self.log is not None:
                    self.log.event(str(error))
        self._play(way())

    def _grasp(self, look: Look) -> GraspAttempt:
        """Plan for the best candidate that can be reached, go there, and let the policy grasp.

        Where the way to each of the usual grips is barred, others are offered.
        """
        self._scene = look
        attempt = GraspAttempt("no_candidate", started_s=self.player.clock.now_s())
        around = self.around.drawn_on(look)
        for unusual in (False, True):
            ranked = self.ranking.ranked(
                around, self._rng, self._failed, self.around.is_part, unusual
            )
            if self.target is not None:
                ranked = self.target.order(ranked, look)
            if self.target_m is not None:  # the same order, what is asked for first
                ranked = near_first(ranked, self.target_m)
            if not ranked or self._taken(ranked, look, attempt):
                break
        if attempt.outcome == "no_candidate":
            what = "any object" if self.target is None else "the wanted object or beside it"
            attempt.reasons.append(f"no place on {what} fits between the fingers from above")
        if attempt.candidate is None and self.log is not None:
            self.log.plan([item.candidate for item in ranked], None)
        return attempt

    def _taken(self, ranked: list[Ranked], look: Look, attempt: GraspAttempt) -> bool:
        """Whether one of these could be reached; ``attempt`` tells how that one went, or why."""
        candidates = [item.candidate for item in ranked]
        for place, candidate in enumerate(candidates[: self.config.tries_n], start=1):
            if self.misjudge is not None:
                candidate = self.misjudge(candidate)
            found = reachable(self.loop, candidate, self.player.q_sent, self.checker.is_apart)
            if found is None:
                at = np.array2string(candidate.X_world_grasp.position_m, precision=3)
                attempt.outcome = "no_path"
                attempt.reasons.append(
                    f"grasp at {at} m: out of reach, or the arm gets stuck on the way"
                )
                attempt.refused.add(Refusal.OUT_OF_REACH)
                continue
            chosen = found[0]
            try:
                self.around.check_line(
                    self.loop.kinematics, chosen, found[1], self.loop.config.lift_m
                )
                path = self._way(found[1], look, chosen.opening_m)
            except PlanningError as error:
                attempt.outcome = "no_path"
                attempt.reasons.append(str(error))
                attempt.refused.add(Refusal.NO_PATH)
                continue
            attempt.refused.rest(ranked[place:], self.ranking.config.least_probability)
            attempt.candidate = chosen
            attempt.obj = next((o for o in look.objects if o.object_id == chosen.object_id), None)
            if self.log is not None:
                self.log.plan(candidates, path, chosen)
            self.player.phase = "approach"
            self.player.open(chosen.opening_m)
            try:
                self._follow(partial(self._way, found[1], look, chosen.opening_m), path)
            except PlanningError as error:
                if isinstance(error, MotionTrouble) and not isinstance(error, PathBlocked):
                    raise
                attempt.outcome, attempt.candidate = "no_path", None
                attempt.reasons.append(str(error))
                continue
            acted = self.acting.act(chosen, attempt.obj, look)
            attempt.outcome, attempt.late = acted.outcome.value, acted.trouble
            attempt.candidate, attempt.obj = acted.candidate, acted.obj
            if not attempt.held:
                grip, limit_s = self.player.state.gripper, self.loop.config.timeout_s
                attempt.reasons = [why_failed(attempt.outcome, chosen, grip, limit_s)]
                if acted.outcome is not Outcome.UNSURE:  # nothing is wrong with the grip
                    self._failed.add(chosen)
            return True
        return False

    def hold(self, seconds: float) -> None:
        """Stand still with what is held."""
        self.player.phase = "hold"
        self.player.hold(seconds)

    def rise(self, height_m: float) -> None:
        """Straight up by ``height_m``, as far as the arm reaches.

        Raises:
            PlanningError: not even half of it can be reached.
        """
        self.player.phase = "carry"
        here = self.loop.kinematics.forward(self.player.q_sent)
        error: PlanningError | None = None
        for share in (1.0, 0.75, 0.5):
            up = here.position_m + np.array([0, 0, share * height_m])
            goal = Pose("world", here.child, up, here.quat_xyzw)
            try:
                way = self.paths.straight(self.player.q_sent, goal, speed_m_s=0.3, check=False)
            except PlanningError as problem:
                error = problem
                continue
            self._play(way)
            return
        raise error or PlanningError("rise: no way up")

    def put_away(self, attempt: GraspAttempt) -> PickResult:
        """Carry what is held to the tray and let it go there."""
        self.player.phase = "carry"
        candidate = attempt.candidate
        object_id = -1 if candidate is None else candidate.object_id

        def result(success: bool, category: str, detail: str = "") -> PickResult:
            taken = self.player.clock.now_s() - attempt.started_s
            refused = attempt.refused.as_dict()
            return PickResult(success, category, object_id, taken, detail, refused)

        if candidate is None:
            return result(False, "no_candidate", "; ".join(attempt.reasons))
        self.checker.set_hand(self.player.state.gripper.opening_m)
        try:
            self._follow(partial(self._way_to_tray, candidate, attempt.obj))
        except PlanningError as error:
            trouble = error.trouble if isinstance(error, MotionTrouble) else None
            if trouble in (Trouble.BLOCKED_PATH, Trouble.TOO_LONG):
                self._put_back()
                return result(False, "blocked_on_the_way", str(error))
            self.release()
            lost = trouble is Trouble.LOST_OBJECT
            return result(False, "lost_on_the_way" if lost else "no_path_to_tray", str(error))
        kept = self.loop.gripper_state.contact
        self.player.phase = "place"
        self.release()
        if not kept:
            self._failed.add(candidate)
            return result(False, "lost_on_the_way", "the fingers closed on nothing while carrying")
        self.around.put_down += (self.placing.laid(self.player.q_sent, candidate, attempt.obj),)
        return result(True, "success")

    def release(self) -> None:
        """Open the hand and wait for what was in it to fall; being pushed only ends the wait."""
        self.player.open(self.limits.gripper.max_opening_m)
        with suppress(MotionTrouble):
            self.player.hold(self.config.release_s)

    def home(self) -> None:
        """Back to where the arm looks from, with the hand open.

        Raises:
            PlanningError: no way home was found.
        """
        self.player.phase = "home"
        self.player.open(self.limits.gripper.max_opening_m)
        here = self.loop.kinematics.forward(self.player.q_sent)
        if here.position_m[2] < self.config.retreat_m + 0.1:
            self.player.hold(0.3)
            self.rise(self.config.retreat_m)
            self.player.phase = "home"
        self.travel(self.limits.home_rad, self._scene)

    def back_off(self) -> None:
        """Back along what was travelled of the last way, to where it began."""
        way, q = self._last_way, self.player.q_sent
        k = 0 if way is None else int(np.abs(way.position_rad - q).max(axis=1).argmin())
        if way is None or k < 1:
            return
        part = slice(k, None, -1)
        time_s, q_back = way.time_s[k] - way.time_s[part], way.position_rad[part]
        back, slowing = -way.velocity_rad_s[part], way.acceleration_rad_s2[part]
        self._play(Trajectory(time_s, q_back, back, slowing))

    # Parts ----------------------------------------------------------------------------------

    def _play(self, way: Trajectory) -> None:
        self._last_way = way
        self.player.play(way)

    def _way_to_tray(self, candidate: GraspCandidate, obj: ObjectState | None) -> Trajectory:
        try:
            return self.placing.path(self.player.q_sent, candidate, obj, self._scene)
        finally:
            self.player.see(self.checker.boxes)

    def _way(self, q: Array, look: Look | None, opening_m: float | None = None) -> Trajectory:
        """A free way to joints (n,) rad; raises ``PlanningError`` where there is none."""
        self.around.show(look, highest_m=self.placing.passed_m)
        self.player.see(self.checker.boxes)
        self.checker.set_hand(opening_m)
        return self.paths.to_joints(self.player.q_sent, q)

    def _put_back(self) -> None:
        """What is held goes back to where it was lifted, as far as that is free."""
        with suppress(PlanningError):
            self.back_off()
            self.rise(-self.loop.config.lift_m)
        self.release()
