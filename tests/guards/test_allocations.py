"""What a frame may allocate and copy on its way: counted, so that no clock decides.

NumPy tells tracemalloc of all its arrays, and OpenCV's results are NumPy arrays. The frames and
tensors here take 200 kB and more each: an array of a frame's or tensor's size breaks every bound.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

import numpy as np
import pytest

from app.config import Config
from app.core.detections import Result
from app.core.frame import Colour, Frame, PixelFormat, SourceInfo
from app.inference.cpu import CpuSlot
from app.inference.onnxruntime import OrtNetwork
from app.inference.postprocess import Limits
from app.models.manifest import Model
from app.models.store import find_model
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.runtime.engines import backend_factory
from app.sinks.json_lines import JsonLinesSink
from app.sources.uri import make_source
from tests.colours import YUV_FORMATS, yuv_frame

KB = 1024
FRAMES_AT_ONCE = 8  # in the pool, the hand-off, the slots and the sinks


@pytest.fixture(scope="module")
def model() -> Model:
    return find_model("kestrel")


@pytest.fixture(scope="module")
def frame() -> Frame:
    source = make_source("sample:", realtime=False)
    source.open()
    try:
        found = source.read(10)
        assert found is not None
        return found
    finally:
        source.close()


@pytest.fixture(scope="module")
def slot(model: Model, frame: Frame) -> CpuSlot:
    network = OrtNetwork(model.spec, model.weights, 1, 1)
    slot = CpuSlot(model.spec, network, queue=SimpleQueue(), wake=int, limits=Limits(0.35, 0.5))
    one_frame(slot, frame)
    return slot


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


def peak_bytes(step: Callable[[], object]) -> int:
    """The most that a step has allocated at any moment; the first run may set things up.

    The least of several: what a step needs it needs each time, whereas the test runner's own
    threads, which tracemalloc counts too, allocate now and then.
    """
    step()
    peaks = []
    for _ in range(5):
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        step()
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    return min(peaks)


def one_frame(slot: CpuSlot, frame: Frame) -> int:
    """As a worker and the pipeline do it, on one thread."""
    slot.enqueue([frame])
    slot._queue.get().work()
    return len(slot.collect()[0][0].scores)


@pytest.mark.usefixtures("traced")
def test_the_guard_sees_what_it_guards_against(slot: CpuSlot, frame: Frame) -> None:
    tensor = slot.shapes.for_frame(frame.wh_px).network.tensor
    assert peak_bytes(lambda: frame.pixels.copy()) >= frame.pixels.nbytes
    assert peak_bytes(lambda: tensor * 2) >= tensor.nbytes


@pytest.mark.usefixtures("traced")
def test_preprocessing_allocates_no_picture_and_no_tensor(slot: CpuSlot, frame: Frame) -> None:
    ((preprocess, tensor),) = slot.shapes.for_frame(frame.wh_px).places
    assert peak_bytes(lambda: preprocess(frame, tensor)) < 4 * KB  # measured: 0.7


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("layout", YUV_FORMATS)
def test_preprocessing_of_planes_allocates_no_picture(
    slot: CpuSlot, frame: Frame, layout: PixelFormat
) -> None:
    ((preprocess, tensor),) = slot.shapes.for_frame(frame.wh_px).places
    given = yuv_frame(layout, Colour("bt709"), frame.wh_px)
    assert peak_bytes(lambda: preprocess(given, tensor)) < 4 * KB


@pytest.mark.usefixtures("traced")
def test_the_network_writes_into_memory_that_is_bound_once(slot: CpuSlot, frame: Frame) -> None:
    network = slot.shapes.for_frame(frame.wh_px).network
    (outputs,) = network.run(1)
    assert peak_bytes(lambda: network.run(1)) < 2 * KB  # measured: 0.3
    (again,) = network.run(1)
    assert all(a is b for a, b in zip(outputs, again, strict=True))


@pytest.mark.usefixtures("traced")
def test_a_whole_frame_allocates_for_its_candidates_only(slot: CpuSlot, frame: Frame) -> None:
    assert one_frame(slot, frame) > 0, "there must be something to find"
    assert peak_bytes(lambda: one_frame(slot, frame)) < 32 * KB  # measured: 11.3


@pytest.mark.usefixtures("traced")
def test_nothing_is_kept_of_a_frame(slot: CpuSlot, frame: Frame) -> None:
    for _ in range(300):  # ONNX Runtime's binding fills a few caches at first
        one_frame(slot, frame)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(400):
        one_frame(slot, frame)
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] - before < 16 * KB, "40 bytes a frame at most"


@pytest.mark.usefixtures("traced")
def test_decoding_reuses_its_frames() -> None:
    source = make_source("sample:", realtime=False)
    source.open()
    try:
        for _ in range(FRAMES_AT_ONCE):
            source.read(10)
        assert peak_bytes(lambda: source.read(10)) < 4 * KB  # measured: 0.3
    finally:
        source.close()


class Addresses:
    """A sink: where the frames lie that come out, and whether anything copied them."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.count = 0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing to open."""

    def emit(self, result: Result) -> None:
        """Note the address."""
        self.seen.add(result.frame.pixels.ctypes.data)
        self.count += 1

    def close(self) -> None:
        """Nothing to close."""


class Watched:
    """A source that notes the addresses of what it hands over."""

    def __init__(self, uri: str) -> None:
        self._inner = make_source(uri, realtime=False)
        self.given: set[int] = set()
        self.open, self.close = self._inner.open, self._inner.close

    def read(self, timeout_s: float) -> Frame | None:
        """See FrameSource."""
        frame = self._inner.read(timeout_s)
        if frame is not None:
            self.given.add(frame.pixels.ctypes.data)
        return frame


@pytest.mark.parametrize("uri", ["sample:", "pattern:?frames=150"])
def test_a_frame_is_never_copied_between_source_and_sinks(uri: str, model: Model, tmp_path) -> None:
    source, sink = Watched(uri), Addresses()
    pipeline = Pipeline(
        source,
        backend_factory(Config(engine="cpu"), model, Policy.LOSSLESS),
        [JsonLinesSink(str(tmp_path / "out.jsonl")), sink],
        labels=model.spec.labels,
        policy=Policy.LOSSLESS,
        max_frames=150,
    )
    pipeline.start()
    while not pipeline.wait():
        pass
    pipeline.join()
    assert sink.count == 150
    assert sink.seen <= source.given, "a sink got another array than the source made"
    assert len(source.given) <= FRAMES_AT_ONCE, "frames are allocated anew instead of recycled"


def test_slots_have_arrays_of_their_own(model: Model) -> None:
    network = OrtNetwork(model.spec, model.weights, 1, 1)
    slots = [network.bind(model.spec, 1) for _ in range(2)]
    assert not np.shares_memory(slots[0].tensor, slots[1].tensor)
