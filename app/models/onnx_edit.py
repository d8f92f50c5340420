"""ONNX files changed: another input size or batch, 8-bit or half-precision weights.

A file that leaves height and width open runs as it is. In one that fixes them everything that was
made for the size is made anew: the input, constant targets of reshapes, and tables of grid cells,
which are recognised by their values. What else depends on the size is refused; then the network
must run and give what its family gives, or it is refused too.

Whether its graph really allows that, shows a run; whether a batch is computed rightly, a comparison
with its frames one by one.

Quantisation is ONNX Runtime's and onnx's work; this file decides what may be quantised. Everything
after the last convolution of a branch turns numbers into boxes: it stays in float32, and so do
those last convolutions, whose outputs are distances and logits that 8 bits would round visibly.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, ModelError
from .adapt import load_onnx, rebatch
from .cache import cache_dir, write_whole
from .families import ANY_SIZE
from .families.base import STRIDES, cells
from .manifest import ModelSpec
from .onnx_session import Shape, load_onnxruntime, network_io, one_line, open_session

Size = tuple[int, int]  # width, height
Target = Literal["cpu", "gpu"]
Method = Literal["minmax", "entropy", "percentile"]
WEIGHT_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
QDQ_OPSET = 13  # from here on a scale per channel can be written down
LEAST_VALUES = 64  # smaller constants are not worth a node


@contextmanager
def _quietly(what: str) -> Iterator[None]:
    """ModelError for a fault of either library; ONNX Runtime's quantiser tells the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    except Exception as fault:  # neither library's errors have a common root
        raise ModelError(f"{what}: {one_line(fault)}") from fault
    finally:
        logging.disable(before)


def set_input(model: Any, shape: Sequence[int | None]) -> list[int]:
    """Write the sizes of the only input down but where None; forget what was inferred with others.

    Gives the sizes that the file had, 0 where it left one open.
    """
    names = {i.name for i in model.graph.initializer}
    (tensor,) = [i for i in model.graph.input if i.name not in names]
    dims = tensor.type.tensor_type.shape.dim
    before = [int(dim.dim_value) for dim in dims]
    for dim, size in zip(dims, shape, strict=True):
        if size is not None:
            dim.Clear()
            dim.dim_value = size
    del model.graph.value_info[:]
    return before


def at_input_size(spec: ModelSpec, weights: Path, size_wh: Size) -> tuple[ModelSpec, Path]:
    """The model for another input size, its weights in the cache where they had to be changed.

    Raises ModelError where the network cannot do it, ConfigError without the package onnx.
    """
    if not spec.detector.any_size:
        known = ", ".join(ANY_SIZE)
        why = f"family {spec.family} finds right sizes at its own only; these take others: {known}"
        raise _refused(spec, size_wh, why)
    if any(side % (spec.input.fit or 1) for side in size_wh):
        raise _refused(spec, size_wh, f"it takes multiples of {spec.input.fit}")
    resized = replace(spec, input=replace(spec.input, size_wh=size_wh))
    dims = open_session(weights, optimise=False).get_inputs()[0].shape
    if any(isinstance(n, int) for n in dims[2:]):
        weights = _changed(spec, weights, size_wh)
    try:
        io = network_io(open_session(weights, optimise=False), resized)
        resized.decoder(io.shapes)
    except ModelError as fault:
        why = "its parts do not fit together there; most networks take multiples of 32"
        raise _refused(spec, size_wh, f"{why} ({fault})") from fault
    return resized, weights


def _changed(spec: ModelSpec, weights: Path, size_wh: Size) -> Path:
    data = weights.read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:16]
    path = cache_dir("input") / "{}-{}x{}.onnx".format(digest, *size_wh)
    if path.is_file():
        return path
    onnx = load_onnx()
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data))
        old_wh = spec.input.size_wh
        renewed = _renew_grids(onnx, model, old_wh, size_wh)
        _refuse_what_is_unknown(onnx, model, renewed, old_wh)
        _renew_shapes(onnx, model, size_wh)
        onnx.checker.check_model(model)
    except ValueError as fault:
        raise _refused(spec, size_wh, str(fault)) from fault
    except Exception as fault:  # onnx's own errors have no common root
        raise _refused(spec, size_wh, one_line(fault)) from fault
    try:
        write_whole(path, model.SerializeToString())
    except OSError as fault:
        raise ConfigError(f"cannot write {path}: {fault.strerror}; free some space") from fault
    return path


def _refused(spec: ModelSpec, size_wh: Size, why: str) -> ModelError:
    at = "{}x{}".format(*size_wh)
    return ModelError(f"model {spec.name} does not run at an input of {at}: {why}")


