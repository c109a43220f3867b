"""The simulated world: the only owner of a Bullet client.

Table, tray and arm are loaded once; each episode starts from that saved state (5 µs) and adds its
objects. The world frame has z up, the table's top at z = 0 and the robot's base at its origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.load import bounded
from envs.bullet import pybullet, silenced
from envs.fixtures import static_boxes, tray_boxes
from envs.moulds import Moulds
from envs.objects import ObjectModel
from envs.watchdog import Watchdog
from robot.errors import SteadyhandError
from robot.planning.obstacles import Box
from robot.planning.placing import TrayConfig
from robot.types import Pose

TRAY = TrayConfig()
WORKSPACE_MIN_M = (0.28, -0.26)
WORKSPACE_MAX_M = (0.70, 0.26)


TIME_STEP_S = 1.0 / 240.0


@dataclass(frozen=True)
class WorldConfig:
    """Physics of the world.

    Attributes:
        tick_s: its time step.
        solver_iterations_n: of Bullet's sequential-impulse solver; more make grips steadier.
        table_friction: lateral friction of table and tray.
        finger_spinning_friction: resists an object's turning between the fingertips.
    """

    tick_s: float = bounded(TIME_STEP_S, 1e-4, 0.1)
    solver_iterations_n: int = bounded(50, 1, 500)
    table_friction: float = bounded(0.6, 0.0, 2.0)
    finger_spinning_friction: float = bounded(0.1, 0.0, 2.0)


@dataclass(slots=True)
class Body:
    """An object in the world: its Bullet id, its model and where its base frame sits."""

    body_id: int
    model: ObjectModel
    extra: dict[str, Any] = field(default_factory=dict)


class World:
    """One Bullet client with table, tray and an arm; objects come and go.

    Args:
        config: physics.
        gui: open Bullet's window (needs a display).
        arm: its URDF, with meshes; PyBullet's Panda when None.
    """

    def __init__(
        self, config: WorldConfig | None = None, gui: bool = False, arm: Path | None = None
    ) -> None:
        import pybullet_data

        self.config = config or WorldConfig()
        with silenced():
            self.client = pybullet.connect(pybullet.GUI if gui else pybullet.DIRECT)
        if self.client < 0:
            raise SteadyhandError(
                "Bullet did not start; --gui needs a display, so leave it out on a headless machine"
            )
        self.gui = gui
        self._moulds = Moulds(self.client)
        self._kw = {"physicsClientId": self.client}
        if gui:  # letters are for whoever drives, not for Bullet's own shortcuts
            pybullet.configureDebugVisualizer(pybullet.COV_ENABLE_KEYBOARD_SHORTCUTS, 0, **self._kw)
        self._step = pybullet.stepSimulation
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=self.config.tick_s,
            numSolverIterations=self.config.solver_iterations_n,
            deterministicOverlappingPairs=1,
            # Where the solver may stop early, the results of touching objects depend in the last
            # digits on earlier episodes. In a grasp it never stops early, so this costs nothing.
            solverResidualThreshold=0.0,
            **self._kw,
        )
        pybullet.setGravity(0, 0, -9.81, **self._kw)
        friction = self.config.table_friction
        self.table_id = static_boxes(
            self.client, [((0.4, 0.0, -0.02), (1.6, 1.6, 0.04))], (0.62, 0.56, 0.5, 1), friction
        )
        self.tray_id = static_boxes(self.client, tray_boxes(TRAY), (0.35, 0.42, 0.5, 1), friction)
        panda = Path(pybullet_data.getDataPath()) / "franka_panda" / "panda.urdf"
        with silenced():
            try:
                self.arm_id = pybullet.loadURDF(
                    str(arm or panda),
                    useFixedBase=True,
                    flags=pybullet.URDF_ENABLE_CACHED_GRAPHICS_SHAPES,
                    **self._kw,
                )
            except pybullet.error as error:
                raise SteadyhandError(f"{arm}: Bullet cannot load this arm's URDF") from error
        self.ticks = 0
        #: Called before each tick, until the next reset: what else happens in this world.
        self.before_tick: Callable[[], None] | None = None
        self.watchdog = Watchdog()
        self.bodies: dict[int, Body] = {}
        #: Fixed bodies of an episode: bins, boards, pillars.
        self.fixtures: list[int] = []
        self._base_state = pybullet.saveState(**self._kw)

    def keys(self) -> frozenset[str]:
        """The keys that are down in Bullet's window: letters, ``enter`` and ``backspace``.

        What is no letter counts only when it was just pressed.
        """
        if not self.gui:
            return frozenset()
        events = pybullet.getKeyboardEvents(**self._kw)
        shift = bool(events.get(pybullet.B3G_SHIFT, 0) & pybullet.KEY_IS_DOWN)
        named = {pybullet.B3G_RETURN: "enter", pybullet.B3G_BACKSPACE: "backspace"}
        down = set()
        for code, state in events.items():
            if code in named or code < 128:
                name = named.get(code) or chr(code)
                wanted = pybullet.KEY_IS_DOWN if name.isalpha() and len(name) == 1 else 0
                if state & (wanted | pybullet.KEY_WAS_TRIGGERED):
                    down.add(name.upper() if shift and len(name) == 1 else name)
        return frozenset(down)

    # Time -----------------------------------------------------------------------------------

    @property
    def time_s(self) -> float:
        """Simulated seconds since the last reset."""
        return self.ticks * self.config.tick_s

    def set_time(self, time_s: float) -> None:
        """Let time go on from ``time_s``: after a reset within one run, say."""
        self.ticks = round(time_s / self.config.tick_s)

    def step(self, ticks: int = 1) -> None:
        """Advance by ``ticks`` time steps; calls the watchdog where it waits no longer."""
        for _ in range(ticks):
            if self.before_tick is not None:
                self.before_tick()
            if self.ticks >= self.watchdog.until_tick:
                self.watchdog.bark()
            self._step(self.client)
            self.ticks += 1

    def mark_base(self) -> None:
        """Make the present state (without objects) the one that ``reset`` restores."""
        if self.bodies:
            raise SteadyhandError("world: remove all objects before marking the base state")
        pybullet.removeState(self._base_state, **self._kw)
        self._base_state = pybullet.saveState(**self._kw)

    def reset(self) -> None:
        """Remove all objects and restore table, tray and arm exactly."""
        for body_id in list(self.bodies):
            self.remove(body_id)
        for body_id in self.fixtures:
            pybullet.removeBody(body_id, **self._kw)
        self.fixtures.clear()
        pybullet.restoreState(stateId=self._base_state, **self._kw)
        self.ticks = 0
        self.before_tick = None
        self.watchdog.rest()

    def save(self) -> int:
        """Save the whole state, objects included; 1 ms."""
        return int(pybullet.saveState(**self._kw))

    def restore(self, state: int) -> None:
        """Restore a saved state exactly; the same bodies must still be there."""
        pybullet.restoreState(stateId=state, **self._kw)

    def forget(self, state: int) -> None:
        """Free a saved state."""
        pybullet.removeState(state, **self._kw)

    def close(self) -> None:
        """Disconnect; safe to call twice."""
        if self.client >= 0 and pybullet.isConnected(**self._kw):
            pybullet.disconnect(**self._kw)
        self.client = -1

    # Bodies ---------------------------------------------------------------------------------

    def add(self, model: ObjectModel, position_m: Any, quat_xyzw: Any) -> int:
        """Load an object with its base frame at the given world pose; returns its id."""
        if model.urdf is None:
            body_id = self._primitive(model, position_m, quat_xyzw)
        else:
            body_id = self._moulds.load(model.urdf, position_m, quat_xyzw)
        self.bodies[body_id] = Body(body_id, model)
        return int(body_id)

    def fix(self, box: Box, rgba: tuple[float, ...] = (0.45, 0.5, 0.45, 1.0)) -> int:
        """Put a box there that does not move, until the next reset; returns its id."""
        at = (box.center_m, box.size_m)
        body_id = static_boxes(self.client, [at], rgba, self.config.table_friction, box.yaw_rad)
        self.fixtures.append(body_id)
        return body_id

    def solids(self, body_id: int) -> Any:
        """What an object is made of, as Bullet's ``getCollisionShapeData`` tells it."""
        return self._moulds.solids(self.bodies[body_id].model.urdf, body_id)

    def remove(self, body_id: int) -> None:
        """Take an object out of the world."""
        pybullet.removeBody(body_id, **self._kw)
        del self.bodies[body_id]

    def pose(self, body_id: int) -> Pose:
        """Pose of the object's centre-of-mass frame, ``X_world_obj``."""
        position, quat = pybullet.getBasePositionAndOrientation(body_id, **self._kw)
        return Pose("world", "obj", np.array(position), np.array(quat))

    def place(self, body_id: int, position_m: Any, quat_xyzw: Any) -> None:
        """Move an object and stop it."""
        pybullet.resetBasePositionAndOrientation(
            body_id, list(position_m), list(quat_xyzw), **self._kw
        )
        pybullet.resetBaseVelocity(body_id, [0, 0, 0], [0, 0, 0], **self._kw)

    def velocity(self, body_id: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Linear (3,) m/s and angular (3,) rad/s velocity in the world frame."""
        linear, angular = pybullet.getBaseVelocity(body_id, **self._kw)
        return np.array(linear), np.array(angular)

    def push(self, body_id: int, linear_m_s: Any, angular_rad_s: Any) -> None:
        """Set an object's linear (3,) and angular (3,) velocity in the world frame."""
        pybullet.resetBaseVelocity(body_id, list(linear_m_s), list(angular_rad_s), **self._kw)

    def aabb(self, body_id: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The axis-aligned box around the object, lower and upper corner (3,), m."""
        lower, upper = pybullet.getAABB(body_id, -1, **self._kw)
        return np.array(lower), np.array(upper)

    def dynamics(self, body_id: int, link: int = -1, **values: float) -> None:
        """Change mass, friction and the like of a link (Bullet's ``changeDynamics``)."""
        pybullet.changeDynamics(body_id, link, **values, **self._kw)

    def mass_and_friction(self, body_id: int) -> tuple[float, float]:
        """A body's mass, kg, and lateral friction."""
        mass, friction, *_ = pybullet.getDynamicsInfo(body_id, -1, **self._kw)
        return float(mass), float(friction)

    def colour(self, body_id: int, rgba: Any, link: int = -1) -> None:
        """Paint a body."""
        pybullet.changeVisualShape(body_id, link, rgbaColor=list(rgba), **self._kw)

    def in_workspace(self, body_id: int) -> bool:
        """Whether the object's centre lies over the part of the table that the arm clears."""
        x, y, z = self.pose(body_id).position_m
        (x0, y0), (x1, y1) = WORKSPACE_MIN_M, WORKSPACE_MAX_M
        return bool(x0 <= x <= x1 and y0 <= y <= y1 and z > -0.01)

    def in_tray(self, body_id: int) -> bool:
        """Whether the object's centre is over the tray and not held high above it."""
        x, y, z = self.pose(body_id).position_m
        (cx, cy), (sx, sy) = TRAY.centre_m, TRAY.size_m
        return bool(abs(x - cx) <= sx / 2 and abs(y - cy) <= sy / 2 and -0.01 < z < 0.25)

    def ray_heights(
        self, xy_m: NDArray[np.float64], top_m: float = 0.42
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What vertical rays from ``top_m`` down meet: the truth of the shapes.

        Args:
            xy_m: (n, 2) world positions, m.
            top_m: where the rays start; keep the arm above it.

        Returns:
            (n,) float32 height above the table, m, and (n,) the object's id; height 0 and id -1
            where a ray meets no object.
        """
        n = len(xy_m)
        start = np.column_stack([xy_m, np.full(n, top_m)])
        end = np.column_stack([xy_m, np.full(n, -0.005)])
        heights = np.zeros(n, dtype=np.float32)
        bodies = np.full(n, -1)
        chunk = pybullet.MAX_RAY_INTERSECTION_BATCH_SIZE - 1
        for i in range(0, n, chunk):
            hits = pybullet.rayTestBatch(
                start[i : i + chunk].tolist(), end[i : i + chunk].tolist(), **self._kw
            )
            for k, hit in enumerate(hits, start=i):
                if hit[0] in self.bodies:
                    heights[k] = hit[3][2]
                    bodies[k] = hit[0]
        return np.maximum(heights, 0.0), bodies

    def contacts(self, body_a: int, body_b: int) -> int:
        """How many contact points two bodies share."""
        return len(pybullet.getContactPoints(body_a, body_b, **self._kw))

    # Making shapes --------------------------------------------------------------------------

    def _primitive(self, model: ObjectModel, position_m: Any, quat_xyzw: Any) -> int:
        dims = model.dimensions_m
        if dims is None:
            raise SteadyhandError(f"object {model.name}: has neither a URDF nor dimensions")
        shape: dict[str, Any]
        visual: dict[str, Any]
        if model.class_name == "box":
            shape = {"shapeType": pybullet.GEOM_BOX, "halfExtents": [d / 2 for d in dims]}
            visual = dict(shape)
        elif model.class_name == "cylinder":
            shape = {"shapeType": pybullet.GEOM_CYLINDER, "radius": dims[0] / 2, "height": dims[2]}
            visual = {
                "shapeType": pybullet.GEOM_CYLINDER,
                "radius": dims[0] / 2,
                "length": dims[2],
            }
        elif model.class_name == "ball":
            shape = {"shapeType": pybullet.GEOM_SPHERE, "radius": dims[0] / 2}
            visual = dict(shape)
        else:
            raise SteadyhandError(f"object {model.name}: no primitive is of class irregular")
        body = pybullet.createMultiBody(
            baseMass=0.1,
            baseCollisionShapeIndex=pybullet.createCollisionShape(**shape, **self._kw),
            baseVisualShapeIndex=pybullet.createVisualShape(**visual, **self._kw),
            basePosition=list(position_m),
            baseOrientation=list(quat_xyzw),
            **self._kw,
        )
        # Like the object files: friction 1.0. A ball needs rolling friction to come to rest.
        rolling = 2e-3 if model.class_name in ("ball", "cylinder") else 0.0
        pybullet.changeDynamics(body, -1, lateralFriction=1.0, rollingFriction=rolling, **self._kw)
        return int(body)
