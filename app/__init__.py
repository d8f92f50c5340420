"""Kestrel: real-time object detection for edge devices.

    from kestrel_vision import Detector, stream

The public names are those of ``__all__``; they are loaded when first used, so that importing the
package costs next to nothing. All else here may change from one version to the next.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Detector, Line, Stream, StreamResult, Tracker, Zone, stream
    from .core.detections import Detections
    from .core.errors import ConfigError, DeviceError, KestrelError, ModelError, SourceError

__version__ = "0.1.0"
__all__ = [
    "ConfigError",
    "Detections",
    "Detector",
    "DeviceError",
    "KestrelError",
    "Line",
    "ModelError",
    "SourceError",
    "Stream",
    "StreamResult",
    "Tracker",
    "Zone",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "core.errors" if name.endswith("Error") else "api"
    return getattr(import_module(f"{__name__}.{home}"), name)
