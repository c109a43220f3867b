"""The bundle: everything that runs on the robot, in one folder that is whole or refused.

    manifest.json                what is in it: sizes, SHA-256, roles, origin
    models/*.onnx                the int8 models, and the fp32 policy to compare with
    limits.yaml                  the robot's limits (none beside a policy for another environment)
    card.json, CARD.md           how it was made and how it does, for programs and for people
    reference.npz                recorded inputs and outputs, so that it can be verified anywhere
    novelty.yaml                 what the policy has seen in nominal picks, where it was calibrated

A bundle holds data only: loading it runs no code of it.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from policies.bundle.graph import GraphError, read_graph
from policies.bundle.manifest import (
    LIMITS,
    MAX_MANIFEST_BYTES,
    MODEL_ROLES,
    NAME,
    NOVELTY,
    BundleError,
    Manifest,
    entry_of,
)
from policies.bundle.reading import array_bytes, read_arrays, read_files, read_plain
from robot.errors import SteadyhandError
from robot.safety.novelty import Novelty


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory; every byte was checked when it was read.

    Attributes:
        root: the folder it came from.
        manifest: what it holds.
        files: the content of every file, by its path.
    """

    root: Path
    manifest: Manifest
    files: Mapping[str, bytes]

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Read a bundle's folder.

        Raises:
            BundleError: it is missing, incomplete, damaged or of another version; the message
                names the file and what is wrong.
        """
        root = Path(path)
        try:
            data = read_plain(root / NAME, MAX_MANIFEST_BYTES + 1)
            if len(data) > MAX_MANIFEST_BYTES:
                raise BundleError(f"{root}/{NAME}: is too large to be a manifest")
            manifest = Manifest.from_bytes(data, f"{root}/{NAME}")
            files = read_files(root, manifest)
        except OSError as error:
            where = root / NAME if root.is_dir() else root
            raise BundleError(
                f"{where}: cannot be read as a bundle: {error.strerror or error}"
            ) from error
        for role, file in manifest.roles.items():
            if role in MODEL_ROLES:
                try:
                    read_graph(files[file], f"{root}: {role} ({file})")
                except GraphError as error:
                    raise BundleError(str(error)) from error
        return cls(root, manifest, files)

    @property
    def size(self) -> int:
        """Bytes of all files, the manifest included."""
        return sum(len(d) for d in self.files.values()) + len(self.manifest.to_bytes())

    def has(self, role: str) -> bool:
        """Whether a file plays ``role``."""
        return role in self.manifest.roles

    def model(self, role: str) -> bytes:
        """The bytes of the model that plays ``role``."""
        if role not in self.manifest.roles:
            have = ", ".join(sorted(self.manifest.roles))
            raise BundleError(f"{self.root}: holds no {role!r}; it has {have}")
        return self.files[self.manifest.roles[role]]

    @property
    def card(self) -> dict[str, Any]:
        """``card.json``."""
        try:
            content = json.loads(self.files["card.json"])
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{self.root}: card.json is not valid JSON: {error}") from error
        if not isinstance(content, dict):
            raise BundleError(f"{self.root}: card.json is no JSON object")
        return content

    @property
    def limits_yaml(self) -> str:
        """``limits.yaml``, as ``robot.limits.load_limits`` reads it."""
        return self.files["limits.yaml"].decode()

    @property
    def limits_path(self) -> Path:
        """Where ``limits.yaml`` lies.

        Raises:
            BundleError: the bundle is for another environment than this robot.
        """
        if self.manifest.env:
            raise BundleError(
                f"{self.root}: is a policy for {self.manifest.env}, with no limits of a robot; "
                "measure it with: steadyhand evaluate policy"
            )
        return self.root / LIMITS

    def novelty(self) -> Novelty | None:
        """Tells what is new to the policy; None where that was not calibrated.

        Raises:
            SafetyError: the calibration is that of another policy, or does not fit together.
        """
        if NOVELTY not in self.files:
            return None
        return Novelty.read(self.root / NOVELTY, self.model("policy"))

    def reference(self) -> dict[str, NDArray[Any]]:
        """The arrays of ``reference.npz``, by ``"role/in/name"`` and ``"role/out/name"``."""
        return read_arrays(self.files["reference.npz"], f"{self.root}/reference.npz")


def write_bundle(
    out: Path | str,
    *,
    models: Mapping[str, bytes],
    limits_yaml: str | bytes | None,
    card: Mapping[str, Any],
    card_text: str,
    reference: Mapping[str, NDArray[Any]],
    created_from: Mapping[str, Any],
    extra: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Write a bundle: whole under a temporary name, read back, then renamed to ``out``.

    Args:
        out: folder to be made; a bundle that is already there is replaced.
        models: ONNX bytes by role ("policy", "policy_fp32", "detector", "scorer").
        limits_yaml: the robot's limits; None for a policy of another environment, which
            ``created_from["env"]`` names.
        card: for programs: targets, figures, intervals.
        card_text: for people, Markdown.
        reference: recorded arrays by ``"role/in/name"`` and ``"role/out/name"``.
        created_from: commit, config hash, versions.
        extra: further files by path; ``proofs.json`` plays the role "proofs".

    Raises:
        BundleError: something is missing or too large; ``out`` is left as it was.
    """
    target = Path(out)
    limits = limits_yaml.encode() if isinstance(limits_yaml, str) else limits_yaml
    files: dict[str, bytes] = {
        **({} if limits is None else {LIMITS: limits}),
        "card.json": (json.dumps(card, indent=2, sort_keys=True) + "\n").encode(),
        "CARD.md": card_text.encode(),
        "reference.npz": array_bytes(reference),
        **(extra or {}),
    }
    roles = {}
    for role, data in models.items():
        roles[role] = f"models/{role}.onnx"
        files[roles[role]] = data
    if "proofs.json" in files:
        roles["proofs"] = "proofs.json"
    return _write(target, files, roles, created_from)


def add_file(bundle: Bundle, path: str, data: bytes) -> Bundle:
    """The bundle with one file more, or another one, in its own folder; it is to be signed anew.

    Raises:
        BundleError: it would be too large; the folder is left as it was.
    """
    manifest = bundle.manifest
    files = {**bundle.files, path: data}
    return _write(bundle.root, files, manifest.roles, manifest.created_from)


def _write(
    target: Path,
    files: Mapping[str, bytes],
    roles: Mapping[str, str],
    created_from: Mapping[str, Any],
) -> Bundle:
    manifest = Manifest({p: entry_of(d) for p, d in files.items()}, roles, created_from)
    data = manifest.to_bytes()
    Manifest.from_bytes(data, f"{target}/{NAME}")
    if target.exists() and not (target / NAME).exists() and any(target.iterdir()):
        raise BundleError(f"{target}: exists and is no bundle; it is not overwritten")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        for path, content in {**files, NAME: data}.items():
            file = temporary / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        Bundle.load(temporary)
        _swap(temporary, target)
    except OSError as error:
        raise SteadyhandError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Bundle.load(target)


def _swap(new: Path, target: Path) -> None:
    """Put ``new`` in the place of ``target``; a folder cannot be replaced in one step."""
    if not target.exists():
        new.rename(target)
        return
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def shipped() -> Path:
    """The folder of the bundle that comes with the package."""
    return Path(__file__).parent / "shipped"
