"""The smallest ONNX file that multiplies by a constant matrix, written without the onnx package.

ONNX is protobuf: a message is a row of fields, each its number and kind, then its value.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

IR_VERSION, OPSET = 8, 13
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}  # TensorProto.DataType


def gemm_file(operation: str, a: Any, b: Any) -> bytes:
    """c = a · b, with b inside the file; ``operation``: MatMul or MatMulInteger."""
    result = "float32" if operation == "MatMul" else "int32"
    shape = (a.shape[0], b.shape[1])
    node = _text(1, "a") + _text(1, "b") + _text(2, "c") + _text(4, operation)
    graph = b"".join(
        (
            _message(1, node),
            _text(2, "gemm"),
            _message(5, _tensor("b", b)),
            _message(11, _value("a", a.dtype.name, a.shape)),
            _message(12, _value("c", result, shape)),
        )
    )
    opset = _text(1, "") + _number(2, OPSET)
    return _number(1, IR_VERSION) + _message(7, graph) + _message(8, opset)


def _tensor(name: str, array: Any) -> bytes:
    dims = b"".join(_number(1, n) for n in array.shape)
    data = np.ascontiguousarray(array).tobytes()
    return dims + _number(2, TYPES[array.dtype.name]) + _text(8, name) + _message(9, data)


def _value(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_message(1, _number(1, n)) for n in shape)
    tensor = _number(1, TYPES[dtype]) + _message(2, dims)
    return _text(1, name) + _message(2, _message(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the eighth says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
