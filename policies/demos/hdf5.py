"""HDF5 files as demonstrations use them: whole or not there, and one line for what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import SteadyhandError


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """An open ``h5py.File``.

    Raises:
        SteadyhandError: the file is missing, cut short or no HDF5, or what is asked of it in the
            block is not there or of another kind.
        ModuleNotFoundError: h5py is not installed.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except KeyError as error:
        raise SteadyhandError(f"{path}: {_line(error)}") from error
    except (OSError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        # What h5py raises for a missing, cut, damaged or differently built file.
        raise SteadyhandError(
            f"{path}: is missing or not a whole HDF5 file of that layout: {_line(error)}"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[Any]:
    """A new ``h5py.File`` that takes its name only when it is whole and on the disk.

    Raises:
        SteadyhandError: the disk is full or the folder cannot be written.
        ModuleNotFoundError: h5py is not installed.
    """
    import h5py

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Python opens the file: where HDF5 itself meets a full disk, it cannot close it any more.
        with temporary.open("w+b") as stream:
            with h5py.File(stream, "w") as file:
                yield file
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        raise SteadyhandError(f"{path}: cannot be written: {_line(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def floats(dataset: Any, name: str) -> NDArray[np.float32]:
    """A dataset as (T, n) float32; what has one number a frame gets an axis, images are refused.

    Args:
        dataset: of h5py.
        name: for the message.
    """
    values = np.asarray(dataset[()])
    if values.dtype.kind not in "fiub" or values.ndim not in (1, 2):
        raise SteadyhandError(
            f"{name}: has shape {values.shape} of {values.dtype}, expected numbers (frames, n)"
        )
    return values.astype(np.float32).reshape(len(values), -1)


def _line(error: Exception) -> str:
    text = " ".join(str(error.args[0] if error.args else error).split())
    strerror = getattr(error, "strerror", None)
    return str(strerror or text)
