"""ONNX Runtime on the slots' device memory: all but the provider, which needs a real GPU.

Device memory of the simulated device is the host's, so the CPU's provider can be bound to it: the
same backend, slots, binding and order of work as with the CUDA provider.
"""

import json
import logging
from functools import partial

import numpy as np
import pytest

from app.commands.cli import main
from app.core.errors import DeviceError
from app.cuda import ort as ort_gpu, ort_providers
from app.cuda.backend import CudaBackend
from app.cuda.ort import OrtEngine, OrtSlotNetwork
from app.inference.cpu import CpuBackend
from app.models.store import locate
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from tests.blob_detector import SIDE, save_blob_detector
from tests.cuda.test_cuda_backend import Kept, Squares, frames, place_of, square_at
from tests.reference import overlap
from tests.shelf_kit import ASSETS, save_graph


class HostNetwork(OrtSlotNetwork):
    """The CPU's provider knows nothing of streams: what is on this one has to be done first."""

    def enqueue(self, stream):
        stream.synchronize()
        super().enqueue(stream)


@pytest.fixture
def on_the_host(device, monkeypatch, tmp_path):
    host = ort_providers.Provider("CPUExecutionProvider", "cpu")
    for engine in ("ort-cuda", "ort-tensorrt"):
        monkeypatch.setitem(ort_providers.PROVIDERS, engine, host)
    monkeypatch.setattr(ort_gpu, "OrtSlotNetwork", HostNetwork)
    for module in (ort_gpu, ort_providers):
        monkeypatch.setattr(module, "tensorrt_version", lambda: "10.9.0")
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "cache"))
    return device


@pytest.fixture
def blob(tmp_path):
    return locate(str(save_blob_detector(tmp_path)))


def backend(model, wake=lambda: None, engine="ort-cuda", **more):
    make = partial(OrtEngine, engine=engine)
    words = {"score": 0.5, "iou": 0.3, "make_engine": make, **more}
    return CudaBackend(model.spec, model.weights, wake=wake, **words)


