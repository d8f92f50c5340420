"""Of the input only as much is computed on the device as a frame needs, as on the CPU."""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from app.commands.cli import main
from app.core.errors import DeviceError, ModelError
from app.core.frame import Frame
from app.cuda.backend import CudaBackend
from app.cuda.native.engine import NativeEngine
from app.inference.cpu import CpuBackend
from app.inference.degraded import Fallback, FallbackBackend, NetworkChoice
from app.models.store import default_model, locate
from app.pipeline.degrade import Network
from app.runtime.service import known_pixels
from tests.blob_detector import save_blob_detector

pytestmark = pytest.mark.gpu

LIMITS = {"score": 0.25, "iou": 0.5}


@pytest.fixture(scope="module")
def model():
    """The default at a small size: its tensors are quick to simulate."""
    found = default_model()
    small = replace(found.spec.input, size_wh=(128, 128))
    return replace(found, spec=replace(found.spec, input=small))


@pytest.fixture(scope="module")
def shown():
    """Frames that need 128x96, all of the input, 64x128, and 128x96 at another size."""
    wide = known_pixels()
    height = len(wide)
    parts = [wide, wide[:, 100 : 100 + height], wide[:, 180:330], wide[::2, ::2]]
    return [Frame(np.ascontiguousarray(part), i, 0) for i, part in enumerate(parts)]


def backend(model, *, batch=1, half=False, **more):
    engine = partial(NativeEngine, half=half, tune=False, batch=batch)
    words = {"wake": lambda: None, "make_engine": engine, "transfer": "pinned", **LIMITS, **more}
    return CudaBackend(model.spec, model.weights, **words)


def one_by_one(running, frames):
    found = []
    for i, frame in enumerate(frames):
        slot = running.slots[i % len(running.slots)]
        slot.enqueue([frame])
        found.append(slot.collect()[0][0])
    return found


def assert_same(found, wanted):
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours.xyxy, theirs.xyxy)
        np.testing.assert_array_equal(ours.scores, theirs.scores)


def test_the_boxes_and_sizes_are_those_of_the_cpu(device, model, shown):
    with CpuBackend(model.spec, model.weights, workers=1, wake=lambda: None, **LIMITS) as cpu:
        wanted, remarks = one_by_one(cpu, shown), list(cpu.remarks)
    assert sum(map(len, wanted)) >= 6
    with backend(model) as gpu:
        found = one_by_one(gpu, shown)
        assert remarks[0] in gpu.remarks and "64x128, 128x96" in remarks[0]
        assert {size for slot in gpu.slots for size in slot.sizes} == {
            *((128, 128), (128, 96), (64, 128))
        }
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=0.5)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=0.01)
        np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)


def test_a_batch_of_several_sizes_gives_each_frame_its_own_boxes(device, model, shown):
    with backend(model) as single:
        alone = one_by_one(single, shown)
    device.delay(200, 7)
    with backend(model, batch=4) as batched:
        for turn, some in enumerate([(0, 1, 2, 3), (3, 0), (2, 1, 0), (1,)]):
            slot = batched.slots[turn % 2]
            slot.enqueue([shown[i] for i in some])
            answers = slot.collect()
            assert slot.ready() and len(answers) == len(some)
            assert_same([found for found, _ in answers], [alone[i] for i in some])


def test_thresholds_hold_for_sizes_that_come_later(device, model, shown):
    with backend(model) as gpu:
        assert len(one_by_one(gpu, shown[:1])[0])
        gpu.tune(score=0.999, iou=0.5)
        assert [len(found) for found in one_by_one(gpu, shown)] == [0] * 4
        gpu.tune(**LIMITS)
        assert all(len(found) for found in one_by_one(gpu, shown[:2]))


def test_sizes_that_were_not_needed_for_long_are_freed(device, model, shown, monkeypatch):
    monkeypatch.setattr("app.cuda.slot.KEPT", 2)
    with backend(model, slots=1) as gpu:
        alone = one_by_one(gpu, shown)
        held = device.holds()
        for _ in range(3):
            assert_same(one_by_one(gpu, shown), alone)
            assert device.holds() == held
        assert gpu.slots[0].sizes == ((64, 128), (128, 96))


@pytest.mark.parametrize(
    ("call", "after"),
    [*(("cuMemAlloc", n) for n in range(6)), ("cuMemHostAlloc", 0), ("cuStreamCreate", 0)],
)
def test_too_little_memory_for_another_size_is_told_and_nothing_stays(
    device, model, shown, call, after
):
    with (
        pytest.raises(DeviceError, match=r"out of memory|failed|lost"),
        backend(model) as gpu,
    ):
        one_by_one(gpu, shown[:1])
        device.plant(call, 2, after=after, times=100)
        one_by_one(gpu, shown[1:])


