"""How is ONNX Runtime brought in and a session opened: quietly, and without telemetry?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from app.errors import ConfigError, ModelError


def load_onnxruntime() -> Any:
    """The module ``onnxruntime``; the one place that imports it.

    From 1.29 on its Linux wheels send usage data to their maker and leave a device id in the
    user's cache, unless this variable is set before the first import. A camera's host must not
    talk to third parties unasked; whoever wants it sets ORT_DISABLE_TELEMETRY=0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as fault:
        raise ConfigError(
            "onnxruntime is missing: run scripts/setup, or pip install -r requirements-cpu.txt"
        ) from fault
    return onnxruntime


def open_session(path: Path, *, threads: int = 1, optimise: bool = True) -> Any:
    """A CPU session of an ONNX file; raises ModelError in one line."""
    ort = load_onnxruntime()
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as fault:
        raise ModelError(f"cannot read {path}: {fault.strerror}") from fault
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull`")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only; what matters is raised
    # Spinning threads would take the core from decoding and from the other worker.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        raise ModelError(
            f"{path} is damaged or no ONNX file: {one_line(fault)}. Fetch or export it anew; "
            "weights kept in a second file are not supported"
        ) from fault


def one_line(fault: Exception) -> str:
    """ONNX Runtime's long message, fit for one line."""
    text = " ".join(str(fault).split())
    return text if len(text) <= 200 else text[:199] + "…"
