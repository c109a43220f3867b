"""The manifest: what a bundle holds, byte for byte, and the checks that nothing was changed.

SHA-256 of every file, and of the manifest's own content, finds every damage and every edit by
mistake. It is no signature: who can rewrite files can rewrite their digests too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robot.errors import SteadyhandError

NAME = "manifest.json"
KIND = "steadyhand-bundle"
VERSION = 1
MAX_BYTES = 12_000_000
MAX_MANIFEST_BYTES = 1_000_000
#: Roles a model can have; those without a model are slots for later.
ROLES = ("detector", "policy", "policy_fp32", "scorer", "proofs")
#: Those that are ONNX files.
MODEL_ROLES = ("detector", "policy", "policy_fp32", "scorer")
REQUIRED_ROLES = ("policy", "policy_fp32")
REQUIRED_FILES = ("card.json", "CARD.md", "reference.npz")
#: Beside a policy that moves this robot; one for another environment has none.
LIMITS = "limits.yaml"
#: What the policy has seen in nominal picks, where that was calibrated.
NOVELTY = "novelty.yaml"
_SAFE_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class BundleError(SteadyhandError):
    """A bundle is missing, incomplete, damaged, or of another version."""


@dataclass(frozen=True)
class FileEntry:
    """Size (bytes) and SHA-256 (hex) of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says.

    Attributes:
        files: every file of the bundle but the manifest, by its path with forward slashes.
        roles: which file plays which role.
        created_from: commit, config hash and versions that it was made with; ``env`` is the
            Gymnasium id of a policy that is not for this robot.
    """

    files: Mapping[str, FileEntry]
    roles: Mapping[str, str]
    created_from: Mapping[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> str:
        """The environment the policy is for; empty where it moves this robot."""
        return str(self.created_from.get("env", ""))

    def to_bytes(self) -> bytes:
        """The one way to write this manifest; any other bytes are refused when it is read."""
        content = {
            "kind": KIND,
            "version": VERSION,
            "files": {
                p: {"size": e.size, "sha256": e.sha256} for p, e in sorted(self.files.items())
            },
            "roles": dict(self.roles),
            "created_from": dict(self.created_from),
        }
        return _canonical({**content, "self_sha256": _self_digest(content)})

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Manifest:
        """Read and check; ``name`` is for messages.

        Raises:
            BundleError: it is malformed, of another version, was changed, or names a file outside
                the bundle.
        """
        try:
            content = json.loads(data)
            if content["kind"] != KIND:
                raise BundleError(f"{name}: is no manifest of a Steadyhand bundle")
            if _of(int, content["version"]) != VERSION:
                raise BundleError(
                    f"{name}: bundle version {content['version']!r} is not supported by this "
                    f"release, expected {VERSION}"
                )
            claimed = content.pop("self_sha256")
            if claimed != _self_digest(content):
                raise BundleError(f"{name}: was changed or damaged (its SHA-256 does not match)")
            if data != _canonical({**content, "self_sha256": claimed}):
                raise BundleError(f"{name}: was changed or damaged (its form differs)")
            files = {
                path: FileEntry(_of(int, entry["size"]), _of(str, entry["sha256"]))
                for path, entry in content["files"].items()
            }
            roles = {role: _of(str, path) for role, path in content["roles"].items()}
            created = _of(dict, content["created_from"])
            _of(str, created.get("env", ""))
            manifest = cls(files, roles, created)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BundleError(f"{name}: is malformed ({type(error).__name__}: {error})") from error
        manifest._check(name)
        return manifest

    def _check(self, name: str) -> None:
        for path in self.files:
            if not _SAFE_PATH.fullmatch(path) or path == NAME:
                raise BundleError(f"{name}: {path!r} is not a path inside the bundle")
        for path in REQUIRED_FILES if self.env else (LIMITS, *REQUIRED_FILES):
            if path not in self.files:
                raise BundleError(f"{name}: {path} is not listed, every bundle has one")
        for role, path in self.roles.items():
            if role not in ROLES:
                raise BundleError(f"{name}: unknown role {role!r}, expected one of {ROLES}")
            if path not in self.files:
                raise BundleError(f"{name}: role {role!r} names {path!r}, which is not listed")
        for role in REQUIRED_ROLES:
            if role not in self.roles:
                raise BundleError(f"{name}: no file has the role {role!r}")
        total = sum(e.size for e in self.files.values())
        if total > MAX_BYTES:
            raise BundleError(
                f"{name}: the files add up to {total / 1e6:.1f} MB, at most "
                f"{MAX_BYTES / 1e6:.0f} MB are allowed"
            )


def entry_of(data: bytes) -> FileEntry:
    """Size and digest of a file's content."""
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


def _of(kind: type, value: Any) -> Any:
    """``value``, which must be just that: ``True`` is no size, and 3.0 is none either."""
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {value!r:.40}")
    return value


def _canonical(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _self_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()
