"""The cache of computed files: changed networks, kernels, measurements."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_ENV = "KESTREL_CACHE"


def cache_dir(kind: str) -> Path:
    """The folder of ``kind``: in $KESTREL_CACHE, or in kestrel/ of the user's cache."""
    if named := os.environ.get(CACHE_ENV):
        return Path(named) / kind
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "kestrel" / kind


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that no other process sees half; makes its folder. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
