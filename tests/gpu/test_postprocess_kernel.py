"""Decoding, compaction and NMS on the device: the CPU's boxes, in its order."""

import numpy as np
import pytest

from app.backends.decoders.common import cells as grid_of
from app.backends.postprocess import Postprocessor
from app.gpu.context import GpuContext
from app.gpu.kernel_files import load_kernel, load_module
from app.letterbox import place
from app.model_spec import InputSpec, ModelSpec

pytestmark = pytest.mark.gpu

SIDE, CAPACITY, MOST = 128, 1024, 300
CELLS = (SIDE // 8) ** 2 + (SIDE // 16) ** 2 + (SIDE // 32) ** 2


def raw_output(family, classes, seed, strong):
    """Random outputs of which about the share ``strong`` is over the threshold."""
    rng = np.random.default_rng(seed)
    scores = rng.random((CELLS, classes), np.float32) ** (1 / max(strong, 1e-3))
    if family == "yolov8":
        centre = rng.random((CELLS, 2), np.float32) * SIDE
        size = rng.random((CELLS, 2), np.float32) * 60 + 4
        return np.ascontiguousarray(np.concatenate([centre, size, scores], 1).T)[None]
    xy = rng.standard_normal((CELLS, 2)).astype(np.float32)
    objectness = rng.random((CELLS, 1), np.float32)
    return np.concatenate([xy, xy * 0.4 + 0.5, objectness, scores], 1)[None]


def on_device(family, raw, classes, score, iou):
    """(boxes (n,6) in input pixels, candidates, cells without a number)."""
    grid, strides = grid_of((SIDE, SIDE), (8, 16, 32))
    table = np.concatenate([grid, strides], 1).astype(np.float32)
    cells = raw.shape[2 if family == "yolov8" else 1]
    with GpuContext() as context:
        driver = context.driver
        module = load_module(context, "postprocess")
        decode = load_kernel(module, f"candidates_{family}", "PPPPPiif")
        suppress = load_kernel(module, "nms", "PPPPPf")
        stream = driver.Stream()
        places = [driver.to_device(np.ascontiguousarray(a)) for a in (raw, table)]
        places += [driver.mem_alloc(n) for n in (CAPACITY * 24, CAPACITY * 4, 8, MOST * 24, 12)]
        raw_at, table_at, found, cells_of, count, kept, counts = places
        driver.memset_d32_async(count, 0, 2, stream)
        decode((-(-cells // 256), 1), (256, 1, 1), stream, raw_at, table_at, found, cells_of, count,
               np.int32(cells), np.int32(classes), np.float32(score))  # fmt: skip
        suppress((1, 1), (256, 1, 1), stream, found, cells_of, count, kept, counts,
                 np.float32(iou))  # fmt: skip
        stream.synchronize()
        rows, numbers = np.empty((MOST, 6), np.float32), np.empty(3, np.int32)
        driver.memcpy_dtoh(rows, kept)
        driver.memcpy_dtoh(numbers, counts)
        for place_ in places:
            place_.free()
        del module, decode, suppress, stream
    return rows[: numbers[1]], int(numbers[0]), int(numbers[2])


@pytest.mark.parametrize("family", ["yolov8", "yolox"])
@pytest.mark.parametrize("classes", [1, 2, 80])
@pytest.mark.parametrize(("strong", "score"), [(0.05, 0.5), (1.0, 0.3), (0.01, 0.999)])
def test_the_cpus_boxes_in_its_order(device, family, classes, strong, score):
    raw = raw_output(family, classes, classes, strong)
    spec = ModelSpec(
        "x", "x.onnx", InputSpec((SIDE, SIDE)), family, tuple(map(str, range(classes)))
    )
    wanted = Postprocessor(spec, [raw.shape], score=score, iou=0.45)(
        [raw], place((SIDE, SIDE), (SIDE, SIDE))
    )
    found, candidates, broken = on_device(family, raw, classes, score, 0.45)
    assert candidates <= CAPACITY and broken == 0
    inside = np.clip(found[:, :4], 0, SIDE)
    found = found[(inside[:, 2:] > inside[:, :2]).all(1)]
    assert len(found) == len(wanted)
    assert np.allclose(found[:, 4], wanted.scores, atol=1e-6)
    assert (found[:, 5] == wanted.class_ids).all()
    assert np.abs(np.clip(found[:, :4], 0, SIDE) - wanted.xyxy).max(initial=0) < 1e-2


def test_nothing_over_the_threshold_and_values_that_are_none(device):
    raw = raw_output("yolov8", 2, 0, 0.1)
    raw[0, 4:] = 0.1
    assert on_device("yolov8", raw, 2, 0.5, 0.45)[1] == 0
    raw[0, 4] = 0.9
    raw[0, 0] = np.nan
    raw[0, 2, ::2] = np.inf
    assert on_device("yolov8", raw, 2, 0.5, 0.45)[1] == 0


def test_too_many_candidates_are_told_by_their_number(device):
    raw = np.tile(raw_output("yolov8", 1, 0, 1.0), (1, 1, 8))
    raw[0, 4] = 0.9
    found, candidates, _ = on_device("yolov8", raw, 1, 0.5, 0.99)
    assert candidates == 8 * CELLS > CAPACITY
    assert len(found) <= MOST


@pytest.mark.parametrize("family", ["yolov8", "yolox"])
def test_scores_that_are_no_numbers_are_counted(device, family):
    raw = raw_output(family, 2, 0, 0.1)
    scores = raw[0, 4] if family == "yolov8" else raw[0, :, 4]
    scores[[3, 70, 90]] = np.nan
    found, _, broken = on_device(family, raw, 2, 0.5, 0.45)
    assert broken == 3
    assert np.isfinite(found).all()
