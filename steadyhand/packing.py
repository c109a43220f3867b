"""From trained parts to a bundle: export, quantize, prove, write. Nothing is written unless
every check holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.load import as_dict, digest
from perception.detector import network_input
from perception.scorer import numbers, patches
from policies.bundle.contents import card_markdown, record_reference, robot_files
from policies.bundle.format import Bundle, write_bundle
from policies.bundle.verify import Check, verify_bundle
from policies.compression.quantize import ActionError, QuantizeConfig, quantize_policy
from policies.demos.dataset import Demonstrations
from policies.evaluation.grasping import GraspSetup, evaluate_grasp
from policies.evaluation.protocols import EpisodeResult
from policies.evaluation.rollouts import episode_seeds
from policies.evaluation.statistics import paired_difference, wilson_interval
from policies.evaluation.subjects import Subject
from policies.learning.chunking import Network, recorded_inputs
from policies.learning.export import (
    TOLERANCE,
    Parity,
    check_parity,
    export_onnx,
    in_torch,
    narrowed,
    policy_metadata,
    random_observations,
)
from policies.provenance import git_commit, package_versions
from policies.storage import read_json
from robot.errors import SteadyhandError
from robot.geometry import grasp_rotation
from robot.types import GraspCandidate, HeightMap, Pose, RgbdFrame

Say = Callable[[str], None]
PHYSICS = ("nominal", "hard")
RANDOM_REFERENCES = 64
#: int8 may succeed in this much less than fp32, by the lower end of the paired 95 % interval, over
#: this many episodes; with fewer the interval is wider, and so is the bound, by its square root.
MAX_LOSS_LOW, AT_EPISODES = 0.02, 2000


@dataclass(frozen=True)
class Parts:
    """What a bundle is made from.

    Attributes:
        policy: the trained network.
        clone: the cloned network it came from, to be compared with; None to leave that out.
        demos: recorded observations, for calibration and reference.
        detector: the int8 detector's file.
        frame: one look, for the detector's reference.
        origin: what made them: command, config, seed, data.
        scorer: the grasp scorer's file, with its figures beside it; None to leave it out.
        trained: what a recipe made the policy from, to be compared with; None where none did.
        ranges: of the policy's int8 layers, where training with rounding fixed them.
    """

    policy: Network
    clone: Network | None
    demos: Demonstrations
    detector: Path
    frame: RgbdFrame | None
    origin: Mapping[str, Any]
    scorer: Path | None = None
    trained: Network | None = None
    ranges: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True)
class PolicyModels:
    """A policy as ONNX, in both precisions, with what proves them.

    Attributes:
        models: the bytes by role.
        inputs: recorded observations for the reference, by role; for fp32 random ones besides.
        expected: what torch gives on the fp32 ones.
        parity: of fp32 with torch.
        error: of int8 against fp32.
    """

    models: dict[str, bytes]
    inputs: dict[str, dict[str, NDArray[Any]]]
    expected: dict[str, dict[str, NDArray[Any]]]
    parity: Parity
    error: ActionError


def policy_models(
    policy: Network,
    demos: Demonstrations,
    quantize: QuantizeConfig,
    seed: int,
    say: Say,
    ranges: Sequence[tuple[float, float] | None] = (),
) -> PolicyModels:
    """Export a policy, prove that it equals torch, and quantize it.

    Args:
        policy: the trained network.
        demos: its metadata come from their spec, calibration and reference from their frames.
        quantize: how it becomes int8.
        seed: of the random observations and the choice of the reference.
        say: progress.
        ranges: see :func:`quantize_policy`.
    """
    rng = np.random.default_rng(seed)
    policy, demos = narrowed(policy, demos)
    observations = recorded_inputs(policy, demos)
    fp32 = export_onnx(policy, policy_metadata(demos.spec, digest(policy.config)))
    parity = check_parity(policy, fp32, observations[:4000], rng)
    say(f"export: fp32 equals torch within {max(parity.recorded, parity.random):.2g}")
    int8, error = quantize_policy(fp32, observations, quantize, ranges)
    say(f"export: int8 action error {error.mean:.4f} on average, {error.max:.3f} at most")
    chosen = observations[rng.choice(len(observations), min(256, len(observations)), replace=False)]
    random = random_observations(policy, rng, RANDOM_REFERENCES, chosen.shape[1:-1])
    inputs: dict[str, dict[str, NDArray[Any]]] = {
        "policy": {"observation": chosen},
        "policy_fp32": {"observation": np.concatenate([chosen, random])},
    }
    expected = {"policy_fp32": {"action": in_torch(policy, inputs["policy_fp32"]["observation"])}}
    models = {"policy": int8, "policy_fp32": fp32}
    return PolicyModels(models, inputs, expected, parity, error)


def pack(
    parts: Parts,
    out: Path,
    quantize: QuantizeConfig,
    episodes: int,
    seed: int,
    say: Say,
    workers: int = 2,
    episodes_folder: Path | None = None,
    max_int8_loss: float = 0.01,
) -> Bundle:
    """Export, prove and write a bundle.

    Args:
        parts: what it is made from.
        out: folder to be made.
        quantize: how the policy becomes int8.
        episodes: paired episodes of the proof, under each physics setting.
        seed: of the proof's episodes.
        say: progress.
        workers: processes.
        episodes_folder: keeps finished episodes of the proof, so that it resumes.
        max_int8_loss: refuse when int8 succeeds in this much less than fp32, or than what a recipe
            made it from (point estimate).

    Raises:
        SteadyhandError: a check does not hold; the message names it.
    """
    made = policy_models(parts.policy, parts.demos, quantize, seed, say, parts.ranges)
    models = {**made.models, "detector": parts.detector.read_bytes()}
    inputs = made.inputs
    if parts.frame is not None:
        inputs["detector"] = {"image": network_input(parts.frame)}
    if parts.scorer is not None:
        models["scorer"] = parts.scorer.read_bytes()
        inputs["scorer"] = scorer_inputs()
    card: dict[str, Any] = {
        "origin": dict(parts.origin),
        "parity": as_dict(made.parity),
        "int8": {"config": as_dict(quantize), "action_error": as_dict(made.error)},
        "versions": package_versions(),
    }
    if parts.scorer is not None:
        figures = parts.scorer.with_suffix(".json")
        card["grasp_scorer"] = read_json(figures) if figures.is_file() else {"figures": "none"}
    created = {
        "git_commit": git_commit(),
        "config_hash": parts.origin.get("config_hash", digest(quantize)),
    }

    def write(folder: Path) -> Bundle:
        files = robot_files("panda")
        return write_bundle(
            folder,
            models=models,
            limits_yaml=files.pop("limits.yaml"),
            card=card,
            card_text=card_markdown(card),
            reference=record_reference(models, inputs, made.expected),
            created_from=created,
            extra={**files, "proofs.json": (json.dumps(card.get("proof", {})) + "\n").encode()},
        )

    with TemporaryDirectory() as temporary:
        draft = Path(temporary) / "bundle"
        write(draft)
        card["checks"] = {check.name: check.detail for check in hold(draft)}
        card["proof"] = proof(
            parts, draft, episodes_folder or Path(temporary), episodes, seed, say, workers
        )
    card["bounds"] = {
        "fp32_parity": TOLERANCE,
        "int8_mean_action_error": quantize.max_mean_error,
        "int8_loss": max_int8_loss,
        "int8_loss_low": loss_bound(episodes),
    }
    others = ["fp32"] if parts.trained is None else ["fp32", "trained"]
    for physics, other in product(PHYSICS, others):
        difference = card["proof"][physics][f"int8_minus_{other}"]
        loss, low = -difference["difference"], difference["ci95"][0]
        if loss > max_int8_loss + 1e-9:  # 2 of 200 are 1 %
            raise SteadyhandError(
                f"export: int8 succeeds in {loss:.1%} fewer episodes than {other} under {physics} "
                f"physics; at most {max_int8_loss:.1%} is allowed (try other int8 settings)"
            )
        if low < -loss_bound(episodes):
            raise SteadyhandError(
                f"export: int8 may succeed in {-low:.1%} fewer episodes than {other} under "
                f"{physics} physics (lower end of the paired interval over {episodes} episodes); "
                f"at most {loss_bound(episodes):.1%} is allowed"
            )
    bundle = write(out)
    hold(out)
    say(f"export: {out}, {bundle.size / 1e6:.2f} MB, every check holds")
    say(f"export: next, what is new to it: steadyhand faults --calibrate 400 --bundle {out}")
    return bundle


def loss_bound(episodes: int) -> float:
    """How far the lower end of int8's paired difference to fp32 may lie below 0."""
    return MAX_LOSS_LOW * max(1.0, (AT_EPISODES / episodes) ** 0.5)


