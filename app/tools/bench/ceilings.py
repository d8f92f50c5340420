"""What can this machine do at best: arithmetic and memory bandwidth of one core, measured.

Arithmetic: a product of matrices that fit the caches, by the library that runs the networks (in
bfloat16 OpenVINO), so that "of the peak" compares like with like. Bandwidth: a copy far larger than
the caches, the bytes read and written counted. Measured once per processor and version, and
remembered.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from app.backends.bf16 import prove_bf16
from app.backends.openvino_library import one_thread, openvino_core, openvino_version
from app.backends.ort import one_line, open_session
from app.cache import cache_dir, write_whole
from app.errors import ConfigError
from app.tools.bench.gemm_file import gemm_file
from app.tools.machine import device

SIDE = 384
COPIED_BYTES = 64 * 2**20
ROUNDS = 15  # the best counts: a ceiling is what interruptions only lower
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Of one core. None: could not be measured."""

    fp32_gops: float | None
    int8_gops: float | None
    bf16_gops: float | None
    copy_gb_s: float
    cpu: str
    date: str

    def operations_per_s(self, precision: str) -> float | None:
        """What the convolutions of a network in ``precision`` can reach.

        Half precision is computed in float32 on processors.
        """
        gops = {"int8": self.int8_gops, "bf16": self.bf16_gops}.get(precision, self.fp32_gops)
        return None if gops is None else gops * 1e9


def ceilings(measure: Callable[[], Ceilings] | None = None) -> Ceilings:
    """Those remembered for this processor, or measured now (about a second)."""
    machine = device()
    parts = ("cpu", "cores", "numpy", "onnxruntime", "onnxruntime-gpu")
    known = {**{part: machine[part] for part in parts}, "openvino": openvino_version()}
    key = hashlib.sha256(json.dumps([2, known], sort_keys=True).encode()).hexdigest()[:16]
    path = cache_dir("ceilings") / f"{key}.json"
    try:
        return Ceilings(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as fault:
        log.warning("%s cannot be used (%s); measuring anew", path, fault)
    made = (measure or measure_ceilings)()
    try:
        write_whole(path, json.dumps(asdict(made)).encode())
    except OSError as fault:
        log.warning("cannot remember the machine's ceilings: %s", fault)
    return made


def measure_ceilings() -> Ceilings:
    """On one thread at a time."""
    rng = np.random.default_rng(0)
    floats = rng.random((2, SIDE, SIDE), np.float32)
    bytes_ = rng.integers(0, 127, (2, SIDE, SIDE))
    return Ceilings(
        fp32_gops=_gops("MatMul", floats[0], floats[1]),
        int8_gops=_gops("MatMulInteger", bytes_[0].astype(np.uint8), bytes_[1].astype(np.int8)),
        bf16_gops=_bf16_gops(floats[0], floats[1]),
        copy_gb_s=_copy_gb_s(),
        cpu=str(device()["cpu"]),
        date=datetime.now(timezone.utc).date().isoformat(),
    )


def _gops(operation: str, a: Any, b: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gemm.onnx"
        path.write_bytes(gemm_file(operation, a, b))
        session = open_session(path, threads=1)
    feeds = {"a": a}
    return _rate(lambda: session.run(None, feeds))


def _bf16_gops(a: Any, b: Any) -> float | None:
    if openvino_version() is None:
        return None
    try:
        prove_bf16()
        model = openvino_core().read_model(gemm_file("MatMul", a, b))
        request = one_thread(model, "bf16").create_infer_request()
    except (ConfigError, RuntimeError) as fault:  # no reason to lose the rest of a measurement
        log.info("no ceiling in bfloat16: %s", one_line(fault))
        return None
    feeds = {"a": a}
    return _rate(lambda: request.infer(feeds, share_inputs=True, share_outputs=True))


def _rate(multiply: Callable[[], object]) -> float:
    """G operations a second."""
    return round(2 * SIDE**3 / _best_s(multiply) / 1e9, 2)


def _copy_gb_s() -> float:
    source = np.ones(COPIED_BYTES, np.uint8)
    target = np.zeros_like(source)
    return round(2 * COPIED_BYTES / _best_s(lambda: np.copyto(target, source)) / 1e9, 2)


def _best_s(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        best = min(best, perf_counter() - start)
    return best
