"""The CUDA backend on the simulated device: the CPU's boxes, nobody else's, and clear faults."""

import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

from app.commands.cli import main
from app.core.errors import DeviceError, SourceEnded
from app.core.frame import BT601, Colour, Frame, SourceInfo, bgr_pixels
from app.cuda.backend import CudaBackend
from app.cuda.native.engine import NativeEngine
from app.inference.cpu import CpuBackend
from app.models.store import locate
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.sources.uri import make_source
from tests.blob_detector import BOX, CELL, SIDE, save_blob_detector
from tests.cuda.conftest import REAL
from tests.reference import overlap
from tests.shelf_kit import ASSETS

pytestmark = pytest.mark.gpu


@pytest.fixture
def blob(tmp_path):
    return locate(str(save_blob_detector(tmp_path)))


def square_at(index, side=SIDE):
    """A frame whose white square says which frame it is: 49 places, in a known order."""
    pixels = np.full((side, side, 3), 40, np.uint8)
    column, row = index % 7, index // 7 % 7
    scale = side // SIDE
    x, y = (v * CELL + CELL + CELL // 2 - BOX // 2 for v in (column, row))
    pixels[y * scale : (y + BOX) * scale, x * scale : (x + BOX) * scale] = 255
    return Frame(pixels, index, index)


class Squares:
    """A source of ``count`` frames, each with its square in a place of its own."""

    def __init__(self, count, *, live):
        self._frames = (square_at(i) for i in range(count))
        self._live = live

    def open(self):
        return SourceInfo("squares", live=self._live, wh_px=(SIDE, SIDE))

    def read(self, timeout_s):
        try:
            frame = next(self._frames)
        except StopIteration:
            raise SourceEnded from None
        return Frame(frame.pixels, frame.index, time.monotonic_ns())

    def close(self):
        pass


class Kept(list):
    """A sink that keeps what it gets."""

    def open(self, source, labels):
        pass

    def emit(self, result):
        self.append(result)

    def close(self):
        pass


def place_of(detections):
    x0, y0 = detections.xyxy[0, :2]
    return round(float(x0 + BOX / 2 - CELL * 1.5) / CELL), round(
        float(y0 + BOX / 2 - CELL * 1.5) / CELL
    )


def backend(model, wake=lambda: None, **more):
    return CudaBackend(model.spec, model.weights, wake=wake, score=0.5, iou=0.3, **more)


def frames(clip, count, step):
    source = make_source(str(clip), realtime=False)
    source.open()
    found = []
    while len(found) < count * step:
        frame = source.read(5)
        pixels = bgr_pixels(frame).copy()
        found.append(Frame(pixels, frame.index, frame.captured_ns, frame.media_ns))
    source.close()
    return found[::step]


CLIPS = [
    "bgs_highway02.avi",
    "intel_asl_bird.mkv",
    "intel_asl_walk.mkv",
    "intel_bottle.mp4",
    "intel_gif_face-demographics-walking-and-pause.gif",
    "intel_gif_head-pose-face-detection-female-and-male.gif",
    "intel_one_by_one.mp4",
    "lp_s32.mp4",
    "sam2_dog.mp4",
]
CASES = [
    ("kestrel", CLIPS, 15),
    ("fastestdet_352", CLIPS[6:7], 1),
    ("yunet_n_320_320", CLIPS[4:5], 1),
    ("yolox_nano_416", CLIPS[:2], 4),
]


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["float32", "half"])
@pytest.mark.parametrize(("name", "clips", "least"), CASES, ids=[case[0] for case in CASES])
def test_the_same_boxes_as_the_cpu_backend(device, assets, name, clips, least, half):
    """Every box from the threshold on, on the 21st frame of each clip.

    Of two neighbours with nearly the same score either may win in NMS: a box counts as found where
    the winner is one that the CPU had among its candidates, with such a score.
    """
    model = locate(name)
    weights = model.weights if model.weights.is_file() else ASSETS / model.spec.file
    threshold, margin, iou = model.spec.score, 0.03 if half else 0.01, model.spec.iou
    words = {"score": threshold - 2 * margin, "wake": lambda: None}
    compared = 0

    def same(box, score, others, overlapping=0.98):
        return any(
            overlap(box, b) >= overlapping and abs(score - s) <= margin
            for b, s in zip(others.xyxy, others.scores, strict=True)
        )

    with (
        CpuBackend(model.spec, weights, workers=1, iou=iou, **words) as cpu,
        CpuBackend(model.spec, weights, workers=1, iou=1.0, **words) as unsuppressed,
        CudaBackend(
            model.spec,
            weights,
            make_engine=partial(NativeEngine, half=half, tune=False),
            transfer="pinned",
            iou=iou,
            **words,
        ) as gpu,
    ):
        for frame in (frames(assets / "clips" / clip, 2, 20)[1] for clip in clips):
            answers = []
            for running in (cpu, unsuppressed, gpu):
                running.slots[0].enqueue([frame])
                answers.append(running.slots[0].collect()[0][0])
            wanted, candidates, found = answers
            for box, score in zip(found.xyxy, found.scores, strict=True):
                assert score < threshold or same(box, score, candidates)
                compared += score >= threshold
            for box, score in zip(wanted.xyxy, wanted.scores, strict=True):
                assert score < threshold or same(box, score, found, overlapping=iou)
    assert compared >= least


