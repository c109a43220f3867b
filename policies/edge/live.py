"""A bundle's models as they run on the robot: timed, watched, and changed without a stop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perception.detector import OnnxDetector
from perception.scorer import OnnxGraspScorer
from policies.bundle.format import Bundle
from policies.bundle.verify import INT8_TOLERANCE, check_bundle
from policies.edge.deadline import Deadline, EdgeConfig
from policies.edge.events import tell
from policies.edge.novelty import Novelty
from policies.edge.runtime import ROLES, EdgePolicy
from robot.errors import SafetyError, SensorError, SteadyhandError
from robot.types import Detection, GraspCandidate, HeightMap, RgbdFrame

if TYPE_CHECKING:
    from policies.edge.metrics import Metrics

Floats = NDArray[np.float32]

_RECORDED_N = 32


@dataclass(frozen=True)
class Models:
    """The models of one bundle, opened and warm; replaced as a whole.

    Attributes:
        label: the bundle's folder and the first digits of its policy's digest.
        policy: acts.
        detector: sees, where the bundle has one.
        scorer: rates grips, where the bundle has one.
        novelty: knows what was recorded, where the bundle tells.
    """

    label: str
    policy: EdgePolicy
    detector: OnnxDetector | None
    scorer: OnnxGraspScorer | None
    novelty: Novelty | None

    @classmethod
    def open(
        cls, bundle: Bundle, config: EdgeConfig, names: Sequence[str] | None, units: Sequence[str]
    ) -> Models:
        """Open every model of a bundle."""
        session = config.session
        role = ROLES[config.precision]
        policy = EdgePolicy(bundle, config.precision, session, names=names, units=units)
        detector = (
            OnnxDetector(bundle.model("detector"), session) if bundle.has("detector") else None
        )
        scorer = OnnxGraspScorer(bundle.model("scorer"), session) if bundle.has("scorer") else None
        reference = bundle.reference()
        _must_act_as_recorded(policy, reference, role, bundle.root)
        recorded = reference.get("policy/in/observation")
        digest = bundle.manifest.files[bundle.manifest.roles[role]].sha256[:12]
        return cls(
            f"{bundle.root.name}:{digest}",
            policy,
            detector,
            scorer,
            None if recorded is None else Novelty(recorded),
        )


def _must_act_as_recorded(
    policy: EdgePolicy, reference: Mapping[str, NDArray[Any]], role: str, root: Path
) -> None:
    """The way that actions take here, an accelerator's memory say, changes nothing about them."""
    seen, given = (reference.get(f"{role}/{end}") for end in ("in/observation", "out/action"))
    if seen is None or given is None or policy.metadata.chunking is not None:
        return
    rows = np.flatnonzero(np.isfinite(seen).all(axis=1))[:_RECORDED_N]
    off = max((float(np.abs(policy.act(seen[k]) - given[k]).max()) for k in rows), default=0.0)
    policy.reset()
    if not off <= INT8_TOLERANCE:
        raise SteadyhandError(
            f"{root}: {role}: acts otherwise here than was recorded, off by {off:.3g}; at most "
            f"{INT8_TOLERANCE:g} is allowed"
        )


class LiveModels:
    """The models that act now, behind fronts that stay.

    ``policy``, ``detector`` and ``scorer`` implement the protocols of ``robot.interface``; whoever
    holds one always uses the models of the bundle that acts now. ``swap`` may be called from
    another thread: it opens and tests the new models there, and only then puts them in place with
    one assignment, between two runs.

    Args:
        source: the bundle, or its folder.
        config: see :class:`EdgeConfig`.
        metrics: counts and times, where wanted.
        names: of the observations; those of this robot when left out, as for ``EdgePolicy``.
        units: their units.

    Raises:
        SteadyhandError: a model cannot be opened.
    """

    def __init__(
        self,
        source: Bundle | Path | str,
        config: EdgeConfig | None = None,
        metrics: Metrics | None = None,
        *,
        names: Sequence[str] | None = None,
        units: Sequence[str] = (),
    ) -> None:
        self.config = config or EdgeConfig()
        self.metrics = metrics
        self._names, self._units = names, units
        bundle = source if isinstance(source, Bundle) else Bundle.load(source)
        self.models = Models.open(bundle, self.config, names, units)
        self._previous: Models | None = None
        self._probation = 0
        self._changing = threading.Lock()
        self.policy = LivePolicy(self)
        self.detector = LiveDetector(self) if self.models.detector is not None else None
        self.scorer = LiveScorer(self) if self.models.scorer is not None else None
        self._told("", "started")

    def swap(self, source: Bundle | Path | str) -> None:
        """Put another bundle's models in place, or leave everything as it is.

        Until ``config.probation`` actions have gone well, a failure of the new policy brings the
        old models back, and the old policy gives that very action.

        Raises:
            SteadyhandError: the new bundle is refused, fails a check, has fewer models, or is too
                slow here; the models that acted go on.
        """
        with self._changing:
            try:
                new = self._tested(source)
            except SteadyhandError as error:
                self._told("refused", "refused", reason=str(error))
                raise
            self._previous, self._probation = self.models, self.config.probation
            self.models = new  # one assignment: whoever runs sees the old or the new, whole
        self._told("swapped", "swapped")

    def _tested(self, source: Bundle | Path | str) -> Models:
        bundle = source if isinstance(source, Bundle) else Bundle.load(source)
        for check in check_bundle(bundle):
            if not check.ok:
                raise SteadyhandError(f"{bundle.root}: {check.name}: {check.detail}")
        new, old = Models.open(bundle, self.config, self._names, self._units), self.models
        for role in ("detector", "scorer"):
            if getattr(old, role) is not None and getattr(new, role) is None:
                raise SteadyhandError(f"{bundle.root}: has no {role}, the one that acts has")
        sizes = [(m.policy.observation_size, m.policy.action_size) for m in (old, new)]
        if sizes[0] != sizes[1]:
            raise SteadyhandError(f"{bundle.root}: maps {sizes[1]} numbers, the acting {sizes[0]}")
        observation = np.zeros(new.policy.observation_size, np.float32)
        times = []
        for _ in range(20):
            began = time.perf_counter_ns()
            new.policy.act(observation)
            times.append(time.perf_counter_ns() - began)
        limit_s = self.config.policy.limit_s
        if (middle_s := float(np.median(times)) * 1e-9) > limit_s:
            raise SteadyhandError(
                f"{bundle.root}: the policy takes {middle_s * 1e3:.1f} ms here, its deadline is "
                f"{limit_s * 1e3:g} ms"
            )
        return new

    def roll_back(self, reason: str) -> bool:
        """Bring back the models that acted before; False where there are none to bring back."""
        previous = self._previous
        if previous is None:
            return False
        self.models, self._previous, self._probation = previous, None, 0
        self._told("rolled_back", "rolled back", reason=reason)
        return True

    def went_well(self) -> None:
        """One action more without a failure; after enough of them the old models are let go."""
        if self._probation > 0:
            self._probation -= 1
            if self._probation == 0:
                self._previous = None

    def ran(self, model: str, taken_ns: int, deadline: Deadline) -> bool:
        """Note a run's time; whether its result is to be used."""
        before = deadline.missed
        try:
            return deadline.judge(taken_ns)
        finally:
            late = deadline.missed > before
            if self.metrics is not None:
                self.metrics.ran(model, taken_ns * 1e-9, late)
            if late:
                tell("deadline missed", model=model, took_ms=round(taken_ns * 1e-6, 3))

    def _told(self, result: str, event: str, **facts: str) -> None:
        if self.metrics is not None:
            self.metrics.changed(result, self.models.label)
        tell(event, bundle=self.models.label, **facts)


