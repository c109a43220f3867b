"""Verification: does a bundle do here what it did where it was made? No torch, no simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception.session import open_session
from policies.bundle import behaviour
from policies.bundle.format import Bundle
from policies.bundle.manifest import MAX_BYTES, MODEL_ROLES, BundleError
from policies.edge.metadata import PolicyMetadata, robot_observation
from policies.edge.runtime import ROLES, EdgePolicy
from robot.errors import SafetyError, SteadyhandError

FP32_TOLERANCE = 1e-5
#: int8 kernels round differently from processor to processor, by a quantization step or two.
INT8_TOLERANCE = 0.05
INT8_MEAN_TOLERANCE = 0.005
#: Detections with at least this score must be found again, with boxes that overlap this much.
DETECTION_SCORE, DETECTION_IOU = 0.5, 0.8
#: Share of the reference detections that may be missed or doubled on another processor.
DETECTION_SLACK = 0.1

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it holds.
        detail: the figure, or what is wrong.
    """

    name: str
    ok: bool
    detail: str


def verify_bundle(path: Path | str) -> list[Check]:
    """Look at everything that can be looked at from the bundle alone.

    Args:
        path: the bundle's folder.

    Returns:
        The checks in order. After one of the files' own checks has failed there are no more:
        nothing of a damaged bundle is run.
    """
    try:
        bundle = Bundle.load(path)
    except SteadyhandError as error:
        return [Check("integrity", False, str(error))]
    return check_bundle(bundle)


def check_bundle(bundle: Bundle) -> list[Check]:
    """The same of a bundle in memory."""
    return list(checks_of(bundle))


def checks_of(bundle: Bundle) -> Iterator[Check]:
    """One check after the other, the quick ones first; each is made when it is asked for."""
    robot = None if bundle.manifest.env else robot_observation()
    roles = [role for role in MODEL_ROLES if bundle.has(role)]
    count = len(bundle.files)
    files = [
        Check("integrity", True, f"{count} files, every size and SHA-256 matches"),
        Check(
            "size",
            bundle.size <= MAX_BYTES,
            f"{bundle.size / 1e6:.2f} MB of {MAX_BYTES / 1e6:.0f} MB",
        ),
        _run("card", _card, bundle),
        *([_run("limits", _limits, bundle)] if robot is not None else []),
        *([_run("novelty", _novelty, bundle)] if robot is not None else []),
        _run("reference", _reference, bundle),
        *(_run(f"{role} graph", behaviour.graph, bundle.model(role), role) for role in roles),
    ]
    yield from files
    if not all(check.ok for check in files):
        return
    arrays = bundle.reference()
    sessions: dict[str, Any] = {}
    for precision, role in ROLES.items():
        yield (loads := _run(f"{role} loads", _loads, bundle, role, sessions))
        if not loads.ok:
            return
        session = sessions[role]
        yield _run(f"{role} metadata", _metadata, bundle, role, session, robot)
        yield _run(f"{role} reference", _policy_reference, role, session, arrays)
        yield _run(f"{role} batches", _policy_batches, role, session, arrays)
        yield _run(f"{role} bad input", _bad_input, bundle, precision, session, arrays)
    yield _run("int8 error", behaviour.int8_error, sessions, arrays, bundle.card)
    for role in ("scorer", "detector"):
        if not bundle.has(role):
            continue
        yield (loads := _run(f"{role} loads", _loads, bundle, role, sessions))
        if not loads.ok:
            return
        yield _run(f"{role} reference", _model_reference, role, sessions[role], arrays)
        if role == "scorer":
            yield _run("scorer batches", _scorer_batches, sessions[role], arrays)
        else:
            yield _run("detector empty", behaviour.nothing_to_see, bundle.model(role))


def _run(name: str, check: Callable[..., str], *arguments: Any) -> Check:
    try:
        return Check(name, True, check(*arguments))
    except SteadyhandError as error:
        return Check(name, False, " ".join(str(error).split()))
    except Exception as error:  # arrays of another shape than their maker's lead to many kinds
        line = " ".join(str(error).split())
        return Check(name, False, f"{name}: does not fit ({type(error).__name__}: {line:.300})")


def _card(bundle: Bundle) -> str:
    return f"{len(bundle.card)} sections"


def _reference(bundle: Bundle) -> str:
    return f"{len(bundle.reference())} recorded arrays"


def _loads(bundle: Bundle, role: str, sessions: dict[str, Any]) -> str:
    model = bundle.model(role)
    session = open_session(model, role)
    sessions[role] = session
    shapes = ", ".join(f"{i.name} {i.shape}" for i in session.get_inputs())
    return f"{len(model) / 1e3:.0f} kB, input {shapes}"


def _limits(bundle: Bundle) -> str:
    from robot.limits import load_limits

    limits = load_limits(bundle.limits_path)
    return f"robot {limits.name}"


def _novelty(bundle: Bundle) -> str:
    novelty = bundle.novelty()
    if novelty is None:
        return "not calibrated (steadyhand faults --calibrate 400 --bundle FOLDER does it)"
    return f"calibrated, {novelty.file.picks_n} picks set the threshold"


