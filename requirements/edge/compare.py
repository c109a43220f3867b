"""What a bundle's models give on one machine, and how two machines differ.

compare.py record FILE.npz           run the shipped bundle's models on its reference inputs
compare.py compare A.npz B.npz       one JSON object; exit code 1 where they differ too much
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np

#: As `verify` allows: int8 kernels round differently from processor to processor.
LIMITS = {"policy": 0.05, "policy_fp32": 1e-5, "scorer": 0.05}


def record(out: Path) -> None:
    """Run every model, and every check of the bundle."""
    import onnxruntime

    from perception.session import open_session
    from policies.bundle.format import Bundle, shipped
    from policies.bundle.verify import verify_bundle

    bundle = Bundle.load(shipped())
    reference = bundle.reference()
    arrays = {}
    for role in ("policy", "policy_fp32", "scorer", "detector"):
        session = open_session(bundle.model(role), role)
        given = {i.name: reference[f"{role}/in/{i.name}"] for i in session.get_inputs()}
        names = [o.name for o in session.get_outputs()]
        for name, value in zip(names, session.run(names, given), strict=True):
            arrays[f"{role}|{name}"] = np.asarray(value)
    checks = verify_bundle(bundle.root)
    facts = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "checks": len(checks),
        "failed": [f"{c.name}: {c.detail}" for c in checks if not c.ok],
    }
    np.savez(out, facts=np.array(json.dumps(facts)), **arrays)


def compare(first: Path, second: Path) -> int:
    """How far apart two recordings lie."""
    a, b = np.load(first), np.load(second)
    result = {
        "machines": [json.loads(str(x["facts"])) for x in (a, b)],
        "largest_difference": {},
    }
    ok = all(not facts["failed"] for facts in result["machines"])
    for key in a.files:
        role = key.split("|")[0]
        if role not in LIMITS:
            continue
        apart = np.abs(a[key] - b[key])
        result["largest_difference"][role] = float(apart.max())
        result.setdefault("mean_difference", {})[role] = float(apart.mean())
        ok &= bool(apart.max() <= LIMITS[role])
    counts = [len(x["detector|scores"]) for x in (a, b)]
    result["detections"] = counts
    if counts[0] == counts[1]:
        apart = np.abs(a["detector|boxes_xyxy_px"] - b["detector|boxes_xyxy_px"])
        result["largest_box_difference_px"] = float(apart.max(initial=0.0))
    result["ok"] = ok
    print(json.dumps(result, indent=2))
    return 0 if ok else 1


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(Path(sys.argv[2]))
    else:
        sys.exit(compare(Path(sys.argv[2]), Path(sys.argv[3])))
