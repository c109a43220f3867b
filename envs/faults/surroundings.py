"""Faults of the world: pushes, obstacles, and objects that behave badly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.bullet import pybullet
from envs.faults.fault import Fault
from envs.faults.injector import Injector

Array = NDArray[np.float64]

_WRIST, _HAND, _TOOL = 5, 8, 11
_FINGERS = (9, 10)
_LET_GO_TICKS = 12  # after a halt


def over(run: Injector) -> bool:
    return run.halt is not None and run.world.ticks - run.halt > _LET_GO_TICKS


def drag(run: Injector, force_n: float, link: int = _TOOL) -> None:
    """Pull the hand up with so much during the coming tick, or down, where ``link`` is."""
    client, arm = run.world.client, run.world.arm_id
    at = pybullet.getLinkState(arm, link, physicsClientId=client)[4]
    pybullet.applyExternalForce(
        arm, _HAND, [0.0, 0.0, force_n], at, pybullet.WORLD_FRAME, physicsClientId=client
    )


class Pushed(Fault):
    """Somebody leans on the hand from above or below, until it halts.

    Args:
        force_n: with which.
        wrist: in line with the sixth joint, which then does not feel it.
    """

    def __init__(self, force_n: float, wrist: bool = False) -> None:
        self._force_n, self._link = force_n, _WRIST if wrist else _TOOL

    def begin(self, run: Injector) -> None:
        """Whence."""
        self._sign = 1.0 if run.rng.random() < 0.5 else -1.0
        run.observer.mark("pushed")

    def before_tick(self, run: Injector) -> None:
        """One tick of it."""
        if over(run):
            return
        drag(run, self._sign * self._force_n, self._link)


class Wrung(Fault):
    """Something turns the hand about its own axis, harder than the last joint can hold.

    Args:
        torque_nm: with which.
    """

    def __init__(self, torque_nm: float) -> None:
        self._torque_nm = torque_nm

    def before_tick(self, run: Injector) -> None:
        """One tick of it."""
        if over(run):
            return
        pybullet.applyExternalTorque(
            run.world.arm_id, _HAND, [0.0, 0.0, self._torque_nm], pybullet.LINK_FRAME,
            physicsClientId=run.world.client,
        )  # fmt: skip


class Squeezed(Fault):
    """Something holds the fingers together while they open.

    Args:
        force_n: on each finger.
    """

    def __init__(self, force_n: float) -> None:
        self._force_n = force_n

    def before_tick(self, run: Injector) -> None:
        """One tick of it."""
        if over(run):
            return
        for finger, sign in zip(_FINGERS, (-1.0, 1.0), strict=True):
            pybullet.applyExternalForce(
                run.world.arm_id, finger, [0.0, sign * self._force_n, 0.0], [0.0, 0.0, 0.0],
                pybullet.LINK_FRAME, physicsClientId=run.world.client,
            )  # fmt: skip


class Blocked(Fault):
    """A heavy block stands in the hand's way all at once."""

    waits = True

    def begin(self, run: Injector) -> None:
        """Put it where the hand is going."""
        client, arm = run.world.client, run.world.arm_id
        link = pybullet.getLinkState(arm, _TOOL, computeLinkVelocity=1, physicsClientId=client)
        at, speed = np.array(link[4]), np.array(link[6])
        ahead = speed / max(float(np.linalg.norm(speed)), 1e-6)
        half = 0.04
        shape = pybullet.createCollisionShape(
            pybullet.GEOM_BOX, halfExtents=[half] * 3, physicsClientId=client
        )
        self._body = pybullet.createMultiBody(
            0.0, shape, basePosition=(at + ahead * 0.16).tolist(), physicsClientId=client
        )
        for way in np.arange(0.16, 0.4, 0.03):  # not inside the hand or what it carries
            place = (at + ahead * way).tolist()
            pybullet.resetBasePositionAndOrientation(
                self._body, place, (0.0, 0.0, 0.0, 1.0), physicsClientId=client
            )
            near = (
                pybullet.getClosestPoints(self._body, other, 0.01, physicsClientId=client)
                for other in (arm, *run.world.bodies)
            )
            if not any(near):
                break
        run.observer.unseen.add(self._body)

    def before_tick(self, run: Injector) -> None:
        """It takes effect when they meet."""
        if run.effect is None and run.world.contacts(run.world.arm_id, self._body):
            run.takes_effect()

    def end(self, run: Injector) -> None:
        """Take it away."""
        pybullet.removeBody(self._body, physicsClientId=run.world.client)


class Weighty(Fault):
    """The object weighs far more than it looks.

    Args:
        mass_kg: all at once.
    """

    def __init__(self, mass_kg: float) -> None:
        self._mass_kg = mass_kg

    def begin(self, run: Injector) -> None:
        """For all objects."""
        for body in run.world.bodies:
            run.world.dynamics(body, mass=self._mass_kg)


class Slippery(Fault):
    """Objects are smooth as ice."""

    def begin(self, run: Injector) -> None:
        """For all objects."""
        for body in run.world.bodies:
            run.world.dynamics(body, lateralFriction=0.03, spinningFriction=0.0)


class Snatched(Fault):
    """What the hand holds is gone."""

    def begin(self, run: Injector) -> None:
        """Off to where it is in nobody's way."""
        if not run.station.loop.gripper_state.contact:
            run.impossible()  # an empty hand loses nothing
        run.observer.mark("lost")
        for k, body in enumerate(run.world.bodies):
            run.world.place(body, (-0.3, 0.6 + 0.1 * k, 0.1), (0, 0, 0, 1))
