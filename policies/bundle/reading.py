"""A bundle's files read from disk and from archives: plain, bounded, and each only once."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.bundle.manifest import NAME, BundleError, Manifest

#: All arrays of a reference, unpacked: twenty times what ours hold.
MAX_ARRAY_BYTES = 64_000_000
MAX_ARRAYS = 256
_MEMBER = re.compile(r"[A-Za-z0-9_|.-]{1,200}\.npy")
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_plain(path: Path, largest: int) -> bytes:
    """The first ``largest`` bytes of a plain file.

    Whatever else stands there (a link, a pipe that would never end, a device) is refused by what
    was opened, not by what was looked at before.

    Raises:
        OSError: it cannot be opened; a link is one reason.
        BundleError: it is no plain file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BundleError(f"{path}: is not a plain file")
        return stream.read(largest)


def read_files(root: Path, manifest: Manifest) -> dict[str, bytes]:
    """Every file of the bundle, read once and checked; what is returned is what was checked.

    Raises:
        BundleError: a file is missing, is a link, has another size or digest, or is not listed.
    """
    allowed = set(manifest.files) | {NAME}
    folders = {parent.as_posix() for path in allowed for parent in Path(path).parents}
    for found in root.rglob("*"):
        path = found.relative_to(root).as_posix()
        if found.is_symlink():
            raise BundleError(f"{root}: {path} is a link; a bundle holds plain files only")
        if path not in (folders if found.is_dir() else allowed):
            shown = path.encode("unicode_escape").decode()[:200]
            raise BundleError(f"{root}: {shown} is not listed in {NAME}; remove it")
    out: dict[str, bytes] = {}
    for path, entry in manifest.files.items():
        try:
            data = read_plain(root / path, entry.size + 1)
        except OSError as error:
            raise BundleError(f"{root}: {path} is missing") from error
        if len(data) != entry.size:
            size = (root / path).stat().st_size
            raise BundleError(f"{root}: {path} has {size} bytes, {NAME} says {entry.size}")
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(f"{root}: {path} was changed or damaged (its SHA-256 differs)")
        out[path] = data
    return out


def read_arrays(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` in memory; pickled objects are refused.

    Names, packing and sizes are read and bounded before anything is unpacked.

    Raises:
        BundleError: it is damaged, or holds something else than arrays of numbers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _arrays(archive, name)
    except BundleError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds on a damaged archive
        raise BundleError(f"{name}: is not a whole archive of arrays: {error}") from error


def _arrays(archive: zipfile.ZipFile, name: str) -> dict[str, NDArray[Any]]:
    members = archive.infolist()
    problem = ""
    if len(members) > MAX_ARRAYS:
        problem = f"{len(members)} members"
    elif len({m.filename for m in members}) < len(members):
        problem = "two members of one name"
    elif (total := sum(m.file_size for m in members)) > MAX_ARRAY_BYTES:
        problem = f"{total} bytes when unpacked, at most {MAX_ARRAY_BYTES} are allowed"
    for member in members:
        if not _MEMBER.fullmatch(member.filename):
            problem = f"a member named {member.filename!r}"
        elif member.compress_type not in _PACKED or member.flag_bits & 1:
            problem = f"{member.filename} packed in a way that is not read"
    if problem:
        raise BundleError(f"{name}: is not a whole archive of arrays: it has {problem}")
    out: dict[str, NDArray[Any]] = {}
    for member in members:
        with archive.open(member) as stream:
            # At most what the directory says, which was added up above.
            array = _array(stream.read(), f"{name}: {member.filename}")
        out[member.filename.removesuffix(".npy").replace("|", "/")] = array
    return out


def _array(data: bytes, name: str) -> NDArray[Any]:
    """One ``.npy`` whose header says no more than there is."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise BundleError(f"{name}: is not a whole archive of arrays: .npy version {version}")
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise BundleError(f"{name}: is not a whole archive of arrays: it holds {dtype}")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise BundleError(
            f"{name}: is not a whole archive of arrays: {len(data)} bytes for the shape {shape}"
        )
    array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def array_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The inverse of ``read_arrays``."""
    stream = io.BytesIO()
    # A slash would become a folder in the archive.
    named: dict[str, Any] = {k.replace("/", "|"): v for k, v in arrays.items()}
    np.savez_compressed(stream, **named)
    return stream.getvalue()
