"""The other side of the loop's messages: policy, watch, arm and hand, by proxy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from robot.errors import SafetyError, SteadyhandError
from robot.execution.acting import Acted
from robot.execution.grasp import GraspLoop, Outcome
from robot.execution.states import MotionTrouble, PickState, Trouble
from robot.interface import Clock
from robot.loop import messages
from robot.loop.actions import SUCCEEDED, ActionClient
from robot.loop.bus import Bus
from robot.loop.mailbox import Mailbox
from robot.loop.meter import Histogram
from robot.loop.nouns import (
    candidate_of,
    grasp_goal,
    objects_of,
    robot_state_of,
    scene_message,
    stamp_of,
)
from robot.loop.publisher import ACTION, JOINT_COMMAND, JOINT_STATES, OBSERVATION
from robot.loop.topics import (
    ARM,
    BARRIER,
    GRASP_ACTION,
    HAND,
    POLICY_BEGIN,
    SCENE,
    WATCH,
    WATCHED,
    feedback_topic,
)
from robot.loop.typestore import message_class
from robot.planning.obstacles import Box
from robot.types import (
    Array,
    GraspCandidate,
    GripperState,
    JointState,
    Look,
    ObjectState,
    RobotState,
    Trajectory,
)

_ARM_TYPE = "control_msgs/action/FollowJointTrajectory"
_HAND_TYPE = "control_msgs/action/GripperCommand"
_GRASP_TYPE = "steadyhand_msgs/action/Grasp"
LONGEST_WAIT_S = 30.0
_SEEN = "column at"
"""So begin the names of boxes that a height map was made into."""


class RemotePolicy:
    """A policy in another process; implements ``robot.execution.acting.Asked``.

    Args:
        bus: of this process.
        now_s: the loop's clock.
        lockstep: wait for each answer, as simulated time does.
    """

    def __init__(self, bus: Bus, now_s: Callable[[], float], lockstep: bool) -> None:
        self._bus, self._now_s, self._lockstep = bus, now_s, lockstep
        self._answers = bus.subscribe([ACTION])
        self._asked_s = self._sent_s = -1.0
        self.round_trip = Histogram()

    def reset(self) -> None:
        """A grasp begins: the policy forgets the one before, and its late answers do not count."""
        self._asked_s = -1.0
        while self._answers.get() is not None:
            pass
        now_s = self._now_s()
        self._bus.publish(POLICY_BEGIN, messages.time_message(now_s), now_s)

    def ask(self, observation: NDArray[np.float32]) -> None:
        """Send an observation."""
        self._asked_s, self._sent_s = self._now_s(), time.perf_counter()
        message = messages.float_array(observation, "observation")
        self._bus.publish(OBSERVATION, message, self._asked_s)

    def answer(self) -> NDArray[np.float32] | None:
        """The action for it, once it is there.

        Raises:
            SafetyError: the policy refused, and says why.
        """
        while True:
            packet = self._answers.get()
            if packet is None:
                if not self._lockstep:
                    return None
                _await(self._bus, self._answers, "policy")
            elif packet.stamp_s == self._asked_s:
                self.round_trip.add(time.perf_counter() - self._sent_s)
                message = packet.message
                if not len(message.data):
                    raise SafetyError(message.layout.dim[0].label)
                return np.array(message.data, dtype=np.float32)


class RemoteWatch:
    """A watch in another process; implements ``robot.interface.Watch``.

    Args:
        bus: of this process.
        latency_s: in lock-step the answer to an image counts from so long after its stamp on;
            otherwise as soon as it is there.
        lockstep: whether time stands still for it.
    """

    def __init__(self, bus: Bus, latency_s: float, lockstep: bool) -> None:
        self._bus, self._latency_s, self._lockstep = bus, latency_s, lockstep
        self._seen = bus.subscribe([WATCHED])
        self._done = bus.subscribe([BARRIER])
        self._exposed: deque[float] = deque()
        self.waiting: deque[ObjectState] = deque()
        self._done_s = -1.0
        self._begun_s = 0.0
        self.latency = Histogram()

    def exposed(self, stamp_s: float) -> None:
        """Images are being taken: in lock-step their barrier must be waited for."""
        if self._lockstep:
            self._exposed.append(stamp_s)

    def begin(self, look: Look | None, obj: ObjectState, now_s: float) -> None:
        """Watch an object of the other process's own newest look."""
        self._begun_s = now_s
        self.waiting.clear()
        self._bus.publish(WATCH, messages.detection_3d_array([obj], now_s), now_s)

    def read(self, now_s: float) -> ObjectState | None:
        """Its state where it was seen anew."""
        self.keep_up(now_s - self._latency_s)
        while (packet := self._seen.get()) is not None:
            for obj in objects_of(packet.message):
                if obj.stamp_s >= self._begun_s:
                    self.waiting.append(obj)
        newest = None
        while self.waiting and (
            not self._lockstep or now_s + 1e-9 >= self.waiting[0].stamp_s + self._latency_s
        ):
            newest = self.waiting.popleft()
        if newest is not None:
            self.latency.add(now_s - newest.stamp_s)
        return newest

    def keep_up(self, stamp_s: float) -> None:
        """In lock-step, wait until the images taken up to ``stamp_s`` have been dealt with."""
        while self._exposed and self._exposed[0] <= stamp_s + 1e-9:
            due_s = self._exposed.popleft()
            while self._done_s < due_s - 1e-6:
                packet = self._done.get()
                if packet is None:
                    _await(self._bus, self._done, "perception")
                else:
                    self._done_s = max(self._done_s, stamp_of(packet.message))


