"""Batches on the simulated device: each frame's boxes are those that it gets alone."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pytest

from app.commands.cli import main
from app.core.errors import DeviceError, ModelError
from app.core.frame import Frame
from app.cuda.backend import CudaBackend
from app.cuda.native.engine import NativeEngine
from app.cuda.slot import FrameInput
from app.models.families import find_family
from app.models.store import default_model, locate
from app.pipeline.capture import StreamSpec
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.sources.uri import make_source
from tests.blob_detector import SIDE, save_blob_detector
from tests.cuda.test_cuda_backend import MAKING, Kept, Squares, frames, place_of, square_at
from tests.shelf_kit import asset

pytestmark = pytest.mark.gpu


@pytest.fixture
def blob(tmp_path):
    return locate(str(save_blob_detector(tmp_path, frames="frames")))


def backend(model, batch, wake=lambda: None, *, weights=None, score=0.5, half=True, **more):
    engine = partial(NativeEngine, half=half, tune=False, batch=batch)
    words = {"score": score, "iou": 0.3, "wake": wake, "make_engine": engine, **more}
    return CudaBackend(model.spec, weights or model.weights, **words)


def together(slot, some):
    slot.enqueue(some)
    return slot.collect()


def places(answers):
    return [place_of(found) for found, _ in answers]


def as_given(frame, pixel_format):
    """The frame without its colours, in another format."""
    gray = np.ascontiguousarray(frame.pixels[..., 1])
    flat = np.full((*gray.shape, 1), 128, np.uint8)
    pixels = {
        "gray8": gray,
        "bgra8": np.dstack([gray, gray, gray, flat]),
        "yuyv": np.dstack([gray, flat]),
        "nv12": np.concatenate([gray, flat[: len(gray) // 2, :, 0]]),
        "i420": np.concatenate([gray, flat[: len(gray) // 2, :, 0]]),
    }[pixel_format]
    return Frame(np.ascontiguousarray(pixels), frame.index, 0, format=pixel_format)


def people():
    """Frames of several sizes and formats, with people in some of them."""
    shown = frames("sample:", 2, 100)[1].pixels
    parts = [shown, shown[:, 120:520], shown[40:300], shown[::2]]
    found = [Frame(np.ascontiguousarray(part), i, 0) for i, part in enumerate(parts)]
    return [*found, as_given(found[0], "gray8"), as_given(found[2], "nv12")]


def compare(model, weights, shown, mixtures, *, least, **how):
    """Batches against the same frames one by one: to the bit."""
    with backend(model, 1, weights=weights, score=0.3, **how) as single:
        alone = []
        for frame in shown:
            single.slots[0].enqueue([frame])
            alone.append(single.slots[0].collect()[0][0])
    assert sum(map(len, alone)) >= least
    with backend(model, 4, weights=weights, score=0.3, **how) as batched:
        for turn, some in enumerate(mixtures):
            answers = together(batched.slots[turn % 2], [shown[i] for i in some])
            for i, (found, _) in zip(some, answers, strict=True):
                np.testing.assert_array_equal(found.xyxy, alone[i].xyxy)
                np.testing.assert_array_equal(found.scores, alone[i].scores)
                np.testing.assert_array_equal(found.class_ids, alone[i].class_ids)


@pytest.mark.parametrize(
    "half",
    [False, pytest.param(True, marks=pytest.mark.slow)],  # its tensor cores are slow to simulate
    ids=["float32", "half"],
)
def test_the_default_model_finds_in_batches_what_it_finds_in_single_frames(device, half):
    model = default_model()
    small = replace(model.spec.input, size_wh=(192, 192))  # quicker to simulate
    model = replace(model, spec=replace(model.spec, input=small))
    mixtures = [(0, 1, 2, 3), (5, 0, 4), (2,)]
    compare(model, None, people(), mixtures, half=half, least=4, transfer="pinned")


@pytest.mark.slow
def test_a_yolox_finds_in_batches_what_it_finds_in_single_frames(device, tmp_path):
    """The published file is for one frame: here with an open first axis, as an export would be."""
    model, network = locate("yolox_nano_416"), onnx.load(str(asset("yolox_nano_416")))
    for tensor in (*network.graph.input, *network.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "frames"
    shapes = {n.input[1] for n in network.graph.node if n.op_type == "Reshape"}
    for tensor in network.graph.initializer:
        if tensor.name in shapes:
            sizes = onnx.numpy_helper.to_array(tensor).copy()
            sizes[0] = 0  # as many as come
            tensor.CopyFrom(onnx.numpy_helper.from_array(sizes, tensor.name))
    onnx.save(network, str(tmp_path / "open.onnx"))
    mixtures = [(0, 1, 2), (2, 0)]
    how = {"half": False, "transfer": "pinned"}  # half precision is the default model's turn
    compare(model, tmp_path / "open.onnx", people()[:3], mixtures, least=2, **how)


@pytest.mark.parametrize("transfer", ["auto", "pinned", "mapped"])
def test_any_number_of_frames_of_any_size_and_format(device, blob, transfer):
    shown = [square_at(3), square_at(9), as_given(square_at(12), "yuyv"), square_at(20, 4 * SIDE)]
    shown += [as_given(square_at(30), "nv12"), as_given(square_at(41), "bgra8")]
    shown += [as_given(square_at(33), "i420")]
    shown = [Frame(f.pixels, f.index, 0, format=f.format) for f in shown]
    device.delay(100, 2)
    with backend(blob, 5, transfer=transfer) as running:
        assert "5 frames at once" in running.description
        for turn in range(12):
            slot = running.slots[turn % 2]
            assert slot.capacity == 5
            some = [shown[(turn * 2 + i) % len(shown)] for i in range(1 + turn % 5)]
            answers = together(slot, some)
            for frame, (found, stages) in zip(some, answers, strict=True):
                scale = frame.wh_px[0] // SIDE
                middle = (found.xyxy[0, :2] + found.xyxy[0, 2:]) / 2 / scale
                wanted = (frame.index % 7, frame.index // 7 % 7)
                assert tuple(np.round(middle / 8 - 1.5).astype(int)) == wanted
                assert set(stages) == {
                    *("upload", "preprocess", "network", "postprocess", "download")
                }


def test_a_slot_for_batches_takes_single_frames_too(device, blob):
    with backend(blob, 3) as running:
        running.slots[0].enqueue([square_at(11)])
        assert place_of(running.slots[0].collect()[0][0]) == (4, 1)


def test_outputs_that_the_host_decodes(device, blob, monkeypatch):
    on_host = replace(find_family("yolov8", {}), device=None)
    monkeypatch.setattr("app.models.manifest.find_family", lambda *_: on_host)
    with backend(blob, 4) as running:
        for some in ((1, 9, 17, 25), (33, 2)):
            answers = together(running.slots[0], [square_at(i) for i in some])
            assert places(answers) == [(i % 7, i // 7) for i in some]


def test_too_many_candidates_of_one_frame_are_found_on_the_host(device, blob, monkeypatch):
    from app.cuda.outputs import DeviceBoxes

    rows = DeviceBoxes.rows
    monkeypatch.setattr(DeviceBoxes, "rows", lambda self, i: None if i == 1 else rows(self, i))
    with backend(blob, 4) as running:
        answers = together(running.slots[1], [square_at(i) for i in (8, 16, 24)])
        assert places(answers) == [(1, 1), (2, 2), (3, 3)]


def test_thresholds_change_for_whole_batches(device, blob):
    with backend(blob, 2) as running:
        some = [square_at(3), square_at(4)]
        for score, count in ((0.5, 1), (0.999, 0), (0.5, 1)):
            running.tune(score=score, iou=0.3)
            assert [len(found) for found, _ in together(running.slots[0], some)] == [count] * 2


def test_nothing_is_made_for_numbers_of_frames_that_have_been_seen(device, blob):
    with backend(blob, 4, transfer="pinned") as running:
        slot = running.slots[0]
        for count in range(4, 0, -1):
            together(slot, [square_at(i) for i in range(count)])
        for call in MAKING:
            device.plant(call, 2, times=1_000_000)
        for turn in range(20):
            some = range(turn, turn + 1 + turn % 4)
            answers = together(slot, [square_at(i) for i in some])
            assert places(answers) == [(i % 7, i // 7) for i in some]
        device.unplant()


def test_graphs_come_and_go_where_they_are_too_many(device, blob, monkeypatch):
    monkeypatch.setattr("app.cuda.slot.GRAPHS", 2)
    with backend(blob, 4) as running:
        for turn in range(12):
            some = [square_at(i) for i in range(turn, turn + 1 + turn % 4)]
            assert places(together(running.slots[0], some)) == [
                (f.index % 7, f.index // 7) for f in some
            ]
            if turn == 8:
                held = device.holds()
        assert device.holds() == held


@pytest.mark.parametrize("slots", [2, 3])
def test_no_frame_gets_anothers_boxes_however_late_the_device(device, blob, slots):
    device.delay(300, slots)
    counts = [90, 60, 33, 90]
    sinks = [Kept() for _ in counts]
    first, *more = (
        StreamSpec(Squares(count, live=False), [sink], name)
        for name, count, sink in zip("abcd", counts, sinks, strict=True)
    )
    pipeline = Pipeline(
        *(first.source, lambda wake: backend(blob, 4, wake, slots=slots), first.sinks),
        labels=["square"],
        policy=Policy.LOSSLESS,
        name=first.name,
        more=more,
    )
    pipeline.start()
    end_s = time.monotonic() + 120
    while not pipeline.wait(0.5):
        assert time.monotonic() < end_s
    pipeline.join()
    assert [len(sink) for sink in sinks] == counts
    for sink in sinks:
        assert [result.frame.index for result in sink] == list(range(len(sink)))
        for result in sink:
            index = result.frame.index
            assert place_of(result.detections) == (index % 7, index // 7 % 7)


def test_the_planes_of_many_cameras_reach_the_kernel_as_they_were_decoded(
    device, blob, tmp_path, monkeypatch
):
    """In every slot, from recordings of two sizes."""
    av, taken, take = pytest.importorskip("av"), [], FrameInput.take
    count, sinks, sources = 24, [], []
    for name, side in (("a", SIDE), ("b", 4 * SIDE), ("c", SIDE)):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=10, options={"crf": "10"})
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            for index in range(count):
                pixels = square_at(index, side).pixels
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
            out.mux(stream.encode())
        sinks.append(Kept())
        source = make_source(str(tmp_path / f"{name}.mp4"), realtime=False)
        sources.append(StreamSpec(source, [sinks[-1]], name))

    def noting(self, frame):
        taken.append((self, frame.format))
        return take(self, frame)

    monkeypatch.setattr(FrameInput, "take", noting)
    first, *more = sources
    device.delay(200, 5)
    pipeline = Pipeline(
        *(first.source, lambda wake: backend(blob, 4, wake, slots=3), first.sinks),
        labels=["square"],
        policy=Policy.LOSSLESS,
        name=first.name,
        more=more,
    )
    pipeline.start()
    pipeline.wait(120)
    pipeline.join()
    assert {pixel_format for _, pixel_format in taken} <= {"i420", "nv12"}
    assert len({id(place) for place, _ in taken}) >= 3  # of three slots
    for sink, scale in zip(sinks, (1, 4, 1), strict=True):
        assert len(sink) == count
        for result in sink:
            x0, y0, x1, y1 = result.detections.xyxy[0] / scale
            index = result.frame.index
            middle = np.array([x0 + x1, y0 + y1]) / 2 / 8 - 1.5
            assert tuple(np.round(middle).astype(int)) == (index % 7, index // 7 % 7)


def test_a_fault_in_a_batch_is_told_and_nothing_stays(device, blob):
    device.plant("cuEventSynchronize", 700, after=2)
    with pytest.raises(DeviceError, match="illegal memory access"), backend(blob, 4) as running:
        for _ in range(5):
            together(running.slots[0], [square_at(i) for i in range(4)])
    device.reports()


@pytest.mark.parametrize(
    ("call", "after"),
    [("cuMemAlloc", n) for n in range(8)] + [("cuMemHostAlloc", n) for n in range(4)],
)
def test_too_little_memory_is_told_and_nothing_stays(device, blob, call, after):
    device.plant(call, 2, after=after, times=100)
    with (
        pytest.raises(DeviceError, match="out of memory"),
        backend(blob, 4, transfer="pinned") as gpu,
    ):
        for slot in gpu.slots:
            slot.enqueue([square_at(i) for i in range(4)])


def test_a_network_for_single_frames_is_refused_with_the_cure(device, tmp_path):
    model = locate(str(save_blob_detector(tmp_path)))
    with (
        pytest.raises(ModelError, match="one frame at a time; leave --batch out"),
        backend(model, 2),
    ):
        pass


def test_more_frames_than_there_is_room_for_is_a_fault_of_ours(device, blob):
    with backend(blob, 2) as running, pytest.raises(AssertionError, match="more frames"):
        running.slots[0].enqueue([square_at(i) for i in range(3)])


def test_a_run_over_several_sources_gives_the_lines_of_single_runs(device, tmp_path):
    """Of a network that sees something in nearly every cell."""
    blob = locate(str(save_blob_detector(tmp_path, gain=4.0, frames="frames")))
    sources = {f"s{i}": f"pattern:?size=64x64&frames=8&boxes=1&seed={i}" for i in range(5)}
    words = ["--engine", "cuda", "--model", str(blob.manifest), "--score", "0.1", "--json"]
    alone = {}  # of a replay, which leaves no frame out, as a live run may
    for name, uri in sources.items():
        out = tmp_path / f"{name}.jsonl"
        assert main(["replay", uri, *words, str(out)]) == 0
        for told in map(json.loads, out.read_text().splitlines()):
            alone[name, told["frame"]] = told["detections"]
    named = [word for name, uri in sources.items() for word in ("--source", f"{name}={uri}")]
    out = tmp_path / "together.jsonl"
    more = ["--batch", "4", "--max-age-ms", "60000"]
    assert main(["run", "--headless", *named, *more, *words, str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["name"] for line in lines if line["detections"]} == set(sources)
    for line in lines:
        assert line["detections"] == alone[line["name"], line["frame"]]


def test_engines_that_take_one_frame_say_so(device, blob, capsys):
    words = ["run", "--headless", "--model", str(blob.manifest), "--batch", "2"]
    for engine in ("ort-cuda", "ort-tensorrt"):
        assert main([*words, "--source", "pattern:?frames=1", "--engine", engine]) == 2
        assert "use --engine cuda or tensorrt, or leave --batch out" in capsys.readouterr().err
