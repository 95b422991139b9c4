"""How many numbers an ONNX file holds, read from its bytes: for the card of a compact voter.

onnxruntime does not tell, and the package `onnx` is only needed to train. So this walks the little
of protobuf's wire format that leads to the shapes: model.graph.initializer.dims.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_GRAPH: Final = 7
_INITIALIZER: Final = 5
_DIMS: Final = 1
_DATA_TYPE: Final = 2
# ONNX's data types: float, uint8, int8, uint16, int16, int32, int64, bool, float16, double,
# uint32, uint64 and bfloat16, and the bytes that one number of each takes.
_BYTES: Final = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_WEIGHTS: Final = frozenset({1, 10, 11, 16, 2, 3})
"""Floating-point numbers, and the 8 bits that quantised ones are kept in."""

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class OnnxSize:
    """What a network weighs."""

    tensors: int
    """Weights by name; shapes and indices, which are wider integers, are none."""
    parameters: int
    memory_mb: float
    """In 10^6 bytes."""


def onnx_size(model: bytes) -> OnnxSize:
    """Weigh the network of an ONNX file.

    Raises:
        ValueError: it is no protobuf.

    """
    weights = [
        (count, _BYTES[kind])
        for number, graph in _fields(model)
        if number == _GRAPH and isinstance(graph, bytes)
        for inner, tensor in _fields(graph)
        if inner == _INITIALIZER and isinstance(tensor, bytes)
        for count, kind in [_shape(tensor)]
        if kind in _WEIGHTS
    ]
    return OnnxSize(
        tensors=len(weights),
        parameters=sum(count for count, _ in weights),
        memory_mb=sum(count * size for count, size in weights) / 1e6,
    )


def _shape(tensor: bytes) -> tuple[int, int]:
    """Give how many numbers a TensorProto has, and its data type."""
    dims: list[int] = []
    kind = 0
    for number, value in _fields(tensor):
        if number == _DIMS and isinstance(value, bytes):  # packed
            dims += _varints(value)
        elif number == _DIMS and isinstance(value, int):
            dims.append(value)
        elif number == _DATA_TYPE and isinstance(value, int):
            kind = value
    return math.prod(dims), kind


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a protobuf message; values of fixed width stay bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _LENGTH:
            size, at = _varint(message, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no protobuf: wire type {kind}")
        if at + size > len(message):
            raise ValueError("no protobuf: a field is longer than the message")
        yield number, message[at : at + size]
        at += size


def _varints(packed: bytes) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("no protobuf: it ends within a number")