class RemoteArm:
    """An arm and its hand behind actions; implements the ``Arm`` and ``Hand`` of the picker.

    Args:
        bus: of this process.
        loop: knows the arm; its fingers' state is kept up to date from messages.
        wait: called while something is awaited; it takes in messages and may raise.
        joints, fingers: names in the joint states.
    """

    def __init__(
        self,
        bus: Bus,
        loop: GraspLoop,
        wait: Callable[[], object],
        joints: tuple[str, ...] = messages.PANDA_JOINTS,
        fingers: tuple[str, ...] = messages.PANDA_FINGERS,
    ) -> None:
        self.bus, self.loop, self.wait = bus, loop, wait
        self.clock: Clock = self
        self.phase = "idle"
        self.on_phase: Callable[[str], None] = lambda _: None
        self._names = joints, fingers
        self._arm = ActionClient(bus, ARM, _ARM_TYPE)
        self._hand = ActionClient(bus, HAND, _HAND_TYPE)
        self._grasp = ActionClient(bus, GRASP_ACTION, _GRASP_TYPE)
        self._states = bus.subscribe([JOINT_STATES, JOINT_COMMAND, feedback_topic(HAND)])
        home, rest = loop.limits.home_rad, np.zeros_like(loop.limits.home_rad)
        opening_m = loop.limits.gripper.max_opening_m
        self.state = RobotState(0.0, JointState(home, rest, rest), GripperState(opening_m, 0.0))
        self._contact = False
        self._told: tuple[Box, ...] = ()
        self._now_s = -1.0
        self.q_sent: Array = loop.limits.home_rad

    def now_s(self) -> float:
        """The newest stamp from the arm, s."""
        self.refresh()
        return max(self._now_s, 0.0)

    def sleep_until(self, time_s: float) -> None:
        """Wait for the arm's clock."""
        while self.now_s() < time_s:
            self.wait()

    def refresh(self) -> None:
        """Take in the newest reading."""
        newest = command = None
        while (packet := self._states.get()) is not None:
            self._now_s = max(self._now_s, packet.stamp_s)
            if packet.topic == JOINT_STATES:
                newest = packet
            elif packet.topic == JOINT_COMMAND:
                command = packet
            else:
                self._contact = bool(packet.message.feedback.stalled)
        if newest is not None:
            self.state = robot_state_of(newest.message, *self._names, self._contact)
        if command is not None:
            self.q_sent = np.array(command.message.position)
        self.loop.gripper_state = self.state.gripper

    def sync(self) -> None:
        """Wait for a reading; commands go on from there."""
        self.refresh()
        while self._now_s < 0.0:
            self.wait()
            self.refresh()

    def see(self, boxes: Sequence[Box]) -> None:
        """Tell the controller what always stands there: its monitors keep the arm away from it.

        Not what the cameras saw: to read dozens of boxes costs a controller a period or more.
        """
        told = tuple(box for box in boxes if not box.name.startswith(_SEEN))
        if told != self._told:
            self._told = told
            now_s = self.now_s()
            self.bus.publish(SCENE, scene_message(told, now_s), now_s)

    def play(self, trajectory: Trajectory) -> None:
        """Follow a trajectory to its end.

        Raises:
            MotionTrouble: the controller's guard ended it.
            SafetyError: the arm was halted.
        """
        if len(trajectory.time_s) < 2:
            return
        self.on_phase(self.phase)
        goal = message_class(f"{_ARM_TYPE}_Goal")
        multi = message_class("trajectory_msgs/msg/MultiDOFJointTrajectory")
        duration = message_class("builtin_interfaces/msg/Duration")
        now = self.now_s()
        path = messages.joint_trajectory(trajectory, now, self._names[0])
        status, result = self._arm.call(
            goal(
                path,
                multi(messages.header(now, "base_link"), [], []),
                [], [], [], [], duration(0, 0),
            ),
            now,
            self.wait,
        )  # fmt: skip
        self._stopped(result.error_string)
        self.refresh()
        if status != SUCCEEDED:
            trouble = next((t for t in Trouble if t.value == result.error_string), None)
            if trouble is None:
                raise SteadyhandError(f"arm: refused the trajectory: {result.error_string}")
            raise MotionTrouble(trouble)

    def hold(self, seconds: float) -> None:
        """Stand still."""
        n = len(self.q_sent)
        times = np.array([0.0, max(seconds, 1e-3)])
        still = np.tile(self.q_sent, (2, 1))
        self.play(Trajectory(times, still, np.zeros((2, n)), np.zeros((2, n))))

    def open(self, opening_m: float) -> None:
        """Tell the gripper a new opening."""
        goal = message_class(f"{_HAND_TYPE}_Goal")
        command = messages.gripper_command(self.loop.gripper.command(opening_m))
        self._hand.call(goal(command), self.now_s(), self.wait)

    def act(self, candidate: GraspCandidate, obj: ObjectState | None, look: Look | None) -> Acted:
        """The policy's part, in the controller's process."""
        self.on_phase("grasp")
        around = self.loop.around(None if look is None else look.height_map, candidate)
        goal = grasp_goal(candidate, obj, around)
        _, result = self._grasp.call(goal, self.now_s(), self.wait)
        self._stopped(result.error)
        self.refresh()
        goal.grasp, goal.object = result.grasp, result.object
        target, obj = candidate_of(goal)
        late = PickState(result.late) if result.late else None
        return Acted(Outcome(result.outcome), target, obj, late)

    def _stopped(self, text: str) -> None:
        if text.startswith("halted"):
            raise SafetyError(text)


def _await(bus: Bus, inbox: Mailbox, who: str) -> None:
    """Return when something is in ``inbox``; raises ``SafetyError`` where nothing comes in time."""
    end_s = time.monotonic() + LONGEST_WAIT_S
    while not len(inbox):
        left_s = end_s - time.monotonic()
        if left_s <= 0.0:
            raise SafetyError(f"{who}: no answer within {LONGEST_WAIT_S:g} s")
        if bus.gone:
            raise SafetyError(f"{who}: no answer: {', '.join(bus.gone)} is gone")
        bus.pump(left_s)  # it also returns early, with part of a message for instance
