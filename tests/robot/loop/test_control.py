"""The controller's process over an arm that counts: whatever ends a motion, the arm is braked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from robot import observation
from robot.errors import SafetyError
from robot.execution.player import TICK_S
from robot.kinematics import Kinematics
from robot.limits import load_limits
from robot.loop import cell as module
from robot.loop import messages
from robot.loop.actions import uuid_message
from robot.loop.bus import Bus
from robot.loop.cell import Cell
from robot.loop.nouns import grasp_goal
from robot.loop.topics import ARM, EPISODE, ESTOP, GRASP_ACTION, STOP, goal_topic, result_topic
from robot.loop.typestore import message_class
from robot.observation import PATCH_SHAPE, Around
from robot.planning.collision import CollisionChecker
from robot.planning.paths import PathPlanner
from robot.safety.config import SafetyConfig, Zone
from robot.safety.novelty import Novelty, fit
from robot.types import (
    GraspCandidate,
    GripperCommand,
    GripperState,
    JointCommand,
    JointState,
    Pose,
    RobotState,
)

LIMITS = load_limits("panda")
HOME = LIMITS.home_rad
FOLLOW = "control_msgs/action/FollowJointTrajectory"
GRASP = "steadyhand_msgs/action/Grasp"


class Arm:
    """Goes exactly where it is told, and is its own clock and plant."""

    def __init__(self) -> None:
        self.clock, self.robot, self.paced = self, self, None
        self.q, self.qd, self.now = HOME.copy(), np.zeros(7), 0.0
        self.path: list[np.ndarray] = [HOME.copy()]
        self.stamps: list[float] = []
        self.stops = 0
        self.closed_at: int | None = None
        self.on_send = lambda: None

    def read(self) -> RobotState:
        return RobotState(
            self.now, JointState(self.q, self.qd, np.zeros(7)), GripperState(0.08, 0.0)
        )

    def send(self, joints: JointCommand, gripper: GripperCommand) -> JointCommand:
        self.q, self.qd = joints.position_rad.copy(), joints.velocity_rad_s.copy()
        self.path.append(self.q)
        self.stamps.append(self.now)
        self.on_send()
        return joints

    def stop(self) -> None:
        self.stops += 1

    def now_s(self) -> float:
        return self.now

    def sleep_until(self, time_s: float) -> None:
        self.now = time_s

    def begin(self, wanted) -> None:
        pass

    def expose(self, now_s: float) -> None:
        pass

    def put_away(self) -> int:
        return 0

    def close(self) -> None:
        self.closed_at = len(self.path)

    @property
    def speed_rad_s(self) -> float:
        return float(np.abs(self.path[-1] - self.path[-2]).max() / TICK_S)

    def assert_braked(self) -> None:
        """At rest at the end, and never beyond the joints' acceleration on the way there."""
        assert self.speed_rad_s == 0.0 and self.stops == 0
        speed = np.diff(self.path, axis=0) / TICK_S
        gain = np.abs(np.diff(speed, axis=0)) / TICK_S
        assert (gain <= 1.05 * LIMITS.joints.acceleration_rad_s2).all()


@pytest.fixture()
def cell(monkeypatch):
    monkeypatch.setattr(module, "be_urgent", lambda: False)
    arm, bus = Arm(), Bus("control")
    made = Cell(bus, arm, LIMITS, lockstep=False, guarded=False)
    made.arm = arm
    return made


def follow(bus: Bus) -> None:
    """Have the arm turn by 1.2 rad."""
    kinematics = Kinematics(LIMITS)
    paths = PathPlanner(LIMITS, kinematics, CollisionChecker(LIMITS, kinematics))
    path = paths.to_joints(HOME, HOME + np.array([1.2, 0, 0, 0, 0, 0, 0]))
    goal = message_class(f"{FOLLOW}_Goal")
    multi = message_class("trajectory_msgs/msg/MultiDOFJointTrajectory")
    duration = message_class("builtin_interfaces/msg/Duration")
    wanted = goal(
        messages.joint_trajectory(path, 0.0), multi(messages.header(0.0, ""), [], []),
        [], [], [], [], duration(0, 0),
    )  # fmt: skip
    request = message_class(f"{FOLLOW}_SendGoal_Request")
    bus.publish(goal_topic(ARM), request(uuid_message(1), wanted), 0.0)


def once_fast(cell: Cell, do) -> None:
    """``do`` something, once, while the arm moves."""
    done: list[bool] = []

    def on_send() -> None:
        if not done and cell.arm.speed_rad_s > 0.3:
            done.append(True)
            do()
        if len(cell.arm.path) > 20_000:
            raise RuntimeError("the loop does not end")

    cell.arm.on_send = on_send


def stop(cell: Cell) -> None:
    cell.bus.publish(STOP, messages.string("end"), 0.0)


def test_the_end_of_a_run_brakes_a_moving_arm_before_the_plant_is_closed(cell):
    follow(cell.bus)
    once_fast(cell, lambda: stop(cell))
    cell.run()
    cell.arm.assert_braked()
    assert cell.arm.closed_at == len(cell.arm.path)


