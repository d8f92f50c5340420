"""The engine tensorrt on the simulated device, with bindings that check what is asked of them.

See tests/fake_tensorrt: calls that the real bindings of TensorRT 10 or 11 do not declare fail.
"""

import argparse
import hashlib
import json
import logging
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from app.commands.cli import main
from app.commands.models import register
from app.core.building import Build, Unwanted
from app.core.errors import ConfigError, DeviceError, ModelError
from app.cuda import tensorrt_build
from app.cuda.backend import CudaBackend
from app.cuda.tensorrt import PLAN_FILE, TensorrtEngine, plan_cache
from app.cuda.tensorrt_build import BuildProgress
from app.inference.cpu import CpuBackend
from app.models.onnx_edit import to_fp16, to_int8
from app.models.store import locate
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from tests import fake_tensorrt
from tests.blob_detector import SIDE, save_blob_detector
from tests.cuda.test_cuda_backend import Kept, Squares, frames, place_of, square_at
from tests.reference import overlap
from tests.shelf_kit import ASSETS, save_graph


@pytest.fixture(params=[10, 11])
def trt(request, device, monkeypatch, tmp_path):
    """Nothing goes wrong within a run, and what is put on streams is done when it ends."""
    fake = fake_tensorrt.make(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "cache"))
    yield fake
    assert fake.faults == []


@pytest.fixture
def blob(tmp_path):
    return locate(str(save_blob_detector(tmp_path)))


def backend(model, wake=lambda: None, **more):
    engine = {name: more.pop(name) for name in ("precision", "batch") if name in more}
    make = partial(TensorrtEngine, **engine)
    words = {"score": 0.5, "iou": 0.3, "make_engine": make, "kind": "tensorrt", **more}
    return CudaBackend(model.spec.whole(), model.weights, wake=wake, **words)


def found_in(running, frame):
    running.slots[0].enqueue([frame])
    return running.slots[0].collect()[0][0]


