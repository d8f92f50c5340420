"""Decoding, compaction and NMS on the device: the CPU's boxes, in its order."""

import numpy as np
import pytest

from app.core.letterbox import place
from app.cuda.context import GpuContext
from app.cuda.kernels import load_kernel, load_module
from app.inference.postprocess import Limits, Postprocessor
from app.models.families.base import cells as grid_of
from app.models.manifest import InputSpec, ModelSpec

pytestmark = pytest.mark.gpu

SIDE, CAPACITY, MOST, STEP = 128, 1024, 1024, 6152
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


def on_device(family, raw, classes, score, iou, most=MOST):
    """(boxes (n,6) in input pixels, candidates, cells without a number) of the one frame."""
    (found,) = of_frames(family, raw, classes, score, iou, most)
    return found


def of_frames(family, raw, classes, score, iou, most=MOST):
    """The same of each frame."""
    frames = len(raw)
    grid, strides = grid_of((SIDE, SIDE), (8, 16, 32))
    table = np.concatenate([grid, strides], 1).astype(np.float32)
    cells = raw.shape[2 if family == "yolov8" else 1]
    with GpuContext() as context:
        driver = context.driver
        module = load_module(context, "postprocess")
        decode = load_kernel(module, f"candidates_{family}", "PPPPPiif")
        suppress = load_kernel(module, "nms", "PPPPPiif")
        stream = driver.Stream()
        places = [driver.to_device(np.ascontiguousarray(a)) for a in (raw, table)]
        sizes = (CAPACITY * 24, CAPACITY * 4, 8, STEP * 4, STEP * 4)
        places += [driver.mem_alloc(frames * n) for n in sizes]
        raw_at, table_at, found, cells_of, count, kept, counts = places
        driver.memset_d32_async(count, 0, 2 * frames, stream)
        decode((-(-cells // 256), frames), (256, 1, 1), stream, raw_at, table_at, found, cells_of,
               count, np.int32(cells), np.int32(classes), np.float32(score))  # fmt: skip
        suppress((frames, 1), (256, 1, 1), stream, found, cells_of, count, kept, counts,
                 np.int32(STEP), np.int32(most), np.float32(iou))  # fmt: skip
        stream.synchronize()
        rows, numbers = np.empty((frames, STEP), np.float32), np.empty((frames, STEP), np.int32)
        driver.memcpy_dtoh(rows, kept)
        driver.memcpy_dtoh(numbers, counts)
        for place_ in places:
            place_.free()
        del module, decode, suppress, stream
    return [
        (row[: MOST * 6].reshape(MOST, 6)[: n[1]], int(n[0]), int(n[2]))
        for row, n in zip(rows, numbers, strict=True)
    ]


@pytest.mark.parametrize("family", ["yolov8", "yolox"])
@pytest.mark.parametrize("classes", [1, 2, 80])
@pytest.mark.parametrize(("strong", "score"), [(0.05, 0.5), (1.0, 0.3), (0.01, 0.999)])
def test_the_cpus_boxes_in_its_order(device, family, classes, strong, score):
    raw = raw_output(family, classes, classes, strong)
    spec = ModelSpec(
        "x", "x.onnx", InputSpec((SIDE, SIDE)), family, tuple(map(str, range(classes)))
    )
    wanted = Postprocessor(spec, [raw.shape], Limits(score, 0.45))(
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


@pytest.mark.parametrize("family", ["yolov8", "yolox"])
def test_each_frame_of_several_has_its_own_boxes(device, family):
    raws = [raw_output(family, 3, seed, strong) for seed, strong in enumerate((0.05, 0.001, 1.0))]
    raws[1][0, :, 7] = np.nan
    together = of_frames(family, np.concatenate(raws), 3, 0.4, 0.45)
    alone = [on_device(family, raw, 3, 0.4, 0.45) for raw in raws]
    assert len({len(rows) for rows, _, _ in alone}) == 3
    for mine, theirs in zip(together, alone, strict=True):
        assert (mine[0] == theirs[0]).all() and mine[1:] == theirs[1:]


@pytest.mark.parametrize("most", [1, 7])
def test_no_more_than_the_strongest_are_kept(device, most):
    raw = raw_output("yolov8", 3, 1, 0.05)
    whole = on_device("yolov8", raw, 3, 0.4, 0.45)
    first = on_device("yolov8", raw, 3, 0.4, 0.45, most)
    assert len(whole[0]) > most == len(first[0])
    assert (first[0] == whole[0][:most]).all() and first[1:] == whole[1:]


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
