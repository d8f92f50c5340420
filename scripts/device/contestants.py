"""Who turns a frame in host memory into boxes in host memory? Kestrel's engines and their peers.

Each is opened once and called with one frame at a time; it answers with how many boxes it found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.config import Config, Engine, Precision
from app.core.frame import Frame
from app.core.letterbox import place
from app.models.manifest import Model
from app.pipeline.handoff import Policy
from app.runtime.engines import backend_factory

Pixels = NDArray[np.uint8]
Detect = Callable[[Pixels], int]


class NotHere(Exception):
    """A contestant cannot run on this machine; the reason goes into the report."""


@contextmanager
def kestrel(
    model: Model, engine: Engine, precision: Precision, *, batch: int | None = None
) -> Iterator[Any]:
    """A backend with its slots; raises NotHere where the machine lacks something."""
    config = Config(engine=engine, precision=precision, batch=batch)
    try:
        manager = backend_factory(config, model, Policy.LATEST)(lambda: None)
        backend = manager.__enter__()
    except Exception as fault:
        raise NotHere(f"{type(fault).__name__}: {fault}") from fault
    try:
        yield backend
    finally:
        manager.__exit__(None, None, None)


def by_slot(backend: Any) -> Detect:
    """One frame at a time through the first slot."""
    slot = backend.slots[0]

    def detect(pixels: Pixels) -> int:
        slot.enqueue([Frame(pixels, 0, 0)])
        return len(slot.collect()[0][0])

    return detect


@contextmanager
def torch_peer(model: Model, *, compiled: bool) -> Iterator[Detect]:
    """PyTorch doing the same work on the same GPU; see ``torch_boxes``."""
    with torch_boxes(model, compiled=compiled) as boxes_of:
        yield lambda pixels: len(boxes_of(pixels))


@contextmanager
def torch_boxes(
    model: Model, *, compiled: bool
) -> Iterator[Callable[[Pixels], NDArray[np.float32]]]:
    """Upload, preprocess, network in half precision, NMS; what is found comes back as rows of
    x0, y0, x1, y1 in source pixels, score, class. ``compiled``: max-autotune, with CUDA graphs."""
    try:
        import torch
        import torchvision

        from scripts.train.network import cells, decode
    except ImportError as fault:
        raise NotHere(str(fault)) from fault
    if not torch.cuda.is_available():
        raise NotHere("PyTorch finds no GPU")
    spec, wanted = model.spec, model.spec.input
    if (spec.family, wanted.channels, wanted.resize) != ("yolox", "BGR", "letterbox"):
        raise NotHere("the comparison is written for networks of scripts/train")
    _as_others_find_it()
    device = torch.device("cuda")
    network = _torch_network(model).to(device).half().eval()
    network = network.to(memory_format=torch.channels_last)
    if compiled:
        network = torch.compile(network, mode="max-autotune")
    width, height = spec.input.size_wh
    grid = cells((height, width), device).repeat(2, 1)  # once more for faces
    score, iou = spec.score, spec.iou

    @torch.inference_mode()
    def detect(pixels: Pixels) -> NDArray[np.float32]:
        p = place((pixels.shape[1], pixels.shape[0]), (width, height), align=wanted.align)
        frame = torch.from_numpy(pixels).to(device, non_blocking=True)
        planes = frame.permute(2, 0, 1)[None].float()
        resized = torch.nn.functional.interpolate(planes, (p.h, p.w), mode="bilinear")
        canvas = torch.full((1, 3, height, width), float(spec.input.pad), device=device)
        canvas[:, :, p.y : p.y + p.h, p.x : p.x + p.w] = resized
        tensor = canvas.half().contiguous(memory_format=torch.channels_last)
        raw = network(tensor)[0].float()  # (cells, 5 + classes)
        best, label = (raw[:, 4:5] * raw[:, 5:]).max(1)
        kept = best >= score
        boxes = decode(raw[kept, :4], grid[kept])
        chosen = torchvision.ops.batched_nms(boxes, best[kept], label[kept], iou)
        values = torch.stack([best[kept][chosen], label[kept][chosen].float()], 1)
        found: NDArray[np.float32] = torch.cat([boxes[chosen], values], 1).cpu().numpy()
        found[:, :4] = p.to_source(found[:, :4].reshape(-1, 2, 2)).reshape(-1, 4)
        return found

    try:
        yield detect
    finally:
        torch.cuda.synchronize()


def _as_others_find_it() -> None:
    """Kestrel's CPU engine takes cv2's threads and Python's switching into its own hands."""
    import cv2

    cv2.setNumThreads(-1)
    sys.setswitchinterval(0.005)


def _torch_network(model: Model) -> Any:
    """The default model as PyTorch has it, with the weights of its ONNX file."""
    import onnx
    import onnx.numpy_helper
    import torch

    from scripts.train.checkpoint import network_of
    from scripts.train.export import Exported

    graph = onnx.load(str(model.weights)).graph
    state = {
        tensor.name.removesuffix("_half").removeprefix("network."): torch.from_numpy(
            onnx.numpy_helper.to_array(tensor).astype(np.float32)
        )
        for tensor in graph.initializer
        if tensor.name.startswith("network.")
    }
    if not state:
        raise NotHere(f"{model.spec.name} is none of our own networks")
    return Exported(network_of(state))


@contextmanager
def ort_peer(model: Model, provider: str) -> Iterator[Detect]:
    """ONNX Runtime as most use it: OpenCV on the CPU, then ``session.run``."""
    import onnxruntime

    from app.inference.postprocess import Limits, Postprocessor
    from app.inference.preprocess import CpuPreprocessor

    _as_others_find_it()
    if provider not in onnxruntime.get_available_providers():
        raise NotHere(f"this onnxruntime has no {provider}")
    session = onnxruntime.InferenceSession(str(model.weights), providers=[provider])
    name = session.get_inputs()[0].name
    spec = model.spec
    preprocess = CpuPreprocessor(spec.input)
    width, height = spec.input.size_wh
    tensor = np.zeros((1, 3, height, width), np.float32)
    shapes = [output.shape for output in session.run(None, {name: tensor})]
    postprocess = Postprocessor(spec, shapes, Limits(spec.score, spec.iou))

    def detect(pixels: Pixels) -> int:
        placement = preprocess(Frame(pixels, 0, 0), tensor)
        return len(postprocess(session.run(None, {name: tensor}), placement))

    yield detect