def plans(tmp_path):
    """Header and ONNX file of each plan in the cache."""
    folders = sorted((tmp_path / "cache" / "engines").iterdir())
    return [fake_tensorrt.unpacked((f / PLAN_FILE).read_bytes()[32:]) for f in folders]


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("slots", [2, 3])
def test_every_frame_gets_its_own_boxes_however_late_the_device(trt, device, blob, slots, policy):
    device.delay(300, slots)
    sink, count = Kept(), 120
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
    indices = [r.frame.index for r in sink]
    assert indices == (list(range(count)) if policy is Policy.LOSSLESS else sorted(set(indices)))
    assert indices
    for result in sink:
        index = result.frame.index
        assert place_of(result.detections) == (index % 7, index // 7 % 7)


@pytest.mark.parametrize(
    ("trt", "name", "precision"),
    [
        *((10, "kestrel", "fp16"), (11, "kestrel", "fp16"), (11, "kestrel", "fp32")),
        *((10, "fastestdet_352", "fp32"), (10, "yunet_n_320_320", "fp16")),
        *((11, "yolox_nano_416", "fp16"), (11, "nanodet_m_320", "fp16")),
    ],
    indirect=["trt"],
)
def test_any_detector_finds_what_the_cpu_engine_finds(trt, assets, name, precision, tmp_path):
    model = locate(name)
    weights = model.weights
    if not weights.is_file():
        weights = tmp_path / model.spec.file
        weights.write_bytes((ASSETS / model.spec.file).read_bytes())
    words = {"score": model.spec.score - 0.04, "iou": model.spec.iou, "wake": lambda: None}
    make, compared = partial(TensorrtEngine, precision=precision), 0
    least, apart = (0.98, 0.01) if precision == "fp32" else (0.9, 0.04)
    with (
        CpuBackend(model.spec.whole(), weights, workers=1, **words) as cpu,
        CudaBackend(model.spec.whole(), weights, make_engine=make, **words) as gpu,
    ):
        for frame in frames(assets / "clips" / "intel_asl_bird.mkv", 3, 15):
            answers = [found_in(each, frame) for each in (cpu, gpu)]
            for found, other in (answers, answers[::-1]):
                for box, score in zip(found.xyxy, found.scores, strict=True):
                    if score >= model.spec.score:
                        assert any(
                            overlap(box, b) >= least and abs(score - s) <= apart
                            for b, s in zip(other.xyxy, other.scores, strict=True)
                        )
                        compared += 1
    assert compared >= 6
    ((header, _),) = plans(tmp_path)
    assert (
        header["strongly_typed"]
        and header["tensors"][0][1]
        == {
            "fp16": "float16",
            "fp32": "float32",
        }[precision]
    )
    assert ("TF32" in header["flags"]) == (precision == "fp16")
    outputs = [kind for _, kind, _, mode in header["tensors"] if mode == "OUTPUT"]
    assert set(outputs) == {"float32"}


def test_the_network_is_part_of_the_graph_of_a_frame(trt, blob):
    with backend(blob) as running:
        found_in(running, square_at(1))
        assert trt.calls.count(True) >= 1
        before = len(trt.calls)
        for i in range(5):
            assert place_of(found_in(running, square_at(i + 1))) == (i + 1, 0)
        assert len(trt.calls) == before  # frames are launched without asking TensorRT


def test_a_batch_has_an_engine_of_its_own_and_finds_the_same(trt, tmp_path):
    model = locate(str(save_blob_detector(tmp_path, frames="n")))
    with backend(model, batch=3) as running:
        slot = running.slots[1]
        for count in (1, 2, 3):
            slot.enqueue([square_at(5 * i + count) for i in range(count)])
            answers = slot.collect()
            for i, (found, _) in enumerate(answers):
                index = 5 * i + count
                assert place_of(found) == (index % 7, index // 7 % 7)
    assert sorted(header["tensors"][0][2][0] for header, _ in plans(tmp_path)) == [1, 3]


def test_a_file_of_one_frame_cannot_be_batched(trt, blob):
    with pytest.raises(ModelError, match="leave --batch out"), backend(blob, batch=3):
        pass


def test_eight_bits_come_from_the_file(trt, blob, tmp_path):
    small = tmp_path / "small.onnx"
    pictures = [square_at(i).pixels.transpose(2, 0, 1)[None] for i in range(8)]
    tensors = [picture.astype(np.float32) / 255 for picture in pictures]
    to_int8(blob.weights, small, tensors, target="gpu")
    make = partial(TensorrtEngine, precision="int8")
    words = {"score": 0.5, "iou": 0.3, "wake": lambda: None}
    with CudaBackend(blob.spec, small, make_engine=make, **words) as running:
        assert "int8" in running.description
        found_in(running, square_at(9))
    ((header, content),) = plans(tmp_path)
    assert content == small.read_bytes() and header["strongly_typed"]
    to_int8(blob.weights, small, tensors, target="cpu")
    with (
        pytest.raises(ModelError, match=r"zero point of 0.*quantize --for gpu"),
        CudaBackend(blob.spec, small, make_engine=make, **words),
    ):
        pass
    with (
        pytest.raises(ConfigError, match="needs a quantised model"),
        backend(blob, precision="int8"),
    ):
        pass


def test_a_file_in_half_precision_runs_too(trt, blob, tmp_path):
    half = tmp_path / "half.onnx"
    to_fp16(blob.weights, half)
    words = {"score": 0.5, "iou": 0.3, "wake": lambda: None}
    with CudaBackend(blob.spec, half, make_engine=TensorrtEngine, **words) as running:
        assert place_of(found_in(running, square_at(9))) == (2, 1)


class TestCache:
    def test_it_is_built_once_and_kept_whole(self, trt, blob, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        for _ in range(2):
            with backend(blob) as running:
                assert f"tensorrt (TensorRT {trt.__version__}, fp16" in running.description
                assert place_of(found_in(running, square_at(3))) == (3, 0)
        assert trt.builds == 1 and caplog.text.count("built the TensorRT engine of blob") == 1
        (folder,) = (tmp_path / "cache" / "engines").iterdir()
        key = json.loads((folder / "key.json").read_text())
        assert key["tensorrt"] == trt.__version__ and key["precision"] == "fp16"
        assert key["device"] == "Simulated CUDA device" and key["capability"] == [9, 0]
        assert key["input"] == [1, 3, SIDE, SIDE] and key["cuda"] == 12

    def test_whatever_it_depends_on_makes_another(self, trt, blob, monkeypatch):
        def folder(**more):
            words = {"device": "Orin", "capability": (8, 7), "driver": 12060, **more}
            precision = words.pop("precision", "auto")
            return plan_cache(spec, blob.weights, precision, **words).folder

        spec = blob.spec
        seen = [
            folder(),
            folder(device="Orin Nano"),
            folder(capability=(8, 9)),
            folder(driver=13000),
            folder(precision="fp32"),
            folder(frames=4),
        ]
        spec = resized(spec)
        seen.append(folder())
        spec = blob.spec
        blob.weights.write_bytes(blob.weights.read_bytes() + b"\0")
        seen.append(folder())
        trt.__version__ = "10.99.0"
        seen.append(folder())
        monkeypatch.setattr("app.cuda.tensorrt.RECIPE", 99)
        seen.append(folder())
        assert len(set(seen)) == len(seen) == 10
        assert folder(driver=12080) == folder(driver=12020)

    @pytest.mark.parametrize("damage", ["cut", "changed", "gone", "other version", "other device"])
    def test_what_does_not_load_is_built_anew(self, trt, blob, tmp_path, damage, caplog):
        with backend(blob):
            pass
        (file,) = (tmp_path / "cache" / "engines").glob(f"*/{PLAN_FILE}")
        data = file.read_bytes()
        header, content = fake_tensorrt.unpacked(data[32:])
        if damage == "cut":
            file.write_bytes(data[:-100])
        elif damage == "changed":
            file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        elif damage == "gone":
            file.unlink()
        else:
            changed = {"other version": "version", "other device": "capability"}[damage]
            plan = fake_tensorrt.packed({**header, changed: "8.6"}, content)
            file.write_bytes(hashlib.sha256(plan).digest() + plan)
        with backend(blob) as running:
            assert place_of(found_in(running, square_at(3))) == (3, 0)
        assert trt.builds == 2 and "is built anew" in caplog.text
        with backend(blob):
            pass
        assert trt.builds == 2

    def test_a_build_that_fails_is_told_and_leaves_nothing(self, trt, blob, tmp_path):
        trt.build_fault = "Error Code 10: Could not find any implementation for node Conv_0"
        with pytest.raises(DeviceError, match=r"implementation for node Conv_0; use --engine cuda"):
            backend(blob).__enter__()
        trt.build_fault = "Error Code 2: OutOfMemory (Requested size was 1 bytes.)"
        with pytest.raises(DeviceError, match="end what else uses the GPU's memory"):
            backend(blob).__enter__()
        assert list((tmp_path / "cache" / "engines").iterdir()) == []


class TestWhileItIsBuilt:
    def test_a_stop_ends_the_build_within_its_deadline(self, trt, blob, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        trt.steps, trt.step_s = 10_000, 0.01
        pipeline = Pipeline(
            Squares(10, live=True),
            lambda wake: backend(blob, wake),
            [Kept()],
            labels=["square"],
            policy=Policy.LATEST,
        )
        pipeline.start()
        until_s = time.monotonic() + 20
        while "%" not in pipeline.stats().cause and time.monotonic() < until_s:
            time.sleep(0.02)
        stats = pipeline.stats()
        assert stats.state == "building" and "TensorRT engine of blob" in stats.cause
        stopped_s = time.monotonic()
        pipeline.stop()
        pipeline.join()  # no error: it was asked for
        assert time.monotonic() - stopped_s < 2
        assert "leaving it behind" not in caplog.text
        assert list((tmp_path / "cache" / "engines").iterdir()) == []

    def test_what_nobody_wants_any_more_is_given_up(self, trt, blob, device):
        Build(lambda: False).take_thread()
        try:
            with pytest.raises(Unwanted):
                backend(blob).__enter__()
        finally:
            Build().take_thread()

    def test_ctrl_c_within_a_step_is_not_lost(self, trt, blob):
        def interrupted():
            raise KeyboardInterrupt

        Build(interrupted).take_thread()
        try:
            with pytest.raises(KeyboardInterrupt):
                backend(blob).__enter__()
        finally:
            Build().take_thread()


def test_progress_is_a_share_of_the_whole_that_never_falls():
    progress, seen = BuildProgress(), []
    progress.start("whole", None, 2)
    for part in ("a", "b"):
        progress.start(part, "whole", 4)
        for step in range(4):
            progress.step(part, step)
            seen.append(progress.share)
        progress.finish(part)
        progress.step("whole", "ab".index(part))
    assert seen == [1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1]
    progress.step("unknown", 3)
    assert progress.share == 1


class TestBuiltElsewhere:
    def test_an_engine_with_ultralytics_metadata_runs_as_it_is(self, trt, tmp_path, capsys):
        rows = np.zeros((1, 5, 84), np.float32)
        rows[0, :, 7] = 32, 24, 20, 10, 0.9
        engine = exported(trt, tmp_path, rows)
        words = ["replay", "pattern:?size=64x64&frames=3", "--model", str(engine)]
        out = tmp_path / "out.jsonl"
        assert main([*words, "--engine", "tensorrt", "--json", str(out)]) == 0
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert [d["label"] for d in lines[0]["detections"]] == ["thing"]
        assert lines[0]["detections"][0]["box"] == pytest.approx([22, 19, 42, 29], abs=1)
        assert trt.builds == 0
        assert main([*words, "--engine", "cpu"]) == 2
        assert "is an engine of TensorRT: use --engine tensorrt" in capsys.readouterr().err

    def test_it_can_be_put_on_the_shelf(self, trt, tmp_path):
        engine = exported(trt, tmp_path, np.zeros((1, 5, 84), np.float32))
        shelf = tmp_path / "shelf"
        parser = argparse.ArgumentParser()
        register(parser.add_subparsers().add_parser("models"), shelf_dir=shelf)
        args = parser.parse_args(["models", "add", str(engine), "--name", "mine"])
        assert args.func(args) == 0
        model = locate("mine", shelf_dir=shelf)
        assert model.weights == shelf / "mine.engine" and model.spec.labels == ("thing",)
        with backend(model) as running:
            assert len(found_in(running, square_at(1))) == 0

    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            ({"version": "9.9.9"}, r"not compatible with this version of TensorRT.*got 9\.9\.9"),
            (
                {"capability": "8.7"},
                r"incompatible device.* compute 9\.0 got compute 8\.7",
            ),
        ],
    )
    def test_that_of_another_version_or_gpu_is_refused_with_the_reason(
        self, trt, tmp_path, changed, why
    ):
        engine = exported(trt, tmp_path, np.zeros((1, 5, 84), np.float32), **changed)
        with (
            pytest.raises(ModelError, match=why + r".*build it here"),
            backend(locate(str(engine))),
        ):
            pass

    def test_outputs_in_half_precision_or_of_whole_numbers_come_to_the_host(self, trt, tmp_path):
        rows = np.zeros((1, 5, 84), np.float16)
        rows[0, :, 7] = 32, 24, 20, 10, 0.9
        with backend(locate(str(exported(trt, tmp_path, rows)))) as running:
            found = found_in(running, square_at(1))
            assert found.xyxy == pytest.approx(np.array([[22, 19, 42, 29]]), abs=0.1)

    def test_what_is_no_plan_says_so(self, trt, tmp_path):
        file = tmp_path / "x.engine"
        file.write_bytes(b"nothing of that kind")
        with pytest.raises(ModelError, match=r"says neither.*--family"):
            locate(str(file))
        manifest = 'file = "x.engine"\nlabels = ["a"]\n[input]\nsize = [64, 64]\n'
        file.with_suffix(".toml").write_text(manifest + '[decoder]\nfamily = "yolov8"\n')
        with pytest.raises(ModelError, match="magicTag"), backend(locate(str(file))):
            pass


def exported(trt, tmp_path, rows, **header):
    """An engine as Ultralytics' exporter writes it, of a graph that always gives ``rows``."""
    weights = save_graph(tmp_path / "graph.onnx", {"output0": rows})
    content = weights.read_bytes()
    tensors = [("images", "float32", [1, 3, 64, 64], "INPUT")]
    tensors.append(("output0", str(rows.dtype), list(rows.shape), "OUTPUT"))
    told = {"version": trt.__version__, "capability": trt.capability, "tensors": tensors, **header}
    noted = json.dumps({"task": "detect", "names": {"0": "thing"}, "imgsz": [64, 64]}).encode()
    file = tmp_path / "yolo.engine"
    plan = fake_tensorrt.packed(told, content)
    file.write_bytes(len(noted).to_bytes(4, "little", signed=True) + noted + plan)
    return file


def resized(spec):
    return replace(spec, input=replace(spec.input, size_wh=(96, 96)))


class TestWhereItIsMissing:
    def test_the_bindings_are_told_with_the_cure(self, device, blob, monkeypatch, capsys):
        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
        words = ["replay", "pattern:?frames=2", "--engine", "tensorrt", "--model"]
        assert main([*words, str(blob.manifest)]) == 5
        told = capsys.readouterr().err.splitlines()[-1]
        assert "bindings are missing: pip install tensorrt-cu13" in told
        assert "python3-libnvinfer" in told

    @pytest.mark.parametrize("version", ["8.6.2", "10.0.1"])
    def test_an_old_one_is_refused(self, trt, blob, version):
        trt.__version__ = version
        with pytest.raises(DeviceError, match=rf"TensorRT {version} is too old.*JetPack 6\.1"):
            backend(blob).__enter__()

    def test_one_that_does_not_load_is_told(self, device, blob, monkeypatch):
        monkeypatch.setattr(tensorrt_build, "missing_tensorrt", lambda: None)
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(DeviceError, match=r"TensorRT does not load .*: pip install"):
            backend(blob).__enter__()


def test_nothing_stays_after_many_of_them(trt, device, blob):
    for i in range(4):
        with backend(blob) as running:
            running.slots[i % 2].enqueue([square_at(i)])
            running.slots[i % 2].collect()
    assert set(device.holds().values()) == {0}


@pytest.mark.parametrize("after", range(6))
def test_too_little_device_memory_is_told_and_nothing_stays(trt, device, blob, after):
    device.plant("cuMemAlloc", 2, after=after, times=100)
    with pytest.raises(DeviceError, match="out of memory"), backend(blob) as running:
        running.slots[0].enqueue([square_at(0)])


def test_a_run_that_fails_ends_the_process(trt, blob):
    with backend(blob) as running:
        network = running.slots[0].shapes.for_frame((SIDE, SIDE)).network
        network._runs[0]._execution._scratch = 0
        with pytest.raises(DeviceError, match=r"memory has not been set.*The process ends"):
            running.slots[0].enqueue([square_at(0)])


def test_an_input_of_another_size_names_the_cure(trt, tmp_path):
    engine = exported(trt, tmp_path, np.zeros((1, 5, 84), np.float32))
    model = locate(str(engine))
    model = replace(model, spec=resized(model.spec))
    with pytest.raises(ModelError, match=r"correct `input\.size`"), backend(model):
        pass


def test_threads_that_run_on_their_own_do_not_share_a_build():
    mine, seen = Build(), []
    mine.take_thread()
    try:
        thread = threading.Thread(target=lambda: seen.append(tensorrt_build.build_here()))
        thread.start()
        thread.join()
        assert seen[0] is not mine and tensorrt_build.build_here() is mine
    finally:
        Build().take_thread()
