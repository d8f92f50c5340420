"""ONNX Runtime loaded quietly, sessions opened, and what a network takes and gives for a frame."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ConfigError, ModelError
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
        raise ConfigError(
            "onnxruntime is missing: run scripts/setup, or pip install -r requirements-cpu.txt"
        ) from fault
    return onnxruntime


def open_session(path: Path, *, threads: int = 1, optimise: bool = True) -> Any:
    """A CPU session of an ONNX file; raises ModelError in one line."""
    ort = load_onnxruntime()
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as fault:
        raise ModelError(f"cannot read {path}: {fault.strerror}") from fault
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull`")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only; what matters is raised
    # Spinning threads would take the core from decoding and from the other worker.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        raise ModelError(
            f"{path} is damaged or no ONNX file: {one_line(fault)}. Fetch or export it anew; "
            "weights kept in a second file are not supported"
        ) from fault


def one_line(fault: Exception) -> str:
    """ONNX Runtime's long message, fit for one line."""
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
        """Of the outputs, in graph order."""
        return [shape for _, shape in self.outputs]

    @property
    def open_dims(self) -> Mapping[str, int]:
        """The named sizes of the input that the file leaves open, and what they are here."""
        told = zip(self.dims, self.shape, strict=True)
        return {name: size for name, size in told if isinstance(name, str)}

    @property
    def nameless(self) -> bool:
        """Whether the file leaves some open without a name."""
        return None in self.dims


def network_io(session: Any, spec: ModelSpec) -> NetworkIO:
    """Ask a session, by a run where the file does not say. Raises ModelError with the cure."""
    width, height = spec.input.size_wh
    wanted = (1, 3, height, width)
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise ModelError(
            f"model {spec.name}: its input {[(i.name, i.type, i.shape) for i in inputs]} is not "
            "one float32 tensor [1, 3, height, width], as a detector's would be"
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
    # what a file says of its outputs may be true of its own size only
    if spec.input.fit or not all(isinstance(n, int) for shape in shapes for n in shape):
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
