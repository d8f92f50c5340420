"""What a frame costs on the CPU, in counts: memory allocated, Python calls. No clock decides."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections import Counter

import numpy as np

from app.config import Config
from app.core.frame import Frame
from app.models.store import find_model
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.runtime.engines import backend_factory, known_frames
from app.sinks.json_lines import JsonLinesSink
from app.sources.uri import make_source

CPU = Config(engine="cpu")
FRAMES = 60
# Counted: 21 kB, most of it a maximum over the network's 2,100 cells, and about a hundred calls.
# The bound on calls is there for what is done for each box or row in Python, which takes many
# hundreds; it is no budget that clear code has to fit in.
MOST_BYTES = 32_000
MOST_CALLS = 300


def test_a_frame_allocates_no_buffers():
    """The tensor has 1.2 MB, the smaller frame 170 kB: neither may be made anew."""
    frames = known_frames()
    with backend_factory(CPU, find_model("kestrel"), Policy.LATEST)(lambda: None) as backend:
        slot = backend.slots[0]

        def once(frame: Frame) -> int:
            slot.enqueue([frame])
            return len(slot.collect()[0][0])

        assert sum(map(once, frames)) > 0
        gc.collect()
        tracemalloc.start()
        try:
            for frame in frames:
                peaks = []
                for _ in range(5):  # the test runner's own threads allocate now and then
                    tracemalloc.reset_peak()
                    before, _ = tracemalloc.get_traced_memory()
                    once(frame)
                    peaks.append(tracemalloc.get_traced_memory()[1] - before)
                assert min(peaks) < MOST_BYTES
        finally:
            tracemalloc.stop()


def test_a_frame_costs_few_python_calls(tmp_path):
    calls: Counter[str] = Counter()

    def count(frame, event, arg):
        if event == "call" and "importlib" not in frame.f_code.co_filename:
            calls[threading.current_thread().name.partition("-")[0]] += 1

    def run(limit: int) -> Counter[str]:
        calls.clear()
        threading.setprofile(count)
        try:
            pipeline = Pipeline(
                make_source("sample:", realtime=False),
                backend_factory(CPU, find_model("kestrel"), Policy.LOSSLESS),
                [JsonLinesSink(str(tmp_path / "out.jsonl"))],
                labels=("person", "face"),
                policy=Policy.LOSSLESS,
                max_frames=limit,
            )
            pipeline.start()
            while not pipeline.wait():
                pass
            assert pipeline.join().processed == limit
        finally:
            threading.setprofile(None)
        return Counter(calls)

    run(2)  # what is imported and cached once
    short, long = run(FRAMES), run(2 * FRAMES)
    per_frame = {name: (long[name] - short[name]) / FRAMES for name in long}
    assert sum(per_frame.values()) < MOST_CALLS, per_frame


def test_the_tensor_is_the_same_memory_for_every_frame():
    with backend_factory(CPU, find_model("kestrel"), Policy.LATEST)(lambda: None) as backend:
        slot = backend.slots[0]
        addresses = {}
        for size in ((48, 64), (720, 1280), (48, 64), (360, 640), (96, 128)):
            slot.enqueue([Frame(np.zeros((*size, 3), np.uint8), 0, 0)])
            slot.collect()
            for each in slot.sizes:
                tensor = slot.shapes.for_frame(each).network.tensor
                assert addresses.setdefault(tensor.shape, tensor.ctypes.data) == tensor.ctypes.data
        assert set(addresses) == {(1, 3, 256, 320), (1, 3, 192, 320)}
