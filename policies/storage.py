"""Whole files: written under a temporary name, flushed to the disk, then renamed into place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from robot.errors import SteadyhandError


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part.

    Raises:
        SteadyhandError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SteadyhandError(f"{path}: cannot be written: {error.strerror or error}") from error


def replace_json(path: Path, content: Any) -> None:
    """``replace_file`` for one JSON value, indented and with sorted keys."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    replace_file(path, text.encode())


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; a missing or malformed file is one clear error."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise SteadyhandError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SteadyhandError(f"{path}: is not valid JSON: {error}") from error
