"""How fast the simulation is: the same picks by every side, in turn, per second of one core.

Picks of a small cube are recorded once and then played again, so that no side waits for a policy
and all that is compared simulates the same motion. Resets are not counted. Time is what the thread
spent on a core: on a quiet machine that is a second of the clock, on a busy one the others' share
is left out.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from envs.bullet import pybullet, silenced
from envs.clock import SimClock
from envs.expert import ExpertPolicy
from robot.errors import SteadyhandError
from robot.execution.grasp import TICKS
from robot.execution.player import Player
from robot.safety.supervisor import Supervisor

Side = Callable[[int], tuple[float, float]]
"""Plays the pick of a number; returns simulated seconds and seconds of the core."""

_PICKS = 4


@dataclass(slots=True)
class _Recorded:
    """One pick: the actions, and for each batch of ticks what the motors were told."""

    seed: int
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    told: list[tuple[list[list[float]], list[list[float]], float, float]] = field(
        default_factory=list
    )


class CubePick:
    """This project's pick, recorded from the expert.

    Args:
        n_objects: cubes on the table.
        tick_hz: rate of physics and control.
        ticks: of one policy step.
    """

    def __init__(self, n_objects: int = 1, tick_hz: float = 240.0, ticks: int = TICKS) -> None:
        import pybullet_data

        importlib.import_module("envs")  # registers the ids
        cube = Path(pybullet_data.getDataPath()) / "cube_small.urdf"
        self._env = gymnasium.make(
            "Steadyhand/GraspSingle-v0",
            objects=str(cube),
            n_objects=n_objects,
            bank_size=_PICKS,
            tick_hz=tick_hz,
            ticks=ticks,
            disable_env_checker=True,
        )
        self._base = cast(Any, self._env.unwrapped)
        world, arm = self._base.world, self._base.arm
        self._player = Player(
            arm,
            SimClock(world),
            Supervisor(self._base.limits, self._base.loop.kinematics),
            self._base.loop,
        )
        self._picks = [self._record(seed) for seed in range(_PICKS)]

    @property
    def steps(self) -> float:
        """Policy steps a simulated second, the hold at the end included."""
        actions = sum(len(pick.actions) for pick in self._picks)
        return actions / sum(self.play(number)[0] for number in range(_PICKS))

    def play(self, number: int) -> tuple[float, float]:
        """Through the environment's ``step``; a ``Side``."""
        pick = self._begin(number)
        step = self._env.step
        began = time.thread_time()
        for action in pick.actions:
            step(action)
        return self._base.world.time_s, time.thread_time() - began

    def play_bare(self, number: int) -> tuple[float, float]:
        """One motor-array call and one ``stepSimulation`` a tick, nothing else; a ``Side``.

        The motors are told what they were told in the recording, so that arm and object move the
        same way and touch at the same points; the fingers' only when that changes.
        """
        pick = self._begin(number)
        world, press = self._base.world, self._base.arm.press
        arm, client, ticks = world.arm_id, world.client, 0
        joints, gains = list(range(7)), [0.3] * 7
        torque = self._base.limits.joints.torque_nm.tolist()
        told, step = pybullet.setJointMotorControlArray, pybullet.stepSimulation
        began = time.thread_time()
        for positions, speeds, opening_m, force_n in pick.told:
            press(opening_m, force_n)
            for q, qd in zip(positions, speeds, strict=True):
                told(
                    arm, joints, pybullet.POSITION_CONTROL, q, qd, torque, gains,
                    physicsClientId=client,
                )  # fmt: skip
                step(client)
            ticks += len(positions)
        spent = time.thread_time() - began
        return ticks * world.config.tick_s, spent

    def play_supervised(self, number: int) -> tuple[float, float]:
        """As deployed: every single tick through the supervisor's ``filter``; a ``Side``."""
        pick = self._begin(number)
        base, player = self._base, self._player
        loop, clock = base.loop, player.clock
        player.sync()

        def tick() -> None:
            q, qd = loop.references(1)
            if player.tick(q[0], qd[0]).level:
                loop.servo.follow(player.q_sent)

        began = time.thread_time()
        for action in pick.actions:
            player.command_gripper(loop.act(action))
            for _ in range(TICKS):
                tick()
            joints = player.state.joints
            loop.observe(joints.position_rad, joints.velocity_rad_s, clock.now_s())
            loop.outcome(clock.now_s())
        loop.brake()
        for _ in range(sum(len(q) for q, *_ in pick.told) - TICKS * len(pick.actions)):
            tick()
        return clock.now_s(), time.thread_time() - began

    def close(self) -> None:
        """Disconnect from Bullet."""
        self._env.close()

    def _begin(self, number: int) -> _Recorded:
        pick = self._picks[number % _PICKS]
        self._env.reset(seed=pick.seed)
        return pick

    def _record(self, seed: int) -> _Recorded:
        pick = _Recorded(seed)
        arm, expert = self._base.arm, ExpertPolicy(self._base.loop.config.lift_m)
        follow = arm.follow

        def noted(q: Any, qd: Any, opening_m: float, force_n: float) -> Any:
            pick.told.append((q.tolist(), qd.tolist(), opening_m, force_n))
            return follow(q, qd, opening_m, force_n)

        observation, _ = self._env.reset(seed=seed)
        arm.follow = noted
        try:
            over = False
            while not over:
                action = expert.act(observation)
                pick.actions.append(action)
                observation, _, done, cut, info = self._env.step(action)
                over = done or cut
        finally:
            del arm.follow
        if not info["is_success"]:
            raise SteadyhandError(f"pick {seed}: the cube was not lifted: {info['outcome']}")
        return pick


