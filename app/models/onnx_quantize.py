"""Smaller networks: 8-bit (QDQ), half precision, or half-size weights.

The work is ONNX Runtime's and onnx's; this file decides what may be quantised. Everything after
the last convolution of a branch turns numbers into boxes: it stays in float32, and so do those last
convolutions, whose outputs are distances and logits that 8 bits would round visibly.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, ModelError
from .onnx_session import load_onnxruntime, one_line

Target = Literal["cpu", "gpu"]
Method = Literal["minmax", "entropy", "percentile"]
WEIGHT_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
QDQ_OPSET = 13  # from here on a scale per channel can be written down
LEAST_VALUES = 64  # smaller constants are not worth a node


def to_int8(
    weights: Path,
    out: Path,
    tensors: Iterable[NDArray[np.float32]],
    *,
    target: Target = "cpu",
    method: Method = "minmax",
) -> None:
    """Static quantisation with ``tensors`` (1,3,H,W) to calibrate; raises ModelError.

    For "cpu" activations are unsigned with a zero point, which ONNX Runtime's x86 and ARM kernels
    take; for "gpu" signed and symmetric, as TensorRT wants. Weights have a scale per channel.
    """
    quantization = _quantization()
    options = {"ActivationSymmetric": True, "WeightSymmetric": True} if target == "gpu" else {}
    kind = quantization.QuantType
    methods = {
        "minmax": quantization.CalibrationMethod.MinMax,
        "entropy": quantization.CalibrationMethod.Entropy,
        "percentile": quantization.CalibrationMethod.Percentile,
    }
    with tempfile.TemporaryDirectory() as folder, _quiet():
        ready = Path(folder) / "folded.onnx"
        try:
            # shapes known, constants folded, batch norm in its convolution
            _renewed(weights, ready)
            quantization.shape_inference.quant_pre_process(
                str(ready), str(ready), skip_symbolic_shape=True
            )
            graph = load_onnx().load(str(ready)).graph
            quantization.quantize_static(
                str(ready),
                str(out),
                _CalibrationReader(graph.input[0].name, iter(tensors)),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=kind.QInt8 if target == "gpu" else kind.QUInt8,
                weight_type=kind.QInt8,
                per_channel=True,
                calibrate_method=methods[method],
                nodes_to_exclude=unquantised(graph),
                extra_options=options,
            )
        except Exception as error:  # ONNX Runtime's own errors have no common root
            raise ModelError(f"{weights} cannot be quantised: {one_line(error)}") from error


def unquantised(graph: Any) -> list[str]:
    """Names of the nodes after which no convolution comes: the last ones, and what follows."""
    makers = {name: node for node in graph.node for name in node.output}
    before: set[str] = set()  # nodes from which another weighted node can be reached
    waiting = [
        makers[name]
        for node in graph.node
        if node.op_type in WEIGHT_OPERATORS
        for name in node.input
        if name in makers
    ]
    while waiting:
        node = waiting.pop()
        if node.name not in before:
            before.add(node.name)
            waiting += [makers[name] for name in node.input if name in makers]
    return [node.name for node in graph.node if node.name not in before]


def to_fp16(weights: Path, out: Path) -> None:
    """Compute in half precision; inputs and outputs stay float32. For GPUs. Raises ModelError."""
    load_onnxruntime()
    onnx = load_onnx()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        model = convert_float_to_float16(onnx.load(str(weights)), keep_io_types=True)
        onnx.save(model, str(out))
    except Exception as error:
        raise ModelError(f"{weights} cannot be converted: {one_line(error)}") from error


def to_half_weights(weights: Path, out: Path) -> None:
    """Half the file, the same speed: weights lie as float16 and a Cast makes them float32.

    Engines fold the cast into the constant when they load the graph. Raises ModelError.
    """
    onnx = load_onnx()
    try:
        model = onnx.load(str(weights))
        graph = model.graph
        casts = []
        for tensor in graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype != np.float32 or values.size < LEAST_VALUES:
                continue
            with np.errstate(over="ignore"):
                half = values.astype(np.float16)
            if not np.isfinite(half).all():
                continue  # too large for half precision
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}_half"))
            node = onnx.helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_cast")
            node.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.FLOAT))
            casts.append(node)
        nodes = [*casts, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        onnx.checker.check_model(model)
        onnx.save(model, str(out))
    except Exception as error:
        raise ModelError(f"{weights} cannot be converted: {one_line(error)}") from error


def _renewed(weights: Path, out: Path) -> None:
    """The same network in a version of ONNX that QDQ can be written in."""
    onnx = load_onnx()
    model = onnx.load(str(weights))
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset < QDQ_OPSET:
        model = onnx.version_converter.convert_version(model, QDQ_OPSET)
    onnx.save(model, str(out))


class _CalibrationReader:
    """Calibration tensors as ONNX Runtime asks for them."""

    def __init__(self, name: str, tensors: Iterator[NDArray[np.float32]]) -> None:
        self._name, self._tensors = name, tensors

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._name: tensor}


class _quiet:  # noqa: N801 - reads as a statement
    """ONNX Runtime's quantiser writes advice to the root logger."""

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._before)


def _quantization() -> Any:
    load_onnxruntime()
    load_onnx()
    import onnxruntime.quantization as quantization

    return quantization


def load_onnx() -> Any:
    """The module ``onnx``; ConfigError with the cure where it is missing."""
    try:
        import onnx
        import onnx.numpy_helper
        import onnx.shape_inference
        import onnx.version_converter
    except ImportError as error:
        raise ConfigError(
            f"changing a network needs onnx ({error}); pip install -r requirements-models.txt"
        ) from error
    return onnx
