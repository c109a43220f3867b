"""Where the tool is for given joints, and which joints bring it there (Pinocchio)."""

from __future__ import annotations

import eigenpy
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from robot.errors import ConfigError, PlanningError
from robot.limits import RobotLimits
from robot.types import Pose

Array = NDArray[np.float64]

POSITION_TOLERANCE_M = 1e-4
ROTATION_TOLERANCE_RAD = 8.7e-4  # 0.05 degrees

_WORLD_AXES = pin.LOCAL_WORLD_ALIGNED
_VALUES_ONLY = eigenpy.DecompositionOptions.EigenvaluesOnly
_LEAST_PROGRESS = 0.98  # a step that leaves more of the squared error than this ends a search
_LONGEST_STEP_RAD = 0.4
_ENOUGH_ANSWERS = 2  # from restarts; the nearer one is taken

# Where a search starts when the seed and home lead nowhere: shoulders, elbows and wrists turned
# to either side, as offsets from home in units of half a joint's range. Fixed, so that the same
# question always has the same answer.
_RESTARTS = (
    (0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (-0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, 0.3, 0.0, 0.3, 0.0, 0.0, 0.7),
    (0.0, 0.3, 0.0, -0.2, 0.0, 0.2, -0.7),
    (0.3, 0.2, -0.3, 0.0, 0.3, 0.2, 0.0),
    (-0.3, 0.2, 0.3, 0.0, -0.3, 0.2, 0.0),
    (0.0, -0.2, 0.5, -0.2, 0.5, -0.2, 0.5),
    (0.0, -0.2, -0.5, -0.2, -0.5, -0.2, -0.5),
)


class Kinematics:
    """Forward and inverse kinematics of one arm, its fingers locked.

    The world frame is the arm's base frame. It holds work space of its own, so each thread needs
    its own instance.

    Args:
        limits: of the arm; its URDF is read here.

    Raises:
        ConfigError: the URDF cannot be read or does not match the limits.
    """

    def __init__(self, limits: RobotLimits) -> None:
        try:
            full = pin.buildModelFromUrdf(str(limits.urdf))
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"{limits.urdf}: not a readable URDF: {error}") from error
        arm = [name for name in full.names if name in limits.joint_names]
        if arm != list(limits.joint_names) or not full.existFrame(limits.tool_frame):
            raise ConfigError(
                f"{limits.urdf}: expected joints {', '.join(limits.joint_names)} in this order and "
                f"a frame {limits.tool_frame!r}; found {', '.join(full.names[1:])}"
            )
        others = [i for i, name in enumerate(full.names) if i and name not in limits.joint_names]
        self.model = pin.buildReducedModel(full, others, _standing(full, limits))
        self.data = self.model.createData()
        self.limits = limits
        self.tool_id: int = self.model.getFrameId(limits.tool_frame)
        #: The tool's placement after the newest computation; it follows Pinocchio's own memory.
        self.placement: pin.SE3 = self.data.oMf[self.tool_id]
        self._lower = limits.joints.lower_rad
        self._upper = limits.joints.upper_rad
        self._half_range = 0.5 * (self._upper - self._lower)
        self._identity6 = np.eye(6)
        self._ldlt = eigenpy.LDLT(6)
        #: How near to a singular posture joints (n,) rad are; see :class:`Conditioning`.
        self.condition = Conditioning(self)

    def forward(self, q: Array) -> Pose:
        """``X_world_tool0`` for joints (n,) rad."""
        matrix = self.forward_matrix(q)
        return Pose.from_matrix("world", self.limits.tool_frame, matrix[:3, :3], matrix[:3, 3])

    def forward_matrix(self, q: Array) -> Array:
        """The (4, 4) matrix of ``X_world_tool0`` for joints (n,) rad; fast, a fresh array."""
        return np.asarray(self._placement(q).homogeneous)

    def tool_position(self, q: Array) -> list[float]:
        """Position x, y, z of the tool in the world, m, for joints (n,) rad."""
        position: list[float] = self._placement(q).translation.tolist()
        return position

    def tool_motion(self, q: Array, qd: Array) -> tuple[Array, Array]:
        """Where the tool is and how it moves, for joints (n,) rad and rad/s.

        Returns:
            The (4, 4) matrix of ``X_world_tool0`` and the tool's (6,) linear m/s and angular rad/s
            velocity in world axes.
        """
        velocity = self.jacobian(q).dot(qd)  # which places the tool's frame, too
        return np.asarray(self.placement.homogeneous), velocity

    def jacobian(self, q: Array) -> Array:
        """(6, n): joint velocities to the tool's linear and angular velocity, world axes."""
        return np.asarray(
            pin.computeFrameJacobian(self.model, self.data, q, self.tool_id, _WORLD_AXES)
        )

    def swivel(self, q: Array) -> Array | None:
        """(n,) of length 1: how the joints move while the tool stays; None where they cannot."""
        if self.model.nv <= 6:
            return None
        return np.array(np.linalg.svd(self.jacobian(q))[2][-1])

    def gravity_torque(self, q: Array) -> Array:
        """(n,) N·m that hold the arm (hand included, fingers empty) still at joints (n,) rad."""
        return np.array(pin.computeGeneralizedGravity(self.model, self.data, q))

    def inverse(
        self, X_world_tool: Pose, seed: Array | None = None, tries: int = 10
    ) -> Array | None:
        """Joints that bring the tool to a pose, or None when none were found.

        Damped least squares from the seed, then from home and a fixed list of restarts. The first
        success from the seed is taken; otherwise the closer to the seed of the first two successes.
        The answer is within the joint limits and within 0.1 mm and 0.05 degrees of the pose; the
        same arguments give the same answer.

        Args:
            X_world_tool: the pose wanted, given in ``world``.
            seed: (n,) rad to start from and to stay near; home when None.
            tries: at most this many starts.

        Raises:
            PlanningError: the pose is not given in the world frame, or ``tries`` is below 1.
        """
        if X_world_tool.parent != "world":
            raise PlanningError(f"inverse: pose must be given in world, not {X_world_tool.parent}")
        if tries < 1:
            raise PlanningError(f"inverse: tries must be at least 1, got {tries}")
        target = pin.SE3(X_world_tool.rotation, np.array(X_world_tool.position_m))
        home = self.limits.home_rad
        wanted = home if seed is None else np.asarray(seed, dtype=np.float64)
        near = np.minimum(np.maximum(wanted, self._lower), self._upper)
        first = self._solve(target, near)
        if first is not None:
            return first
        n = self._half_range.size
        starts = [home, *(home + np.resize(r, n) * self._half_range for r in _RESTARTS)]
        answers: list[Array] = []
        for start in starts[: tries - 1]:
            q = self._solve(target, start)
            if q is not None:
                answers.append(q)
            if len(answers) == _ENOUGH_ANSWERS:
                break
        return min(answers, key=lambda q: float(np.abs(q - near).max()), default=None)

    def _placement(self, q: Array) -> pin.SE3:
        pin.forwardKinematics(self.model, self.data, q)
        return pin.updateFramePlacement(self.model, self.data, self.tool_id)

    def _solve(self, target: pin.SE3, start: Array, iterations: int = 40) -> Array | None:
        """Levenberg-Marquardt with steps cut to the joint limits; None when it stalls."""
        lower, upper = self._lower, self._upper
        q = np.minimum(np.maximum(start, lower), upper)
        error, off = self._error(target, q)
        cost = float(error.dot(error))
        damping = 1e-3
        for _ in range(iterations):
            if not off:
                return q
            J = pin.computeFrameJacobian(self.model, self.data, q, self.tool_id, _WORLD_AXES)
            # A joint that sits at its limit and would be pushed beyond is left out of the step;
            # otherwise clipping it would spoil the direction of all the others.
            gradient = error.dot(J)
            J *= ~(((q <= lower) & (gradient < 0)) | ((q >= upper) & (gradient > 0)))
            normal = np.dot(J, J.T)
            before = cost
            for _ in range(4):
                self._ldlt.compute(normal + damping * self._identity6)
                step = self._ldlt.solve(error).dot(J)
                longest = max(map(abs, step.tolist()))
                if longest > _LONGEST_STEP_RAD:  # or it might leap to a far branch of solutions
                    step *= _LONGEST_STEP_RAD / longest
                trial = np.minimum(np.maximum(q + step, lower), upper)
                trial_error, trial_off = self._error(target, trial)
                trial_cost = float(trial_error.dot(trial_error))
                if trial_cost < cost:
                    q, error, off, cost = trial, trial_error, trial_off, trial_cost
                    damping = max(damping * 0.1, 1e-9)
                    break
                damping *= 10.0
            if cost > _LEAST_PROGRESS * before:
                return None
        return None if off else q

    def _error(self, target: pin.SE3, q: Array) -> tuple[Array, bool]:
        """(6,) m and rad from the tool at ``q`` to the target, and whether it is out of tolerance.

        Half the tolerance is used up here, so that rounding never turns an answer into a miss.
        """
        placement = self._placement(q)
        turn = pin.log3(target.rotation @ placement.rotation.T)
        error = np.concatenate((target.translation - placement.translation, turn))
        x, y, z, a, b, c = error.tolist()
        off = (
            x * x + y * y + z * z > (0.5 * POSITION_TOLERANCE_M) ** 2
            or a * a + b * b + c * c > (0.5 * ROTATION_TOLERANCE_RAD) ** 2
        )
        return error, off