def test_more_frames_than_there_is_room_for_is_a_fault_of_ours(device, model, shown):
    with backend(model, batch=2) as gpu, pytest.raises(AssertionError, match="more frames"):
        gpu.slots[0].enqueue(shown[:3])


def test_what_cannot_be_is_told_before_there_is_a_frame(device, model):
    labels = (*model.spec.labels, "car")
    wrong = replace(model, spec=replace(model.spec, labels=labels))
    with pytest.raises(ModelError, match="are not those of family"), backend(wrong):
        pass


def test_a_file_of_one_size_is_refused_before_there_is_a_frame(device, tmp_path):
    blob = locate(str(save_blob_detector(tmp_path)))
    fitted = replace(blob, spec=replace(blob.spec, input=replace(blob.spec.input, fit=32)))
    with (
        pytest.raises(ModelError, match=r"the file fixes its input.*remove `fit`"),
        backend(fitted),
    ):
        pass


def test_the_weights_are_those_of_the_start_whatever_becomes_of_the_file(
    device, model, shown, tmp_path
):
    weights = tmp_path / model.spec.file
    weights.write_bytes(model.weights.read_bytes())
    copied = replace(model, weights=weights)
    with backend(model) as gpu:
        wanted = one_by_one(gpu, shown)
    with backend(copied) as gpu:
        weights.write_bytes(b"another model, half of it")
        assert_same(one_by_one(gpu, shown), wanted)


def test_a_device_that_is_lost_leaves_nothing_to_the_collector(device, model, shown):
    held = device.holds()
    with pytest.raises(DeviceError, match="failed"), backend(model) as gpu:
        one_by_one(gpu, shown[:1])
        gc.collect()
        gc.disable()
        device.plant("cuCtxSynchronize", 999, times=100)
    device.unplant()
    told = device.reports()
    assert not told or ("0 allocations" in told[0] and "0 modules" in told[0])
    del gpu
    gc.enable()
    assert device.holds() == held


@pytest.mark.parametrize("after", range(8))
@pytest.mark.parametrize("call", ["cuMemHostAlloc", "cuMemAlloc"])
def test_too_little_memory_for_the_trial_of_transfers_is_told(device, model, shown, call, after):
    """The first frame goes both ways, and each way has memory of its own."""
    with (
        pytest.raises(DeviceError, match="out of memory"),
        backend(model, transfer="auto", slots=1) as gpu,
    ):
        gpu.slots[0].prepare(shown[0].wh_px)
        device.plant(call, 2, after=after, times=100)
        one_by_one(gpu, shown)


def test_a_ladders_networks_are_made_for_a_size_when_it_first_comes(device, model, shown, caplog):
    """Not in the overload; and one that cannot be made then is left out."""
    own, other, choice = model, Network("other"), NetworkChoice()
    made = {name: backend(m) for name, m in (("own", own), ("other", own))}
    rung = Fallback(lambda: lambda wake: made["other"], None)
    with FallbackBackend(lambda wake: made["own"], {other: rung}, choice, lambda: None) as ladder:
        wanted = one_by_one(ladder, [shown[0]] * 2)
        assert (128, 96) in made["other"].slots[0].sizes
        choice.use(other)
        assert_same(one_by_one(ladder, [shown[0]] * 2), wanted)
        assert choice.missing == set()
        fault = ModelError("does not fit")
        made["other"].slots[0].prepare = raising(fault)
        found = one_by_one(ladder, [shown[2]] * 2)
        assert choice.missing == {other} and choice.now == Network()
        assert_same(found[:1], one_by_one(made["own"], [shown[2]]))
        assert caplog.text.count("left out: does not fit") == 1
        del made["other"].slots[0].prepare


def raising(fault):
    def raise_it(*_):
        raise fault

    return raise_it


def test_the_summary_says_how_much_was_computed(device, model, tmp_path, capsys):
    text = model.manifest.read_text().replace("size = [320, 320]", "size = [64, 64]")
    (tmp_path / "small.toml").write_text(text)
    for file in (model.spec.file, "coco80_face.txt"):
        (tmp_path / file).symlink_to(model.weights.parent / file)
    words = ["replay", "pattern:?size=160x80&frames=2", "--model", str(tmp_path / "small.toml")]
    assert main([*words, "--engine", "cuda", "--precision", "fp32"]) == 0
    assert "input 64x32, as much of 64x64 as the frames need" in capsys.readouterr().out
