"""The peers, their modules, and how near their boxes must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module

from app.models.manifest import Model
from scripts.bench_peers.boxes import Tolerance
from scripts.bench_peers.contract import Run
from scripts.bench_peers.plain import frame_wh

REFERENCE, BF16 = "kestrel", "kestrel-bf16"

# float32 on the same pixels: engines add in another order, Kestrel's lines round to 0.01 px
FLOAT32 = Tolerance(score=1e-3, corner_px=0.5)
# other pixels (Kestrel resizes the decoder's planes, most peers BGR), or half precision: the same
# objects, somewhat elsewhere
NEAR = Tolerance(score=0.1, corner_px=2.0, iou=0.5, share=0.02)


@dataclass(frozen=True)
class Peer:
    """``tolerance`` None: its network is another one, so its boxes prove nothing.

    All compute as much of the network's input as the clip's frames need, or, with ``whole``, all.
    ``against``: the Kestrel that it is compared with.
    """

    name: str
    what: str
    module: str
    tolerance: Tolerance | None = NEAR
    options: Mapping[str, object] = field(default_factory=dict)
    whole: bool = False
    against: str = REFERENCE

    def run(self, clip: str, model: Model) -> Run:
        """Once over the clip, in this process; raises NotHere."""
        module = import_module(f"scripts.bench_peers.peers.{self.module}")
        if not self.whole:
            model = replace(model, spec=model.spec.for_frame(frame_wh(clip)))
        answer = module.run(clip, model, **self.options)
        assert isinstance(answer, Run)
        return answer


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            REFERENCE,
            "Kestrel's replay, --engine cpu",
            "kestrel",
            options={"engine": "cpu"},
            whole=True,  # it cuts by itself what it does
        ),
        Peer(
            "plain",
            "read, cv2, session.run, decode, NMS in one loop",
            "ort_loop",
            options={"provider": "CPUExecutionProvider"},
        ),
        Peer(
            "plain-whole",
            "the same with the whole input, as a manifest's size tempts to",
            "ort_loop",
            options={"provider": "CPUExecutionProvider"},
            whole=True,
        ),
        Peer("opencv-async", "OpenCV DNN, threads and queues as its sample", "opencv_async"),
        Peer(
            "ultralytics",
            "predict(stream=True), an untrained YOLO of the same cost in ONNX",
            "ultralytics_stream",
            tolerance=None,
            options={"library": "onnx"},
        ),
        Peer(
            "ultralytics-whole",
            "the same with a network that costs as much as ours with its whole input",
            "ultralytics_stream",
            tolerance=None,
            options={"library": "onnx"},
            whole=True,
        ),
        Peer(
            "openvino",
            "OpenVINO's AsyncInferQueue, throughput hint",
            "openvino_async",
            options={"precision": "f32"},
        ),
        Peer("gstreamer", "GStreamer's decoder and appsink", "gstreamer"),
        Peer(
            "kestrel-openvino",
            "Kestrel's replay, --engine openvino",
            "kestrel",
            tolerance=FLOAT32,
            options={"engine": "openvino"},
            whole=True,
        ),
        Peer(
            BF16,
            "the same with --precision bf16",
            "kestrel",
            options={"engine": "openvino", "precision": "bf16"},
            whole=True,
        ),
        Peer(
            "openvino-bf16",
            "OpenVINO's AsyncInferQueue, in bfloat16",
            "openvino_async",
            options={"precision": "bf16"},
            against=BF16,
        ),
        Peer(
            "ultralytics-bf16",
            "predict(stream=True) through OpenVINO, a YOLO of the same cost by a smaller input",
            "ultralytics_stream",
            tolerance=None,
            options={"library": "openvino"},
            against=BF16,
        ),
        Peer(
            "kestrel-cuda",
            "Kestrel's replay, --engine cuda",
            "kestrel",
            options={"engine": "cuda"},
            whole=True,
        ),
        Peer(
            "torch-eager",
            "PyTorch on the GPU in half precision",
            "torch_gpu",
            options={"compiled": False},
        ),
        Peer(
            "torch-compiled",
            "the same through torch.compile(max-autotune)",
            "torch_gpu",
            options={"compiled": True},
        ),
        Peer(
            "ort-cuda",
            "the plain loop on ONNX Runtime's CUDA provider",
            "ort_loop",
            options={"provider": "CUDAExecutionProvider"},
        ),
    )
}