@pytest.mark.parametrize("slots", [2, 3])
def test_every_frame_gets_its_own_boxes_however_late_the_device(on_the_host, blob, slots):
    on_the_host.delay(300, slots)
    sink, count = Kept(), 120
    pipeline = Pipeline(
        Squares(count, live=False),
        lambda wake: backend(blob, wake, slots=slots),
        [sink],
        labels=["square"],
        policy=Policy.LOSSLESS,
    )
    pipeline.start()
    while not pipeline.wait(0.5):
        pass
    pipeline.join()
    assert [r.frame.index for r in sink] == list(range(count))
    for result in sink:
        index = result.frame.index
        assert place_of(result.detections) == (index % 7, index // 7 % 7)


@pytest.mark.parametrize(
    ("name", "iou"),
    [
        *(("fastestdet_352", 0.98), ("yunet_n_320_320", 0.98), ("yunet_n_dynamic", 0.98)),
        *(("yolox_nano_416", 0.98), ("nanodet_m_320", 0.98), ("kestrel", 0.98)),
        # moves its boxes by pixels where the input differs by cv2's rounding to whole numbers
        ("ultraface_rfb_320", 0.9),
    ],
)
def test_any_detector_finds_what_the_cpu_engine_finds(
    on_the_host, mirror, assets, name, iou, tmp_path
):
    model = locate(name)
    weights = model.weights
    if not weights.is_file():
        weights = tmp_path / model.spec.file
        weights.write_bytes((ASSETS / model.spec.file).read_bytes())
    # a box may be right at the threshold: those a little below it may match, too
    words = {"score": model.spec.score - 0.02, "iou": model.spec.iou, "wake": lambda: None}
    make, compared = partial(OrtEngine, engine="ort-cuda"), 0
    with (
        CpuBackend(model.spec.whole(), weights, workers=1, **words) as cpu,
        CudaBackend(model.spec.whole(), weights, make_engine=make, **words) as gpu,
    ):
        for frame in frames(assets / "clips" / "intel_asl_bird.mkv", 4, 15):
            answers = []
            for slot in (cpu.slots[0], gpu.slots[0]):
                slot.enqueue([frame])
                answers.append(slot.collect()[0][0])
            for found, other in (answers, answers[::-1]):
                for box, score in zip(found.xyxy, found.scores, strict=True):
                    if score >= model.spec.score:
                        assert any(
                            overlap(box, b) >= iou and abs(score - s) <= 0.01
                            for b, s in zip(other.xyxy, other.scores, strict=True)
                        )
                        compared += 1
    assert compared >= 8


def test_the_network_reads_and_writes_the_slots_own_device_memory(on_the_host, blob, monkeypatch):
    bound = []
    with backend(blob) as running:
        for slot in running.slots:
            network = slot.shapes.for_frame((SIDE, SIDE)).network
            bound += [network.input, *(address for address, _ in network.outputs)]
            assert network._session.get_providers()[0] == "CPUExecutionProvider"
            # what the preprocessing kernel wrote is what the network reads: no copy between
            slot.enqueue([square_at(3)])
            slot.collect()
            tensor = np.empty((1, 3, SIDE, SIDE), np.float32)
            slot._context.driver.memcpy_dtoh(tensor, network.input)
            assert tensor.max() == pytest.approx(1) and tensor.min() == pytest.approx(40 / 255)
    assert len(set(bound)) == len(bound) == 4


def test_replay_and_bench_run_with_it(on_the_host, blob, tmp_path, capsys):
    outs = [tmp_path / f"{engine}.jsonl" for engine in ("cpu", "ort-cuda")]
    for out in outs:
        words = ["replay", "pattern:?size=64x64&frames=20&boxes=1", "--engine", out.stem]
        assert main([*words, "--json", str(out), "--model", str(blob.manifest)]) == 0
    mine, theirs = (
        [[round(d["score"], 3) for d in json.loads(line)["detections"]] for line in lines]
        for lines in (out.read_text().splitlines() for out in outs)
    )
    assert len(mine) == len(theirs) == 20
    words = ["bench", "--engine", "ort-cuda", "--model", str(blob.manifest), "--max-frames", "20"]
    assert main([*words, "--source", "pattern:?size=64x64&frames=30", "--seconds", "1"]) == 0
    shown = capsys.readouterr().out
    assert "ort-cuda (ONNX Runtime" in shown and "Simulated CUDA device" in shown


def test_outputs_whose_number_varies_come_to_the_host(on_the_host, tmp_path):
    rows = np.array([[[8, 8, 24, 24, 0.9, 0], [30, 30, 60, 60, 0.8, 0]]], np.float32)
    weights = save_graph(tmp_path / "ended.onnx", {"out": rows})
    weights.with_suffix(".toml").write_text(
        'file = "ended.onnx"\nlabels = ["thing"]\n[input]\nsize = [64, 64]\nresize = "stretch"\n'
        '[decoder]\nfamily = "yolov8"\nend_to_end = true\n'
    )
    with backend(locate(str(weights))) as running:
        for i in range(3):
            slot = running.slots[i % 2]
            slot.enqueue([square_at(i)])
            ((found, _),) = slot.collect()
            assert found.xyxy == pytest.approx(rows[0, :, :4])


def test_nothing_stays_after_many_of_them(on_the_host, blob):
    for i in range(6):
        with backend(blob) as running:
            running.slots[i % 2].enqueue([square_at(i)])
            running.slots[i % 2].collect()
    assert set(on_the_host.holds().values()) == {0}


@pytest.mark.parametrize("after", range(5))
def test_too_little_device_memory_is_told_and_nothing_stays(on_the_host, blob, after):
    on_the_host.plant("cuMemAlloc", 2, after=after, times=100)
    with pytest.raises(DeviceError, match="out of memory"), backend(blob) as running:
        running.slots[0].enqueue([square_at(0)])


def test_a_run_that_fails_ends_the_process(on_the_host, blob, monkeypatch):
    with backend(blob) as running:
        slot = running.slots[0]
        slot.shapes.for_frame((SIDE, SIDE)).network._session.run_with_iobinding = _failing
        with pytest.raises(DeviceError, match=r"CUDA failure 700.*The process ends"):
            slot.enqueue([square_at(0)])


def _failing(*_):
    raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")


class TestTensorRtsEngine:
    def test_it_is_built_once_and_kept_whole(self, on_the_host, blob, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        for expected in (1, 1):
            with backend(blob, engine="ort-tensorrt") as running:
                assert "ort-tensorrt (ONNX Runtime" in running.description
                assert "fp16" in running.description
            assert caplog.text.count("building the TensorRT engine of blob") == expected
        (folder,) = (tmp_path / "cache" / "engines").iterdir()
        key = json.loads((folder / "key.json").read_text())
        assert key["tensorrt"] == "10.9.0" and key["precision"] == "fp16"
        assert key["device"] == "Simulated CUDA device" and key["capability"] == [9, 0]

    def test_what_does_not_load_is_built_anew(self, on_the_host, blob, monkeypatch, caplog):
        with backend(blob, engine="ort-tensorrt"):
            pass
        opened, real = [], OrtEngine._open

        def damaged(self, stream, folder):
            opened.append(folder.name)
            if len(opened) == 1:
                raise DeviceError("TensorRT EP could not deserialize engine from cache: x.engine")
            return real(self, stream, folder)

        monkeypatch.setattr(OrtEngine, "_open", damaged)
        with backend(blob, engine="ort-tensorrt"):
            pass
        assert "is damaged" in caplog.text
        assert [name.endswith(".part") for name in opened] == [False, True, False]

    def test_a_build_that_fails_leaves_nothing(self, on_the_host, blob, monkeypatch, tmp_path):
        def fails(self, stream, folder):
            (folder / "half.engine").write_text("half")
            raise DeviceError("no memory to build in")

        monkeypatch.setattr(OrtEngine, "_open", fails)
        with pytest.raises(DeviceError), backend(blob, engine="ort-tensorrt"):
            pass
        assert list((tmp_path / "cache" / "engines").iterdir()) == []


def test_a_provider_that_starts_not_is_no_silent_fall_back_to_the_cpu(on_the_host, blob, tmp_path):
    # asked for by another name, the session comes back with the CPU's provider alone
    name = ort_providers.Provider("CUDAExecutionProvider", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ort_providers.PROVIDERS, "ort-cuda", name)
        patch.setattr(ort_gpu, "missing_provider", lambda engine: None)
        patch.setattr(ort_gpu, "session_providers", lambda *a, **k: [("CPUExecutionProvider", {})])
        with pytest.raises(DeviceError, match=r"cannot be loaded.*onnxruntime-gpu\[cuda,cudnn\]"):
            backend(blob).__enter__()


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (
            "/onnxruntime_src/…/cuda_execution_provider_info.cc:63 static X::FromProviderOptions"
            "(const Y&) [ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:187 Parse Failed "
            'to parse provider option "device_id": CUDA failure 35: CUDA driver version is '
            "insufficient for CUDA runtime version ; GPU=-1 ; hostname=h",
            r"start: CUDA failure 35: CUDA driver version is insufficient .*: install a newer",
        ),
        (
            "X::Y(Z) [ONNXRuntimeError] : 1 : FAIL : bfc_arena.cc:376 AllocateRaw Failed to "
            "allocate memory for requested buffer",
            r"start: bfc_arena.cc:376 AllocateRaw .*; end what else uses the GPU's memory",
        ),
        ("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no kernel", r"start: no kernel; KESTREL_LOG"),
    ],
)
def test_a_provider_that_fails_is_told_with_its_cure(on_the_host, blob, monkeypatch, raised, told):
    def session(*_, **__):
        raise RuntimeError(raised)

    ort = ort_gpu.load_onnxruntime()
    # the CPU's session, which is asked for sizes, opens
    real = ort.InferenceSession
    monkeypatch.setattr(
        ort,
        "InferenceSession",
        lambda *a, **k: session() if k.get("enable_fallback") == 0 else real(*a, **k),
    )
    with pytest.raises(DeviceError, match=told):
        backend(blob).__enter__()


