"""Signatures of bundles: HMAC-SHA256 of the manifest under a secret key, beside the bundle.

The manifest holds the SHA-256 of every file, so its signature covers them all. The key is a file
of at least 32 bytes that only signer and robot have. ``shipped.sig`` lies beside ``shipped/``.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from policies.bundle.manifest import NAME, BundleError

SIGNATURE_SUFFIX = ".sig"
_LEAST_BYTES = 32


def signature_path(root: Path) -> Path:
    """Where a bundle's signature lies: beside its folder, which holds listed files only."""
    return root.resolve().with_name(root.resolve().name + SIGNATURE_SUFFIX)


def sign(root: Path, key: Path) -> Path:
    """Sign the bundle in ``root``; returns the signature's file.

    Raises:
        BundleError: the key is too short, or a file cannot be read or written.
    """
    out = signature_path(root)
    try:
        digest = hmac.new(_secret(key), (root / NAME).read_bytes(), hashlib.sha256).hexdigest()
        part = out.with_name(out.name + ".part")
        part.write_text(digest + "\n", encoding="ascii")
        part.replace(out)
    except OSError as error:
        raise BundleError(f"{root}: cannot be signed: {error}") from error
    return out


def check_signature(root: Path, manifest: bytes, key: Path) -> None:
    """Raises ``BundleError`` where the manifest is not signed with the key."""
    path = signature_path(root)
    try:
        found = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: no signature of the bundle can be read there") from error
    wanted = hmac.new(_secret(key), manifest, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(found, wanted):
        raise BundleError(f"{path}: the bundle was signed with another key, or changed since")


def _secret(key: Path) -> bytes:
    try:
        secret = key.read_bytes()
    except OSError as error:
        raise BundleError(f"{key}: cannot be read: {error.strerror}") from error
    if len(secret) < _LEAST_BYTES:
        raise BundleError(f"{key}: a key has at least {_LEAST_BYTES} bytes, this has {len(secret)}")
    return secret
