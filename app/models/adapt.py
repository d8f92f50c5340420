"""ONNX files of any form made plain: one float32 picture [1, 3, H, W] in, float32 out.

Every engine takes plain files only. What a file has otherwise is put into its graph as nodes before
and after it, once, when it is added or first run: so no frame pays for asking.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, ModelError
from ..core.package import pip_install
from .cache import cache_dir, write_whole
from .families.base import SizeWh, TensorInfo
from .onnx_session import load_onnxruntime, one_line, quiet_options

log = logging.getLogger(__name__)

FLOATS = {"tensor(float)", "tensor(float16)", "tensor(double)"}
PICTURES = FLOATS | {"tensor(uint8)"}
GRAY = (0.114, 0.587, 0.299)  # of B, G, R
EXTERNAL = b"\x0a\x08location"  # the key of a second file, as protobuf writes it
LARGEST = (1 << 31) - 1  # bytes that one ONNX file may have


def load_onnx() -> Any:
    """The module ``onnx``; ConfigError with the cure where it is missing."""
    try:
        import onnx
        import onnx.numpy_helper
        import onnx.shape_inference
        import onnx.version_converter
    except ImportError as error:
        raise ConfigError(
            f"changing a network needs onnx ({error}); {pip_install('models')}"
        ) from error
    return onnx


@dataclass(frozen=True, slots=True)
class Form:
    """How a file takes its picture, and what else it asks for.

    ``image``: as if it were NCHW. ``batch``: that it fixes, else 1. ``others``: second inputs and
    what they are given, by name. ``loose``: weights that are listed as inputs, which keeps ONNX
    Runtime from folding them. ``second_file``: weights lie in one.
    """

    image: TensorInfo
    nhwc: bool
    batch: int
    others: dict[str, str]
    loose: bool
    second_file: bool
    outputs: tuple[TensorInfo, ...]

    @property
    def plain_outputs(self) -> bool:
        return all(tensor.dtype == "tensor(float)" for tensor in self.outputs)

    @property
    def channels(self) -> int:
        return self.image.shape[1] or 3

    @property
    def is_plain(self) -> bool:
        """Whether every engine takes it as it is."""
        return (
            not (self.others or self.nhwc or self.batch > 1 or self.channels == 1)
            and self.image.dtype == "tensor(float)"
        )


def read_form(session: Any, path: Path) -> Form:
    """What a session's inputs are. Raises ModelError where none is a picture, or one is unknown."""
    inputs = [tensor_info(tensor) for tensor in session.get_inputs()]
    pictures = [t for t in inputs if len(t.shape) == 4 and t.dtype in PICTURES]
    if len(pictures) != 1:
        seen = "; ".join(f"{t} {t.dtype}" for t in inputs)
        raise ModelError(
            f"{path}: input is {seen}; a detector must have one picture as its input, "
            "[1, 3, height, width] or [1, height, width, 3] of floats or uint8: export it so"
        )
    (image,) = pictures
    n, *rest = image.shape
    nhwc = rest[2] in (1, 3) and rest[0] not in (1, 3)
    channels, height, width = (rest[2], *rest[:2]) if nhwc else rest
    if channels not in (1, 3, None) or (n is not None and n < 1):
        raise ModelError(
            f"{path}: input is {image}; a network must have one input [1, 3, height, width], or "
            "with one channel: export it so"
        )
    others = {t.name: _role(t, path) for t in inputs if t is not image}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        second = content.find(EXTERNAL) >= 0
    return Form(
        image=TensorInfo(image.name, (n, channels, height, width), image.dtype),
        nhwc=nhwc,
        batch=n or 1,
        others=others,
        loose=bool(session.get_overridable_initializers()),
        second_file=second,
        outputs=tuple(map(tensor_info, session.get_outputs())),
    )


def tensor_info(tensor: Any) -> TensorInfo:
    shape = tuple(n if isinstance(n, int) else None for n in tensor.shape)
    return TensorInfo(tensor.name, shape, tensor.type)