def test_an_option_that_is_not_taken_is_left_out(on_the_host, blob, monkeypatch):
    asked = []

    def providers(engine, *, extras, **_):
        asked.append([*extras])
        return [("CPUExecutionProvider", {})]

    ort = ort_gpu.load_onnxruntime()
    real = ort.InferenceSession

    def session(*given, **named):
        if named.get("enable_fallback") == 0 and "enable_cuda_graph" in asked[-1]:
            raise RuntimeError("This session cannot use the graph capture feature as requested")
        return real(*given, **named)

    monkeypatch.setattr(ort_gpu, "session_providers", providers)
    monkeypatch.setattr(ort, "InferenceSession", session)
    with backend(blob) as running:
        for slot in running.slots:
            slot.enqueue([square_at(3)])
            slot.collect()
    assert asked == [["prefer_nhwc", "enable_cuda_graph"], ["prefer_nhwc"], ["prefer_nhwc"]]


def test_the_wheel_without_the_provider_is_told_with_exit_code_5(device, blob, capsys):
    words = ["replay", "pattern:?frames=2", "--engine", "ort-cuda", "--model", str(blob.manifest)]
    assert main(words) == 5
    told = capsys.readouterr().err.splitlines()[-1]
    assert "has no CUDAExecutionProvider: pip uninstall -y onnxruntime onnxruntime-gpu" in told
