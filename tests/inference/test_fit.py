"""Only as much of the input is computed as a frame needs: the same boxes, from fewer cells."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from app.core.errors import ConfigError, ModelError
from app.core.frame import Frame, bgr_pixels
from app.inference.cpu import CpuBackend
from app.inference.openvino import OpenVinoNetwork
from app.inference.shape_cache import KEPT, ShapeCache
from app.models.manifest import InputSpec, Model, ModelSpec
from app.models.store import find_model
from app.ops.selftest import GoldenFrameCheck, answers
from app.runtime.engines import known_frames
from app.runtime.service import known_pixels
from tests.inference.test_cpu import ONE_BOX, network


def clip_frames() -> list[Frame]:
    return [replace(f, pixels=bgr_pixels(f), format="bgr8") for f in known_frames()]


NAMES = ("kestrel", "kestrel_small")


def detect(model: Model, frames: list[Frame], **options: Any) -> list[Any]:
    """All frames through one slot; the detections, and which sizes it had in the end."""
    options = {"score": model.spec.score, "iou": model.spec.iou, "workers": 1} | options
    with CpuBackend(model.spec, model.weights, wake=lambda: None, **options) as backend:
        found = []
        for frame in frames:
            backend.slots[0].enqueue([frame])
            found.append(backend.slots[0].collect()[0][0])
        return [found, set(backend.slots[0].sizes), list(backend.remarks)]


def at_whole(model: Model) -> Model:
    return replace(model, spec=model.spec.whole())


@pytest.mark.parametrize("name", NAMES)
def test_the_boxes_are_those_of_the_whole_input(name: str) -> None:
    """As the canary judges it: each sure box has its twin, and no sure one is new."""
    model, frames = find_model(name), clip_frames()
    side, height = {"kestrel": (320, 192), "kestrel_small": (256, 160)}[name]
    cut, sizes, remarks = detect(model, frames)
    assert sizes == {(side, height)}, "the sample is 16:9"
    assert remarks == [f"input {side}x{height}, as much of {side}x{side} as the frames need"]
    there, sizes, remarks = detect(at_whole(model), frames)
    assert sizes == {(side, side)} and remarks == []
    assert sum(map(len, there)) >= 8
    for ours, theirs in zip(cut, there, strict=True):
        options = {"threshold": model.spec.score, "iou": model.spec.iou, "every_s": 0.0}
        judge = GoldenFrameCheck(frames[0].pixels, expected=answers(theirs), **options)
        judge.judge(ours)
        assert judge.judged == 1


def test_a_canary_knows_the_answer_of_an_engine_which_takes_the_whole_input() -> None:
    model, frame = find_model("kestrel"), Frame(known_pixels(), -1, 0)
    ((cut,), _, _), ((there,), _, _) = detect(model, [frame]), detect(at_whole(model), [frame])
    options = {"threshold": model.spec.score, "iou": model.spec.iou, "every_s": 0.0}
    GoldenFrameCheck(frame.pixels, expected=answers(cut), **options).judge(there)


def test_sources_of_several_shapes_take_turns() -> None:
    model, frame = find_model("kestrel"), clip_frames()[3]
    tall = np.ascontiguousarray(frame.pixels[:, 200:400])
    square = np.ascontiguousarray(frame.pixels[:, 100 : 100 + len(frame.pixels)])
    pixels = [frame.pixels, tall, square, frame.pixels[::2, ::2].copy(), tall, frame.pixels]
    frames = [Frame(p, i, 0) for i, p in enumerate(pixels)]
    found, sizes, remarks = detect(model, frames)
    assert sizes == {(320, 192), (192, 320), (320, 320)}
    assert remarks == ["input 192x320, 320x192, as much of 320x320 as the frames need"]
    for frame, ours in zip(frames, found, strict=True):
        ((alone,), _, _) = detect(model, [frame])
        assert np.array_equal(ours.xyxy, alone.xyxy) and np.array_equal(ours.scores, alone.scores)


def test_thresholds_hold_for_sizes_that_come_later() -> None:
    model, frame = find_model("kestrel"), Frame(known_pixels(), 0, 0)
    square = np.ascontiguousarray(frame.pixels[:, : len(frame.pixels)])
    options = {"score": 0.3, "iou": 0.5, "workers": 1}
    with CpuBackend(model.spec, model.weights, wake=lambda: None, **options) as backend:
        slot = backend.slots[0]

        def count(pixels: np.ndarray) -> int:
            slot.enqueue([Frame(pixels, 0, 0)])
            return len(slot.collect()[0][0])

        assert count(frame.pixels) > 0
        assert detect(model, [Frame(square, 0, 0)], score=0.3)[0][0].scores.size > 0
        backend.tune(score=0.999, iou=0.5)
        assert count(frame.pixels) == count(square) == 0


def test_only_the_latest_sizes_are_kept() -> None:
    spec = ModelSpec("a", "a.onnx", InputSpec((320, 320), fit=32), "yolov8", ("x",))
    made: list[tuple[int, int]] = []

    def make(sized: ModelSpec) -> object:
        made.append(sized.input.size_wh)
        return object()

    kept = ShapeCache(spec, make)
    assert kept.sizes == () and made == []
    first = kept.for_frame((320, 32))
    for height in range(64, 32 * KEPT + 1, 32):
        kept.for_frame((320, height))
        assert kept.for_frame((640, 64)) is first, "the same shape at another size"
    assert len(kept.sizes) == KEPT == len(made)
    kept.for_frame((320, 320))
    assert len(kept.sizes) == KEPT and kept.sizes[-2:] == ((320, 32), (320, 320))
    assert (320, 64) not in kept.sizes, "the one that was not used for longest"
    assert ShapeCache(replace(spec, input=InputSpec((320, 320))), make).sizes == ((320, 320),)


def test_frames_of_one_size_and_several_pixel_aspects_need_several_inputs() -> None:
    """A picture that is stored half as wide gives the boxes of the whole one, in its own pixels."""
    model, frame = find_model("kestrel"), Frame(known_pixels(), 0, 0)
    half = np.ascontiguousarray(cv2.resize(frame.pixels, None, fx=0.5, fy=1.0))
    shown = [Frame(half, i, 0, pixel_aspect=aspect) for i, aspect in enumerate((2.0, 1.0, 2.0))]
    found, sizes, _ = detect(model, [frame, *shown])
    assert sizes == {(320, 192), model.spec.input.size_for((half.shape[1], half.shape[0]))}
    assert len(found[0]) == len(found[1]) > 0
    np.testing.assert_allclose(found[1].xyxy * (2, 1, 2, 1), found[0].xyxy, atol=4)
    np.testing.assert_allclose(found[1].scores, found[0].scores, atol=0.05)
    assert np.array_equal(found[3].xyxy, found[1].xyxy)


def test_a_gray_frame_is_not_taken_for_an_nv12_frame_of_the_same_shape() -> None:
    model = find_model("kestrel")
    with CpuBackend(model.spec, model.weights, wake=lambda: None, score=0.3, iou=0.5) as backend:
        slot = backend.slots[0]
        for kind, size in (("nv12", (320, 256)), ("gray8", (288, 320)), ("nv12", (320, 256))):
            slot.enqueue([Frame(np.full((720, 640), 128, np.uint8), 0, 0, format=kind)])
            slot.collect()
            assert slot.sizes[-1] == size


def test_nan_is_told_whatever_the_sizes(tmp_path: Path) -> None:
    """What counts it belongs to the slot: frames of many shapes must not make it begin anew."""
    path = network(tmp_path / "nan.onnx", ONE_BOX * np.nan, input_shape=[1, 3, "h", "w"])
    spec = ModelSpec("nan", "nan.onnx", InputSpec((640, 640), fit=32), "yolov8", ("a", "b"))
    frames = [Frame(np.zeros((32 * (i % 10 + 1), 640, 3), np.uint8), i, 0) for i in range(40)]
    with pytest.raises(ModelError, match="NaN"):
        detect(Model(spec, path, None), frames)


def test_slots_of_two_workers_may_want_a_new_size_at_once() -> None:
    model, frames = find_model("kestrel"), clip_frames()
    woken = threading.Semaphore(0)
    options = {"score": 0.3, "iou": 0.5, "workers": 2}
    with CpuBackend(model.spec, model.weights, wake=woken.release, **options) as backend:
        for frame in (frames[3], Frame(frames[3].pixels[:, :300].copy(), 1, 0)):
            for slot in backend.slots:
                slot.enqueue([frame])
            one, other = (slot.collect()[0][0] for slot in backend.slots)
            assert np.array_equal(one.xyxy, other.xyxy)


def made(tmp_path: Path, input_shape: list[Any]) -> Model:
    path = network(tmp_path / "made.onnx", ONE_BOX, input_shape=input_shape)
    spec = ModelSpec("made", "made.onnx", InputSpec((64, 64), fit=32), "yolov8", ("a", "b"))
    return Model(spec, path, None)


def test_a_file_of_one_size_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"`input\.fit`.*\[1, 3, 64, 64\]; remove `fit`"):
        detect(made(tmp_path, [1, 3, 64, 64]), [])


@pytest.mark.parametrize("open_network", [None, OpenVinoNetwork])
def test_what_takes_no_batches_is_refused_before_the_first_frame(
    openvino: None, tmp_path: Path, open_network: Any
) -> None:
    model = made(tmp_path, [1, 3, "h", "w"])
    options = {} if open_network is None else {"open_network": open_network}
    with pytest.raises((ConfigError, ModelError), match="one frame at a time"):
        detect(model, [], batch=2, **options)


def test_a_network_that_is_no_detector_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    model = made(tmp_path, [1, 3, "h", "w"])
    with pytest.raises(ModelError, match=r"decoder\.family"):
        detect(replace(model, spec=replace(model.spec, labels=("a", "b", "c"))), [])


def test_a_size_that_the_network_refuses_is_told_with_the_cure(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    shape = numpy_helper.from_array(np.array([1, 6, 2048], np.int64), "shape")  # 3 × 64 × 64 / 6
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, "n"])],
        [shape],
    )
    path = tmp_path / "made.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    spec = ModelSpec("made", "made.onnx", InputSpec((64, 64), fit=32), "yolov8", ("a", "b"))
    with pytest.raises(ModelError, match=r"an input of \[1, 3, 32, 64\].*remove `input\.fit`"):
        detect(Model(spec, path, None), [Frame(np.zeros((20, 64, 3), np.uint8), 0, 0)])


def test_openvino_cuts_the_input_too(openvino: None) -> None:
    model, frames = find_model("kestrel"), clip_frames()
    ours, sizes, _ = detect(model, frames, open_network=OpenVinoNetwork)
    theirs, _, _ = detect(model, frames)
    assert sizes == {(320, 192)}
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=0.05)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
