"""The nodes of the controller's process: safety, controller, gripper. Nothing here waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from robot.errors import SafetyError, SteadyhandError
from robot.execution.acting import Acted, Acting
from robot.execution.grasp import Outcome
from robot.execution.player import Motion, Player
from robot.execution.states import PickState, Trouble
from robot.loop import messages
from robot.loop.actions import ActionServer, uuid_message
from robot.loop.bus import Bus
from robot.loop.nouns import around_of, candidate_of, grasp_goal, scene_of, trajectory_of
from robot.loop.publisher import JOINT_COMMAND, JOINT_STATES
from robot.loop.topics import ARM, ESTOP, GRASP_ACTION, HAND, SCENE
from robot.loop.typestore import decode, encode, message_class
from robot.observation import PATCH_SHAPE, Around
from robot.types import (
    GraspCandidate,
    GripperCommand,
    JointCommand,
    ObjectState,
    Pose,
    SafetyVerdict,
    Trajectory,
)

_ARM_TYPE = "control_msgs/action/FollowJointTrajectory"
_HAND_TYPE = "control_msgs/action/GripperCommand"
_GRASP_TYPE = "steadyhand_msgs/action/Grasp"
_NOWHERE = Pose("world", "grasp", np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
_PATH_TOLERANCE_VIOLATED = -4  # of FollowJointTrajectory's result
_INVALID_GOAL = -1


class SafetyNode:
    """Takes e-stops into the controller's own process, and what the arm has to keep away from.

    A run that was halted ends.

    Args:
        player: whose supervisor latches.
        bus: of the process.
        rate_hz: a stop is effective at the next controller period.
    """

    name = "safety"

    def __init__(self, player: Player, bus: Bus, rate_hz: float = 240.0) -> None:
        self.rate_hz = rate_hz
        self._player = player
        self._inbox = bus.subscribe([ESTOP, SCENE])

    def step(self, now_s: float) -> None:
        """Act on what came in."""
        self.answer(now_s)

    def answer(self, now_s: float) -> None:
        """The same, also while simulated time stands still."""
        while (packet := self._inbox.get()) is not None:
            if packet.topic == SCENE:
                self._player.see(scene_of(packet.message))
            else:
                self._player.stop(packet.message.data or "asked for")


class GripperNode:
    """Serves ``GripperCommand``, and tells how the fingers stand.

    Args:
        player: whose fingers.
        bus: of the process.
        rate_hz: of the feedback.
    """

    name = "gripper"

    def __init__(self, player: Player, bus: Bus, rate_hz: float = 60.0) -> None:
        self.rate_hz = rate_hz
        self._player = player
        self._server = ActionServer(bus, HAND, _HAND_TYPE)
        self._state = message_class(f"{_HAND_TYPE}_Feedback")
        self._result = message_class(f"{_HAND_TYPE}_Result")

    def step(self, now_s: float) -> None:
        """Take goals, tell the state."""
        self.answer(now_s)
        self.tell(now_s)

    def tell(self, now_s: float) -> None:
        """How the fingers stand now."""
        self._server.tell(uuid_message(0), self._told(self._state), now_s)

    def answer(self, now_s: float) -> None:
        """Take goals; one is done once the fingers know of it."""
        while (packet := self._server.next_packet()) is not None:
            self._player.open(float(packet.message.goal.command.position))
            self._server.succeed(self._told(self._result), now_s)

    def _told(self, kind: Any) -> Any:
        grip = self._player.state.gripper
        felt = self._player.loop.gripper_state
        there = abs(grip.opening_m - self._player.gripper.opening_m) < 0.002
        return kind(float(grip.opening_m), float(grip.force_n), bool(felt.contact), there)


class ControllerNode:
    """Drives one motion after the other, a tick at a time; without a goal it stands still.

    Args:
        player: commands the robot.
        acting: the policy's part.
        bus: of the process.
        gripper: tells how the fingers stand before each result.
        idle: in simulated time, where planning takes none, it is called until a goal is there:
            it waits for messages and has the other nodes answer them; False ends the waiting. In
            real time there is none, and the arm is held.
        threaded: decode long trajectories beside the loop rather than in it.
        rate_hz: of the controller.
    """

    name = "controller"

    def __init__(
        self,
        player: Player,
        acting: Acting,
        bus: Bus,
        gripper: GripperNode,
        idle: Callable[[], bool] | None = None,
        threaded: bool = False,
        rate_hz: float = 240.0,
    ) -> None:
        self.rate_hz = rate_hz
        self.player = player
        self._acting = acting
        self._bus = bus
        self._gripper = gripper
        self._idle = idle
        self._arm = ActionServer(bus, ARM, _ARM_TYPE)
        self._grasp = ActionServer(bus, GRASP_ACTION, _GRASP_TYPE)
        self._decoder = ThreadPoolExecutor(1, "decode") if threaded else None
        self._pending: tuple[ActionServer, Future[Any]] | None = None
        self._server: ActionServer | None = None
        self._motion: Motion[Any] | None = None
        self._verdict: SafetyVerdict | None = None
        self._told: PickState | None = None

    def step(self, now_s: float) -> None:
        """One tick's command."""
        if self._motion is None:
            self._next_goal(now_s)
        supervisor = self.player.supervisor
        if not supervisor.halted:
            try:
                self._tick(now_s)
            except SafetyError as error:  # the policy's part ended; nothing was sent yet
                if not supervisor.halted:
                    supervisor.estop(str(error))
            else:
                return  # where this tick was halted, what went was the first of the way to rest
        # The supervisor lets the way to rest through, and no more.
        self.player.command(self.player.q_sent, 0.0 * self.player.q_sent)
        if supervisor.at_rest and self._server is not None:
            self._end_halted(supervisor.verdict.reason, now_s)

    def _tick(self, now_s: float) -> None:
        player, motion = self.player, self._motion
        rest = player.q_sent, 0.0 * player.q_sent
        if motion is None:
            player.command(*rest)
            return
        try:
            wanted = next(motion) if self._verdict is None else motion.send(self._verdict)
        except StopIteration as end:
            self._end(end.value, now_s)
            player.command(*rest)
            return
        self._verdict = player.command(*wanted)
        if self._server is self._grasp:
            self._tell_state(now_s)

    def _tell_state(self, now_s: float) -> None:
        """Feedback of the policy's part, where its state has changed."""
        states = self._acting.states
        if states.state is not self._told:
            self._told = states.state
            kind = message_class(f"{_GRASP_TYPE}_Feedback")
            elapsed_s = float(now_s - states.since_s)
            self._grasp.tell(uuid_message(0), kind(states.state.value, elapsed_s), now_s)

    def _next_goal(self, now_s: float) -> None:
        if self._pending is None:
            while (server := self._offered()) is None:
                if self._idle is None or not self._idle():
                    return
            packet = server.next_packet()
            if self._decoder is None:
                self._start(server, _decoded(packet), now_s)
                return
            self._pending = server, self._decoder.submit(_decoded, packet)
        server, future = self._pending
        if future.done():
            self._pending = None
            self._start(server, future.result(), now_s)

    def _offered(self) -> ActionServer | None:
        return next((s for s in (self._arm, self._grasp) if len(s)), None)

    def _start(self, server: ActionServer, goal: Any, now_s: float) -> None:
        self._server, self._verdict, self._told = server, None, None
        if self.player.supervisor.halted:
            self._end_halted(self.player.supervisor.verdict.reason, now_s)
        elif isinstance(goal, SteadyhandError):
            self._server = None
            self._result_of_arm(_INVALID_GOAL, str(goal), now_s)
        elif server is self._arm:
            self._motion = self.player.playing(goal)
        else:
            candidate, obj, around = goal
            self._motion = self._acting.motion(candidate, obj, None, around)

    def _end(self, value: Any, now_s: float) -> None:
        server, self._server, self._motion = self._server, None, None
        self.report(now_s)
        if server is self._arm:
            trouble: Trouble | None = value
            code = 0 if trouble is None else _PATH_TOLERANCE_VIOLATED
            self._result_of_arm(code, "" if trouble is None else trouble.value, now_s)
        else:
            self._grasp.succeed(_grasp_result(value), now_s)

    def _end_halted(self, reason: str, now_s: float) -> None:
        """Whoever waits for the goal is told why the arm stands."""
        server, self._server, self._motion = self._server, None, None
        if server is self._arm:
            self._result_of_arm(_INVALID_GOAL, f"halted: {reason}", now_s)
        elif server is self._grasp:
            kind = message_class(f"{_GRASP_TYPE}_Result")
            nowhere = message_class("geometry_msgs/msg/PoseStamped")
            where = nowhere(messages.header(now_s, "world"), messages.pose(_NOWHERE))
            self._grasp.abort(kind("halted", "", where, [], f"halted: {reason}"), now_s)

    def report(self, now_s: float) -> None:
        """Whoever waits for a result knows the state that belongs to it."""
        player = self.player
        command = JointCommand(player.q_sent, 0.0 * player.q_sent)
        self._bus.publish(JOINT_COMMAND, messages.joint_command(command, now_s), now_s)
        self._gripper.tell(now_s)
        self._bus.publish(JOINT_STATES, messages.joint_state(player.state), now_s)

    def _result_of_arm(self, code: int, text: str, now_s: float) -> None:
        result = message_class(f"{_ARM_TYPE}_Result")(code, text)
        if code == 0:
            self._arm.succeed(result, now_s)
        else:
            self._arm.abort(result, now_s)


