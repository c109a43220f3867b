"""What an ONNX file holds, read from its bytes before any runtime sees it.

A digest only says that a file is the one that was listed. This reader walks the file's protocol
buffer itself and refuses what no model of a bundle needs: data kept in other files, operators that
branch, loop, draw at random or come from elsewhere, and constants that unfold to gigabytes. NumPy
is not even needed; ``onnx`` is not either, so that it runs beside the robot.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from robot.errors import SteadyhandError

#: Operators of the default domain that a bundle's models may use: arithmetic, layers, shapes,
#: quantization and what finds boxes. No control flow, nothing random, no custom domain.
# fmt: off
OPERATORS = frozenset([
    "Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Ceil",
    "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvInteger", "ConvTranspose",
    "Cos", "CumSum", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Einsum", "Elu",
    "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "GRU", "Gather", "GatherElements",
    "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater",
    "GreaterOrEqual", "GridSample", "GroupNormalization", "HardSigmoid", "HardSwish",
    "Identity", "InstanceNormalization", "LSTM", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "MatMul", "MatMulInteger", "Max", "MaxPool", "Min",
    "Mish", "Mod", "Mul", "Neg", "NonMaxSuppression", "NonZero", "Not", "Or", "PRelu", "Pad",
    "Pow", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "Reciprocal", "ReduceL2",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape",
    "Resize", "RoiAlign", "Round", "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign",
    "Sin", "Size", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum",
    "Tanh", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
])
# fmt: on
#: Operators whose output's size is a value; which of their inputs gives it.
_UNFOLDS = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
MAX_NODES = 20_000
MAX_ELEMENTS = 1 << 24

_BYTES_OF = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_INT64 = 7


@dataclass(frozen=True)
class Graph:
    """What was found in a model that holds nothing forbidden.

    Attributes:
        operators: how often each is used.
        inputs: names of the graph's inputs.
        outputs: names of its outputs.
        parameters: numbers in its initializers.
        opset: version of the default operator set.
    """

    operators: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    opset: int


class GraphError(SteadyhandError):
    """A file is no ONNX model, or holds what no model of a bundle may."""


def read_graph(model: bytes, name: str) -> Graph:
    """Walk a model's bytes.

    Args:
        model: an ONNX file's content.
        name: for messages.

    Raises:
        GraphError: it is not whole, or holds what is not allowed; the message says what.
    """
    try:
        return _Reader(name).model(memoryview(model))
    except (IndexError, UnicodeDecodeError, OverflowError) as error:
        raise GraphError(f"{name}: is not a whole ONNX model ({error})") from error


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise IndexError("a number of more than 64 bits")


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(number, value of a varint, content of a length-delimited one) of each field."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise IndexError("a field without a number")
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value, data[:0]
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise IndexError(f"a field of kind {kind}")
        if at + size > end:
            raise IndexError("it ends within a field")
        yield number, 0, data[at : at + size]
        at += size


def _text(data: memoryview) -> str:
    return bytes(data).decode("utf-8")


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.operators: Counter[str] = Counter()
        self.parameters = 0
        self.constants: dict[str, list[int]] = {}

    def refuse(self, what: str) -> GraphError:
        return GraphError(f"{self.name}: {what}")

    def model(self, data: memoryview) -> Graph:
        graph: memoryview | None = None
        opset = 0
        for number, _, content in _fields(data):
            if number == 7:
                if graph is not None:
                    raise self.refuse("holds two graphs")
                graph = content
            elif number == 8:
                opset = max(opset, self._opset(content))
            elif number == 20:
                raise self.refuse("holds a training graph, which no runtime needs")
            elif number == 25:
                raise self.refuse("holds functions of its own, which no bundle's model does")
        if graph is None:
            raise self.refuse("is not a whole ONNX model (it holds no graph)")
        inputs, outputs = self._graph(graph)
        return Graph(dict(self.operators), inputs, outputs, self.parameters, opset)

    def _opset(self, data: memoryview) -> int:
        domain, version = "", 0
        for number, value, content in _fields(data):
            if number == 1:
                domain = _text(content)
            elif number == 2:
                version = value
        return version if domain in ("", "ai.onnx") else 0

    def _graph(self, data: memoryview) -> tuple[tuple[str, ...], tuple[str, ...]]:
        nodes: list[memoryview] = []
        names: dict[int, list[str]] = {11: [], 12: []}
        for number, _, content in _fields(data):
            if number == 1:
                nodes.append(content)
            elif number == 5:
                name, values = self._tensor(content)
                if values is not None:
                    self.constants[name] = values
            elif number == 15:
                raise self.refuse("holds a sparse initializer, which no bundle's model does")
            elif number in names:
                names[number].append(
                    next((_text(inner) for n, _, inner in _fields(content) if n == 1), "")
                )
        if len(nodes) > MAX_NODES:
            raise self.refuse(f"has {len(nodes)} nodes, at most {MAX_NODES} are allowed")
        for node in nodes:
            self._node(node)
        return tuple(names[11]), tuple(names[12])

    def _node(self, data: memoryview) -> None:
        inputs: list[str] = []
        outputs: list[str] = []
        operator = domain = ""
        for number, _, content in _fields(data):
            if number == 1:
                inputs.append(_text(content))
            elif number == 2:
                outputs.append(_text(content))
            elif number == 4:
                operator = _text(content)
            elif number == 7:
                domain = _text(content)
            elif number == 5:
                values = self._attribute(content)
                if values is not None and outputs:
                    self.constants[outputs[0]] = values
        if domain not in ("", "ai.onnx") or operator not in OPERATORS:
            full = f"{domain}.{operator}" if domain else operator
            raise self.refuse(f"uses the operator {full!r}, which this runtime does not run")
        self.operators[operator] += 1
        at = _UNFOLDS.get(operator)
        if at is not None and at < len(inputs):
            self._bounded(self.constants.get(inputs[at], []), operator)

    def _attribute(self, data: memoryview) -> list[int] | None:
        found = None
        for number, _, content in _fields(data):
            if number in (6, 11):
                raise self.refuse("holds a graph within a node, which no bundle's model does")
            if number in (22, 23):
                raise self.refuse("holds a sparse tensor, which no bundle's model does")
            if number in (5, 10):
                found = self._tensor(content)[1]
        return found

    def _tensor(self, data: memoryview) -> tuple[str, list[int] | None]:
        """The name, and the values of a short list of int64."""
        dims: list[int] = []
        kind, name = 0, ""
        raw: memoryview | None = None
        listed: list[int] = []
        for number, value, content in _fields(data):
            if number == 1:
                dims += _integers(value, content)
            elif number == 2:
                kind = value
            elif number == 7:
                listed += _integers(value, content)
            elif number == 8:
                name = _text(content)
            elif number == 9:
                raw = content
            elif number == 13 or (number == 14 and value != 0):
                raise self.refuse("refers to data outside the bundle")
            elif number == 3:
                raise self.refuse("holds a tensor in segments, which no bundle's model does")
        if any(n < 0 or n > MAX_ELEMENTS for n in dims):
            raise self.refuse(f"tensor {name!r} has the shape {dims}")
        self._bounded(dims, f"tensor {name!r}")
        count = math.prod(dims)
        self.parameters += count
        if raw is not None and kind in _BYTES_OF and len(raw) != count * _BYTES_OF[kind]:
            raise self.refuse(f"tensor {name!r} has {len(raw)} bytes for the shape {dims}")
        if kind != _INT64 or count > 16:
            return name, None
        if raw is not None:
            return name, [
                int.from_bytes(raw[i : i + 8], "little", signed=True) for i in range(0, len(raw), 8)
            ]
        return name, listed

    def _bounded(self, sizes: list[int], what: str) -> None:
        if math.prod(max(1, n) for n in sizes) > MAX_ELEMENTS:
            raise self.refuse(f"{what} unfolds to {sizes}, more than {MAX_ELEMENTS} numbers")


def _integers(value: int, content: memoryview) -> list[int]:
    """A repeated int64 field: one value, or several packed."""
    if not len(content):
        return [value - (1 << 64) if value >> 63 else value]
    out, at = [], 0
    while at < len(content):
        number, at = _varint(content, at)
        out.append(number - (1 << 64) if number >> 63 else number)
        if len(out) > 4096:  # no shape is longer, and no size is read from a longer list
            break
    return out