def _role(tensor: TensorInfo, path: Path) -> str:
    """What a second input is to be given: "wh", "hw" or "ones"."""
    name = tensor.name.lower()
    pair = len(tensor.shape) <= 2 and tensor.shape[-1:] == (2,)
    if pair and ("target_size" in name or "orig_size" in name or "image_size" in name):
        return "wh"
    if pair and "shape" in name:
        return "hw"
    if (pair and "scale_factor" in name) or (len(tensor.shape) == 3 and "mask" in name):
        return "ones"
    raise ModelError(
        f"{path}: its second input {tensor} {tensor.dtype} is none that is known "
        "(orig_target_sizes, im_shape, scale_factor, pixel_mask): export it with the picture alone"
    )


def plain(path: Path, form: Form, size_wh: SizeWh) -> tuple[Path, int]:
    """The file made plain, in the cache; its weights in it, and none of them listed as an input.

    And how many frames it computes for one. Raises ModelError, or ConfigError without the package
    onnx.
    """
    onnx = load_onnx()
    try:
        model = onnx.load(str(path))
        content = model.SerializeToString()
    except Exception as fault:  # onnx's own errors have no common root
        raise ModelError(f"{path} cannot be read: {one_line(fault)}") from fault
    if len(content) > LARGEST:
        raise ModelError(f"{path}: its weights are larger than one ONNX file can be: 2 GB")
    at = "x".join(map(str, size_wh)) if not form.is_plain else "any"
    name = f"{hashlib.sha256(content).hexdigest()[:16]}-{at}"
    for frames in (1, form.batch):
        target = cache_dir("plain") / f"{name}-{frames}.onnx"
        if target.is_file():
            return target, frames
    fixed = {tensor.name for tensor in model.graph.initializer}
    kept = [tensor for tensor in model.graph.input if tensor.name not in fixed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    frames = 1
    try:
        if not form.is_plain or not form.plain_outputs:
            model, frames = _least(onnx, model, form, size_wh)
        onnx.checker.check_model(model)
        target = cache_dir("plain") / f"{name}-{frames}.onnx"
        write_whole(target, model.SerializeToString())
    except OSError as fault:
        raise ConfigError(f"cannot write {target}: {fault.strerror}; free some space") from fault
    except (ModelError, onnx.checker.ValidationError) as fault:
        raise ModelError(f"{path} cannot be made plain: {one_line(fault)}") from fault
    return target, frames


def _least(onnx: Any, model: Any, form: Form, size_wh: SizeWh) -> tuple[Any, int]:
    """The model made plain, and how many frames it computes for one: one wherever that is right.

    Of a graph that fixes a batch a copy is made for one frame, and taken if both give the same.
    """
    whole = _copy(model)
    _Surgery(onnx, whole.graph, form, size_wh).run()
    if form.batch == 1:
        return whole, 1
    small = _copy(model)
    for tensor in (*small.graph.input, *small.graph.output):
        dims = tensor.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == form.batch:
            dims[0].dim_value = 1
    rebatch(onnx, small.graph, was=form.batch, now=1)
    _Surgery(onnx, small.graph, replace(form, batch=1), size_wh).run()
    picture = np.random.default_rng(0).random((1, 3, *reversed(size_wh)), np.float32)
    try:
        one, several = (_outputs_of(each, picture) for each in (small, whole))
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        log.debug("no copy for one frame: %s", one_line(fault))
        return whole, form.batch
    same = all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-4)
        for a, b in zip(one, several, strict=True)
    )
    return (small, 1) if same else (whole, form.batch)


def _copy(model: Any) -> Any:
    copy = type(model)()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    return copy


def _outputs_of(model: Any, picture: NDArray[np.float32]) -> list[NDArray[Any]]:
    session = load_onnxruntime().InferenceSession(model.SerializeToString(), quiet_options())
    outputs: list[NDArray[Any]] = session.run(None, {session.get_inputs()[0].name: picture})
    return outputs


def rebatch(onnx: Any, graph: Any, *, was: int, now: int) -> None:
    """Reshape targets that begin with a batch of ``was`` get the new one."""
    targets = {n.input[1] for n in graph.node if n.op_type == "Reshape"}
    holders = [c for c in graph.initializer if c.name in targets]
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in targets:
            holders += [a.t for a in node.attribute if a.name == "value"]
    for holder in holders:
        sizes = onnx.numpy_helper.to_array(holder).copy()
        if sizes.size > 1 and sizes[0] == was:
            sizes[0] = now
            holder.CopyFrom(onnx.numpy_helper.from_array(sizes, holder.name))


