"""How does a frame get into the network's input on the GPU? Page-locked memory, then one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from app.frame import Frame, PixelFormat
from app.gpu.context import GpuContext
from app.gpu.kernel_files import load_kernel, load_module
from app.gpu.transfer import PinnedArray
from app.letterbox import Placement, place
from app.model_spec import InputSpec

FORMATS = ("bgr8", "bgra8", "gray8", "yuyv", "nv12")
SIGNATURE = "PP" + "i" * 11 + "f" * 7
BLOCK = (32, 8, 1)


class Layout(NamedTuple):
    """How a frame lies in its memory, and where it goes in the network's input."""

    wh_px: tuple[int, int]
    pitch: int  # bytes of a line
    format: PixelFormat
    nbytes: int
    placement: Placement


class FrameInput:
    """The memory of one frame of a slot; it grows with the frames that come."""

    def __init__(self, context: GpuContext, spec: InputSpec, kernel: Callable[..., None]) -> None:
        self._context, self._spec = context, spec
        self._kernel: Callable[..., None] | None = kernel
        self._constants = _normalisation(spec)
        self._memory: PinnedArray | None = None
        self._placement: Placement | None = None

    def has_room(self, frame: Frame, *, mapped: bool) -> bool:
        """Whether the memory is there, large enough and of that kind."""
        memory = self._memory
        return (
            memory is not None
            and memory.host.nbytes >= frame.pixels.nbytes
            and memory.mapped == mapped
        )

    def make_room(self, frame: Frame, *, mapped: bool) -> None:
        """Other memory, for this frame; nothing may be pending."""
        self._free()
        self._memory = PinnedArray(self._context, (frame.pixels.nbytes,), np.uint8, mapped=mapped)

    def take(self, frame: Frame) -> Layout:
        """Copy the frame into the memory."""
        assert self._memory is not None
        self._memory.check()
        flat = frame.pixels.reshape(-1)
        self._memory.host[: flat.size] = flat
        wh_px = frame.wh_px
        if self._placement is None or self._placement.source_wh != wh_px:
            spec = self._spec
            self._placement = place(wh_px, spec.size_wh, resize=spec.resize, align=spec.align)
        pitch, nbytes = frame.pixels.strides[0], frame.pixels.nbytes
        return Layout(wh_px, pitch, frame.format, nbytes, self._placement)

    def upload(self, stream: Any, layout: Layout) -> None:
        """Enqueue the copy to the device."""
        assert self._memory is not None
        self._memory.upload(stream, layout.nbytes)

    def preprocess(self, stream: Any, layout: Layout, tensor: int) -> None:
        """Enqueue the kernel that writes the input tensor at an address."""
        assert self._memory is not None and self._kernel is not None
        out_w, out_h = self._spec.size_wh
        p = layout.placement
        self._kernel(
            (-(-out_w // BLOCK[0]), -(-out_h // BLOCK[1])),
            BLOCK,
            stream,
            self._memory.device,
            tensor,
            *layout.wh_px,
            layout.pitch,
            FORMATS.index(layout.format),
            *(out_w, out_h),
            *(p.x, p.y, p.w, p.h),
            int(self._spec.channels == "RGB"),
            *self._constants,
        )

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self._free()
        self._kernel = None  # an error on its way may still know of us

    def _free(self) -> None:
        memory, self._memory = self._memory, None  # should other memory fail, it is freed once
        if memory is not None:
            memory.close()


def preprocess_kernel(context: GpuContext, *, half: bool) -> Callable[..., None]:
    """What ``FrameInput`` launches; ``half``: for a tensor in half precision."""
    module = load_module(context, "preprocess", defines=["HALF"] * half)
    return load_kernel(module, "preprocess", SIGNATURE)


def _normalisation(spec: InputSpec) -> list[np.float32]:
    """Scale and shift of the three channels, in the network's order, and the padding's value."""
    std = np.array(spec.std, np.float64)
    scale = spec.scale / std
    shift = -np.array(spec.mean, np.float64) / std
    return [np.float32(v) for v in (*scale, *shift, spec.pad)]