def hold(folder: Path) -> list[Check]:
    """The checks of a bundle, all of which hold; raises where one does not."""
    checks = verify_bundle(folder)
    failed = [check for check in checks if not check.ok]
    if failed:
        raise SteadyhandError(f"export: {failed[0].name}: {failed[0].detail}")
    return checks


def same_weights(first: Network, second: Network) -> bool:
    """Whether two networks are the same, number for number."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(bool((a[k] == b[k]).all()) for k in a)


def scorer_inputs() -> dict[str, NDArray[np.float32]]:
    """Patches and numbers for the scorer's reference: grips of a bar in the middle of a map."""
    height = np.zeros((80, 80), np.float32)
    height[20:60, 34:46] = 0.04
    grid = HeightMap(np.zeros(2), 0.0025, height, height >= 0, 0.0)
    grips = []
    for k in range(16):
        at = (0.1, 0.07 + 0.004 * k, 0.02)
        pose = Pose.from_matrix("world", "grasp", grasp_rotation(0.2 * k), at)
        grips.append(GraspCandidate(pose, 0.03, 0.07, 1.0, -1, 0.0))
    return {"patch": patches(grid, grips), "numbers": numbers(grips)}


def proof(
    parts: Parts, draft: Path, scratch: Path, episodes: int, seed: int, say: Say, workers: int
) -> dict[str, Any]:
    """Closed-loop success on paired episodes of test objects, the truth sensed.

    The same seeds for int8, fp32, the clone and the open-loop script; with each rate its Wilson
    interval, with each difference its own.
    """
    subjects = {
        "int8": Subject("bundle", draft, "int8"),
        "fp32": Subject("bundle", draft, "fp32"),
        "scripted": Subject("scripted"),
    }
    # Where PPO did not earn its place, the clone is what ships: its episodes are fp32's.
    unchanged = parts.clone is not None and same_weights(parts.clone, parts.policy)
    if parts.clone is not None and not unchanged:
        scratch.mkdir(parents=True, exist_ok=True)
        parts.clone.save(scratch / "clone.pt")
        subjects["clone"] = Subject("policy", scratch / "clone.pt")
    pairs = [("int8", "fp32"), ("int8", "scripted"), ("fp32", "scripted")]
    if parts.trained is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        parts.trained.save(scratch / "trained.pt")
        subjects["trained"] = Subject("policy", scratch / "trained.pt")
        pairs.append(("int8", "trained"))
    if parts.clone is not None:
        pairs += [("fp32", "clone"), ("clone", "scripted")]
    out: dict[str, Any] = {
        "protocol": "single", "objects": "test", "sensing": "truth", "seed": seed,
    }  # fmt: skip
    if parts.clone is not None:
        out["ships"] = "clone" if unchanged else "ppo"
    seeds = list(episode_seeds(seed, 0, episodes))
    for physics in PHYSICS:
        outcomes: dict[str, list[bool]] = {}
        row: dict[str, Any] = {}
        for name, subject in subjects.items():
            done: dict[int, bool] = {}

            def note(result: EpisodeResult, done: dict[int, bool] = done) -> None:
                done[result.seed] = result.successes > 0

            setup = GraspSetup(subject, "single", "test", "truth", physics)
            file = scratch / f"{name}_{physics}.jsonl"
            figures = evaluate_grasp(setup, episodes, seed, workers, file, note)
            outcomes[name] = [done[s] for s in seeds]
            row[name] = {
                "successes": figures["successes"],
                "episodes": episodes,
                "success_rate": figures["success_rate"],
                "ci95": list(wilson_interval(figures["successes"], episodes)),
            }
            say(f"proof: {physics}: {name} {figures['success_rate']:.3f}")
        if unchanged:
            outcomes["clone"], row["clone"] = outcomes["fp32"], row["fp32"]
        for first, second in pairs:
            difference = paired_difference(outcomes[first], outcomes[second])
            row[f"{first}_minus_{second}"] = difference.as_dict()
        out[physics] = row
    return out
