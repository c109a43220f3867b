"""Who is evaluated: the expert, the open-loop script, a training run's policy, or a bundle."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from envs.expert import ExpertPolicy
from policies.bundle.format import Bundle
from policies.edge.runtime import EdgePolicy
from policies.evaluation.specs import ActorSpec
from robot.errors import SteadyhandError
from robot.execution.scripted import ScriptedPolicy
from robot.interface import Policy
from robot.safety.novelty import Novelty

EXPERT = ActorSpec("envs.expert:expert_for")
"""Demonstrates and labels in the grasp environments."""

SubjectKind = Literal["expert", "scripted", "policy", "bundle"]


def file_digest(file: Path) -> str:
    """The first twelve hex digits of a file's SHA-256."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise SteadyhandError(f"{file}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Subject:
    """How to make the policy under test in any process.

    Attributes:
        kind: see the module.
        path: the training run's folder or ``.pt`` file, or the bundle's folder.
        precision: of a bundle's policy, ``int8`` or ``fp32``.
    """

    kind: SubjectKind
    path: Path | None = None
    precision: str = "int8"

    @property
    def label(self) -> str:
        """For results: what was measured."""
        if self.path is None:
            return self.kind
        name = f"{self.kind}:{self.path.name}"
        return f"{name}:{self.precision}" if self.kind == "bundle" else name

    def actor(self) -> ActorSpec:
        """As an actor in a grasp environment."""
        return ActorSpec(
            "policies.evaluation.subjects:subject_for",
            {"subject": self},
            f"{self.label}:{self.digest}" if self.path else self.label,
        )

    @property
    def digest(self) -> str:
        """Twelve hex digits that change with the policy's bytes."""
        if self.path is None:
            return self.kind
        if self.kind == "bundle":
            role = "policy" if self.precision == "int8" else "policy_fp32"
            return hashlib.sha256(Bundle.load(self.path).model(role)).hexdigest()[:12]
        return file_digest(self.path / "network.pt" if self.path.is_dir() else self.path)

    def novelty(self) -> Novelty | None:
        """Tells what is new to a bundle's policy, where that was calibrated."""
        if self.kind != "bundle" or self.path is None:
            return None
        return Bundle.load(self.path).novelty()

    def make(self, lift_m: float) -> Policy:
        """The policy; ``lift_m`` is how far it has to lift."""
        if self.kind == "expert":
            return ExpertPolicy(lift_m)
        if self.kind == "scripted":
            return ScriptedPolicy(lift_m)
        if self.path is None:
            raise SteadyhandError(f"subject {self.kind}: needs a path")
        if self.kind == "bundle":
            return EdgePolicy(self.path, self.precision)
        from policies.learning.chunking import load_network

        file = self.path / "network.pt" if self.path.is_dir() else self.path
        if not file.is_file():
            raise SteadyhandError(f"{file}: no trained policy there (expected a run's network.pt)")
        policy: Policy = load_network(file).actor().make(None)
        return policy


def subject_for(env: Any, subject: Subject) -> Policy:
    """The subject's policy for a grasp environment."""
    return subject.make(env.unwrapped.loop.config.lift_m)
