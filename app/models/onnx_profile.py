"""Operations and bytes that a network takes for one frame, whoever computes it.

ONNX Runtime itself says: its profile of one run of the graph as it is written gives every node's
shapes, so nothing else is needed to read the graph, and open dimensions are those of the run.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError
from .onnx_session import load_onnxruntime, one_line

Shape = Sequence[int]
_QUANTISED = ("QuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")
_BYTES = {"float": 4, "float16": 2, "int8": 1, "uint8": 1, "int32": 4, "int64": 8, "bool": 1}


@dataclass(frozen=True, slots=True)
class Work:
    """Of one run. An operation is one multiplication or addition.

    ``weight_bytes``: as the file keeps them. ``io_bytes``: input tensor and outputs.
    ``activation_bytes``: what the layers hand on; a cache may keep it from memory.
    """

    operations: int
    weight_bytes: int
    io_bytes: int
    activation_bytes: int
    precision: str  # of the convolutions, "fp32", "fp16" or "int8" by the file; "bf16" by request


def network_work(path: Path, shape: Shape) -> Work:
    """Profile one run of an ONNX file at the input ``shape``; raises ModelError in one line."""
    ort = load_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            tensor = np.zeros(shape, np.float32)
            outputs = session.run(None, {session.get_inputs()[0].name: tensor})
            events = json.loads(Path(session.end_profiling()).read_text())
        except Exception as fault:  # ONNX Runtime's own errors have no common root
            raise ModelError(f"{path} does not run at {list(shape)}: {one_line(fault)}") from fault
    nodes = [e["args"] for e in events if str(e.get("name")).endswith("_kernel_time")]
    names = {node["op_name"] for node in nodes}
    halves = any("float16" in kind for node in nodes for kind in node["output_type_shape"])
    return Work(
        operations=sum(_operations(node) for node in nodes),
        weight_bytes=path.stat().st_size,  # which holds little else
        io_bytes=tensor.nbytes + sum(array.nbytes for array in outputs),
        activation_bytes=sum(int(node["activation_size"] or 0) for node in nodes),
        precision="int8" if names & set(_QUANTISED) else "fp16" if halves else "fp32",
    )


def _operations(node: Mapping[str, Any]) -> int:
    """Multiplications and additions of a node; one an element where it is not a product of sums."""
    name = node["op_name"]
    inputs: list[list[int]] = [
        shape for kinds in node["input_type_shape"] for shape in kinds.values()
    ]
    outputs: list[list[int]] = [
        shape for kinds in node["output_type_shape"] for shape in kinds.values()
    ]
    made = sum(math.prod(shape) for shape in outputs)
    if name in ("Conv", "ConvInteger"):  # weights: (out, in / groups, height, width)
        return 2 * made * math.prod(inputs[1][1:])
    if name == "QLinearConv":  # x, its scale and zero point, then the weights
        return 2 * made * math.prod(inputs[3][1:])
    if name == "ConvTranspose":  # weights: (in, out / groups, height, width)
        return 2 * math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if name in ("MatMul", "MatMulInteger"):
        return 2 * made * inputs[0][-1]
    if name == "Gemm":  # the shared side is what the two inputs hold beyond the output
        return 2 * math.isqrt(math.prod(inputs[0]) * math.prod(inputs[1]) * made)
    if name in _MOVES:
        return 0
    return made


_MOVES = frozenset(
    {
        *("Reshape", "Transpose", "Concat", "Slice", "Split", "Shape", "Gather", "Squeeze"),
        *("Unsqueeze", "Flatten", "Identity", "Constant", "ConstantOfShape", "Cast", "Expand"),
        *("Pad", "DepthToSpace", "SpaceToDepth", "Resize", "Upsample", "Range", "Tile"),
    }
)
