"""Model files that no bundle may hold, written byte by byte; ``tampering`` puts them into one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from policies.bundle.graph import _fields

Rng = np.random.Generator


def forged(model: bytes, outside: Path, rng: Rng) -> bytes:
    """A sound model changed into one that must be refused, in a way that is drawn.

    Args:
        model: an ONNX file's content.
        outside: a file that the model could point to.
        rng: draws the way.
    """
    ways = _graph_parts(outside, rng)
    choice = int(rng.integers(len(ways) + 5))
    if choice < len(ways):
        return _with_graph(model, ways[choice])
    if choice == len(ways):
        return model[: int(rng.integers(1, len(model)))]
    if choice == len(ways) + 1:
        return model + _field(25, _field(1, b"own"))  # a function
    if choice == len(ways) + 2:
        return model + _field(20, b"")  # a training graph
    if choice == len(ways) + 3:
        return model + _field(7, b"")  # a second graph, which readers merge into the first
    return rng.bytes(int(rng.integers(1, 400)))


def _graph_parts(outside: Path, rng: Rng) -> list[bytes]:
    """Fields to append to the graph."""
    paths = [str(outside), "../../" + outside.name, "file://" + str(outside), os.devnull, "x\x00y"]
    location = paths[int(rng.integers(len(paths)))].encode()
    entry = _field(1, b"location") + _field(2, location)
    # The same key with its length in two bytes, which a search for its usual form would miss.
    long_entry = b"\x0a\x88\x00location" + _field(2, location)
    head = _varint(1 << 3) + _varint(4) + _varint(2 << 3) + _varint(1) + _field(8, b"w")
    external = head + _field(13, entry) + _varint(14 << 3) + _varint(1)
    hidden = head + _field(13, long_entry) + _varint(14 << 3) + _varint(1)
    sizes = np.array([1 << 20, 1 << 20], "<i8").tobytes()
    shape = _varint(1 << 3) + _varint(2) + _varint(2 << 3) + _varint(7) + _field(8, b"s")
    huge = _varint(1 << 3) + _varint(1 << 40) + _varint(2 << 3) + _varint(1) + _field(8, b"h")
    constant = _field(1, b"value") + _field(5, external) + _varint(20 << 3) + _varint(4)
    inner = _field(1, b"body") + _field(6, b"") + _varint(20 << 3) + _varint(5)
    parts = [
        _field(5, external),
        _field(5, hidden),
        _field(5, head + _varint(14 << 3) + _varint(1)),
        _field(1, _node("Constant", _field(5, constant))),
        _field(5, shape + _field(9, sizes)) + _field(1, _node("ConstantOfShape", b"", b"s")),
        _field(5, huge),
        _field(5, head + _field(9, b"12")),
        _field(15, b""),
        _field(1, _node("If", _field(5, inner))),
        _field(1, _node("Relu", _field(5, inner))),
    ]
    for name, domain in (("Loop", ""), ("PyOp", "ai.onnx.contrib"), ("RandomNormal", ""),
                         ("Relu", "evil"), ("ATen", "org.pytorch.aten")):  # fmt: skip
        parts.append(_field(1, _node(name, _field(7, domain.encode()) if domain else b"")))
    return parts


def _node(operator: str, more: bytes, *inputs: bytes) -> bytes:
    named = b"".join(_field(1, name) for name in inputs)
    return named + _field(2, b"forged") + _field(4, operator.encode()) + more


def _with_graph(model: bytes, extra: bytes) -> bytes:
    """The model with a field appended to its graph."""
    view = memoryview(model)
    out = b""
    for number, value, content in _fields(view):
        if number == 7:
            out += _field(7, bytes(content) + extra)
        elif len(content):
            out += _field(number, bytes(content))
        elif number == 1:
            out += _varint(number << 3) + _varint(value)
    return out


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