def _metadata(
    bundle: Bundle, role: str, session: Any, robot: tuple[tuple[str, ...], tuple[str, ...]] | None
) -> str:
    props = session.get_modelmeta().custom_metadata_map
    metadata = PolicyMetadata.from_props(props, role)
    if robot is not None:
        metadata.rows_in(*robot, role)
    if metadata.env != bundle.manifest.env:
        raise BundleError(
            f"{role}: is for {metadata.env!r}, the manifest says {bundle.manifest.env!r}"
        )
    wanted = "fp32" if role == "policy_fp32" else "int8"
    if metadata.precision != wanted:
        raise BundleError(f"{role}: says it is {metadata.precision}, expected {wanted}")
    return (
        f"{len(metadata.observation_names)} observations, {len(metadata.action_names)} actions, "
        f"{metadata.policy_rate_hz:g} Hz"
    )


def _pair(arrays: Arrays, role: str) -> tuple[Arrays, Arrays]:
    inputs = {k.split("/", 2)[2]: v for k, v in arrays.items() if k.startswith(f"{role}/in/")}
    outputs = {k.split("/", 2)[2]: v for k, v in arrays.items() if k.startswith(f"{role}/out/")}
    if not inputs or not outputs:
        raise BundleError(f"reference.npz: holds no recorded input and output of {role!r}")
    return inputs, outputs


def _policy_reference(role: str, session: Any, arrays: Arrays) -> str:
    inputs, outputs = _pair(arrays, role)
    actions = np.asarray(_outputs(session, inputs, role)["action"])
    expected = outputs["action"]
    if actions.shape != expected.shape:
        raise BundleError(f"{role}: gives {actions.shape}, the reference is {expected.shape}")
    error = np.abs(actions - expected)
    largest, mean = float(error.max()), float(error.mean())
    if not np.isfinite(actions).all() or np.abs(actions).max() > 1.0:
        raise BundleError(f"{role}: an action on a recorded observation lies outside [-1, 1]")
    limit = FP32_TOLERANCE if role == "policy_fp32" else INT8_TOLERANCE
    if largest > limit or (role == "policy" and mean > INT8_MEAN_TOLERANCE):
        raise BundleError(
            f"{role}: differs from the reference by {largest:.2e} (mean {mean:.2e}), "
            f"at most {limit:.0e} is allowed"
        )
    return f"{len(expected)} recorded actions reproduced within {largest:.1e}"


def _policy_batches(role: str, session: Any, arrays: Arrays) -> str:
    return behaviour.batches(session, _pair(arrays, role)[0], role)


def _scorer_batches(session: Any, arrays: Arrays) -> str:
    return behaviour.batches(session, _pair(arrays, "scorer")[0], "scorer")


def _bad_input(bundle: Bundle, precision: str, session: Any, arrays: Arrays) -> str:
    props = session.get_modelmeta()
    names = PolicyMetadata.from_props(props.custom_metadata_map).observation_names
    policy = EdgePolicy(bundle, precision, names=names)
    for value in (np.nan, np.inf, -np.inf):
        for at in (0, len(names) - 1):
            observation = np.zeros(len(names), dtype=np.float32)
            observation[at] = value
            try:
                policy.act(observation)
            except SafetyError:
                continue
            raise BundleError(f"{precision} policy: acted on an observation with {value}")
    role = ROLES[precision]
    rows = behaviour.nan_rows(session, _pair(arrays, role)[0]["observation"], role)
    return f"NaN and infinity are refused; in a batch {rows}"


def _model_reference(role: str, session: Any, arrays: Arrays) -> str:
    inputs, outputs = _pair(arrays, role)
    found = _outputs(session, inputs, role)
    if role == "detector":
        return _same_detections(found, outputs)
    worst = 0.0
    for name, expected in outputs.items():
        if found[name].shape != expected.shape:
            raise BundleError(f"{role}: {name} is {found[name].shape}, expected {expected.shape}")
        worst = max(worst, float(np.abs(found[name] - expected).max(initial=0.0)))
    if worst > INT8_TOLERANCE:
        raise BundleError(f"{role}: differs from the reference by {worst:.2e}")
    return f"reproduced within {worst:.1e}"


def _outputs(session: Any, inputs: Arrays, role: str) -> Arrays:
    names = [o.name for o in session.get_outputs()]
    try:
        values = session.run(names, inputs)
    except Exception as error:  # onnxruntime raises a dozen kinds of its own
        line = str(error).splitlines()[0]
        raise BundleError(f"{role}: does not run on its reference input: {line}") from error
    return dict(zip(names, values, strict=True))


def _same_detections(found: Arrays, expected: Arrays) -> str:
    """Confident detections must be the same up to what int8 kernels change."""
    boxes = next((k for k in expected if k.startswith("boxes")), None)
    if boxes is None or "scores" not in expected or boxes not in found:
        raise BundleError("reference.npz: the detector's outputs must be boxes*, scores, labels")
    old = expected[boxes][expected["scores"] >= DETECTION_SCORE]
    new = found[boxes][found["scores"] >= DETECTION_SCORE]
    if len(old) == 0:
        raise BundleError("reference.npz: the detector's reference image shows no detection")
    overlap = _iou(old, new)
    missed = int((overlap.max(axis=1, initial=0.0) < DETECTION_IOU).sum())
    doubled = int((overlap.max(axis=0, initial=0.0) < DETECTION_IOU).sum())
    if max(missed, doubled) > max(1, DETECTION_SLACK * len(old)) or missed == len(old):
        raise BundleError(
            f"detector: of {len(old)} reference detections {missed} are missed and {doubled} "
            "new ones appear"
        )
    return f"{len(old) - missed} of {len(old)} reference detections found again"


def _iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Pairwise overlap of boxes (n, 4) and (m, 4) given as x1, y1, x2, y2."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.clip(high - low, 0, None).prod(axis=2)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(axis=1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - inner
    return np.asarray(inner / np.maximum(union, 1e-9))