@pytest.fixture(params=["graph", "calls"])
def launching(request, monkeypatch):
    """A frame as one captured graph, and call by call where cuda-bindings are missing."""
    if request.param == "graph":
        pytest.importorskip("cuda.bindings.driver")
    else:
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)


@pytest.mark.slow
@pytest.mark.usefixtures("launching")
@pytest.mark.parametrize(
    ("policy", "slots", "count"),
    [(Policy.LOSSLESS, 2, 700), (Policy.LOSSLESS, 3, 700), (Policy.LATEST, 2, 600)],
)
def test_no_frame_gets_anothers_boxes_however_late_the_device(device, blob, policy, slots, count):
    device.delay(300, slots)
    sink = Kept()
    pipeline = Pipeline(
        Squares(count, live=policy is Policy.LATEST),
        lambda wake: backend(blob, wake, slots=slots),
        [sink],
        labels=["square"],
        policy=policy,
    )
    pipeline.start()
    while not pipeline.wait(0.5):
        pass
    pipeline.join()
    assert len(sink) == count if policy is Policy.LOSSLESS else len(sink) > 0
    for result in sink:
        index = result.frame.index
        assert place_of(result.detections) == (index % 7, index // 7 % 7)


@pytest.mark.usefixtures("launching")
def test_a_frame_of_another_size_needs_no_restart(device, blob):
    with backend(blob) as running:
        for side in (SIDE, 4 * SIDE, SIDE):
            slot = running.slots[0]
            slot.enqueue([square_at(9, side)])
            ((found, stages),) = slot.collect()
            scale = side // SIDE
            assert place_of(found) == (2, 1) or scale > 1
            assert np.allclose(found.xyxy[0, 2:] - found.xyxy[0, :2], BOX * scale, atol=1)
            assert list(stages) == ["upload", "preprocess", "network", "postprocess", "download"]


@pytest.mark.parametrize("pixel_format", ["yuyv", "nv12", "i420", "gray8", "bgra8"])
def test_frames_as_cameras_give_them(device, blob, pixel_format):
    """The same boxes as from BGR, on both engines."""
    shown = square_at(9).pixels
    gray = np.ascontiguousarray(shown[..., 0])
    grayish = np.full(gray.shape, 128, np.uint8)  # no colour
    pixels = {
        "yuyv": np.stack([gray, grayish], -1),
        "nv12": np.concatenate([gray, grayish[: SIDE // 2]]),
        "i420": np.concatenate([gray, grayish[: SIDE // 2]]),
        "gray8": gray,
        "bgra8": np.concatenate([shown, gray[..., None]], -1),
    }[pixel_format]
    frame = Frame(pixels, 0, 0, format=pixel_format)
    assert frame.wh_px == (SIDE, SIDE)
    words = {"score": 0.5, "iou": 0.3, "wake": lambda: None}
    with backend(blob) as gpu, CpuBackend(blob.spec, blob.weights, workers=1, **words) as cpu:
        for running in (gpu, cpu):
            running.slots[0].enqueue([frame])
            ((found, _),) = running.slots[0].collect()
            assert place_of(found) == (2, 1)


def test_colours_and_pixel_aspects_take_turns(device, blob):
    """The same bytes mean another picture: what was captured for one must not serve the other."""
    luma = np.full((SIDE, SIDE), 40, np.uint8)
    luma[16:48, 12:28] = 218 + np.arange(32)[:, None] // 8 * 3  # a column of cells, no two alike
    pixels = np.concatenate([luma, np.full((SIDE // 2, SIDE), 128, np.uint8)])
    kinds = [(BT601, 1.0), (Colour("bt709", full_range=True), 1.0), (BT601, 2.0), (BT601, 1.0)]
    shown = [
        Frame(pixels, i, 0, format="i420", colour=colour, pixel_aspect=aspect)
        for i, (colour, aspect) in enumerate(kinds)
    ]
    words = {"score": 0.3, "iou": 0.3, "wake": lambda: None}
    found = []
    with (
        CudaBackend(blob.spec, blob.weights, **words) as gpu,
        CpuBackend(blob.spec, blob.weights, workers=1, **words) as cpu,
    ):
        for running in (gpu, cpu):
            slot = running.slots[0]
            for frame in shown:
                slot.enqueue([frame])
                found.append(slot.collect()[0][0])
    ours, theirs = found[: len(shown)], found[len(shown) :]
    for one, other in zip(ours, theirs, strict=True):
        assert len(one.scores) == len(other.scores) > 0
        assert np.allclose(one.scores, other.scores, atol=0.02)
        assert np.allclose(one.xyxy, other.xyxy, atol=0.1)
    assert ours[1].scores[0] < ours[0].scores[0] - 0.1
    assert np.array_equal(ours[0].xyxy, ours[3].xyxy) and len(ours[2].xyxy)


def test_more_candidates_than_the_device_has_room_for_are_found_on_the_host(
    device, blob, monkeypatch
):
    monkeypatch.setattr("app.cuda.outputs.DeviceBoxes.rows", lambda self, frame: None)
    with backend(blob) as running:
        slot = running.slots[1]
        slot.enqueue([square_at(12)])
        ((found, _),) = slot.collect()
    assert place_of(found) == (5, 1)


def test_the_wake_comes_when_the_slot_is_ready(device, blob):
    rung = threading.Event()
    with backend(blob, rung.set) as running:
        slot = running.slots[0]
        slot.enqueue([square_at(3)])
        assert rung.wait(10)
        while not slot.ready():
            pass
        slot.collect()


MAKING = ["cuMemAlloc", "cuMemHostAlloc", "cuMemAllocHost", "cuEventCreate", "cuStreamCreate"]
MAKING += ["cuModuleLoadDataEx", "cuModuleLoadData", "cuGraphInstantiateWithFlags"]


@pytest.mark.parametrize("transfer", ["pinned", "mapped"])
def test_nothing_is_allocated_or_made_for_a_frame_once_it_runs(device, blob, transfer):
    """Whatever would be made fails; copies from pageable memory are reported by the device."""
    device.delay(50, 1)
    with backend(blob, transfer=transfer) as running:
        for slot in running.slots:
            slot.enqueue([square_at(0)])
        for slot in running.slots:
            slot.collect()
        for call in MAKING:
            device.plant(call, 2, times=1_000_000)
        for start in range(0, 60, 2):
            for i, slot in enumerate(running.slots):
                slot.enqueue([square_at(start + i)])
            for i, slot in enumerate(running.slots):
                ((found, _),) = slot.collect()
                assert place_of(found) == ((start + i) % 7, (start + i) // 7 % 7)
        device.unplant()


def test_bindings_newer_than_the_driver_keep_graphs_and_times(device, blob, monkeypatch):
    """They look a function up when it is first called, and raise where the driver lacks it.

    With cuda-bindings 13, CUDASIM_DRIVER_VERSION=12020 makes the simulated driver lack it.
    """
    driver = pytest.importorskip("cuda.bindings.driver")
    launch, launched = driver.cuGraphLaunch, []

    def missing(*_):
        raise RuntimeError("function cuEventElapsedTime_v2 is not found")

    def launching(*arguments):
        launched.append(arguments)
        return launch(*arguments)

    monkeypatch.setattr(driver, "cuEventElapsedTime", missing)
    monkeypatch.setattr(driver, "cuGraphLaunch", launching)
    with backend(blob) as running:
        running.slots[0].enqueue([square_at(3)])
        ((found, stages),) = running.slots[0].collect()
    assert place_of(found) == (3, 0) and launched
    assert min(stages.values()) >= 0 and stages["network"] > 0


def test_use_from_another_thread_is_refused(device, blob):
    refused = []
    with backend(blob) as running:

        def use():
            try:
                running.slots[0].enqueue([square_at(0)])
            except DeviceError as error:
                refused.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert refused


@pytest.mark.slow
def test_a_hundred_backends_one_after_the_other_leave_nothing(device, blob):
    # a real context takes a second to make
    for i in range(10 if REAL else 100):
        how = {"transfer": ("auto", "pinned", "mapped")[i % 3]}
        with backend(blob, **how) as running:
            running.slots[i % 2].enqueue([square_at(i)])
            running.slots[i % 2].collect()
    assert set(device.holds().values()) == {0}


@pytest.mark.parametrize(
    ("call", "after"),
    [("cuMemAlloc", n) for n in range(5)]
    + [("cuMemHostAlloc", n) for n in range(3)]
    + [("cuStreamCreate", n) for n in range(2)],
)
def test_too_little_memory_at_the_start_is_told_and_nothing_stays(device, blob, call, after):
    device.plant(call, 2, after=after, times=100)  # PyCUDA tries again after collecting garbage
    with pytest.raises(DeviceError, match=r"out of memory"), backend(blob) as running:
        for slot in running.slots:
            slot.enqueue([square_at(0)])


def test_a_fault_on_the_way_ends_the_run_with_exit_code_5(device, blob, tmp_path):
    out = tmp_path / "out.jsonl"
    device.plant("cuEventSynchronize", 700, after=5)
    words = ["replay", "pattern:?size=64x64&frames=40", "--engine", "cuda", "--json", str(out)]
    assert main([*words, "--model", str(blob.manifest)]) == 5
    assert len(out.read_text().splitlines()) == 5  # what was done before is delivered
    device.reports()


def test_replay_with_the_engine_cuda(device, blob, tmp_path):
    outs = [tmp_path / f"{engine}.jsonl" for engine in ("cpu", "cuda")]
    for out in outs:
        words = ["replay", "pattern:?size=64x64&frames=20&boxes=1", "--engine", out.stem]
        assert main([*words, "--json", str(out), "--model", str(blob.manifest)]) == 0
    first, second = (out.read_text().splitlines() for out in outs)
    assert len(first) == len(second) == 20


@pytest.mark.parametrize("frames_before", [0, 1])
def test_thresholds_change_between_frames(device, blob, frames_before):
    with backend(blob) as made:
        slot = made.slots[0]
        for index in range(frames_before):
            slot.enqueue([square_at(index)])
            assert len(slot.collect()[0][0])
        for score, found in ((0.999, 0), (0.5, 1)):
            made.tune(score=score, iou=0.3)
            slot.enqueue([square_at(3)])
            assert len(slot.collect()[0][0]) == found
