"""A bundle beside a robot: starts the loop's processes, plans, records, and tells how it goes."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from configs.load import as_dict
from envs.objects import SETS, object_set
from envs.world import TRAY
from perception.scorer import OnnxGraspScorer
from policies.beside_parts import PLANNING, TO_PARTS, LoopSetup, parts_of
from policies.bundle.format import Bundle
from policies.bundle.watch import BundleWatch
from policies.standing import BusSink, PlanLog, Standing, asked_place, pick_feedback
from robot.errors import ConfigError, SafetyError, SteadyhandError
from robot.execution.grasp import GraspLoop
from robot.execution.machine import MachineConfig, PickMachine
from robot.execution.pick import PickConfig, Picker
from robot.execution.states import PickFeedback, PickState
from robot.limits import load_limits
from robot.loop import messages
from robot.loop.alarm import Alarm
from robot.loop.bus import Bus
from robot.loop.logbook import Logbook
from robot.loop.looking import RemotePerception
from robot.loop.mailbox import Mailbox, Packet
from robot.loop.process import FAILED, Processes
from robot.loop.publisher import DIAGNOSTICS, EVENTS, PHASE, PublisherConfig
from robot.loop.recorder import Recorder
from robot.loop.remote import RemoteArm
from robot.loop.timing import figures_of
from robot.loop.topics import (
    EPISODE,
    ESTOP,
    GRASP_ACTION,
    PICK_ACTION,
    READY,
    STOP,
    TIMING,
    feedback_topic,
)
from robot.loop.window import Window

_START_S = 180.0
_GRASPING = feedback_topic(GRASP_ACTION)
_UNRECORDED = frozenset((STOP, READY))
_TOLD_OTHERWISE = ("bundle", "rates", "drop", "safety")


class Bridging(Protocol):
    """What lets packets out of the loop."""

    def show(self, packet: Packet) -> None:
        """Take a packet; never waits."""

    def close(self) -> None:
        """End."""


class TimeUp(Exception):
    """The run has lasted as long as it should."""


class LoopStopped(SteadyhandError):
    """A process of the loop is gone, or somebody asked for the end."""


class Beside:
    """The planning process: a context manager around all the others.

    Args:
        setup: what runs.
        recording: file of the recording.
        facts: go into it first.
    """

    def __init__(
        self,
        setup: LoopSetup,
        recording: Path,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        bundle = Bundle.load(setup.bundle)
        self.setup = setup
        self._integrity = BundleWatch(bundle)
        self.limits = load_limits(bundle.limits_path)
        self.models = object_set(setup.objects)
        self.standing = Standing()
        self._heard_s = 0.0
        self.bus = Bus(PLANNING)
        timed = {TIMING} if setup.lockstep else set()
        self.recorder = Recorder(recording, metadata={**(facts or {}), **_described(setup)})
        unrecorded = _UNRECORDED | timed
        self._book = Logbook(self.recorder, unrecorded.__contains__)
        self.bus.tap(self._book.take)
        self.bus.tap(self._note)
        self._window = Window()
        self.bus.tap(self._window.show)
        self._bridge: Bridging | None = None
        self._asked = Mailbox()
        self._ready = self.bus.subscribe([READY])
        self._came = threading.Event()
        self._ended = threading.Event()
        self._failure = ""
        self._alarm = Alarm(self._halt)
        self._until_s: float | None = None
        self.processes = Processes(self.bus, parts_of(setup), TO_PARTS)
        self._hub = threading.Thread(target=self._pump, name="hub", daemon=True)
        self._hub.start()
        loop = GraspLoop.make(self.limits)
        self.arm = RemoteArm(self.bus, loop, self.wait)
        self.arm.on_phase = self._tell_phase
        scorer = bundle.model("scorer") if bundle.has("scorer") else None
        try:
            for _ in parts_of(setup):
                self._await_ready()
        except BaseException:
            self.close()
            raise
        self.picker = Picker(
            self.limits,
            self.arm,
            loop,
            RemotePerception(self.arm, self.bus, 1.0 / setup.rates.camera_hz),
            self.arm,
            config=PickConfig(tray=TRAY),
            scorer=None if scorer is None else OnnxGraspScorer(scorer),
            log=PlanLog(BusSink(self.bus), PublisherConfig(images="none")),
            seed=setup.seed,
        )
        self.picker.around.closed = tuple(zone.box for zone in setup.safety.keep_out)
        self.arm.see(TRAY.walls)  # before the first tick that counts
        self.machine = PickMachine(self.picker, MachineConfig(), self._tell)
        self._tables = 0

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, duration_s: float | None = None, picks: int | None = None) -> dict[str, Any]:
        """Pick from one table after the other.

        Args:
            duration_s: on the loop's clock. In simulated time a pick that has begun is finished.
            picks: end after so many.

        Returns:
            Picks, tables, and the loop's own figures.

        Raises:
            LoopStopped: a process is gone.
        """
        stopped = ""
        start_s: float | None = None
        try:
            while True:
                self._new_table()
                if start_s is None:
                    start_s = self.arm.now_s()
                    if duration_s is not None and not self.setup.lockstep:
                        self._until_s = start_s + duration_s
                if self._clear(start_s, duration_s, picks):
                    break
        except TimeUp:
            pass
        except SafetyError as error:
            stopped = str(error)
            self._say(stopped)
        self._until_s = None
        lasted_s = self.arm.now_s() - (start_s or 0.0)
        self.close()
        return self._result(lasted_s, stopped)

    def connect(self, bridge: Bridging) -> None:
        """Let a bridge see every packet; it ends with the loop."""
        self._bridge = bridge
        self.bus.tap(bridge.show)

    def take(self, packet: Packet) -> None:
        """What came in from outside: targets and emergency stops."""
        if packet.topic == ESTOP:
            reason = ""
            with suppress(Exception):  # it halts, whatever can be read of it
                reason = packet.message.data
            self.estop(reason or "asked for from outside")
        else:
            self._asked.put(packet)

    def estop(self, reason: str) -> None:
        """Halt the arm at its next period; it stays halted. From any thread, or a signal."""
        self._alarm.press(reason)

    def close(self) -> None:
        """End all processes and the recording; more than once is fine."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._hub.join(5.0)  # one thread at a time takes in what comes: from here on this one
        self.processes.stop()
        self._alarm.close()
        if self._bridge is not None:
            self._bridge.close()
        self._window.close()
        self._book.close()

    def wait(self) -> None:
        """Until something came, or a little while has passed.

        Raises:
            TimeUp: the run's time is over.
            LoopStopped: a process has ended.
        """
        self._came.wait(0.05)
        self._came.clear()
        if self._failure or self.processes.dead:
            dead = ", ".join(self.processes.dead)
            raise LoopStopped(self._failure or f"loop: the process {dead} has ended")
        if self._until_s is not None and self.arm.now_s() >= self._until_s:
            self._until_s = None
            raise TimeUp

    # Parts ------------------------------------------------------------------------------------

    def _new_table(self) -> None:
        rng = np.random.default_rng((self.setup.seed, self._tables))
        self._tables += 1
        count, n = self.setup.n_objects, len(self.models)
        own = self.setup.objects not in SETS
        chosen = [i % n for i in range(count)] if own else rng.integers(n, size=count).tolist()
        seed = int(rng.integers(2**31))
        told = {"seed": seed, "models": chosen}
        self.bus.publish(EPISODE, messages.string(json.dumps(told)), self.arm.now_s())
        self._await_ready()
        self.arm.sync()
        self.picker.begin_episode(seed)

    def _clear(self, start_s: float, duration_s: float | None, picks: int | None) -> bool:
        """Pick from this table until nothing is found on it; True at the run's end."""
        standing, in_a_row = self.standing, 0
        while in_a_row < 2:
            self._aim()
            result = self.machine.pick()
            if result.category == "no_candidate":
                return False
            standing.picks.append(result)
            if (damage := self._integrity.damage()) is not None:
                self.estop(f"integrity: {damage}")
                raise SafetyError(f"integrity: {damage}")
            if self.picker.log is not None:
                self.picker.log.pick(result, "", self.arm.now_s())
            in_a_row = 0 if result.success else in_a_row + 1
            if picks is not None and len(standing.picks) >= picks:
                return True
            if duration_s is not None and self.arm.now_s() - start_s >= duration_s:
                return True
        return False

    def _aim(self) -> None:
        """The newest target that was asked for decides which object is next."""
        self.picker.target_m = None
        while (packet := self._asked.get()) is not None:
            try:
                x, y = self.picker.target_m = asked_place(packet.message)
            except ConfigError as error:
                self._say(str(error))
            else:
                self._say(f"asked for what is at ({x:.3f}, {y:.3f}) m")

    def _await_ready(self) -> None:
        end_s = time.monotonic() + _START_S
        while self._ready.get() is None:
            self.wait()
            if time.monotonic() > end_s:
                raise LoopStopped(f"loop: a process did not start within {_START_S:g} s")

    def _result(self, lasted_s: float, stopped: str) -> dict[str, Any]:
        picks = self.standing.picks
        figures = dict(self.standing.figures)
        control = dict(figures.get("control", {}))
        return {
            "picks": len(picks),
            "successes": sum(p.success for p in picks),
            "put_away": int(control.pop("put_away", 0)),
            "tables": self._tables,
            "loop_s": round(lasted_s, 3),
            "troubles": {k.value: v for k, v in self.machine.troubles.items()},
            "failures": [p.category for p in picks if not p.success],
            "control": control,
            "machine": dict(figures.get("machine", {})),
            "recording": str(self.recorder.path),
            "recorded_messages": self.recorder.messages,
            "recording_failed": self.recorder.failed,
            "stopped": stopped or None,
        }

    # Messages ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        while not self._ended.is_set():
            if self.bus.pump(0.1):
                self._came.set()
            self._window.admit()
            self._book.write()

    def _halt(self, reason: str) -> None:
        self.bus.publish(ESTOP, messages.string(reason), self._heard_s)

    def _note(self, packet: Packet) -> None:
        standing = self.standing
        self._heard_s = max(self._heard_s, packet.stamp_s)
        standing.messages[packet.topic] = standing.messages.get(packet.topic, 0) + 1
        if packet.topic == TIMING:
            standing.figures.update(figures_of(packet.message))
        elif packet.topic == PHASE:
            standing.phase = packet.message.data
        elif packet.topic == _GRASPING and standing.feedback is not None:
            state = PickState(packet.message.feedback.state)
            told = replace(standing.feedback, state=state, since_s=packet.stamp_s)
            self._tell(told, packet.stamp_s)
        elif packet.topic == DIAGNOSTICS:
            status = packet.message.status[0]
            standing.verdict = int(status.level), status.message
        elif packet.topic == EVENTS:
            text = packet.message.data
            standing.events.append(text)
            if text.startswith(FAILED):
                self._failure = text.removeprefix(FAILED)

    def _tell(self, feedback: PickFeedback, stamp_s: float | None = None) -> None:
        self.standing.feedback = feedback
        message = pick_feedback(feedback, len(self.standing.picks) + 1)
        when_s = self.arm.now_s() if stamp_s is None else stamp_s
        self.bus.publish(feedback_topic(PICK_ACTION), message, when_s)

    def _tell_phase(self, name: str) -> None:
        if name != self.standing.phase:
            self.bus.publish(PHASE, messages.string(name), self.arm.now_s())

    def _say(self, text: str) -> None:
        self.bus.publish(EVENTS, messages.string(text), self.arm.now_s())


def _described(setup: LoopSetup) -> dict[str, str]:
    """The setup as a recording's metadata, from which a replay makes the same nodes."""
    plain = {k: v for k, v in asdict(setup).items() if k not in _TOLD_OTHERWISE}
    digest = hashlib.sha256(Bundle.load(setup.bundle).manifest.to_bytes()).hexdigest()
    safety = json.dumps(as_dict(setup.safety), sort_keys=True)
    return {"loop": json.dumps(plain, sort_keys=True), "bundle_digest": digest, "safety": safety}
