"""The processes in which a bundle runs beside a simulated robot, and who sends what to whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from envs.cell import Pace, SimPlant
from envs.exposure import CAMERAS, CamerasNode
from envs.objects import object_set
from envs.physics import physics
from envs.scene import DropConfig
from perception.detector import OnnxDetector
from perception.node import PerceptionNode
from perception.watch import WatchConfig
from policies.bundle.format import Bundle
from policies.edge.node import PolicyNode
from policies.edge.runtime import EdgePolicy
from robot.limits import load_limits
from robot.loop import messages
from robot.loop import publisher as names
from robot.loop import topics as t
from robot.loop.bus import Bus
from robot.loop.cell import Cell, LoopRates
from robot.loop.executor import be_urgent
from robot.loop.mailbox import Packet
from robot.loop.process import Part
from robot.loop.pulse import pulse
from robot.loop.serving import serve
from robot.safety.config import SafetyConfig

PLANNING = "planning"


@dataclass(frozen=True)
class LoopSetup:
    """What runs, and how.

    Attributes:
        bundle: its folder.
        objects: set of objects.
        n_objects: on each table.
        physics: name of the setting.
        pace: of the clock.
        speed: with the scaled pace, simulated seconds in one of the wall's.
        seed: fixes tables, noise and the planners' choices.
        watches: whether the object is seen anew while the policy acts.
        always_detects: find objects in every image while nothing is watched, not only where a look
            is asked for.
        rates: how often each part runs.
        drop: how objects come to lie on the table.
        robot: a simulated one, or whatever is behind ``ros2_control`` on DDS.
        shadow: with ``ros2``, compute and record but command nothing.
        command: which of ros2_control's controllers is spoken to.
        domain_id, interface: of DDS.
        safety: the monitors' settings.
    """

    bundle: Path
    objects: str = "test"
    n_objects: int = 5
    physics: str = "nominal"
    pace: Pace = "real"
    speed: float = 1.0
    seed: int = 0
    watches: bool = True
    always_detects: bool = True
    rates: LoopRates = field(default_factory=LoopRates)
    drop: DropConfig = field(default_factory=DropConfig)
    robot: Literal["sim", "ros2"] = "sim"
    shadow: bool = False
    command: Literal["forward", "trajectory"] = "forward"
    domain_id: int = 0
    interface: str = "lo"
    safety: SafetyConfig = field(default_factory=SafetyConfig)

    @property
    def lockstep(self) -> bool:
        """Whether processes wait for each other, as simulated time does."""
        return self.pace == "sim"


def control(bus: Bus, setup: LoopSetup) -> None:
    """The controller's process."""
    bundle = Bundle.load(setup.bundle)
    limits = load_limits(bundle.limits_path)
    cell = partial(
        Cell,
        bus,
        limits=limits,
        lockstep=setup.lockstep,
        rates=setup.rates,
        watches=setup.watches,
        novelty=bundle.novelty(),
        safety=setup.safety,
    )
    if setup.robot == "ros2":
        cell(_dds(setup), lockstep=False, guarded=not setup.shadow).run()
        return
    models, world = object_set(setup.objects), physics(setup.physics)
    plant = SimPlant(bus, models, world, limits, setup.pace, setup.speed, setup.drop)
    cell(plant, latency_s=WatchConfig().latency_s).run()


def _dds(setup: LoopSetup) -> Any:
    from robot.dds.plant import DdsPlant
    from robot.dds.port import DdsConfig
    from robot.dds.robot import DdsRobotConfig

    dds = DdsConfig(domain_id=setup.domain_id, interface=setup.interface)
    return DdsPlant(DdsRobotConfig(command=setup.command), dds, setup.shadow)


