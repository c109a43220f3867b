"""``steadyhand bench env|edge|perception|safety``: how fast, measured side by side in one run."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import typer

from robot.errors import SteadyhandError
from steadyhand.console import CORES, Json, Seed, emit, progress

#: Of a tick that asks the policy, at the 99th percentile.
TICK_TARGET_US = 500.0


def env(
    seconds: Annotated[float, typer.Option(min=1.0, help="Time for each side.")] = 10.0,
    n_objects: Annotated[int, typer.Option(min=1, max=20, help="Cubes on the table.")] = 1,
    json: Json = False,
) -> None:
    """Simulated seconds a second, beside bare Bullet on the same scene and beside panda-gym."""
    from envs.speed import CubePick, PandaGymPick, Side, rates, workers_ratio

    missing: dict[str, str] = {}
    ours = CubePick(n_objects)
    sides: dict[str, Side] = {
        "env": ours.play,
        "bare": ours.play_bare,
        "supervised": ours.play_supervised,
    }
    if importlib.util.find_spec("panda_gym"):
        # At panda-gym's rate: 500 Hz, 20 ticks a step.
        sides["equal_dt"] = CubePick(n_objects, 500.0, 20).play
        sides["panda_gym"] = PandaGymPick().play
    else:
        missing["panda_gym"] = "panda-gym is not installed: pip install 'steadyhand[bench]'"
    found = rates(sides, seconds)
    two_workers = per_core = None
    if CORES > 1:
        two_workers, per_core = np.median(workers_ratio(5, min(seconds, 2.0)), axis=0).tolist()
    else:
        missing["two_workers"] = "this process may use one core only"

    def middle(name: str) -> float | None:
        return float(np.median(found[name])) if name in found else None

    def ratio(name: str, of: str) -> float | None:
        # Round by round: what slows the machine down slows both.
        return float(np.median(found[name] / found[of])) if {name, of} <= set(found) else None

    rate = float(np.median(found["env"]))
    emit(
        {
            "env_steps_per_s": rate * ours.steps,
            "sim_seconds_per_s": rate,
            "bare_bullet_sim_seconds_per_s": middle("bare"),
            "panda_gym_sim_seconds_per_s": middle("panda_gym"),
            "share_of_bare": ratio("env", "bare"),
            "supervised_over_bare": ratio("supervised", "bare"),
            "panda_gym_ratio": ratio("env", "panda_gym"),
            "equal_dt_ratio": ratio("equal_dt", "panda_gym"),
            "two_workers_ratio": two_workers,
            "two_workers_per_core_ratio": per_core,
            "n_objects": n_objects,
            "rounds": len(found["env"]),
            "missing": missing,
        },
        json,
        f"GraspSingle with {n_objects} cube(s)",
    )


def edge(
    bundle: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--bundle", help="A bundle's folder; the shipped one if left out."),
    ] = None,
    calls: Annotated[int, typer.Option(min=100)] = 5000,
    json: Json = False,
) -> None:
    """Latency of the policy, of a whole control tick, and beside Stable-Baselines3; one thread."""
    from policies.bundle.format import Bundle, shipped
    from policies.edge.runtime import EdgePolicy

    loaded = Bundle.load(bundle or shipped())
    policy = EdgePolicy(loaded)
    observations = _observations(loaded, policy.observation_size)
    index = iter(np.resize(np.arange(len(observations)), calls * 2).tolist())
    policy_us = _quantiles(lambda: policy.act(observations[next(index)]), calls)
    result: dict[str, Any] = {
        "policy_us": policy_us,
        "tick_us": _quantiles(_tick(policy, policy_ticks=False), calls),
        "policy_tick_us": _quantiles(_tick(policy, policy_ticks=True), calls),
        "tick_target_p99_us": TICK_TARGET_US,
        "reference_policy_us": None,
        "reference_sb3_predict_us": None,
        "sb3_over_edge": None,
    }
    if importlib.util.find_spec("stable_baselines3") and importlib.util.find_spec("torch"):
        from policies.learning.reference import reference_callables

        ours, theirs = reference_callables()
        # In turns of twenty, as either would run in a loop of its own: what slows the machine down
        # slows both, and neither finds the other's weights in its cache.
        turns = [
            ([_once(ours) for _ in range(20)], [_once(theirs) for _ in range(20)])
            for _ in range(min(calls, 5000) // 20)
        ]
        result["reference_policy_us"] = _summary([t for a, _ in turns for t in a])
        result["reference_sb3_predict_us"] = _summary([t for _, b in turns for t in b])
        ratios = [float(np.median(b) / np.median(a)) for a, b in turns]
        result["sb3_over_edge"] = round(float(np.median(ratios)), 2)
    emit(result, json, "edge policy")


def perception(
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--bundle", help="A bundle's folder; the shipped one if left out."),
    ] = None,
    fp32: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--fp32", help="The fp32 detector; what export --keep-fp32 left, if it did."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Rendered, of test objects.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Over all images.")] = 10,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Latency of the detector in int8 and fp32 beside torchvision's; one thread each."""
    from envs.synthesis.scenes import scene_stream
    from perception.detector import OnnxDetector, network_input
    from perception.speed import interleaved_ms
    from policies.bundle.format import Bundle, shipped
    from steadyhand.export import fp32_beside

    source = bundle or shipped()
    calls: dict[str, Callable[[Any], Any]] = {
        "int8": OnnxDetector(Bundle.load(source).model("detector")).run
    }
    missing: dict[str, str] = {}
    kept = fp32 or fp32_beside(source)
    if fp32 is not None or kept.is_file():
        precision = (model := OnnxDetector(kept)).metadata.get("precision")
        if precision != "fp32":
            raise SteadyhandError(f"{kept}: is an {precision} detector; --fp32 takes the fp32 one")
        calls["fp32"] = model.run
    else:
        missing["fp32"] = "not beside the bundle: name it with --fp32, or export --keep-fp32"
    if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
        from perception.training.reference import reference_detector

        calls["torchvision"] = reference_detector(seed)
    else:
        missing["torchvision"] = "torch is not installed: pip install 'steadyhand[train]'"
    frames = [
        view.frame
        for scene in scene_stream("test", (images + 1) // 2, seed)
        for view in scene.views
    ]
    inputs = [network_input(frame) for frame in frames[:images]]
    with progress("detectors", rounds) as bar:
        times = interleaved_ms(
            calls, inputs, rounds, lambda n: bar.update(bar.task_ids[0], completed=n)
        )
    result: dict[str, Any] = {
        f"{name}_ms": _summary(times[name].tolist()) if name in times else None
        for name in ("int8", "fp32", "torchvision")
    }
    for name in ("fp32", "torchvision"):
        # Call by call on the same image: what slows the machine down slows both.
        result[f"{name}_over_int8"] = (
            round(float(np.median(times[name] / times["int8"])), 3) if name in times else None
        )
    result |= {"images": len(inputs), "rounds": rounds, "threads": 1, "seed": seed}
    emit(result | {"missing": missing}, json, "detectors, one thread each")


def safety(
    ticks: Annotated[int, typer.Option(min=500, help="Control ticks of a recorded pick.")] = 5000,
    json: Json = False,
) -> None:
    """All monitors together, and each for itself: microseconds a control tick on one core."""
    from envs.faults.timing import time_monitors

    times = time_monitors(ticks)
    emit(
        {
            "supervisor_us": _summary(times.whole),
            "supervisor_least_us": _summary(times.least),
            "monitors_us": {name: _summary(values) for name, values in times.each.items()},
            "ticks": len(times.whole),
            "target_p99_us": 150.0,
        },
        json,
        "safety monitors",
    )


def _observations(loaded: Any, size: int) -> np.ndarray:
    for key, array in loaded.reference().items():
        if key.endswith("/in/observation") and array.ndim == 2 and array.shape[1] == size:
            return np.ascontiguousarray(array, dtype=np.float32)
    return np.zeros((1, size), dtype=np.float32)


def _tick(policy: Any, policy_ticks: bool) -> Callable[[], object]:
    """One control tick of deployment: feel, move the reference, judge it.

    With ``policy_ticks`` each tick is one of those, every twelfth in truth, in which the policy is
    asked besides: observation, policy and supervisor together.
    """
    from robot.execution.grasp import TICKS, GraspLoop
    from robot.geometry import grasp_rotation
    from robot.limits import load_limits
    from robot.safety.supervisor import Supervisor
    from robot.types import GraspCandidate, GripperState, JointState, Pose, RobotState

    limits = load_limits("panda")
    loop = GraspLoop.make(limits)
    supervisor = Supervisor(limits, loop.kinematics)
    q = np.array(limits.home_rad)
    X = Pose.from_matrix("world", "grasp", grasp_rotation(0.0), (0.38, 0.0, 0.4))
    loop.begin(GraspCandidate(X, 0.04, 0.08, 1.0, 0, 0.0), None, q, 0.08, 0.0)
    supervisor.reset(q)
    rest = np.zeros(7)
    count = 0

    def tick() -> None:
        nonlocal count
        now = count / 240.0
        at = loop.servo.q_ref
        effort = loop.kinematics.gravity_torque(at)  # 3 us; without it the arm would seem pushed
        state = RobotState(now, JointState(at, rest, effort), GripperState(0.08, 0.0))
        loop.feel([(0.08, 0.0)])
        if policy_ticks or count % TICKS == 0:
            loop.act(policy.act(loop.observe(state.joints.position_rad, rest, now)))
        targets, rates = loop.references(1)
        sent, _, verdict = supervisor.filter(state, targets, rates, now)
        if verdict.level:
            loop.servo.follow(sent[-1])
        count += 1

    return tick


def _once(call: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - began) / 1e3


def _quantiles(call: Callable[[], object], calls: int) -> dict[str, float]:
    for _ in range(min(200, calls)):
        call()
    return _summary([_once(call) for _ in range(calls)])


def _summary(times: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}