class PandaGymPick:
    """panda-gym's ``PandaPickAndPlace-v3``: the cube to its goal, by a script, recorded."""

    def __init__(self) -> None:
        with silenced():
            importlib.import_module("panda_gym")  # registers the id
            self._env = gymnasium.make("PandaPickAndPlace-v3", disable_env_checker=True)
        self._picks = [self._record(seed) for seed in range(_PICKS)]

    def play(self, number: int) -> tuple[float, float]:
        """Through the environment's ``step``, at its own 500 Hz; a ``Side``."""
        seed, actions = self._picks[number % _PICKS]
        self._env.reset(seed=seed)
        step = self._env.step
        began = time.thread_time()
        for action in actions:
            step(action)
        spent = time.thread_time() - began
        base: Any = self._env.unwrapped
        return len(actions) * base.sim.dt, spent

    def close(self) -> None:
        """Disconnect from Bullet."""
        self._env.close()

    def _record(self, seed: int) -> tuple[int, list[NDArray[np.float32]]]:
        observation, _ = self._env.reset(seed=seed)
        actions: list[NDArray[np.float32]] = []
        held, over = 0, False
        while not over:
            tool, cube = observation["observation"][:3], observation["observation"][7:10]
            # An action of 1 moves the hand by 5 cm and opens the fingers.
            way = (observation["desired_goal"] - cube if held > 3 else cube - tool) / 0.05
            if held <= 3 and np.abs(way[:2]).max() > 0.3:
                way[2] += 1.6  # from above
            if held or np.abs(way).max() < 0.2:
                held += 1
            action = np.clip([*way, -1.0 if held else 1.0], -1.0, 1.0).astype(np.float32)
            actions.append(action)
            observation, _, done, cut, _ = self._env.step(action)
            over = done or cut
        return seed, actions


def rates(
    sides: Mapping[str, Side], seconds: float, progress: Callable[[int], None] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Simulated seconds per second of one core.

    Args:
        sides: by name. In each round all play the pick of the same number, one after the other;
            who begins changes.
        seconds: rounds are played until each side has had so much time.
        progress: called with the number of rounds done.

    Returns:
        (rounds,) for each name.
    """
    names = list(sides)
    found: dict[str, list[float]] = {name: [] for name in names}
    had = dict.fromkeys(names, 0.0)
    number = 0
    while min(had.values()) < seconds:
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            simulated_s, spent_s = sides[name](number)
            had[name] += spent_s
            found[name].append(simulated_s / spent_s)
        number += 1
        if progress:
            progress(number)
    return {name: np.array(values) for name, values in found.items()}


def workers_ratio(rounds: int, seconds: float) -> NDArray[np.float64]:
    """What two worker processes simulate against one of them.

    Args:
        rounds: in each, one runs alone, then both.
        seconds: each time.

    Returns:
        (rounds, 2): by the clock, and by the time that each worker had a core. The second leaves
        out what other load takes of the machine, and shows how far the two slow each other down.
    """
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=_work, args=(there,), daemon=True) for _, there in pairs]
    connections = [here for here, _ in pairs]
    try:
        for process in processes:
            process.start()
        for _, there in pairs:
            there.close()
        for connection in connections:
            connection.recv()  # ready
        ratios = []
        for number in range(rounds):
            alone = _together(connections[number % 2 : number % 2 + 1], seconds)
            ratios.append(_together(connections, seconds) / alone)
        return np.array(ratios)
    except (EOFError, OSError) as error:
        raise SteadyhandError("bench: a worker process died") from error
    finally:
        for connection in connections:
            connection.close()  # at which the worker ends
        for process in processes:
            process.join(timeout=10)


def _together(connections: list[Connection], seconds: float) -> NDArray[np.float64]:
    for connection in connections:
        connection.send(seconds)
    return np.sum([connection.recv() for connection in connections], axis=0)


def _work(connection: Connection) -> None:
    """Answers a number of seconds with what it simulates a second: of the clock, of the core."""
    side = CubePick()
    connection.send(None)
    number = 0
    while True:
        try:
            seconds = connection.recv()
        except EOFError:
            break
        simulated, began, cpu_began = 0.0, time.perf_counter(), time.thread_time()
        while time.perf_counter() - began < seconds:
            simulated += side.play(number)[0]
            number += 1
        spent = time.perf_counter() - began, time.thread_time() - cpu_began
        connection.send((simulated / spent[0], simulated / spent[1]))
    side.close()
