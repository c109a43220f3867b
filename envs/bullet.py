"""Bullet without its chatter: what it prints by itself goes to the log, not to the streams.

PyBullet's C code writes a line to standard error when it is imported, and warnings about files to
standard output, where a program expects one JSON object. Import ``pybullet`` from here.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["pybullet", "silenced"]

_log = logging.getLogger(__name__)
_C = ctypes.CDLL(None)


@contextmanager
def silenced() -> Iterator[None]:
    """Log (at debug level) what C code writes to standard output and error meanwhile."""
    _flush()
    read, write = os.pipe()
    # Whatever does not fit is dropped rather than waited for: nobody reads until the end.
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    kept = []
    try:
        for stream in (1, 2):
            try:
                kept.append((stream, os.dup(stream)))
            except OSError:  # closed, as in a service: nothing to keep clean
                continue
            os.dup2(write, stream)
        yield
    finally:
        _flush()
        for stream, copy in kept:
            os.dup2(copy, stream)
            os.close(copy)
        os.close(write)
        try:
            said = os.read(read, 65536)
        except BlockingIOError:
            said = b""
        os.close(read)
    for line in said.decode(errors="replace").splitlines():
        if line.strip():
            _log.debug("bullet: %s", line.strip())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    _C.fflush(None)


with silenced():
    import pybullet
