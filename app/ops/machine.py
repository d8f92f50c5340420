"""The machine that figures were measured on, in one line."""

from __future__ import annotations

import logging
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("numpy", "opencv-python", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("pycuda", "cuda-bindings"),
)
log = logging.getLogger(__name__)


def device() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    except OSError:
        log.debug("no /proc/cpuinfo")
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a system package, or the other ONNX Runtime
        return None