def test_a_halt_commands_once_a_tick_and_tells_once_when_the_arm_stands(cell):
    results = cell.bus.subscribe([result_topic(ARM)])
    follow(cell.bus)
    told_at: list[float] = []

    def halt() -> None:
        cell.bus.publish(ESTOP, messages.string("a test"), 0.0)
        begun = cell.arm.now

        def later() -> None:
            while (packet := results.get()) is not None:
                told_at.append(cell.arm.speed_rad_s)
                assert "halted: e-stop: a test" in packet.message.result.error_string
            if cell.arm.now > begun + 1.0:
                stop(cell)

        cell.arm.on_send = later

    once_fast(cell, halt)
    cell.run()
    cell.arm.assert_braked()
    assert told_at == [0.0]
    stamps = np.array(cell.arm.stamps[1:])  # the first warms up
    assert len(np.unique(stamps)) == len(stamps)


def test_a_policy_that_refuses_is_told_of_when_the_arm_stands(cell):
    results = cell.bus.subscribe([result_topic(GRASP_ACTION)])
    player = cell.player

    asked = []

    def motion(*goal):
        asked.append(goal)
        q, speed = HOME.copy(), 0.0
        for _ in range(120):
            speed = min(speed + 2.0 * TICK_S, 0.5)
            q = q + np.array([speed * TICK_S, 0, 0, 0, 0, 0, 0])
            yield q, np.array([speed, 0, 0, 0, 0, 0, 0])
        player.stop("policy: no action")
        raise SafetyError("policy: no action")

    cell.controller._acting.motion = motion
    pose = Pose("world", "grasp", np.array([0.5, 0, 0.1]), np.array([1.0, 0, 0, 0]))
    around = Around(np.full(PATCH_SHAPE, 0.02, np.float32), np.array([0.01, 0.0, -0.02, 0.3]))
    goal = grasp_goal(GraspCandidate(pose, 0.04, 0.06, 1.0, 0, 0.0), None, around)
    request = message_class(f"{GRASP}_SendGoal_Request")
    cell.bus.publish(goal_topic(GRASP_ACTION), request(uuid_message(1), goal), 0.0)
    told_at: list[float] = []

    def on_send() -> None:
        while (packet := results.get()) is not None:
            told_at.append(cell.arm.speed_rad_s)
            assert "policy: no action" in packet.message.result.error
            stop(cell)
        assert len(cell.arm.path) < 20_000

    cell.arm.on_send = on_send
    cell.run()
    assert max(np.abs(np.diff(cell.arm.path, axis=0)).ravel()) / TICK_S > 0.4
    cell.arm.assert_braked()
    assert told_at == [0.0]
    # What the look showed around the grasp came along.
    ((*_, told),) = asked
    np.testing.assert_array_equal(told.patch_m, around.patch_m)
    np.testing.assert_array_equal(told.aim, around.aim)


def test_a_controller_that_fails_brakes_and_closes_the_plant(cell):
    follow(cell.bus)

    def fail() -> None:
        raise ValueError("a bug")

    cell.plant.begin = lambda wanted: fail()
    told = messages.string(json.dumps({"seed": 0, "models": []}))
    once_fast(cell, lambda: cell.bus.publish(EPISODE, told, 0.0))
    with pytest.raises(ValueError, match="a bug"):
        cell.run()
    cell.arm.assert_braked()
    assert cell.arm.closed_at == len(cell.arm.path)


def test_the_monitors_are_those_that_the_cells_file_asks_for(monkeypatch):
    monkeypatch.setattr(module, "be_urgent", lambda: False)
    zone = Zone((0.4, 0.3, 0.0), (0.8, 0.7, 0.6), "the door")
    settings = SafetyConfig(keep_out=(zone,), off=("novelty",))
    made = Cell(Bus("control"), Arm(), LIMITS, lockstep=False, safety=settings)
    usual = Cell(Bus("control"), Arm(), LIMITS, lockstep=False)
    supervisors = made.player.supervisor, usual.player.supervisor
    own, all_of_them = (set(s.monitors) for s in supervisors)
    assert all_of_them - own == {"novelty"}
    assert supervisors[0].config == settings


def test_the_supervisor_is_told_how_new_what_the_policy_sees_is(monkeypatch):
    monkeypatch.setattr(module, "be_urgent", lambda: False)
    rng = np.random.default_rng(0)
    picks = [rng.normal(size=(10, len(observation.names()))) for _ in range(40)]
    novelty = Novelty(fit(picks[:20], picks[20:], 0.1, b"", observation.names()))
    made = Cell(Bus("control"), Arm(), LIMITS, lockstep=False, novelty=novelty)
    policy, signals = made.controller._acting.policy, made.player.supervisor.signals
    policy.ask(picks[0][0].astype(np.float32))
    assert 0.0 < signals.novelty < 1.0
    policy.ask(np.full(len(observation.names()), 20.0, np.float32))
    assert signals.novelty > 1.0
    policy.reset()
    assert signals.novelty is None
