"""Where a result comes from: config, seed, package versions and commit, written beside it."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from configs.load import as_dict, digest

_PACKAGES = (
    "numpy",
    "onnxruntime",
    "gymnasium",
    "pybullet",
    "torch",
    "stable-baselines3",
    "pyarrow",
)


def git_commit() -> str:
    """The commit of this source tree, with ``+dirty`` where files differ, or ``"unknown"``."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()

    try:
        # An installed package may lie inside somebody else's repository: ask for a tracked file.
        git("ls-files", "--error-unmatch", "provenance.py")
        commit = git("rev-parse", "HEAD")
        return commit + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def package_versions() -> dict[str, str]:
    """The versions of what a result can depend on, as far as installed."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def provenance(config: Any, seed: int) -> dict[str, Any]:
    """What every run writes beside its results; ``config`` is a frozen dataclass."""
    return {
        "config": as_dict(config),
        "config_hash": digest(config),
        "seed": seed,
        "git_commit": git_commit(),
        "versions": package_versions(),
    }
