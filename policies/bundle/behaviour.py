"""How a bundle's models behave where it is easy to go wrong: odd batches, NaN, an empty table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception.detector import OUTPUTS, OnnxDetector
from policies.bundle.graph import read_graph
from policies.bundle.manifest import BundleError

BATCHES = (1, 2, 7, 64)
#: Kernels for one row and for many add in another order; a quantized step may tip over.
BATCH_TOLERANCE = {"policy_fp32": 1e-5, "policy": 0.05, "scorer": 1e-4}

_ENDS = {
    "policy": (("observation",), ("action",)),
    "policy_fp32": (("observation",), ("action",)),
    "detector": (("image",), tuple(OUTPUTS)),
}

Arrays = Mapping[str, NDArray[Any]]


def graph(model: bytes, role: str) -> str:
    """What a model is made of; every operator is one that this runtime runs.

    Raises:
        BundleError: it takes or gives something else than its role does.
    """
    found = read_graph(model, role)
    ends = _ENDS.get(role, (found.inputs, found.outputs))
    if (found.inputs, found.outputs) != ends:
        raise BundleError(
            f"{role}: takes {list(found.inputs)} and gives {list(found.outputs)}, expected "
            f"{list(ends[0])} and {list(ends[1])}"
        )
    kinds = len(found.operators)
    return (
        f"{sum(found.operators.values())} nodes of {kinds} kinds, all supported; "
        f"{found.parameters} parameters, opset {found.opset}"
    )


def batches(session: Any, inputs: Arrays, role: str) -> str:
    """A row gives the same alone and among others.

    Raises:
        BundleError: it does not.
    """
    names = [o.name for o in session.get_outputs()]
    limit = BATCH_TOLERANCE[role]

    def run(rows: slice) -> NDArray[Any]:
        given = {k: np.ascontiguousarray(v[rows]) for k, v in inputs.items()}
        return np.asarray(session.run(names[:1], given)[0])

    count = min(len(v) for v in inputs.values())
    whole = run(slice(0, count))
    worst = 0.0
    sizes = [size for size in BATCHES if size <= count]
    for size in sizes:
        part = run(slice(0, size))
        if part.shape != (size, *whole.shape[1:]):
            raise BundleError(f"{role}: a batch of {size} gives {part.shape}")
        worst = max(worst, float(np.abs(part - whole[:size]).max()))
    if not worst <= limit:
        raise BundleError(
            f"{role}: a row differs by {worst:.2e} among others, at most {limit:.0e} is allowed"
        )
    return f"batches of {', '.join(map(str, sizes))} and {count} agree within {worst:.1e}"


def nan_rows(session: Any, observation: NDArray[np.float32], role: str) -> str:
    """A NaN stays in its own row; in fp32 it comes out as NaN in every number of the action.

    A quantized layer turns NaN into a number, so that for int8 it is the runtime that refuses it
    (``EdgePolicy.act``), before the graph sees it.

    Raises:
        BundleError: it becomes an fp32 action, or spoils another row.
    """
    own = False
    for at in (0, observation.shape[-1] - 1):
        bad = np.resize(observation, (3, *observation.shape[1:]))
        bad[1, ..., at] = np.nan
        action = np.asarray(session.run(["action"], {"observation": bad})[0])
        own = bool(np.isnan(action[1]).all())
        if not own and role == "policy_fp32":
            raise BundleError(f"{role}: acts on an observation with NaN at {at}")
        if not np.isfinite(action[[0, 2]]).all():
            raise BundleError(f"{role}: NaN in one observation spoils another's action")
    return "NaN stays in its own row" + (" and becomes no action" if own else "")


def int8_error(sessions: Mapping[str, Any], arrays: Arrays, card: Mapping[str, Any]) -> str:
    """int8 actions lie as near to fp32's as the card allows, on the recorded observations.

    Raises:
        BundleError: they lie farther.
    """
    x = {"observation": arrays["policy/in/observation"]}
    a, b = (np.asarray(sessions[r].run(["action"], x)[0]) for r in ("policy", "policy_fp32"))
    error = np.abs(a - b)
    config = card.get("int8", {}).get("config", {})
    limit = float(config.get("max_mean_error", 0.02))
    if not float(error.mean()) <= limit:
        raise BundleError(
            f"policy: int8 differs from fp32 by {error.mean():.4f} on average, more than {limit}"
        )
    return (
        f"int8 differs from fp32 by {error.mean():.4f} on average (at most {limit:g}), "
        f"{np.quantile(error, 0.99):.3f} in 99 of 100, {error.max():.3f} at most"
    )


def nothing_to_see(model: bytes) -> str:
    """A bare table, and what no camera gives, are seen as no object rather than as an error.

    Raises:
        BundleError: something is seen there.
    """
    detector = OnnxDetector(model)
    shape = (4, detector.height_px, detector.width_px)
    grey = np.full(shape, 0.5, np.float32)
    grey[3] = 0.0
    for name, image in (("black", np.zeros(shape, np.float32)), ("bare", grey)):
        boxes, scores, labels = detector.run(image)
        if boxes.shape != (len(scores), 4) or labels.shape != scores.shape:
            raise BundleError(f"detector: {name} image: {boxes.shape} boxes, {scores.shape} scores")
        seen = int((scores >= detector.score_threshold).sum())
        if seen:
            raise BundleError(f"detector: sees {seen} objects in a {name} image")
    return "no detection in a black and in a bare image"