class LivePolicy:
    """The policy that acts now; implements ``robot.interface.Policy``."""

    def __init__(self, live: LiveModels) -> None:
        self._live = live
        self.deadline = Deadline("policy", live.config.policy)
        policy = live.models.policy
        self._action = np.zeros(policy.action_size, np.float32)
        # Standing still is no motion with the fingers as they are. In another environment a zero
        # may mean anything, so there the last action is repeated.
        own = not policy.metadata.env
        self._moving = np.array(
            [own and name != "opening" for name in policy.metadata.action_names], np.bool_
        )

    @property
    def metadata(self) -> object:
        """Of the policy that acts now."""
        return self._live.models.policy.metadata

    def reset(self) -> None:
        """Forget the previous episode."""
        self._live.models.policy.reset()
        self._action[:] = 0.0

    def act(self, observation: Floats, out: Floats | None = None) -> Floats:
        """(n_obs,) float32 to (n_act,) float32 in [-1, 1]; see ``EdgePolicy.act``.

        Raises:
            SafetyError: the observation is not finite, or the deadline's patience is over.
        """
        live, action = self._live, self._action
        models = live.models
        began = time.perf_counter_ns()
        try:
            models.policy.act(observation, action)
            if not math.isfinite(action.dot(action)):
                raise SafetyError(f"policy: the action is not finite: {action.tolist()}")
            used = live.ran("policy", time.perf_counter_ns() - began, self.deadline)
        except Exception as error:
            # A bad observation is not the model's fault, and the old one would refuse it too.
            if not math.isfinite(observation.dot(observation)) or not live.roll_back(str(error)):
                raise
            self.deadline.in_a_row = 0
            return self.act(observation, out)
        if not used:
            action[self._moving] = 0.0
        live.went_well()
        if live.metrics is not None and models.novelty is not None:
            live.metrics.strange(models.novelty.score(observation))
        if out is None:
            return action.copy()
        out[:] = action
        return out


class LiveDetector:
    """The detector that sees now; implements ``robot.interface.Detector``."""

    def __init__(self, live: LiveModels) -> None:
        self._live = live
        self.deadline = Deadline("detector", live.config.detector)

    def detect(self, frame: RgbdFrame) -> list[Detection]:
        """Detections of one frame, best first.

        Raises:
            SensorError: the frame is unusable, or the result came late and is dropped.
        """
        live = self._live
        detector = live.models.detector
        if detector is None:
            raise SensorError(f"{live.models.label}: has no detector")
        began = time.perf_counter_ns()
        found = detector.detect(frame)
        taken_ns = time.perf_counter_ns() - began
        if not live.ran("detector", taken_ns, self.deadline):
            raise SensorError(f"camera {frame.camera}: seen {taken_ns / 1e6:.0f} ms late")
        if live.metrics is not None:
            for detection in found:
                live.metrics.seen(detection.score)
        return found


class LiveScorer:
    """The scorer that rates now; implements ``robot.interface.GraspScorer``."""

    def __init__(self, live: LiveModels) -> None:
        self._live = live
        self.deadline = Deadline("scorer", live.config.scorer)

    def score(
        self, height_map: HeightMap, candidates: Sequence[GraspCandidate]
    ) -> NDArray[np.float32]:
        """(n,) probability of a held lift; the planner's own scores where the result is dropped."""
        live = self._live
        scorer = live.models.scorer
        planned = np.array([c.score for c in candidates], np.float32)
        if scorer is None:
            return planned
        began = time.perf_counter_ns()
        found = scorer.score(height_map, candidates)
        used = live.ran("scorer", time.perf_counter_ns() - began, self.deadline)
        return found if used else planned