# -- tables of grid cells --------------------------------------------------------------------------


def _tables(size_wh: Size) -> list[NDArray[np.float32]]:
    """What a graph may hold of its grid: centres, corners, strides; (2, N) or (1, N)."""
    positions, strides = cells(size_wh, STRIDES)
    found = [strides.T]
    for offset, unit in product((0.5, 0.0), (strides, np.ones_like(strides))):
        found.append(((positions + np.float32(offset)) * unit).T)
    return found


def _renew_grids(onnx: Any, model: Any, old_wh: Size, new_wh: Size) -> set[str]:
    """Replace each table of the old grid by the new one; returns their names."""
    old, new = _tables(old_wh), _tables(new_wh)
    count = old[0].shape[1]
    done = set()
    for tensor in _constants(model):
        if count not in tensor.dims or prod(tensor.dims) not in (count, 2 * count):
            continue
        values = onnx.numpy_helper.to_array(tensor)
        axis = list(tensor.dims).index(count)
        across = np.moveaxis(values, axis, -1).reshape(-1, count)
        for before, after in zip(old, new, strict=True):
            if before.shape == across.shape and np.allclose(before, across, atol=1e-3):
                shape = [n for i, n in enumerate(tensor.dims) if i != axis]
                table = np.moveaxis(after.reshape(*shape, -1), -1, axis).astype(values.dtype)
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(np.ascontiguousarray(table), tensor.name)
                )
                done.add(tensor.name)
                break
    return done


def _constants(model: Any) -> list[Any]:
    inside = [a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute]
    for number, tensor in enumerate(inside):
        tensor.name = tensor.name or f"constant {number}"
    return [*model.graph.initializer, *inside]


def _refuse_what_is_unknown(onnx: Any, model: Any, renewed: set[str], old_wh: Size) -> None:
    """Raise ValueError for a table of cells that is none we know, or the size as a number."""
    count = _tables(old_wh)[0].shape[1]
    sides = {float(n) for n in old_wh} | {1.0 / n for n in old_wh}
    for tensor in _constants(model):
        if tensor.name in renewed:
            continue
        if count in tensor.dims:
            raise ValueError(f"its constant {tensor.name!r} was made for the size it has")
        if prod(tensor.dims) <= 4 and tensor.data_type in (1, 10, 11):  # floating point
            values = onnx.numpy_helper.to_array(tensor).ravel()
            if any(np.isclose(value, side, rtol=1e-4) for value in values for side in sides):
                raise ValueError(f"its constant {tensor.name!r} is the size it has")


# -- shapes ----------------------------------------------------------------------------------------


def _renew_shapes(onnx: Any, model: Any, new_wh: Size) -> None:
    """Write the new size down and follow it through the reshapes, in the graph's order."""
    graph = model.graph
    before = _known_shapes(model)
    set_input(model, (None, None, *reversed(new_wh)))
    for output in graph.output:  # inferred again
        for dim in output.type.tensor_type.shape.dim[1:]:
            dim.Clear()
    fixed = {t.name for t in graph.initializer}
    fixed |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in fixed:
            continue
        shape, result = before.get(node.input[0]), before.get(node.output[0])
        if shape is None or result is None:
            continue
        now = _known_shapes(_inferred(onnx, model)).get(node.input[0])
        if now is None:
            continue
        fresh = _reshaped(shape, result, now)
        name = "{}_at_{}x{}".format(node.output[0], *new_wh)
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(fresh, np.int64), name))
        node.input[1] = name


def _inferred(onnx: Any, model: Any) -> Any:
    copy = type(model)()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(copy)


def _known_shapes(model: Any) -> dict[str, Shape]:
    """Of all tensors whose every size but the batch is known; an open batch counts as 1."""
    found = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        sizes = tuple(d.dim_value or (1 if i == 0 else 0) for i, d in enumerate(dims))
        if 0 not in sizes:
            found[value.name] = sizes
    return found


def _reshaped(shape: Shape, result: Shape, now: Shape) -> list[int]:
    """What ``result`` of a reshape of ``shape`` becomes where the input is ``now``."""
    fresh: list[int] = []
    i = j = 0
    while i < len(shape) or j < len(result):  # the shortest runs of sizes with the same product
        first_i, first_j = i, j
        i, j = min(i + 1, len(shape)), min(j + 1, len(result))
        while prod(shape[first_i:i]) != prod(result[first_j:j]):
            if prod(shape[first_i:i]) < prod(result[first_j:j]):
                i += 1
            else:
                j += 1
            if i > len(shape) or j > len(result):
                raise ValueError(f"a reshape of {shape} to {result} cannot be followed")
        fresh += _group(shape[first_i:i], result[first_j:j], now[first_i:i])
    return fresh