def warm_up() -> None:
    """Have every message made and read once: the first of a type costs tens of milliseconds."""
    obj = ObjectState(0, "box", _NOWHERE, np.ones(3), 1.0, False, 0.0)
    candidate = GraspCandidate(_NOWHERE, 0.04, 0.06, 1.0, 0, 0.0)
    rest = np.zeros((2, 7))
    path = messages.joint_trajectory(Trajectory(np.arange(2.0), rest, rest, rest), 0.0)
    grasp = _grasp_result(Acted(Outcome.HELD, candidate, obj))
    uuid = uuid_message(0)
    made: list[Any] = [
        path,
        messages.detection_3d_array([obj], 0.0),
        messages.float_array(np.zeros(3, np.float32), "x"),
        messages.time_message(0.0),
        messages.tf([_NOWHERE], 0.0),
        messages.string("x"),
        message_class(f"{_ARM_TYPE}_GetResult_Response")(
            0, message_class(f"{_ARM_TYPE}_Result")(0, "")
        ),
        message_class(f"{_GRASP_TYPE}_GetResult_Response")(0, grasp),
        message_class(f"{_GRASP_TYPE}_FeedbackMessage")(
            uuid, message_class(f"{_GRASP_TYPE}_Feedback")("", 0.0)
        ),
        message_class(f"{_GRASP_TYPE}_SendGoal_Request")(
            uuid,
            grasp_goal(candidate, obj, Around(np.zeros(PATCH_SHAPE, np.float32), np.zeros(4))),
        ),
        message_class(f"{_HAND_TYPE}_GetResult_Response")(
            0, message_class(f"{_HAND_TYPE}_Result")(0.0, 0.0, False, False)
        ),
        message_class(f"{_HAND_TYPE}_SendGoal_Request")(
            uuid,
            message_class(f"{_HAND_TYPE}_Goal")(messages.gripper_command(GripperCommand(0.0, 0.0))),
        ),
    ]
    for message in made:
        decode(encode(message), message.__msgtype__)


def _decoded(packet: Any) -> Any:
    """The goal as nouns; an error, where it cannot be one."""
    goal = packet.message.goal
    try:
        if hasattr(goal, "trajectory"):
            return trajectory_of(goal.trajectory)
        return *candidate_of(goal), around_of(goal)
    except SteadyhandError as error:
        return error


def _grasp_result(acted: Acted) -> Any:
    candidate, obj = acted.candidate, acted.obj
    stamp_s = candidate.stamp_s
    objects = messages.detection_3d_array([] if obj is None else [obj], stamp_s)
    return message_class(f"{_GRASP_TYPE}_Result")(
        acted.outcome.value,
        "" if acted.trouble is None else acted.trouble.value,
        messages.pose_stamped(candidate.X_world_grasp, stamp_s),
        objects.detections,
        "",
    )