class _Surgery:
    """Nodes before and after a graph. All names of its own begin with "plain/"."""

    def __init__(self, onnx: Any, graph: Any, form: Form, size_wh: SizeWh) -> None:
        self._onnx, self._graph, self._form, self._size_wh = onnx, graph, form, size_wh
        self._before: list[Any] = []
        self._after: list[Any] = []

    def run(self) -> None:
        """Change the graph in place."""
        if not self._form.is_plain:
            self._second_inputs()
            self._picture()
        self._outputs()
        nodes = [*self._before, *self._graph.node, *self._after]
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _second_inputs(self) -> None:
        width, height = self._size_wh
        values = {"wh": (width, height), "hw": (height, width), "ones": (1, 1)}
        for tensor in [t for t in self._graph.input if t.name in self._form.others]:
            kind = tensor.type.tensor_type
            dtype = self._onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            role = self._form.others[tensor.name]
            dims = [d.dim_value or self._form.batch for d in kind.shape.dim]
            if len(dims) == 3:  # a mask of the picture
                array = np.ones((self._form.batch, height, width), dtype)
            else:
                array = np.broadcast_to(np.array(values[role], dtype), (*dims[:-1], 2)).copy()
            self._constant(tensor.name, array)
            self._graph.input.remove(tensor)

    def _picture(self) -> None:
        form, helper, types = self._form, self._onnx.helper, self._onnx.TensorProto
        name, (width, height) = form.image.name, self._size_wh
        (old,) = [t for t in self._graph.input if t.name == name]
        kind = old.type.tensor_type.elem_type
        steps: list[tuple[str, Sequence[str], dict[str, Any]]] = []
        if form.channels == 1:  # given all three, alike normalised, in the order B, G, R
            weights = np.array(GRAY, np.float32).reshape(1, 3, 1, 1)
            steps.append(("Conv", [self._constant("plain/gray", weights)], {}))
        if kind == types.UINT8:
            steps.append(("Round", [], {}))
        if form.nhwc:
            steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
        if kind != types.FLOAT:
            steps.append(("Cast", [], {"to": kind}))
        last = new = "plain/picture"
        for i, (operator, more, attributes) in enumerate(steps):
            done = f"plain/{operator}_{i}"
            self._before.append(helper.make_node(operator, [last, *more], [done], **attributes))
            last = done
        self._before.append(helper.make_node("Concat", [last] * form.batch, [name], axis=0))
        self._graph.input.remove(old)
        shape = [1, 3, height, width]
        self._graph.input.append(helper.make_tensor_value_info(new, types.FLOAT, shape))

    def _outputs(self) -> None:
        """float32, and of several frames the first."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        told = {tensor.name: tensor.shape for tensor in self._form.outputs}
        for output in list(self._graph.output):
            kind = output.type.tensor_type
            # without the sizes, which were told of another input
            anew = [None] * len(told[output.name])
            fresh = helper.make_tensor_value_info(output.name, types.FLOAT, anew)
            if kind.elem_type == types.FLOAT and self._form.batch == 1:
                output.CopyFrom(fresh)
                continue
            last = inner = f"plain/{output.name}"
            _rename(self._graph, output.name, inner)
            if self._form.batch > 1:
                first, *rest = told[output.name] or (0,)
                if first != self._form.batch and (first is not None or len(rest) < 2):
                    raise ModelError(
                        f"it takes {self._form.batch} frames at once, but its output {output.name} "
                        "is not of each frame: export it with a batch of 1"
                    )
                last = f"{inner}/first"
                index = self._constant(f"{inner}/index", np.array([0], np.int64))
                self._after.append(helper.make_node("Gather", [inner, index], [last], axis=0))
            self._after.append(helper.make_node("Cast", [last], [output.name], to=types.FLOAT))
            output.CopyFrom(fresh)


def _rename(graph: Any, name: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for i, each in enumerate(names):
                if each == name:
                    names[i] = new
    for tensor in graph.initializer:  # an output that is a constant
        if tensor.name == name:
            tensor.name = new