def _group(shape: Shape, result: Shape, now: Shape) -> list[int]:
    if now == shape:
        return list(result)
    wide = [n for n in result if n != 1]
    if len(wide) == 1:
        return [prod(now) if n != 1 else 1 for n in result]
    raise ValueError(f"a reshape of {shape} to {result} cannot be followed")


def with_input(path: Path, shape: Sequence[int], folder: Path) -> Path:
    """A file whose input is ``shape`` (N, C, H, W): ``path`` itself, if its sizes are open.

    Else a copy in ``folder``, for which the onnx package is needed.
    """
    told = open_session(path).get_inputs()[0].shape
    if all(not isinstance(n, int) or n == size for n, size in zip(told, shape, strict=True)):
        return path
    onnx = load_onnx()
    proto = onnx.load(str(path))
    set_input(proto, shape)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    if shape[0] != 1:
        rebatch(onnx, proto.graph, was=1, now=shape[0])
    copy = folder / f"{path.stem}_{'x'.join(map(str, shape))}.onnx"
    onnx.save(proto, str(copy))
    return copy


# -- precision -------------------------------------------------------------------------------------


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
    take; for "gpu" signed and symmetric, as TensorRT wants, which also takes no bias of 32 bits.
    Weights have a scale per channel.
    """
    load_onnxruntime()
    onnx = load_onnx()
    from onnxruntime import quantization

    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    options = symmetric if target == "gpu" else {}
    kind = quantization.QuantType
    methods = {
        "minmax": quantization.CalibrationMethod.MinMax,
        "entropy": quantization.CalibrationMethod.Entropy,
        "percentile": quantization.CalibrationMethod.Percentile,
    }
    with tempfile.TemporaryDirectory() as folder, _quietly(f"{weights} cannot be quantised"):
        ready = str(Path(folder) / "folded.onnx")
        model = onnx.load(str(weights))
        opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        if opset < QDQ_OPSET:
            model = onnx.version_converter.convert_version(model, QDQ_OPSET)
        onnx.save(model, ready)
        # shapes known, constants folded, batch norm in its convolution
        quantization.shape_inference.quant_pre_process(ready, ready, skip_symbolic_shape=True)
        graph = onnx.load(ready).graph
        quantization.quantize_static(
            ready,
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

    with _quietly(f"{weights} cannot be converted"):
        model = convert_float_to_float16(onnx.load(str(weights)), keep_io_types=True)
        onnx.save(model, str(out))


def to_half_network(weights: Path, out: Path) -> None:
    """Compute in half precision up to the last convolutions, from an input that is half, too.

    What follows them stays float32, as do the outputs: half precision knows coordinates beyond 512
    to half a pixel only. A file that computes in half precision stays as it is. For TensorRT.
    Raises ModelError.
    """
    load_onnxruntime()
    onnx = load_onnx()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _quietly(f"{weights} cannot be converted"):
        model = onnx.load(str(weights))
        graph = model.graph
        constants = {tensor.name for tensor in graph.initializer}
        image = [tensor for tensor in graph.input if tensor.name not in constants]
        del graph.input[:]  # the converter would give constants that are listed there two types
        graph.input.extend(image)
        for i, node in enumerate(graph.node):
            node.name = node.name or f"node_{i}"
        after = set(unquantised(graph))
        weighted = [node for node in graph.node if node.op_type in WEIGHT_OPERATORS]
        weights_names = {name for node in weighted for name in node.input[1:]}
        half = onnx.TensorProto.FLOAT16
        if not any(t.data_type == half and t.name in weights_names for t in graph.initializer):
            model = convert_float_to_float16(
                model,
                keep_io_types=[output.name for output in graph.output],
                node_block_list=[*(after - {node.name for node in weighted})],
            )
        onnx.save(model, str(out))


def to_half_weights(weights: Path, out: Path) -> None:
    """Half the file, the same speed: weights lie as float16 and a Cast makes them float32.

    Engines fold the cast into the constant when they load the graph. Raises ModelError.
    """
    onnx = load_onnx()
    with _quietly(f"{weights} cannot be converted"):
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
        for node in reversed(casts):
            graph.node.insert(0, node)
        onnx.checker.check_model(model)
        onnx.save(model, str(out))


class _CalibrationReader:
    """Calibration tensors as ONNX Runtime asks for them."""

    def __init__(self, name: str, tensors: Iterator[NDArray[np.float32]]) -> None:
        self._name, self._tensors = name, tensors

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._name: tensor}
