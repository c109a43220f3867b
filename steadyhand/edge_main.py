"""``steadyhand-edge``: what the runtime half can do by itself, with nothing but its own packages.

steadyhand-edge verify [DIR]
steadyhand-edge info [DIR]
steadyhand-edge act [DIR] < steps.jsonl
steadyhand-edge bench [DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robot.errors import SteadyhandError


def verify(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every check of ``policies.bundle.verify``."""
    from policies.bundle.verify import verify_bundle

    checks = verify_bundle(arguments.bundle)
    failed = [c for c in checks if not c.ok]
    if not arguments.json:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
    if failed:
        raise SteadyhandError(f"{failed[0].name}: {failed[0].detail}")
    return {"bundle": str(arguments.bundle), "ok": True, "checks": len(checks)}


def info(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a bundle holds, and on what it would run here."""
    import onnxruntime

    from perception.session import available
    from policies.bundle.format import Bundle

    bundle = Bundle.load(arguments.bundle)
    return {
        "bundle": str(bundle.root),
        "bytes": bundle.size,
        "models": {r: len(bundle.model(r)) for r in bundle.manifest.roles if r != "proofs"},
        "created_from": dict(bundle.manifest.created_from),
        "onnxruntime": onnxruntime.__version__,
        "providers": list(available()),
    }


def act(arguments: argparse.Namespace) -> dict[str, Any]:
    """An action for each observation on standard input, a JSON list a line."""
    import numpy as np

    from policies.edge.runtime import EdgePolicy

    policy = EdgePolicy(arguments.bundle, arguments.precision)
    count = 0
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            observation = np.array(json.loads(line), dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise SteadyhandError(f"line {number}: expected a JSON list of numbers") from error
        print(json.dumps([round(float(a), 7) for a in policy.act(observation)]), flush=True)
        count += 1
    return {} if not arguments.json else {"steps": count}


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time of an action and of a look, and this process's memory, with every model open."""
    import resource

    import numpy as np

    from policies.bundle.format import Bundle
    from policies.edge.live import LiveModels

    bundle = Bundle.load(arguments.bundle)
    live = LiveModels(bundle)
    reference = bundle.reference()
    rows = [np.ascontiguousarray(r) for r in reference["policy/in/observation"]]
    out = live.policy.act(rows[0])
    result: dict[str, Any] = {"bundle": str(bundle.root)}
    calls = [lambda row=row: live.policy.act(row, out) for row in rows]
    result["policy_us"] = _times([calls[i % len(calls)] for i in range(arguments.calls)], 1e3)
    detector = live.models.detector
    if detector is not None:
        image = reference["detector/in/image"]
        result["detector_ms"] = _times([lambda: detector.run(image)] * 20, 1e6)
    result["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return result


def _times(calls: Sequence[Any], unit_ns: float) -> dict[str, float]:
    import numpy as np

    taken = []
    for call in calls:
        began = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - began) / unit_ns)
    p50, p99 = np.percentile(taken, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; never returns."""
    parser = argparse.ArgumentParser(prog="steadyhand-edge", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    shipped = Path(__file__).parents[1] / "policies" / "bundle" / "shipped"
    for verb in (verify, info, act, bench):
        sub = verbs.add_parser(verb.__name__, help=str(verb.__doc__).splitlines()[0])
        sub.add_argument("bundle", nargs="?", type=Path, default=shipped, help="a bundle's folder")
        sub.add_argument("--json", action="store_true", help="one JSON object on standard output")
        if verb is act:
            sub.add_argument("--precision", choices=("int8", "fp32"), default="int8")
        if verb is bench:
            sub.add_argument("--calls", type=int, default=5000)
        sub.set_defaults(verb=verb)
    given = parser.parse_args(arguments)
    try:
        result = given.verb(given)
    except SteadyhandError as error:
        print(f"steadyhand-edge: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    if given.json:
        print(json.dumps(result))
    elif given.verb is not act:
        for key, value in result.items():
            print(f"{key}: {value}")
    sys.exit(0)


if __name__ == "__main__":
    main()
