"""The controller's process: a plant, monitors, nodes and their fixed rate."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from configs.load import bounded
from robot.execution.acting import Acting, Asked, Watched
from robot.execution.grasp import GraspLoop
from robot.execution.guard import MotionGuard
from robot.execution.player import Player
from robot.interface import Clock, Robot
from robot.limits import RobotLimits
from robot.loop import messages
from robot.loop.bus import Bus
from robot.loop.clock import PacedClock, RealClock
from robot.loop.control import ControllerNode, GripperNode, SafetyNode, warm_up
from robot.loop.executor import Executor, be_urgent, kept_awake
from robot.loop.meter import Meter
from robot.loop.publisher import PHASE, PublisherConfig
from robot.loop.remote import RemotePolicy, RemoteWatch
from robot.loop.statelog import StateLog
from robot.loop.timing import timing_message
from robot.loop.topics import EPISODE, READY, STOP, TIMING
from robot.safety.config import SafetyConfig
from robot.safety.novelty import Novelty
from robot.safety.supervisor import Supervisor

_SWITCH_S = 2e-4
_LONGEST_BRAKING_TICKS = 240


@dataclass(frozen=True)
class LoopRates:
    """How often each part of the loop runs, Hz; the controller's is that of everything else's tick.

    Attributes:
        controller_hz: judging and sending commands; also of e-stops coming in.
        camera_hz: of simulated images; a divisor of the controller's.
        gripper_hz: of the fingers' feedback.
        state_hz: of joint states, commands and poses on their topics.
        diagnostics_hz: of the loop's own figures.
    """

    controller_hz: float = bounded(240.0, 240.0, 240.0)
    camera_hz: float = bounded(5.0, 0.5, 60.0)
    gripper_hz: float = bounded(60.0, 1.0, 240.0)
    state_hz: float = bounded(60.0, 1.0, 240.0)
    diagnostics_hz: float = bounded(1.0, 0.1, 10.0)


class Plant(Protocol):
    """The robot with what belongs to it: a simulated world, or an arm behind DDS."""

    clock: Clock
    paced: PacedClock | None

    @property
    def robot(self) -> Robot:
        """Is commanded, and read."""

    def begin(self, wanted: dict[str, Any]) -> None:
        """A new table, as it was asked for; time goes on."""

    def expose(self, now_s: float) -> None:
        """Images are to be taken now."""

    def put_away(self) -> int:
        """Objects in the tray by now, where that can be known; 0 where not."""

    def close(self) -> None:
        """Let go."""


class Cell:
    """A robot and its controller, driven by messages.

    Args:
        bus: of the process.
        plant: the robot, and its clock.
        limits: of the arm.
        lockstep: whether time stands still while others work.
        rates: see :class:`LoopRates`.
        watches: whether the object is seen anew while the policy acts.
        latency_s: in lock-step, what an image shows counts from so long after it on.
        guarded: whether a motion that is held back is given up.
        novelty: tells the supervisor how new what the policy sees is.
        safety: the monitors' settings.
    """

    def __init__(
        self,
        bus: Bus,
        plant: Plant,
        limits: RobotLimits,
        lockstep: bool,
        rates: LoopRates | None = None,
        watches: bool = True,
        latency_s: float = 0.1,
        guarded: bool = True,
        novelty: Novelty | None = None,
        safety: SafetyConfig | None = None,
    ) -> None:
        self.bus, self.plant, self.lockstep = bus, plant, lockstep
        self.rates = rates or LoopRates()
        loop = GraspLoop.make(limits)
        clock, self.paced = plant.clock, plant.paced
        log = StateLog(bus, loop.kinematics, PublisherConfig(state_rate_hz=self.rates.state_hz))
        guard = MotionGuard(loop) if guarded else None
        supervisor = Supervisor(limits, loop.kinematics, safety)
        self.player = Player(plant.robot, clock, supervisor, loop, log, guard)
        self.clock = clock
        self.policy = RemotePolicy(bus, clock.now_s, self.lockstep)
        self.watch = RemoteWatch(bus, latency_s, self.lockstep)
        asked: Asked = self.policy
        if novelty is not None:
            asked = Watched(self.policy, novelty, supervisor.signals)
        acting = Acting(self.player, asked, self.watch if watches else None, squeeze=True)
        self._inbox = bus.subscribe([EPISODE, STOP])
        self.safety = SafetyNode(self.player, bus)
        self.gripper = GripperNode(self.player, bus, self.rates.gripper_hz)
        idle = self._idle if self.lockstep else None
        self.controller = ControllerNode(
            self.player, acting, bus, self.gripper, idle, threaded=not self.lockstep
        )
        self.executor = Executor(
            self,
            self.rates.controller_hz,
            [
                _Step("messages", self.rates.controller_hz, self._take),
                self.safety,
                self.controller,
                self.gripper,
                _Step("cameras", self.rates.camera_hz, self._expose),
                _Step("diagnostics", self.rates.diagnostics_hz, self._diagnose),
            ],
        )
        self.urgent = self.awake = False
        self._begun = False
        self._ending = ""
        self._real = clock if isinstance(clock, RealClock) else None
        self._due_s = clock.now_s()

    def run(self) -> None:
        """Until told to stop, and at rest."""
        try:
            self._run()
        except Exception as error:
            self._brake(f"the controller ended: {error}")
            raise
        finally:
            self.plant.close()

    def _run(self) -> None:
        self._warm_up()
        with ExitStack() as held:
            if not self.lockstep:
                sys.setswitchinterval(_SWITCH_S)
                self.urgent = be_urgent()
                self.awake = held.enter_context(kept_awake())
            self.bus.publish(READY, messages.string("control"), self.clock.now_s())
            if self.paced is not None:
                self.paced.restart()
            self.executor.run()
        self._diagnose(self.clock.now_s())
        self.bus.settle()

    # A beat of the executor ---------------------------------------------------------------------

    def advance(self) -> None:
        """Until the next tick is due: the world steps, the robot is read."""
        if self._real is None:
            self.player.advance()
            return
        period_s, now_s = 1.0 / self.rates.controller_hz, self._real.now_s()
        self._due_s += period_s
        if now_s - self._due_s > period_s:  # a tick that was missed is not made up for
            self._due_s = now_s
        self.player.advance(self._due_s)

    def late_s(self) -> float:
        """How late that was, s of the wall."""
        return float(getattr(self.clock, "late_s", 0.0))

    def now_s(self) -> float:
        """The loop's clock."""
        return self.clock.now_s()

    # Steps --------------------------------------------------------------------------------------

    def _take(self, now_s: float) -> None:
        if not self.lockstep:
            self.bus.pump()
        self._answer(now_s)

    def _answer(self, now_s: float) -> None:
        while (packet := self._inbox.get()) is not None:
            if packet.topic == STOP:
                self._ending = "the run ends"
            else:
                self._begin(json.loads(packet.message.data))
        if "planning" in self.bus.gone:
            self._ending = "the planning process is gone"
        if self._ending:
            self._end()

    def _end(self) -> None:
        """An arm that moves is braked first; the loop goes on until it stands."""
        supervisor = self.player.supervisor
        if supervisor.at_rest:
            self.executor.stopped = True
        elif not supervisor.halted:
            self.player.stop(self._ending)

    def _brake(self, reason: str) -> None:
        """Bring an arm to rest whose controller has failed, as far as it still answers."""
        player = self.player
        with suppress(Exception):
            player.stop(reason)
            for _ in range(_LONGEST_BRAKING_TICKS):
                if player.supervisor.at_rest:
                    return
                player.command(player.q_sent, 0.0 * player.q_sent)
                self.advance()

    def _idle(self) -> bool:
        """Simulated time stands still until there is something to do."""
        self.executor.meter.pause()
        self.bus.pump(0.5)
        now_s = self.clock.now_s()
        for part in (self.safety, self.gripper):
            part.answer(now_s)
        self._answer(now_s)
        return not self._ending

    def _begin(self, wanted: dict[str, Any]) -> None:
        """A new table. Time goes on; the arm is at home. One that was halted meanwhile stays so."""
        now_s = self.clock.now_s()
        if self.player.supervisor.halted:  # the first goal is told why
            self.bus.publish(READY, messages.string("halted"), now_s)
            return
        self.plant.begin(wanted)
        self.player.sync()
        self.player.open(self.player.loop.limits.gripper.max_opening_m)
        if not self._begun:  # what the start of other processes did to the loop is no part of it
            self._begun = True
            self.executor.meter = Meter(1.0 / self.rates.controller_hz)
        self.executor.meter.pause()
        if self.paced is not None:
            self.paced.restart()
        self.controller.report(now_s)
        self.bus.publish(READY, messages.string("episode"), now_s)

    def _expose(self, now_s: float) -> None:
        if self.lockstep:  # at most one moment's images are under way
            self.watch.keep_up(now_s)
        self.plant.expose(now_s)
        self.watch.exposed(now_s)

    def _diagnose(self, now_s: float) -> None:
        told = self.executor.meter.told()
        if self.lockstep:  # simulated time has no deadlines
            told = {key: told[key] for key in ("ticks", "work")}
        figures = {
            **told,
            "image_to_command": self.watch.latency.told(),
            "images_used": self.watch.latency.count,
            "policy_round_trip": self.policy.round_trip.told(),
            "slipped_s": 0.0 if self.paced is None else self.paced.slipped_s,
            "urgent": self.urgent,
            "awake": self.awake,
            "lost": sum(link.lost for link in self.bus.links.values()),
            "put_away": self.plant.put_away(),
            "sim_s": now_s,
        }
        level = 2 if self.player.supervisor.halted else 0
        self.bus.publish(TIMING, timing_message("control", figures, now_s, level), now_s)

    def _warm_up(self) -> None:
        """The first message of a type costs tens of milliseconds: not within the loop."""
        warm_up()
        self.player.command(self.player.q_sent, 0.0 * self.player.q_sent)
        self.gripper.step(0.0)
        self._diagnose(0.0)
        self.bus.publish(PHASE, messages.string("idle"), 0.0)


@dataclass
class _Step:
    name: str
    rate_hz: float
    step: Any