def cameras(bus: Bus, setup: LoopSetup) -> None:
    """The cameras' process: simulated ones, or a relay of those on DDS."""
    if setup.robot == "ros2":
        from robot.dds.plant import relay_cameras
        from robot.dds.port import DdsConfig

        _ready(bus)
        dds = DdsConfig(domain_id=setup.domain_id, interface=setup.interface)
        relay_cameras(bus, CAMERAS, dds, PLANNING)
        return
    limits = load_limits(Bundle.load(setup.bundle).limits_path)
    node = CamerasNode(bus, object_set(setup.objects), physics(setup.physics), limits)
    tables = 0

    def feed(packet: Packet) -> None:
        nonlocal tables
        if packet.topic == t.EPISODE:
            tables += 1
            node.begin(1000 * setup.seed + tables)
        node.feed(packet)

    _ready(bus)
    try:
        serve(bus, feed, setup.lockstep, PLANNING)
    finally:
        node.close()


def perception(bus: Bus, setup: LoopSetup) -> None:
    """The perception's process."""
    node = perception_node(setup, bus.publish)
    _ready(bus)
    serve(bus, node.feed, setup.lockstep, PLANNING)


def perception_node(setup: LoopSetup, send: names.Send) -> PerceptionNode:
    """The bundle's perception; a replay makes the same."""
    bundle = Bundle.load(setup.bundle)
    return PerceptionNode(
        CAMERAS,
        OnnxDetector(bundle.model("detector")),
        load_limits(bundle.limits_path),
        send,
        setup.lockstep,
        setup.always_detects,
    )


def policy(bus: Bus, setup: LoopSetup) -> None:
    """The policy's process."""
    node = PolicyNode(EdgePolicy(Bundle.load(setup.bundle)), bus.publish)
    if not setup.lockstep:  # it stands in the way of commands, and takes some 50 µs
        be_urgent()
    _ready(bus)
    serve(bus, node.feed, setup.lockstep, PLANNING)


def machine(bus: Bus, setup: LoopSetup) -> None:
    """The empty loop that tells what the machine itself can do."""
    _ready(bus)
    pulse(bus, setup.rates.controller_hz)


def _ready(bus: Bus) -> None:
    bus.publish(t.READY, messages.string(bus.name), 0.0)


_STATE = (
    names.JOINT_STATES, names.JOINT_COMMAND, names.GRIPPER_COMMAND, names.WRENCH, names.TWIST,
    names.TF, names.DIAGNOSTICS, names.PHASE, names.EVENTS, names.OBSERVATION, t.TIMING, t.READY,
    t.WATCH, t.POLICY_BEGIN, f"{t.ARM}*", f"{t.HAND}*", f"{t.GRASP_ACTION}*",
)  # fmt: skip
_ALL = (t.STOP, t.EPISODE)

TO_PARTS: dict[str, tuple[str, ...]] = {
    "control": (*_ALL, t.ESTOP, t.SCENE, f"{t.ARM}*", f"{t.HAND}*", f"{t.GRASP_ACTION}*"),
    "cameras": _ALL,
    "perception": (*_ALL, f"{t.LOOK_SERVICE}/_request"),
    "policy": _ALL,
    "machine": _ALL,
}
"""What the planning process sends to each of the others."""


def parts_of(setup: LoopSetup) -> list[Part]:
    """All processes but the planning one, which starts them."""
    links: dict[Any, dict[str, tuple[str, ...]]] = {
        policy: {PLANNING: (names.ACTION, t.READY), "control": (names.ACTION,)},
        perception: {
            PLANNING: ("/perception/*", t.READY),
            "control": (t.WATCHED, t.BARRIER),
        },
        cameras: {
            PLANNING: ("/camera/*", names.TF, t.READY),
            "perception": ("/camera/*", names.TF),
        },
        control: {
            PLANNING: _STATE,
            "cameras": (t.EXPOSURE, t.OBJECT_POSES),
            "perception": (t.WATCH,),
            "policy": (names.OBSERVATION, t.POLICY_BEGIN),
        },
    }
    if not setup.lockstep:
        links[machine] = {PLANNING: (t.TIMING, t.READY)}
    return [Part(run.__name__, run, setup, to) for run, to in links.items()]
