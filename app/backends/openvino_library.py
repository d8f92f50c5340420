"""Is OpenVINO here, and how is it loaded and used without doing harm to the process?"""

from __future__ import annotations

import sys
import threading
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from app.backends.ort import one_line
from app.errors import ConfigError

CURE = "pip install -r requirements-openvino.txt, or use --engine cpu"
_TELEMETRY = "openvino_telemetry"
_loading = threading.RLock()  # two engines may be built at once


def openvino_version() -> str | None:
    """What is installed, without importing it; None: nothing is."""
    if PathFinder.find_spec("openvino") is None:
        return None
    try:
        return version("openvino")
    except PackageNotFoundError:  # a system's own build
        return "unknown"


def load_openvino() -> Any:
    """The module ``openvino``; the one place that imports it. Raises ConfigError with the cure.

    On import it tells its maker so, by a package that it works without: while it is imported that
    package is hidden. A camera's host must not talk to third parties unasked.
    """
    if openvino_version() is None and "openvino" not in sys.modules:
        raise ConfigError(f"OpenVINO is missing: {CURE}")
    with _loading:
        seen = sys.modules.get(_TELEMETRY)
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # an import of it fails
        try:
            import openvino
        except ImportError as fault:
            raise ConfigError(f"OpenVINO does not load ({one_line(fault)}): {CURE}") from fault
        finally:
            del sys.modules[_TELEMETRY]
            if seen is not None:
                sys.modules[_TELEMETRY] = seen
        return openvino


def openvino_core() -> Any:
    """The one Core of the process, which stays.

    The first use of a Core gives its thread a stack for signals. When two Cores go, or one on
    another thread, memory that is gone stays registered, and the next signal kills the process.
    """
    with _loading:
        return _core()


@cache
def _core() -> Any:
    return load_openvino().Core()


def one_thread(network: Any, precision: str) -> Any:
    """``network`` compiled for one thread, in "f32" or "bf16"; OpenVINO's errors as they are."""
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
    }
    return openvino_core().compile_model(network, "CPU", options)