def _standing(model: pin.Model, limits: RobotLimits) -> Array:
    """Where the joints that are no joints of the arm are locked.

    Sliding fingers are closed: their travel is the opening. Turning ones are open, where they
    take the most room.
    """
    q = pin.neutral(model)
    for finger in limits.fingers:
        joint = model.joints[model.getJointId(finger.name)]
        q[joint.idx_q] = finger.closed if "P" in joint.shortname() else finger.open
    return np.asarray(q)


class Conditioning:
    """How near to a singular posture an arm is: the condition number of its tool's Jacobian.

    Lengths count in units of ``length_m``: with metres beside radians it tells more of how far out
    the tool is (J. Angeles, "The design of isotropic redundant manipulators", IJRR 1992).

    Args:
        kinematics: of the arm; only its model is used.
        length_m: counts as 1 rad.
    """

    def __init__(self, kinematics: Kinematics, length_m: float = 0.5) -> None:
        self._model, self._tool_id = kinematics.model, kinematics.tool_id
        self._data = self._model.createData()
        scale = np.array([1.0 / length_m] * 3 + [1.0] * 3)
        self._square = np.outer(scale, scale)
        self._solver = eigenpy.SelfAdjointEigenSolver(6)

    def __call__(self, q: Array) -> float:
        """The condition number at joints (n,) rad; 1e6 where it is singular."""
        J = pin.computeFrameJacobian(self._model, self._data, q, self._tool_id, _WORLD_AXES)
        self._solver.compute(J.dot(J.T) * self._square, _VALUES_ONLY)
        low, *_, high = self._solver.eigenvalues().tolist()
        return float((high / low) ** 0.5) if low > 1e-12 else 1e6
