"""ONNX Runtime loaded quietly, sessions opened, and what a network takes, gives and costs."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ConfigError, ModelError, exhausted
from ..core.package import INSTALLED
from ..core.text import foreign
from .engine_file import is_engine
from .manifest import ModelSpec


def load_onnxruntime() -> Any:
    """The module ``onnxruntime``; the one place that imports it.

    From 1.29 on its Linux wheels send usage data to their maker and leave a device id in the
    user's cache, unless this variable is set before the first import. A camera's host must not
    talk to third parties unasked; whoever wants it sets ORT_DISABLE_TELEMETRY=0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as fault:
        if none_left := exhausted(fault):
            raise none_left from fault
        cure = "pip install onnxruntime" if INSTALLED else "scripts/setup"
        if isinstance(fault, ModuleNotFoundError) and fault.name == "onnxruntime":
            raise ConfigError(f"onnxruntime is missing: {cure}") from fault
        raise ConfigError(f"onnxruntime does not load ({foreign(fault)}): {cure}") from fault
    return onnxruntime


def quiet_options(*, threads: int = 1, optimise: bool = True) -> Any:
    """Options of a session that logs nothing and shares its cores with others."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # fatal only; what matters is raised
    # Spinning threads would take the core from decoding and from the other worker.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def open_session(path: Path, *, threads: int = 1, optimise: bool = True) -> Any:
    """A CPU session of an ONNX file; raises ModelError in one line."""
    ort = load_onnxruntime()
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as fault:
        raise ModelError(f"cannot read {path}: {fault.strerror}") from fault
    if is_engine(path):
        raise ModelError(f"{path} is an engine of TensorRT, which only --engine tensorrt runs")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull`")
    options = quiet_options(threads=threads, optimise=optimise)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        raise ModelError(f"{path} {_refused(fault)}") from fault


_NEWER = re.compile(
    r"Opset (?P<has>\d+) is under development.*?(?P<domain>\S*) is till opset (?P<till>\d+)"
    r"|IR version: (?P<ir>\d+), max supported IR version: (?P<most>\d+)"
)


def _refused(fault: Exception) -> str:
    """What is wrong with a file that ONNX Runtime does not load, with the cure."""
    text = " ".join(str(fault).split())
    release = load_onnxruntime().__version__
    cure = "export it with an older opset, or install a newer onnxruntime"
    if found := _NEWER.search(text):
        if found["has"]:
            knows, what = f"opset {found['till']}", f"opset {found['has']}"
        else:
            knows, what = f"IR version {found['most']}", f"IR version {found['ir']}"
        return f"needs {what}; ONNX Runtime {release} knows up to {knows}: {cure}"
    if "xternal data" in text:
        return (
            f"keeps its weights in a second file, which is not there: {one_line(fault)}. Put it "
            "beside the first, under the name it had, or export both anew"
        )
    if "is not a registered function/op" in text or "Could not find an implementation" in text:
        return (
            f"has an operator that ONNX Runtime {release} does not have: {one_line(fault)}. Export "
            "it for plain ONNX, without plugins"
        )
    return f"is damaged or no ONNX file: {one_line(fault)}. Fetch or export it anew"


def one_line(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    return text if len(text) <= 200 else text[:199] + "…"


Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NetworkIO:
    """The tensors of a network for one frame.

    ``outputs``: names and shapes, in graph order. ``varies``: they may differ from frame to frame,
    or are not float32. ``dims``: the input as the file has it, a name or None where it is open.
    """

    input: str
    shape: Shape
    outputs: tuple[tuple[str, Shape], ...]
    varies: bool
    dims: tuple[int | str | None, ...]

    @property
    def shapes(self) -> list[Shape]:
        return [shape for _, shape in self.outputs]

    @property
    def open_dims(self) -> Mapping[str, int]:
        """The named sizes of the input that the file leaves open, and what they are here."""
        told = zip(self.dims, self.shape, strict=True)
        return {name: size for name, size in told if isinstance(name, str)}

    @property
    def nameless(self) -> bool:
        return None in self.dims


def network_io(session: Any, spec: ModelSpec) -> NetworkIO:
    """Ask a session, by a run where the file does not say. Raises ModelError with the cure."""
    width, height = spec.input.size_wh
    wanted = (1, 3, height, width)
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise ModelError(
            f"model {spec.name}: its input {[(i.name, i.type, i.shape) for i in inputs]} is not "
            "one float32 tensor [1, 3, height, width], as engines take it: `models add FILE` makes "
            "a model of another form plain"
        )
    told = inputs[0].shape
    if spec.input.fit and any(isinstance(n, int) for n in told[2:]):
        raise ModelError(
            f"model {spec.name}: its manifest has `input.fit`, but the file fixes its input to "
            f"{list(told)}; remove `fit`, or export it with open height and width"
        )
    if any(isinstance(n, int) and n != size for n, size in zip(told, wanted, strict=True)):
        raise ModelError(
            f"model {spec.name}: the network takes {list(told)}, but its manifest says "
            f"{list(wanted)}; correct `input.size` (width, height) in the manifest"
        )
    outputs = session.get_outputs()
    shapes = [tuple(output.shape) for output in outputs]
    # what a file says of its outputs may be true of the size only that it was exported at
    if not all(isinstance(n, int) for shape in (told[2:], *shapes) for n in shape):
        shapes = _shapes_of_a_run(session, spec, wanted)
    return NetworkIO(
        input=inputs[0].name,
        shape=wanted,
        outputs=tuple((o.name, shape) for o, shape in zip(outputs, shapes, strict=True)),
        varies=spec.detector.varies or any(output.type != "tensor(float)" for output in outputs),
        dims=tuple(told),
    )


def _shapes_of_a_run(session: Any, spec: ModelSpec, shape: Shape) -> list[Any]:
    try:
        arrays = session.run(None, {session.get_inputs()[0].name: np.zeros(shape, np.float32)})
    except Exception as error:  # ONNX Runtime's own errors have no common root
        cure = "remove `input.fit` from" if spec.input.fit else "choose another `input.size` in"
        raise ModelError(
            f"model {spec.name}: the network refuses an input of {list(shape)}: "
            f"{one_line(error)}; {cure} the manifest"
        ) from error
    return [array.shape for array in arrays]


_QUANTISED = ("QuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Of one run, whoever computes it. An operation is one multiplication or addition.

    ``weight_bytes``: as the file keeps them. ``io_bytes``: input tensor and outputs.
    ``activation_bytes``: what the layers hand on; a cache may keep it from memory.
    """

    operations: int
    weight_bytes: int
    io_bytes: int
    activation_bytes: int
    precision: str  # of the convolutions, "fp32", "fp16" or "int8" by the file; "bf16" by request


def model_cost(path: Path, shape: Sequence[int]) -> ModelCost:
    """What one run of an ONNX file takes at the input ``shape``; raises ModelError in one line.

    ONNX Runtime's profile of the graph as it is written gives every node's shapes.
    """
    ort = load_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        options = quiet_options(optimise=False)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
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
    return ModelCost(
        operations=sum(_operations(node) for node in nodes),
        weight_bytes=path.stat().st_size,  # which holds little else
        io_bytes=tensor.nbytes + sum(array.nbytes for array in outputs),
        activation_bytes=sum(int(node["activation_size"] or 0) for node in nodes),
        precision="int8" if names & set(_QUANTISED) else "fp16" if halves else "fp32",
    )


def _operations(node: Mapping[str, Any]) -> int:
    """Multiplications and additions of a node; one an element where it is not a product of sums."""
    name = node["op_name"]
    shapes: list[list[list[int]]] = [
        [shape for kinds in node[f"{side}_type_shape"] for shape in kinds.values()]
        for side in ("input", "output")
    ]
    inputs, outputs = shapes
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
